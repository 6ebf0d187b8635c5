//! Writing a decision: signed, and put at every target.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::job::recorded_at::RecordedAt;
use crate::keys::{Namespace, SigningKey};
use crate::model::id::{DatabaseId, DecisionId};
use crate::model::mark::Because;
use crate::repository::canonical;
use crate::repository::decision::{Decision, DecisionKind, Matter};
use crate::repository::manifest::FORMAT;
use crate::repository::record_catalog::put_record;
use crate::repository::signed_record::Signed;
use crate::targets::{NamedTarget, TargetErrorKind};

/// Signs a decision.
pub(crate) fn sign(
    database: &DatabaseId,
    key: &SigningKey,
    because: &Because,
    about: Vec<Matter>,
    now: Timestamp,
) -> Result<Signed<Decision>> {
    let record = Decision {
        format: FORMAT,
        kind: DecisionKind::Decision,
        publisher: database.publisher.clone(),
        database: database.database.clone(),
        decision: DecisionId::new(now, rand::random()),
        agent: concat!("marbre ", env!("CARGO_PKG_VERSION")).to_owned(),
        by: because.by.clone(),
        reason: because.reason.clone(),
        decided_at: canonical::whole_second(now),
        about,
    };
    let bytes = record.to_bytes()?;
    let signature = key.sign(Namespace::Decision, &bytes)?;
    Ok(Signed { record, bytes, signature, signer: key.signer().fingerprint() })
}

/// Puts a decision at every target. An error means that no target has taken it.
pub(crate) async fn put_everywhere(
    targets: &[NamedTarget],
    database: &DatabaseId,
    signed: &Signed<Decision>,
    cancel: &CancellationToken,
) -> Result<Vec<RecordedAt>> {
    let mut decided = Vec::new();
    let mut last = None;
    for target in targets {
        let error = match put_record(target, database, signed, cancel).await {
            Ok(()) => None,
            Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
            Err(e) => {
                let text = e.to_string();
                last = Some(Error::from(e).with_kind(ErrorKind::Target));
                Some(text)
            }
        };
        decided.push(RecordedAt { name: target.name.clone(), error });
    }
    match last.filter(|_| decided.iter().all(|at| at.error.is_some())) {
        Some(e) => Err(e.context("no target has taken the decision")),
        None => Ok(decided),
    }
}
