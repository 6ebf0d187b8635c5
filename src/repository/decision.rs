//! What somebody decided about a database, in clear and signed (see `docs/FORMAT.md`): that its content is as it should be,
//! that a known damage is known, that an object was replaced by a good copy, that a snapshot stays or goes,
//! that the whole archive was deleted.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::id::{DatabaseId, DatabaseName, DecisionId, PublisherName, Sha256, TargetName};
use crate::model::level::By;
use crate::repository::canonical;
use crate::repository::chain::Break;
use crate::repository::deletion::Deletion;
use crate::repository::signed_record;
use crate::repository::succession::Seen;

/// What is recorded of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decision {
    /// Format version.
    pub format: u32,
    /// What is recorded; `decision`.
    pub kind: DecisionKind,
    /// The owner of the data.
    pub publisher: PublisherName,
    /// The database.
    pub database: DatabaseName,
    /// The record.
    pub decision: DecisionId,
    /// Name and version of the writer.
    pub agent: String,
    /// Who decided, for people: a name, or the command that does it by itself.
    pub by: String,
    /// Why, for people.
    pub reason: String,
    /// When.
    pub decided_at: Timestamp,
    /// What about; at least one.
    pub about: Vec<Matter>,
}

/// What a [`Decision`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DecisionKind {
    /// A decision.
    Decision,
}

/// What a decision is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "matter", rename_all = "kebab-case")]
pub(crate) enum Matter {
    /// What this snapshot holds is as it should be, whatever is not there any more.
    Content(Seen),
    /// Something is wrong with a chain, and is known.
    Chain(ChainProblem),
    /// An object or a record at a target is missing, damaged or not to be trusted, and that is known.
    Damage(Place),
    /// An object that did not have the bytes that it must have was replaced by a good copy.
    Replaced(Replaced),
    /// This snapshot stays, whatever the rules of retention say.
    Pin(Seen),
    /// The rules of retention decide about this snapshot again.
    Unpin(Seen),
    /// This snapshot goes, whatever the rules of retention say.
    Forget(Seen),
    /// The whole archive was deleted.
    Deleted(Deletion),
    /// What a later release knows: it changes nothing for this one.
    #[serde(other)]
    Unknown,
}

/// Something that is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChainProblem {
    /// The chain.
    pub chain: Chain,
    /// What is wrong with it.
    pub problem: Problem,
    /// The first and the last number that it concerns.
    pub from: u64,
    /// See [`ChainProblem::from`].
    pub to: u64,
    /// The receipts that it concerns; none, where numbers say it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
}

/// A chain of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Chain {
    /// The receipts of its snapshots.
    Receipts,
    /// Those of the agent's drills.
    AgentDrills,
    /// Those of the owner's drills.
    OwnerDrills,
}

impl Chain {
    /// The chain of the drills of this maker.
    pub(crate) fn of_drills(by: By) -> Self {
        match by {
            By::Agent => Self::AgentDrills,
            By::Owner => Self::OwnerDrills,
        }
    }
}

/// What is wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Problem {
    /// No receipt has these numbers.
    Missing,
    /// Two receipts claim one number.
    Fork,
    /// A receipt does not continue the one before it.
    Edited,
    /// A receipt that was seen is not there, and no newer one is.
    Rollback,
}

/// An object at a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The target, by the name that it has for the writer.
    pub target: TargetName,
    /// Its key, relative to the database.
    pub object: String,
}

/// An object that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replaced {
    /// The target, by the name that it has for the writer.
    pub target: TargetName,
    /// Its key, relative to the database.
    pub object: String,
    /// SHA-256 of the bytes that it must have, and has since.
    pub sha256: Sha256,
    /// Their number.
    pub size: u64,
    /// What was wrong with it, for people.
    pub problem: String,
}

impl ChainProblem {
    /// The problem behind a break.
    pub(crate) fn of<I: fmt::Display>(chain: Chain, found: &Break<I>) -> Self {
        let (problem, from, to, mut ids) = match found {
            Break::Missing(from, to) => (Problem::Missing, *from, *to, Vec::new()),
            Break::Fork(at, one, two) => (Problem::Fork, *at, *at, vec![one.to_string(), two.to_string()]),
            Break::Edited(at, id) => (Problem::Edited, *at, *at, vec![id.to_string()]),
            Break::Rollback(at) => (Problem::Rollback, *at, *at, Vec::new()),
        };
        ids.sort();
        Self { chain, problem, from, to, ids }
    }

    /// Whether a decision about `self` says all that there is to `other`. What is missing at the end is a gap as soon as
    /// something follows.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let same = self.problem == other.problem
            || (self.problem, other.problem) == (Problem::Rollback, Problem::Missing);
        let ids = other.ids.is_empty() || self.ids == other.ids;
        same && ids && self.chain == other.chain && self.from <= other.from && other.to <= self.to
    }
}

/// As people name it on the command line.
impl fmt::Display for ChainProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = match self.chain {
            Chain::Receipts => "receipts",
            Chain::AgentDrills => "agent-drills",
            Chain::OwnerDrills => "owner-drills",
        };
        let problem = match self.problem {
            Problem::Missing => "missing",
            Problem::Fork => "fork",
            Problem::Edited => "edited",
            Problem::Rollback => "rollback",
        };
        write!(f, "{chain}:{problem}:{}", self.from)?;
        if self.to > self.from {
            write!(f, "-{}", self.to)?;
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.target, self.object)
    }
}

impl fmt::Display for Matter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Matter::Content(seen) => write!(f, "content:{}", seen.snapshot),
            Matter::Chain(problem) => problem.fmt(f),
            Matter::Damage(place) => place.fmt(f),
            Matter::Replaced(replaced) => write!(f, "replaced:{}:{}", replaced.target, replaced.object),
            Matter::Pin(seen) => write!(f, "pin:{}", seen.snapshot),
            Matter::Unpin(seen) => write!(f, "unpin:{}", seen.snapshot),
            Matter::Forget(seen) => write!(f, "forget:{}", seen.snapshot),
            Matter::Deleted(deletion) => {
                let targets: Vec<&str> = deletion.targets.iter().map(TargetName::as_str).collect();
                write!(f, "deleted:{}", targets.join(","))
            }
            Matter::Unknown => f.write_str("unknown"),
        }
    }
}

impl Decision {
    /// The bytes that are signed and stored.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        canonical::to_bytes(self)
    }

    /// Parses the record that was found at its place. The caller has checked the signature of `bytes`.
    pub(crate) fn parse(bytes: &[u8], database: &DatabaseId, decision: &DecisionId) -> Result<Self> {
        let record: Self =
            canonical::from_bytes(bytes).map_err(|e| e.context(format!("decision {decision}")))?;
        let says = (&record.publisher, &record.database, &record.decision);
        signed_record::require_place("record at decision", database, decision, says)?;
        if record.about.is_empty() {
            return Err(Error::verification(format!("decision {decision}: it is about nothing")));
        }
        Ok(record)
    }
}
