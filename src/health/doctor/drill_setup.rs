//! Whether drills of a database can be run, and whether it is configured what they measure its data by.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::{Config, Database, DrillKey, Publisher};
use crate::engine::scratch::ScratchHost;
use crate::error::Result;
use crate::keys::SigningKey;
use crate::model::check::{Check, CheckState};
use crate::model::human;
use crate::repository::remembered::Remembered as _;
use crate::state::State;

use super::{check, failed, folders, ok};

/// A place with a name as long as that of a drill: the path of a socket must be short.
const PLACE: &str = "20000101T000000Z-00000000.place";

/// Checks what drills of one database need. `host` is the one of its throwaway places, or why there is none.
pub(super) async fn checks(
    config: &Config,
    db: &Database,
    host: Option<&Result<Arc<dyn ScratchHost>>>,
    cancel: &CancellationToken,
) -> Vec<Check> {
    if db.drills.key == DrillKey::None {
        let remedy = format!(
            "Make sure that the publisher does (`marbre drill --as-owner`), or let the agent keep the key of the current epoch: `key = \"epoch\"` in [database.{}.drills].",
            db.id.database
        );
        return vec![check(
            "key",
            CheckState::Warn,
            "none is kept: only the publisher can drill",
            Some(&remedy),
        )];
    }
    let state = State::open_existing(&config.state_dir);
    let known = state.as_ref().map(Option::as_ref);
    let mut checks = vec![match known.map(|state| key(db, state)) {
        Ok(Ok(check)) => check,
        Ok(Err(e)) => failed("key", &e),
        Err(e) => failed("key", e),
    }];
    match host {
        Some(Ok(host)) => checks.extend(host.check(&config.scratch_dir.join(PLACE), cancel).await),
        Some(Err(e)) => checks.push(failed("place", e)),
        None => checks.push(check("place", CheckState::Skipped, "none was looked for", None)),
    }
    // What is restored on a server elsewhere needs no room here.
    if let (Ok(Some(state)), None) = (known, &db.drills.scratch) {
        checks.extend(space(db, state, &config.scratch_dir));
    }
    checks.push(goals(db));
    checks
}

/// Whose signature makes a drill the publisher's own.
pub(super) fn signers(config: &Config, publisher: &Publisher) -> Check {
    let name = format!("signers of {}", publisher.name);
    let agent = SigningKey::load(&config.signing_key).map(|key| key.signer().to_openssh());
    let warn = |found: &str, remedy: String| check(&name, CheckState::Warn, found, Some(&remedy));
    if publisher.signers.is_empty() {
        return warn(
            "none: the publisher's own drills cannot be recognised",
            format!(
                "Put the publisher's `publisher_ed25519.pub` into `signers` of [publisher.{}].",
                publisher.name
            ),
        );
    }
    if agent.is_ok_and(|agent| publisher.signers.contains(&agent)) {
        return warn(
            "the agent's own key is among them: its drills could pass for the publisher's",
            format!("Take it out of `signers` of [publisher.{}].", publisher.name),
        );
    }
    match publisher.signers.len() {
        1 => ok(&name, "1 key"),
        n => ok(&name, format!("{n} keys")),
    }
}

/// Whether the agent has the key that it is to keep.
fn key(db: &Database, state: Option<&State>) -> Result<Check> {
    const NAME: &str = "key";
    let longest = human::duration(db.drills.keep_key.as_secs_f64());
    let current = state.map(|state| state.epoch(&db.id)).transpose()?.flatten();
    let (Some(state), Some(current)) = (state, current) else {
        return Ok(ok(
            NAME,
            format!(
                "the key of each epoch will be kept until the epoch ends, and for {longest} at most after that"
            ),
        ));
    };
    if state.kept_epochs(&db.id)?.contains(&current.epoch) {
        return Ok(ok(
            NAME,
            format!("the key of the current epoch is kept, for {longest} at most after the epoch ends"),
        ));
    }
    let found = format!("the key of the current epoch, {}, is not kept", current.epoch);
    let remedy = "The agent can drill from the next epoch on; until then the publisher can (`marbre drill --as-owner`).";
    Ok(check(NAME, CheckState::Warn, found, Some(remedy)))
}

/// Whether a restored copy of the last snapshot fits. `None` where there is no snapshot yet.
fn space(db: &Database, state: &State, scratch_dir: &Path) -> Option<Check> {
    const NAME: &str = "space";
    let head = state.head(&db.id).transpose()?;
    let receipt = head.and_then(|head| state.receipt(&db.id, &head.snapshot)).transpose()?;
    let size = match receipt {
        Ok(signed) => signed.receipt.bytes_read,
        Err(e) => return Some(failed(NAME, &e)),
    };
    let free = match folders::free(scratch_dir) {
        Ok(free) => free,
        Err(e) => {
            return Some(check(NAME, CheckState::Skipped, format!("{}: {e}", scratch_dir.display()), None));
        }
    };
    let found = format!("{} free, the last snapshot holds {}", human::bytes(free), human::bytes(size));
    // Indexes, row headers and the log of the server are in no snapshot.
    Some(if free < size.saturating_mul(2) {
        let remedy = "Free space, or name another `scratch_dir`: a restored copy can need twice what the snapshot holds.";
        check(NAME, CheckState::Warn, found, Some(remedy))
    } else {
        ok(NAME, found)
    })
}

/// What drills are measured by: without it they prove less than they could.
fn goals(db: &Database) -> Check {
    const NAME: &str = "goals";
    let drills = &db.drills;
    let wanted = [
        ("`every`", "how old the newest proof may become", drills.every),
        ("`rto`", "how long a recovery may take", drills.rto),
    ];
    let (mut missing, mut remedy) = (Vec::new(), String::new());
    for (key, meaning, _) in wanted.iter().filter(|(_, _, value)| value.is_none()) {
        missing.push(*key);
        remedy.push_str(&format!(
            "Set {key} in [database.NAME.drills], or in [defaults.database.drills] for all: {meaning}. "
        ));
    }
    if db.checks.is_empty() {
        missing.push("checks of the data");
        remedy.push_str(
            "Define in [database.NAME.checks.CHECK] what the data must look like; `fresh_within` notices a replica that has stopped.",
        );
    }
    if !missing.is_empty() {
        let found = format!("there is no {}", missing.join(", no "));
        return check(NAME, CheckState::Warn, found, Some(remedy.trim_end()));
    }
    let span = |d: Option<std::time::Duration>| human::duration(d.unwrap_or_default().as_secs_f64());
    let number = db.checks.len();
    ok(
        NAME,
        format!("a proof every {}, recovery in {}, checks: {number}", span(drills.every), span(drills.rto)),
    )
}
