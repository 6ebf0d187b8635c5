//! The 3-2-1-1-0 score of a database: what the configuration says of its targets, and what was proven of them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::config::{Config, Database};
use crate::error::Result;
use crate::health::status::DatabaseStatus;
use crate::model::guarantee::{self, Guarantees};
use crate::model::human;
use crate::model::id::TargetName;
use crate::model::score::{Score, TargetFacts};
use crate::state::State;

/// What is remembered of every target of a database.
pub(crate) fn guarantees(
    database: &Database,
    state: Option<&State>,
) -> Result<BTreeMap<TargetName, Guarantees>> {
    let mut known = BTreeMap::new();
    for name in &database.targets {
        if let Some(found) = state.map(|state| state.guarantees(name)).transpose()?.flatten() {
            known.insert(name.clone(), found);
        }
    }
    Ok(known)
}

/// The score of a database whose status was just read. `place` is how each target describes itself now.
pub(crate) fn score(
    config: &Config,
    status: &DatabaseStatus,
    guarantees: &BTreeMap<TargetName, Guarantees>,
    place: impl Fn(&TargetName) -> String,
    now: Timestamp,
) -> Score {
    let facts = status.targets.iter().map(|target| {
        let settings = config.targets.get(&target.name);
        TargetFacts {
            target: target.name.clone(),
            // A target that cannot be reached may hold it, but nobody knows.
            holds_newest: target.error.is_none()
                && target.snapshot.is_some()
                && target.snapshot == status.snapshot
                && target.levels.damaged.is_none()
                && target.same_place_as.is_none(),
            domain: settings.and_then(|s| s.domain.clone()),
            owner: settings.and_then(|s| s.owner),
            offsite: settings.is_some_and(|s| s.offsite),
            immutable: immutable(guarantees.get(&target.name), &place(&target.name), now),
        }
    });
    let facts: Vec<TargetFacts> = facts.collect();
    Score::of(&facts, status.last_drill.as_ref().map(|drill| drill.passed))
}

/// Whether the last probe proves a target immutable; or why not.
fn immutable(known: Option<&Guarantees>, place: &str, now: Timestamp) -> std::result::Result<(), String> {
    let Some(known) = known.filter(|known| known.place == place) else {
        return Err("it was never probed, `marbre doctor` does it".to_owned());
    };
    if !known.counts(place, now) {
        let age = human::duration(now.duration_since(known.at).as_secs_f64());
        return Err(format!("its last probe is {age} old, `marbre doctor` makes another"));
    }
    if known.immutable() {
        return Ok(());
    }
    Err(match (&known.caveat, known.broken().next(), known.untested().next()) {
        (Some(caveat), ..) => caveat.clone(),
        (None, Some(trial), _) => format!("broken: {}", guarantee::list([trial])),
        (None, None, Some(trial)) => format!("not proven: {}", guarantee::list([trial])),
        (None, None, None) => "it claims no lock".to_owned(),
    })
}
