//! Writing a decision.

use jiff::Timestamp;

use crate::error::Result;
use crate::keys::{Namespace, SigningKey};
use crate::model::id::{DatabaseId, DecisionId};
use crate::repository::canonical;
use crate::repository::decision::{Decision, DecisionKind, Matter};
use crate::repository::manifest::FORMAT;
use crate::repository::signed_record::Signed;

/// Who decides, and why.
#[derive(Debug, Clone)]
pub(crate) struct Because {
    /// Who, for people.
    pub by: String,
    /// Why, for people.
    pub reason: String,
}

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
