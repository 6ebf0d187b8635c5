//! Deciding about one snapshot: that it stays (`pin`), that the rules decide again (`unpin`), or that the next prune deletes it
//! (`forget`). Nothing is deleted by the decision itself.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::job::anomaly;
use crate::job::decide;
use crate::job::prune::PruneJob;
use crate::job::recorded_at::{self, RecordedAt};
use crate::job::restore::open::{Wanted, choose};
use crate::job::run_lock::Lock;
use crate::model::human::duration;
use crate::model::id::{DatabaseId, DatabaseName, PublisherName, SnapshotId};
use crate::model::mark::{Because, Mark};
use crate::model::observer::Observer;
use crate::model::retention::{self, Candidate, Fate, Reason};
use crate::repository::catalog::{Catalog, Entry};
use crate::repository::decision::Matter;
use crate::repository::decision_catalog::DecisionSummary;
use crate::repository::reader::Reader;
use crate::repository::remembered::Remembered as _;
use crate::repository::succession::Seen;

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It stays, whatever the rules say.
    Pin,
    /// The rules decide again.
    Unpin,
    /// It goes, whatever the rules say.
    Forget,
}

/// Everything that deciding needs.
pub(crate) struct MarkJob {
    /// The prune that will heed the decision.
    pub prune: PruneJob,
    /// What is decided.
    pub choice: Choice,
}

/// A decision that was written, as `pin`, `unpin` and `forget` print it with `--json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MarkReport {
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The decision.
    #[serde(flatten)]
    pub decision: DecisionSummary,
    /// Every target.
    pub targets: Vec<RecordedAt>,
    /// What a prune makes of it, if it runs now: a fragment for people.
    pub next: String,
}

impl MarkReport {
    /// The error that the command ends with, where a target lacks the record.
    pub(crate) fn error(&self) -> Option<Error> {
        recorded_at::incomplete(&self.targets)
    }
}

impl MarkJob {
    /// Decides, unless something forbids it; then nothing is changed.
    pub(crate) async fn run(
        self,
        wanted: &Wanted,
        because: &Because,
        now: Timestamp,
        observer: &dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<MarkReport> {
        let Self { prune, choice } = &self;
        let database = &prune.database;
        // A prune that runs has read the decisions already.
        let _lock = Lock::take_as(
            &prune.state.prune_lock_file(database),
            &format!("{database} is being pruned, or somebody else decides about it"),
        )?;
        let reader = Reader::new(database, &prune.targets, &prune.trust, Some(&prune.state));
        let catalog = reader.read(cancel).await?;
        let entry = choose(&catalog, wanted, database, observer)?;
        let snapshot = entry.receipt.snapshot.clone();
        catalog.require_agent(database, &prune.signing_key.signer())?;
        let seen = Seen::of(&entry.link);
        let marked = catalog.decisions.marks().remove(&entry.link.hash);
        require_history(&catalog, entry, database)?;
        let next = match choice {
            Choice::Pin => "no prune deletes it until it is unpinned".to_owned(),
            Choice::Unpin => {
                require_pinned(&snapshot, marked.as_ref())?;
                "the rules of retention decide about it again".to_owned()
            }
            Choice::Forget => {
                require_not_pinned(&snapshot, marked.as_ref())?;
                self.require_deletable(&reader, &catalog, &snapshot, because, now, cancel).await?;
                format!("the next prune deletes it, and {}", goes_after(prune.grace))
            }
        };
        let matter = match choice {
            Choice::Pin => Matter::Pin(seen),
            Choice::Unpin => Matter::Unpin(seen),
            Choice::Forget => Matter::Forget(seen),
        };
        // Records of one second have no order that their dates tell, and this one must count.
        let after = catalog.decisions.newest_at().map(|at| at + SignedDuration::from_secs(1));
        let at = after.map_or(now, |after| after.max(now));
        let signed = decide::sign(database, &prune.signing_key, because, vec![matter], at)?;
        let targets = decide::put_everywhere(&prune.targets, database, &signed, cancel).await?;
        prune.state.remember_decision(database, &signed)?;
        Ok(MarkReport {
            publisher: database.publisher.clone(),
            database: database.database.clone(),
            snapshot,
            decision: DecisionSummary::of(&signed.record),
            targets,
            next,
        })
    }

    /// Fails where invariant I7 forbids that this snapshot goes, as a prune would see it now.
    async fn require_deletable(
        &self,
        reader: &Reader<'_>,
        catalog: &Catalog,
        snapshot: &SnapshotId,
        because: &Because,
        now: Timestamp,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let prune = &self.prune;
        let drills = reader.drills(cancel).await?;
        let anomalies = anomaly::anomalies(catalog, &drills, prune.rows_limit);
        let mut candidates = prune.candidates(reader, catalog, &drills, &anomalies)?;
        let forgotten = Mark::Forgotten(because.clone());
        let this = |c: &&mut Candidate| c.snapshot == *snapshot;
        candidates.iter_mut().filter(this).for_each(|c| c.mark = Some(forgotten.clone()));
        let all = candidates.len();
        let mut decision = retention::decide(&candidates, &prune.policy, &prune.time_zone, now, all);
        let Some(Fate::Keep(reasons)) = decision.fates.remove(snapshot) else { return Ok(()) };
        let reasons: Vec<String> = reasons.iter().map(Reason::to_string).collect();
        Err(Error::preflight(format!("{snapshot} cannot be forgotten now"))
            .cause(format!("it outlives every rule: {}", reasons.join("; ")))
            .remedy(
                "Take a newer snapshot, let a drill prove it at every target, and run the command again. Nothing was changed.",
            ))
    }
}

/// What is set aside is no matter of retention: no prune looks at it.
fn require_history(catalog: &Catalog, entry: &Entry, database: &DatabaseId) -> Result<()> {
    let snapshot = &entry.receipt.snapshot;
    if catalog.entries.contains_key(snapshot) {
        return Ok(());
    }
    Err(Error::preflight(format!(
        "{snapshot} is set aside: it is not of the history of {database} that goes on"
    ))
    .remedy("No prune deletes what is set aside. Nothing was changed."))
}

fn require_pinned(snapshot: &SnapshotId, marked: Option<&Mark>) -> Result<()> {
    let cause = match marked {
        Some(Mark::Pinned(_)) => return Ok(()),
        Some(mark) => Some(mark.to_string()),
        None => None,
    };
    let error = Error::preflight(format!("{snapshot} is not pinned"));
    let error = match cause {
        Some(cause) => error.cause(cause),
        None => error,
    };
    Err(error.remedy(
        "`marbre list` shows what is pinned. What is forgotten, `marbre pin` keeps, until a prune has deleted it. Nothing was changed.",
    ))
}

fn require_not_pinned(snapshot: &SnapshotId, marked: Option<&Mark>) -> Result<()> {
    match marked {
        Some(mark @ Mark::Pinned(_)) => {
            Err(Error::preflight(format!("{snapshot} cannot be forgotten")).cause(mark.to_string()).remedy(
                format!("If it may go, `marbre unpin {snapshot} --why TEXT` first. Nothing was changed."),
            ))
        }
        _ => Ok(()),
    }
}

/// When the data goes of a snapshot whose receipt is deleted.
fn goes_after(grace: Duration) -> String {
    let grace = match grace.as_secs() {
        0 => String::new(),
        _ => format!(" once nobody has needed it for {}", duration(grace.as_secs_f64())),
    };
    format!("what only it needs goes{grace}; what later snapshots share stays with them")
}
