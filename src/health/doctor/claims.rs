//! Whether targets really guarantee what the configuration claims of them.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::Result;
use crate::job::probe::probe;
use crate::model::check::{Check, CheckState};
use crate::model::guarantee::{Guarantees, Trial, list, remedy};
use crate::model::id::TargetName;
use crate::model::object_lock::LockMode;
use crate::state::State;
use crate::targets::attack::Attack;

use super::{check, failed, ok};

const NAME: &str = "guarantees";

/// Probes one target, and remembers what was found where there is a state already.
pub(super) async fn checks(
    config: &Config,
    name: &TargetName,
    target: &Result<std::sync::Arc<dyn Attack>>,
    now: Timestamp,
    cancel: &CancellationToken,
) -> Vec<Check> {
    let Ok(target) = target else {
        // Why it cannot be opened is said by another check.
        return vec![skipped("the target cannot be opened")];
    };
    let claim = config.targets.get(name).and_then(|settings| settings.lock).map(|lock| lock.mode);
    let found = match probe(&**target, claim, now, cancel).await {
        Ok(found) => found,
        Err(e) => return vec![failed(NAME, &e)],
    };
    let remembered = State::open_existing(&config.state_dir).and_then(|state| match state {
        Some(state) => state.remember_guarantees(name, &found),
        None => Ok(()),
    });
    let mut checks = vec![compare(&found, claim)];
    checks.extend(remembered.err().map(|e| check(NAME, CheckState::Warn, e.to_string(), e.remedy_text())));
    checks
}

/// The check, where it could not be made.
pub(super) fn skipped(why: &str) -> Check {
    check(NAME, CheckState::Skipped, why, None)
}

/// Compares what was found with what is claimed.
fn compare(found: &Guarantees, claim: Option<LockMode>) -> Check {
    let mismatches = found.mismatches(claim);
    let words = |trials: &mut dyn Iterator<Item = (Trial, &str)>| {
        trials.map(|(trial, _)| trial.word()).collect::<Vec<_>>().join(", ")
    };
    let held = format!("withstood {}", words(&mut found.held()));
    if !mismatches.is_empty() {
        return check(NAME, CheckState::Fail, list(mismatches), Some(remedy(claim)));
    }
    if let Some(mode) = claim.filter(|_| found.immutable()) {
        return ok(NAME, format!("immutable (lock = \"{}\"): {held}", mode.word()));
    }
    let unproven: Vec<(Trial, &str)> =
        found.untested().filter(|(trial, _)| trial.is_basic() || claim.is_some()).collect();
    if !unproven.is_empty() {
        let text = "Run `marbre doctor` with credentials that may also read, delete, and read locks, from a host that is not the agent's: docs/TARGETS.md says which.";
        return check(NAME, CheckState::Warn, format!("not proven: {}", list(unproven)), Some(text));
    }
    let broken: Vec<(Trial, &str)> = found.broken().collect();
    let weak = match (&found.caveat, broken.is_empty()) {
        (Some(caveat), _) => format!("; {caveat}"),
        (None, true) => "; no lock is claimed".to_owned(),
        (None, false) => format!("; not {}, and no lock is claimed", words(&mut broken.into_iter())),
    };
    ok(NAME, format!("{held}{weak}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::guarantee::Outcome;

    fn found(outcome: impl Fn(Trial) -> Outcome) -> Guarantees {
        Guarantees {
            at: Timestamp::UNIX_EPOCH,
            place: String::new(),
            caveat: None,
            trials: Trial::ALL.iter().copied().map(|trial| (trial, outcome(trial))).collect(),
        }
    }

    #[test]
    fn a_claim_that_does_not_hold_fails_and_one_that_is_not_proven_is_not_green() {
        let held = |_: Trial| Outcome::Held("refused".to_owned());
        let compliance = Some(LockMode::Compliance);
        let state = |found: &Guarantees, claim| compare(found, claim).state;
        assert_eq!(state(&found(held), compliance), CheckState::Ok);
        for &trial in Trial::ALL {
            let with = |other: Outcome| found(|t| if t == trial { other.clone() } else { held(t) });
            let broken = with(Outcome::Broken("gone".to_owned()));
            assert_eq!(state(&broken, compliance), CheckState::Fail, "{trial:?}");
            let expected = if trial.is_basic() { CheckState::Fail } else { CheckState::Ok };
            assert_eq!(state(&broken, None), expected, "{trial:?}");
            let untested = with(Outcome::Untested("no right".to_owned()));
            assert_eq!(state(&untested, compliance), CheckState::Warn, "{trial:?}");
        }
    }
}
