//! What lies at targets that no receipt names.

use crate::config::{Config, Database};
use crate::error::Result;
use crate::model::check::Check;
use crate::model::human;
use crate::state::State;

use super::{failed, ok};

const NAME: &str = "unneeded objects";

/// What the last prune found at each target; nothing where that was nothing.
pub(super) fn check(config: &Config, db: &Database) -> Option<Check> {
    match found(config, db) {
        Ok(found) if found.is_empty() => None,
        Ok(found) => Some(ok(NAME, format!("{} wait for the end of `grace`", found.join(", ")))),
        Err(e) => Some(failed(NAME, &e)),
    }
}

fn found(config: &Config, db: &Database) -> Result<Vec<String>> {
    let Some(state) = State::open_existing(&config.state_dir)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for target in &db.targets {
        let bytes = state.unneeded_bytes(&db.id, target)?;
        if bytes > 0 {
            found.push(format!("{} at {target}", human::bytes(bytes)));
        }
    }
    Ok(found)
}
