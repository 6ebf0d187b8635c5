//! Successions: an agent goes on with the chain of another, whose host is lost or whose key was replaced; or puts a chain in
//! order that two hosts have written. Nothing is deleted: what does not go on is set aside.

mod given;
mod plan;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::job::recorded_at::{self, RecordedAt};
use crate::job::run_lock::Lock;
use crate::keys::{Namespace, SigningKey, TrustStore, keygen};
use crate::model::id::{DatabaseId, DatabaseName, PublisherName, SnapshotId};
use crate::repository::agents::Agents;
use crate::repository::layout;
use crate::repository::remembered::Remembered as _;
use crate::repository::signed_record::Signed;
use crate::repository::succession::{self, Seen, Succession};
use crate::state::State;
use crate::targets::{NamedTarget, TargetExt, Upload};

/// How the chain passes on.
pub(crate) enum Way {
    /// The new agent takes it, and a person confirms that: after this receipt, or after the newest.
    Adopt(Option<After>),
    /// The old agent's key hands it over.
    Rotate(Box<SigningKey>),
}

/// The receipt that the chain goes on after.
pub(crate) enum After {
    /// That of a snapshot, which a target shows.
    Snapshot(SnapshotId),
    /// One in a file, with its signature beside it: where the credentials may not read.
    Receipt(PathBuf),
}

/// Everything that a succession needs.
pub(crate) struct SuccessionJob {
    /// The database.
    pub database: DatabaseId,
    /// Where its copies are.
    pub targets: Vec<NamedTarget>,
    /// The agent's own trust.
    pub trust: TrustStore,
    /// What the agent remembers.
    pub state: State,
    /// The key of the agent that goes on.
    pub signing_key: SigningKey,
    /// How.
    pub way: Way,
    /// Why, for people.
    pub reason: String,
}

/// What will be written, for a person to confirm. Nothing else runs for this database until it is dropped.
pub(crate) struct Plan {
    /// The record.
    pub record: Succession,
    /// The agents of the chain that goes on.
    agents: Agents,
    _lock: Lock,
}

/// A succession that was written, as `adopt --json` and `rotate --json` print it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SuccessionReport {
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// Its number.
    pub number: u64,
    /// `adopt` or `rotate`.
    pub action: &'static str,
    /// Fingerprint of the agent that wrote until now.
    pub from: String,
    /// Fingerprint of the agent that goes on.
    pub to: String,
    /// The receipt that the next one follows.
    pub after: Seen,
    /// Receipts that are not of the history that goes on.
    pub set_aside: Vec<Seen>,
    /// Why.
    pub reason: String,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// The lines for the publisher's `allowed_signers`; none, where the key is the same.
    pub allowed_signers: Vec<String>,
    /// Every target.
    pub targets: Vec<RecordedAt>,
}

impl SuccessionReport {
    /// The error that the command ends with, where a target lacks the record.
    pub(crate) fn error(&self) -> Option<Error> {
        recorded_at::lacking(&self.targets).map(|lacking| {
            let what = format!("succession {} is written, but not at every target", self.number);
            Error::new(ErrorKind::Degraded, what)
                .cause(lacking)
                .remedy("The next snapshot or `marbre sync` puts it there, before anything else.")
        })
    }
}

impl SuccessionJob {
    /// Writes the record that was planned, and confirmed.
    pub(crate) async fn carry_out(self, plan: Plan, cancel: &CancellationToken) -> Result<SuccessionReport> {
        let signed = self.sign(&plan.record)?;
        let mut recorded = Vec::new();
        let mut last = None;
        for target in &self.targets {
            let error = match self.put(&signed, target, cancel).await {
                Ok(()) => None,
                Err(e) if e.kind() == ErrorKind::Target => {
                    last = Some(e.clone());
                    Some(e.to_string())
                }
                Err(e) => return Err(e),
            };
            recorded.push(RecordedAt { name: target.name.clone(), error });
        }
        if let Some(e) = last.filter(|_| recorded.iter().all(|at| at.error.is_some())) {
            return Err(e.context("no target has taken the succession"));
        }
        for known in plan.agents.accepted() {
            self.state.remember_succession(&self.database, &known.signed)?;
        }
        self.state.remember_succession(&self.database, &signed)?;
        self.state.know_chain(&self.database)?;
        report(signed.record, recorded)
    }

    fn sign(&self, record: &Succession) -> Result<Signed<Succession>> {
        let bytes = record.to_bytes()?;
        let mut signature = match &self.way {
            Way::Adopt(_) => String::new(),
            Way::Rotate(old) => old.sign(Namespace::Succession, &bytes)?,
        };
        signature += &self.signing_key.sign(Namespace::Succession, &bytes)?;
        // What could not be read back is not written.
        let signers = succession::signers(signature.as_bytes(), &bytes)?;
        let record = Succession::parse(&bytes, &signers, &self.database, record.number)?;
        let signer = signers.first().map(|signer| signer.fingerprint()).unwrap_or_default();
        Ok(Signed { record, bytes, signature, signer })
    }

    async fn put(
        &self,
        signed: &Signed<Succession>,
        target: &NamedTarget,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let (number, hash) = (signed.record.number, signed.hash());
        let objects = [
            (layout::succession_signature(number, &hash), signed.signature.clone().into_bytes()),
            (layout::succession(number, &hash), signed.bytes.clone()),
        ];
        for (relative, bytes) in objects {
            let key = layout::key(&self.database, &relative)?;
            let put = target.target.put_or_compare(&key, &Upload::memory(bytes), cancel).await;
            if cancel.is_cancelled() {
                return Err(Error::interrupted());
            }
            put.map_err(|e| Error::from(e).with_kind(ErrorKind::Target))?;
        }
        Ok(())
    }
}

fn report(record: Succession, targets: Vec<RecordedAt>) -> Result<SuccessionReport> {
    let mut allowed_signers = Vec::new();
    if record.from != record.to {
        let until = record.decided_at;
        let lines = [
            keygen::former_agent_line(&record.from.signer()?, until, "marbre agent, succeeded")?,
            keygen::agent_line(&record.to.signer()?, "marbre agent")?,
        ];
        allowed_signers.extend(lines.map(|line| line.trim_end().to_owned()));
    }
    Ok(SuccessionReport {
        publisher: record.publisher,
        database: record.database,
        number: record.number,
        action: record.action.word(),
        from: record.from.fingerprint,
        to: record.to.fingerprint,
        after: record.after,
        set_aside: record.set_aside,
        reason: record.reason,
        decided_at: record.decided_at,
        allowed_signers,
        targets,
    })
}
