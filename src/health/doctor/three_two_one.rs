//! Whether a database keeps the 3-2-1-1-0 rule, and its targets what they were given.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Database};
use crate::error::{Error, Result};
use crate::health::look::database_status;
use crate::health::score::{guarantees, score};
use crate::health::status::{DatabaseStatus, Promises};
use crate::keys::{Signer, SigningKey, TrustStore};
use crate::model::check::{Check, CheckState};
use crate::model::condition::ConditionKind;
use crate::repository::reader::Reader;
use crate::state::State;
use crate::targets::NamedTarget;

use super::{check, ok};

const NAME: &str = "3-2-1-1-0";

/// What the targets of a database hold; or the check that says why that is not known.
pub(super) async fn look(
    config: &Config,
    db: &Database,
    targets: &[NamedTarget],
    now: Timestamp,
    cancel: &CancellationToken,
) -> std::result::Result<DatabaseStatus, Check> {
    let state = State::open_existing(&config.state_dir).map_err(|e| skipped(&e))?;
    status(config, db, targets, state.as_ref(), now, cancel).await.map_err(|e| skipped(&e))
}

/// Counts what was seen. The targets were probed meanwhile, and what that found is in the state.
pub(super) fn checks(
    config: &Config,
    db: &Database,
    targets: &[NamedTarget],
    looked: std::result::Result<DatabaseStatus, Check>,
    now: Timestamp,
) -> Vec<Check> {
    let status = match looked {
        Ok(status) => status,
        Err(check) => return vec![check],
    };
    if status.snapshot.is_none() {
        let found = "there is no snapshot yet that could be counted";
        return places(&status).into_iter().chain([check(NAME, CheckState::Skipped, found, None)]).collect();
    }
    let known = State::open_existing(&config.state_dir).and_then(|state| guarantees(db, state.as_ref()));
    let known = match known {
        Ok(known) => known,
        Err(e) => return vec![skipped(&e)],
    };
    let place =
        |name: &_| targets.iter().find(|t| t.name == *name).map(|t| t.target.describe()).unwrap_or_default();
    let score = score(config, &status, &known, place, now);
    let mut checks = vec![held(&status)];
    checks.extend(places(&status));
    checks.push(match score.met {
        true => ok(NAME, score.to_string()),
        false => {
            let found = format!("{score}: {} missing", score.missing.len());
            check(NAME, CheckState::Warn, found, Some(&score.missing.join(" ")))
        }
    });
    checks
}

fn skipped(e: &Error) -> Check {
    check(NAME, CheckState::Skipped, e.to_string(), e.remedy_text())
}

/// Whether each target is a place of its own; nothing where there is one target.
fn places(status: &DatabaseStatus) -> Option<Check> {
    const NAME: &str = "places";
    let twin = status.conditions.iter().find(|condition| condition.kind == ConditionKind::SamePlace);
    match (twin, status.targets.len()) {
        (Some(twin), _) => Some(check(NAME, CheckState::Fail, twin.summary.as_str(), Some(&twin.remedy))),
        (None, 0 | 1) => None,
        (None, n) => Some(ok(NAME, format!("{n} targets, none of which is seen to be another one's place"))),
    }
}

/// Whether the targets list what was stored there.
fn held(status: &DatabaseStatus) -> Check {
    const NAME: &str = "stored objects";
    let mut damaged = status.conditions.iter().filter(|c| c.kind == ConditionKind::TargetDamaged);
    let Some(first) = damaged.next() else {
        if status.targets.iter().any(|target| target.error.is_some()) {
            return check(NAME, CheckState::Skipped, "not every target could be listed", None);
        }
        return ok(
            NAME,
            "receipts and the objects of the newest snapshot are listed with the sizes that were signed",
        );
    };
    let more: String = damaged.map(|condition| format!(" {}", condition.summary)).collect();
    check(NAME, CheckState::Fail, format!("{}{more}", first.summary), Some(&first.remedy))
}

async fn status(
    config: &Config,
    db: &Database,
    targets: &[NamedTarget],
    state: Option<&State>,
    now: Timestamp,
    cancel: &CancellationToken,
) -> Result<DatabaseStatus> {
    let signers = config.publishers.get(&db.id.publisher).map_or(&[][..], |p| &p.signers);
    let owners = signers.iter().map(|text| Signer::parse(text)).collect::<Result<_>>()?;
    let trust = TrustStore::Own { agent: SigningKey::load(&config.signing_key)?.signer(), owners };
    let reader = Reader::new(&db.id, targets, &trust, state);
    database_status(&reader, Promises::default(), now, cancel).await
}
