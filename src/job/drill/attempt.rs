//! One attempt at proving a snapshot: from its receipt to the last check. Everything that was found on
//! the way stays, whatever fails.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::changes::Values;
use super::checks::Checking;
use super::report::{CheckReport, CheckResult};
use super::site::Site;
use super::{DrillJob, Opens, choose, fetch};
use crate::engine::scratch::{Damage, Scratch};
use crate::engine::{Comparison, Exception, LoadOptions, Roles};
use crate::error::{Error, ErrorKind, Result};
use crate::job::restore::open::{Fetcher, OpenSnapshot, Opener};
use crate::job::restore::recovery::{Recovery, differences, first_few};
use crate::job::restore::streams::Streams;
use crate::job::stopwatch::Stopwatch;
use crate::keys::EpochKey;
use crate::model::drill_stage::DrillStage;
use crate::model::id::TargetName;
use crate::model::isolation::Isolation;
use crate::model::observer::LoadObserver as _;
use crate::model::omission::Omission;
use crate::model::sabotage::Sabotage;
use crate::model::stage::Stage;
use crate::model::stream::Contents;
use crate::repository::drill_catalog::DrillCatalog;
use crate::repository::reader::Reader;
use crate::repository::receipt::{ObjectRef, SignedReceipt};
use crate::targets::NamedTarget;

/// What an attempt has found so far.
#[derive(Default)]
pub(super) struct Findings {
    /// The target.
    pub target: Option<TargetName>,
    /// The snapshot's receipt.
    pub receipt: Option<SignedReceipt>,
    /// Objects that were fetched and were right.
    pub fetched: u64,
    /// The snapshot's manifest.
    pub contents: Option<Contents>,
    /// The object that is not what the receipt says.
    pub damaged: Option<ObjectRef>,
    /// Where it was restored: must be removed.
    pub scratch: Option<Box<dyn Scratch>>,
    /// What the scratch place is, and its version.
    pub place: Option<(String, String)>,
    /// What kept the restored database's code apart.
    pub isolation: Option<Isolation>,
    /// The keys of objects that are damaged or deleted at the target, while an older version of them is good.
    pub older: BTreeSet<String>,
    /// What the loader could not set.
    pub warnings: Vec<String>,
    /// What could not be restored, or not as it was.
    pub exceptions: Vec<Exception>,
    /// What cannot be had in a drill, and says nothing about the snapshot.
    pub not_here: Vec<String>,
    /// Seconds that it took until the database was there again, without what was asked of other targets.
    pub rto_seconds: Option<f64>,
    /// The last comparison.
    pub comparison: Option<Comparison>,
    /// What was damaged, in words.
    pub damage: Option<String>,
    /// The sabotage was noticed, as what it was.
    pub caught: bool,
    /// The checks.
    pub checks: Vec<CheckReport>,
    /// What was found, for the checks of the next drill.
    pub values: Values,
}

/// The attempt.
pub(super) struct Attempt<'a> {
    pub job: &'a DrillJob,
    pub drills: &'a DrillCatalog,
    pub site: &'a Site,
    pub watch: &'a Arc<Stopwatch>,
    /// The number of the newest snapshot whose content somebody has accepted.
    pub accepted: Option<u64>,
    pub cancel: &'a CancellationToken,
}

impl Attempt<'_> {
    /// Runs as far as it can. An error is the failure of the drill.
    pub(super) async fn run(&self, found: &mut Findings) -> Result<()> {
        let opened = self.fetch(found).await?;
        let mut tried = self.load(&opened, found).await;
        // A sabotage that got this far was not noticed: no check may hide that.
        if tried.is_ok() && self.job.sabotage.is_none() {
            tried = self.check(&opened, found).await;
        }
        tried.map_err(|e| explained(e, found))
    }

    /// The snapshot, fetched from one target and opened.
    async fn fetch(&self, found: &mut Findings) -> Result<OpenSnapshot> {
        let job = self.job;
        self.watch.stage(Stage::Receipts);
        let target = choose::target(&job.targets, job.target.as_ref(), self.drills, job.by())?;
        found.target = Some(target.name.clone());
        let reader = Reader::new(&job.database, std::slice::from_ref(target), &job.trust, job.state.as_ref());
        let chosen = choose::snapshot(&reader, &job.wanted, job.sabotage, &**self.watch, self.cancel).await;
        if let Err(e) = &chosen {
            found.caught = job.sabotage == Some(Sabotage::Stale) && e.kind() == ErrorKind::Verification;
        }
        let (_, receipt, odd) = chosen?;
        found.older.extend(odd);
        found.receipt = Some(receipt.clone());
        // Before anything is fetched: without the key, fetching would be pointless.
        let kept = self.epoch_key(&receipt)?;

        self.watch.stage(Stage::Fetch);
        let mut from: NamedTarget = target.clone();
        let mut flipped = None;
        if job.sabotage == Some(Sabotage::Byte) {
            let (target, object) = fetch::flip_one_bit(target, &receipt.receipt)?;
            from = target;
            found.damage = Some(format!("one bit of {object} was inverted on its way from the target"));
            flipped = Some(object);
        }
        let fetcher =
            Fetcher { database: job.database.clone(), targets: vec![from], state: job.state.clone() };
        let packs = self.site.packs();
        let fetched = fetch::everything(&fetcher, &receipt.receipt, &packs, &**self.watch, self.cancel).await;
        let (number, older) = fetched.map_err(|failed| self.not_fetched(failed, flipped.as_ref(), found))?;
        found.fetched = number;
        found.older.extend(older);

        self.watch.stage(Stage::Open);
        let opener = match (kept, &job.opens) {
            (Some(key), _) => Opener::Epoch(key),
            (None, Opens::Owner(key)) => Opener::Owner(key),
            (None, Opens::Kept) => return Err(Error::internal("a drill without a key")),
        };
        let opened = OpenSnapshot::open(receipt, fetcher, opener, &packs, &**self.watch, self.cancel).await?;
        found.contents = Some(opened.contents.clone());
        Ok(opened)
    }

    /// Says of an object that is not what its receipt says whether that is our own doing, and else remembers it.
    fn not_fetched(&self, failed: fetch::Failed, flipped: Option<&String>, found: &mut Findings) -> Error {
        let fetch::Failed { object, error } = failed;
        if error.kind() != ErrorKind::Verification {
            return error;
        }
        match flipped {
            Some(flipped) => found.caught = object.is_some_and(|o| o.key == *flipped),
            None => found.damaged = object,
        }
        error.remedy(
            "Find out who or what changed the target: `marbre verify` checks everything. The next snapshot sends the \
             data of a damaged pack again.",
        )
    }

    /// The key that the agent still keeps; an owner opens `epoch.age` instead.
    fn epoch_key(&self, receipt: &SignedReceipt) -> Result<Option<EpochKey>> {
        let (Opens::Kept, Some(state)) = (&self.job.opens, &self.job.state) else {
            return Ok(None);
        };
        let epoch = &receipt.receipt.epoch;
        match state.epoch_key(&self.job.database, epoch)? {
            Some(text) => EpochKey::from_secret(&text).map(Some),
            None => Err(Error::key(format!(
                "the agent does not hold the key of epoch {epoch} (any more), and cannot drill {}",
                receipt.receipt.snapshot
            ))
            .cause("the key is kept while drills of its epoch are due, and with `drills.key = \"none\"` not at all")
            .remedy(
                "Drill a snapshot of the current epoch, or let the owner do it with `marbre drill --as-owner`. After \
                 the state was lost, the next snapshot begins an epoch whose key is kept.",
            )),
        }
    }

    /// The database, in a throwaway place.
    async fn load(&self, opened: &OpenSnapshot, found: &mut Findings) -> Result<()> {
        let job = self.job;
        self.watch.stage(Stage::Server);
        let host = (job.make_host)(&opened.contents.source.engine)?;
        found.isolation = Some(host.isolation());
        let scratch = host.start(&opened.contents, &self.site.place(), self.cancel).await?;
        let scratch = &**found.scratch.insert(scratch);
        found.place = Some((scratch.describe(), scratch.version()));

        let loader = scratch.loader();
        let streams = Streams::new(opened, &self.site.packs(), self.watch.clone(), self.cancel);
        let recovery = Recovery { opened, loader: &*loader, streams: &streams, watch: self.watch };
        let options = LoadOptions { overwrite: false, jobs: job.jobs, roles: Roles::Plain };
        let loaded = recovery.load(&options, self.cancel).await?;
        found.warnings.extend(loaded.warnings);
        found.exceptions = loaded.exceptions.list;
        found.not_here = loaded.not_here;
        found.rto_seconds =
            Some(self.watch.spent(|stage| DrillStage::of(stage).is_some_and(DrillStage::is_recovery)));

        self.compare(&recovery, found).await?;
        let Some(damage) = job.sabotage.and_then(damage) else {
            found.warnings.extend(loader.finish().await?);
            return Ok(());
        };
        // What was equal a moment ago must be seen to differ now, and for this reason only.
        let scratch = found.scratch.as_deref().ok_or_else(|| Error::internal("a drill without a place"))?;
        found.damage = Some(scratch.damage(damage, &opened.contents, self.cancel).await?);
        let compared = self.compare(&recovery, found).await;
        found.caught = compared.as_ref().is_err_and(|e| e.kind() == ErrorKind::Verification);
        compared
    }

    async fn compare(&self, recovery: &Recovery<'_>, found: &mut Findings) -> Result<()> {
        let mut comparison = recovery.compare(self.cancel).await?;
        if self.job.built_in.skips("definitions") {
            found.warnings.append(&mut comparison.definitions);
        }
        let what = differences(&comparison);
        found.values = Values::of(&comparison, &recovery.opened.contents.source);
        let equal = comparison.equal();
        found.comparison = Some(comparison);
        if !found.exceptions.is_empty() {
            return Err(excepted(&found.exceptions));
        }
        if equal {
            return Ok(());
        }
        Err(Error::verification("what was restored is not equal to the snapshot").cause(first_few(&what)).remedy(
            "Do not rely on this snapshot. Drill it from another target; if it fails there too, take a new full snapshot \
             and find out what changed.",
        ))
    }

    async fn check(&self, opened: &OpenSnapshot, found: &mut Findings) -> Result<()> {
        self.watch.stage(Stage::Checks);
        let scratch = found.scratch.as_deref().ok_or_else(|| Error::internal("a drill without a place"))?;
        let before = self.job.baseline(&opened.receipt.receipt, self.accepted)?;
        let checking = Checking {
            scratch,
            checks: &self.job.checks,
            built_in: &self.job.built_in,
            before: before.as_ref(),
            consistent_at: opened.contents.source.consistent_at,
        };
        found.checks = checking.run(&mut found.values, self.cancel).await?;
        if let Some(excused) = found.comparison.as_ref().map(|c| &c.excused).filter(|e| !e.is_empty()) {
            let why = Some(first_few(excused));
            found.checks.insert(0, CheckReport::new("definitions", CheckResult::Unavailable, None, why));
        }
        if !found.not_here.is_empty() {
            let why = Some(first_few(&found.not_here));
            found.checks.insert(0, CheckReport::new("other servers", CheckResult::Unavailable, None, why));
        }
        let omitted: Vec<String> = opened.contents.source.omitted.iter().map(Omission::what).collect();
        if !omitted.is_empty() {
            let why = Some(format!("not in the snapshot: {}", first_few(&omitted)));
            found.checks.insert(0, CheckReport::new("completeness", CheckResult::Unavailable, None, why));
        }
        let failed: Vec<String> = found
            .checks
            .iter()
            .filter(|c| c.result == CheckResult::Failed)
            .map(|c| format!("{}: {}", c.name, c.message.as_deref().unwrap_or("failed")))
            .collect();
        match failed.len() {
            0 => Ok(()),
            n => Err(Error::verification(match n {
                1 => "a check of the restored data has failed".to_owned(),
                n => format!("{n} checks of the restored data have failed"),
            })
            .cause(failed.join("; "))
            .remedy(
                "The snapshot is equal to its source: look at the source, or at the check. If the data changed a lot for a \
                 good reason, `marbre accept DB --why TEXT` says so in a signed record: what is there now is the measure then. Until a \
                 drill passes, or somebody accepts it, no older snapshot is pruned.",
            )),
        }
    }
}

/// The failure for what could not be restored; the report has all of it.
fn excepted(exceptions: &[Exception]) -> Error {
    let what = match exceptions.len() {
        1 => "everything was restored except one thing".to_owned(),
        n => format!("everything was restored except {n} things"),
    };
    let list: Vec<String> = exceptions.iter().map(Exception::to_string).collect();
    Error::verification(what).cause(first_few(&list)).remedy(
        "A restore in a disaster would lack the same. Mend it at the source, where it most often is broken too: a rule that its own \
         rows do not keep, a function that looks for names without their schema. Then take a snapshot and drill again.",
    )
}

/// A connection that was cut does not say why; the log of the throwaway server may.
fn explained(e: Error, found: &Findings) -> Error {
    let trouble =
        found.scratch.as_ref().filter(|_| e.kind() == ErrorKind::Database).and_then(|s| s.trouble());
    match (trouble, e.cause_text().map(str::to_owned)) {
        (Some(trouble), Some(cause)) => e.cause(format!("{cause}; the throwaway server says: {trouble}")),
        (Some(trouble), None) => e.cause(format!("the throwaway server says: {trouble}")),
        (None, _) => e,
    }
}

/// Sabotage of the restored database.
fn damage(sabotage: Sabotage) -> Option<Damage> {
    match sabotage {
        Sabotage::Row => Some(Damage::Row),
        Sabotage::MissingTable => Some(Damage::MissingTable),
        Sabotage::Index => Some(Damage::Index),
        Sabotage::Sequence => Some(Damage::Sequence),
        Sabotage::Byte | Sabotage::Stale => None,
    }
}
