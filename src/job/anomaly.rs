//! What is odd about the content of a database: it may be meant, or be the disaster that older snapshots are kept for. Until
//! somebody says which, they stay.

use crate::error::ErrorKind;
use crate::model::drill_check::Percent;
use crate::model::drill_stage::DrillStage;
use crate::model::human::count;
use crate::model::id::{DrillId, SnapshotId};
use crate::model::level::By;
use crate::model::loss::{self, Content, Loss};
use crate::repository::catalog::Catalog;
use crate::repository::drill_catalog::DrillCatalog;
use crate::repository::drill_receipt::DrillReceipt;

/// Something odd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Anomaly {
    /// Rows are gone.
    Rows {
        /// How many, and since when.
        loss: Loss,
        /// The snapshot that had the most.
        best: SnapshotId,
        /// The first that lacks them.
        since: SnapshotId,
    },
    /// The last drill of the agent restored everything, and then failed at its checks.
    Checks {
        /// The drill.
        drill: DrillId,
        /// The snapshot.
        snapshot: SnapshotId,
        /// Its place in the chain.
        sequence: u64,
    },
}

/// What nobody has accepted yet. `limit`: how many rows may go.
pub(crate) fn anomalies(catalog: &Catalog, drills: &DrillCatalog, limit: Percent) -> Vec<Anomaly> {
    let accepted = catalog.decisions.content().map(|seen| seen.sequence);
    let mut found: Vec<Anomaly> = rows(catalog, accepted, limit).into_iter().collect();
    found.extend(checks(drills).filter(|anomaly| accepted.is_none_or(|at| at < anomaly.since())));
    found
}

fn rows(catalog: &Catalog, accepted: Option<u64>, limit: Percent) -> Option<Anomaly> {
    let mut receipts: Vec<_> = catalog.entries.values().map(|entry| &entry.receipt).collect();
    receipts.sort_by_key(|receipt| receipt.sequence);
    let contents: Vec<Content> =
        receipts.iter().map(|r| Content { sequence: r.sequence, rows: r.rows }).collect();
    let loss = loss::loss(&contents, accepted, limit)?;
    let named = |content: Content| {
        let receipt = receipts.iter().find(|receipt| receipt.sequence == content.sequence);
        receipt.map(|receipt| receipt.snapshot.clone())
    };
    Some(Anomaly::Rows { best: named(loss.best)?, since: named(loss.since)?, loss })
}

/// Of the drills that came as far as the checks the last one, if it failed there.
fn checks(drills: &DrillCatalog) -> impl Iterator<Item = Anomaly> {
    let failed = |drill: &DrillReceipt| {
        let failure = drill.failure.as_ref();
        failure.is_some_and(|f| {
            f.known_stage() == Some(DrillStage::Checks) && f.exit_code == ErrorKind::Verification.exit_code()
        })
    };
    let last = drills.without_sabotage(By::Agent).rev().find(|d| d.level.is_some() || failed(d));
    last.filter(|drill| failed(drill)).into_iter().filter_map(|drill| {
        let subject = drill.subject.as_ref()?;
        Some(Anomaly::Checks {
            drill: drill.drill.clone(),
            snapshot: subject.snapshot.clone(),
            sequence: subject.sequence,
        })
    })
}

impl Anomaly {
    /// The number of the first snapshot that is odd: what is older is kept.
    pub(crate) fn since(&self) -> u64 {
        match self {
            Self::Rows { loss, .. } => loss.since.sequence,
            Self::Checks { sequence, .. } => *sequence,
        }
    }

    /// What it is: a fragment.
    pub(crate) fn what(&self) -> String {
        match self {
            Self::Rows { loss, best, since } => {
                let (was, is) = (loss.best.rows, loss.newest.rows);
                // 100 % are gone only where none is left.
                let most = if is == 0 { 100.0 } else { 99.0 };
                let percent = ((was - is) as f64 * 100.0 / was as f64).min(most);
                format!(
                    "the newest snapshot holds {} rows, {percent:.0} % fewer than the {} of {best}; they are gone since \
                     {since}",
                    count(is),
                    count(was)
                )
            }
            Self::Checks { drill, snapshot, .. } => {
                format!("drill {drill} restored {snapshot}, and its content failed the checks")
            }
        }
    }
}
