//! Drills: a restore into a throwaway place, and the proof that what came back is what was there.
//!
//! A drill reads everything from one target, opens it with the key that the agent still keeps (or with the
//! owner's), loads it as a restore does, compares it with the manifest, runs the database's checks, removes
//! everything, and records what it found, passed or not. A drill that could not run has failed.

mod attempt;
pub(crate) mod changes;
pub(crate) mod checks;
mod choose;
mod fetch;
pub(crate) mod kept;
mod record;
pub(crate) mod report;
pub(crate) mod site;
pub(crate) mod verdict;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::engine::scratch::ScratchHost;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::job::key_policy;
use crate::job::key_policy::KeyPolicy;
use crate::job::resend;
use crate::job::restore::open::Wanted;
use crate::job::run_lock::Lock;
use crate::job::stopwatch::Stopwatch;
use crate::keys::{Recipients, RestoreKey, SigningKey, TrustStore};
use crate::model::drill_check::Check;
use crate::model::drill_stage::DrillStage;
use crate::model::id::{DatabaseId, DrillId, TargetName};
use crate::model::level::By;
use crate::model::locale::Locale;
use crate::model::observer::LoadObserver as _;
use crate::model::observer::Observer;
use crate::model::proof::{Evidence, Proof};
use crate::model::sabotage::Sabotage;
use crate::model::stage::Stage;
use crate::repository::decision::Decision;
use crate::repository::drill_catalog::DrillCatalog;
use crate::repository::reader::Reader;
use crate::repository::receipt::Receipt;
use crate::repository::remembered::Remembered as _;
use crate::state::{Baseline, State};
use crate::targets::NamedTarget;
use attempt::{Attempt, Findings};
use changes::{BuiltIn, Values};
use report::DrillReport;
use site::Site;

/// Returns the host for a snapshot's engine.
pub(crate) type MakeHost = Box<dyn Fn(&str) -> Result<Arc<dyn ScratchHost>> + Send + Sync>;

/// How a report is written for people.
#[derive(Clone, Copy)]
pub(crate) struct Pages {
    /// As one HTML document.
    pub html: fn(&DrillReport, &Locale) -> String,
    /// As Markdown.
    pub markdown: fn(&DrillReport, &Locale) -> String,
}

/// How long the reports of earlier drills are kept.
pub(crate) struct ReportRetention {
    /// Those in this one of the folders.
    pub dir: PathBuf,
    /// So long.
    pub keep: Duration,
}

/// What a drill opens a snapshot with.
pub(crate) enum Opens {
    /// The key of the epoch, which the agent keeps in its state.
    Kept,
    /// The owner's key.
    Owner(RestoreKey),
}

/// Everything a drill needs.
pub(crate) struct DrillJob {
    /// The database that was snapshotted.
    pub database: DatabaseId,
    /// Where its snapshots are, and where the receipt goes.
    pub targets: Vec<NamedTarget>,
    /// The target to read from; else the one that was drilled longest ago.
    pub target: Option<TargetName>,
    /// Which snapshot.
    pub wanted: Wanted,
    /// Whose records count.
    pub trust: TrustStore,
    /// What the agent remembers; an owner has nothing.
    pub state: Option<State>,
    /// What opens the snapshot.
    pub opens: Opens,
    /// Which keys of epochs the agent keeps.
    pub key_policy: KeyPolicy,
    /// Where it is restored.
    pub make_host: MakeHost,
    /// The local folder for that.
    pub scratch_dir: PathBuf,
    /// How many connections or jobs at a time.
    pub jobs: usize,
    /// marbre's own checks.
    pub built_in: BuiltIn,
    /// The owner's checks.
    pub checks: Vec<Check>,
    /// How long a recovery may take.
    pub rto: Option<Duration>,
    /// Who signs the receipt.
    pub signing_key: SigningKey,
    /// To whom the page for people is sealed; without them it is put nowhere.
    pub recipients: Option<Recipients>,
    /// How the report is written for people.
    pub pages: Pages,
    /// For whom.
    pub locale: Locale,
    /// The folders that the page for people is written to.
    pub report_dirs: Vec<PathBuf>,
    /// What becomes of old reports; without it they stay.
    pub report_retention: Option<ReportRetention>,
    /// The damage to do to its own copy.
    pub sabotage: Option<Sabotage>,
    /// Leave the restored copy of a failed drill for people to look at.
    pub keep_on_failure: bool,
    /// Compare nothing with the last proven snapshot: what is found, if it passes, is the new baseline.
    pub new_baseline: bool,
}

impl DrillJob {
    /// Who runs this drill.
    pub(crate) fn by(&self) -> By {
        match self.opens {
            Opens::Kept => By::Agent,
            Opens::Owner(_) => By::Owner,
        }
    }

    /// Drills once. An error means that there was no drill, and nothing is left of it; a drill that failed is
    /// in the report.
    pub(crate) async fn run(
        self,
        now: Timestamp,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<DrillReport> {
        self.refuse()?;
        let watch = Arc::new(Stopwatch::new(observer));
        let lock_file = self.state.as_ref().map(|s| s.drill_lock_file(&self.database));
        let _lock = lock_file.map(|file| Lock::take(&file, &self.database)).transpose()?;
        let drill = DrillId::new(now, rand::random());
        // This asks every target. A recovery needs one only, and its time begins when that one is asked.
        watch.stage(Stage::Targets);
        let (drills, accepted) = self.read_drills(cancel).await?;
        let mut found = Findings::default();
        let tried = match Site::open(&self.scratch_dir, &drill, &self.database) {
            Ok(site) => self.attempt(site, (&drills, accepted), &watch, &mut found, cancel).await,
            Err(e) => Tried { outcome: Err(e), failed_stage: Some(DrillStage::Start), kept: None },
        };
        if cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let Tried { outcome, failed_stage, kept } = tried;
        if let Err(e) = &outcome
            && self.misnamed(e)?
        {
            return Err(e.clone());
        }
        let proof = outcome.and_then(|()| self.weigh(&found, kept.is_none()));
        if proof.is_ok() {
            self.remember(&found)?;
        }
        self.note_damage(&found)?;
        let ended = Ended { drill, started_at: now, failed_stage, kept, proof };
        let recorder = record::Recorder { job: &self, drills: &drills, watch: &watch, cancel };
        let mut recorded = recorder.record(ended, found).await;
        if let Ok(report) = &mut recorded {
            report.warnings.extend(self.forget_reports(now));
        }
        self.retire_keys(Timestamp::now())?;
        recorded
    }

    /// The attempt, and the removal of everything that it made.
    async fn attempt(
        &self,
        site: Site,
        (drills, accepted): (&DrillCatalog, Option<u64>),
        watch: &Arc<Stopwatch>,
        found: &mut Findings,
        cancel: &CancellationToken,
    ) -> Tried {
        let attempt = Attempt { job: self, drills, site: &site, watch, accepted, cancel };
        let mut outcome = attempt.run(found).await;
        let stage = watch.current().and_then(DrillStage::of).unwrap_or(DrillStage::Start);
        let failed_stage = outcome.is_err().then_some(stage);
        watch.stage(Stage::Remove);
        let keep = self.keep_on_failure && outcome.is_err() && !cancel.is_cancelled();
        let kept = self.remove(site, found, keep).await.unwrap_or_else(|e| {
            found.warnings.push(e.to_string());
            if outcome.is_ok() {
                outcome = Err(e);
            }
            None
        });
        let failed_stage = failed_stage.or_else(|| outcome.is_err().then_some(DrillStage::Remove));
        Tried { outcome, failed_stage, kept }
    }

    fn refuse(&self) -> Result<()> {
        if let Some(target) = &self.target {
            choose::named(&self.targets, target)?;
        }
        if self.sabotage != Some(Sabotage::Stale) {
            return Ok(());
        }
        if self.state.is_none() || self.wanted != Wanted::Latest {
            return Err(Error::new(ErrorKind::Usage, "this drill cannot be sabotaged with `stale`")
                .cause(
                    "an old state is noticed only by what the agent remembers, and only when the newest snapshot is wanted",
                )
                .remedy("Let the agent run it, without --snapshot."));
        }
        Ok(())
    }

    /// A snapshot that nobody has ever seen is a mistake in the command: that is no drill, and no failed one.
    fn misnamed(&self, e: &Error) -> Result<bool> {
        let Wanted::Snapshot(snapshot) = &self.wanted else { return Ok(false) };
        let known = self.state.as_ref().map(|s| s.receipt(&self.database, snapshot)).transpose()?.flatten();
        Ok(e.kind() == ErrorKind::NotFound && known.is_none())
    }

    /// The drills so far, and the number of the newest snapshot whose content somebody has accepted.
    async fn read_drills(&self, cancel: &CancellationToken) -> Result<(DrillCatalog, Option<u64>)> {
        let own = self.signing_key.signer();
        let own = TrustStore::Own { agent: own, owners: vec![own] };
        // Who accepted the agent's key by its fingerprint has said nothing of owners, and continues their own chain.
        let trust = match (&self.trust, self.by()) {
            (TrustStore::Fingerprint(_), By::Owner) => &own,
            (trust, _) => trust,
        };
        let reader = Reader::new(&self.database, &self.targets, trust, self.state.as_ref());
        if self.by() == By::Agent {
            let own = self.signing_key.signer().fingerprint();
            reader.agents(cancel).await?.require_current(&self.database, &own)?;
        }
        let targets: Vec<&NamedTarget> = self.targets.iter().collect();
        let decisions = reader.records::<Decision>(&targets, cancel).await?;
        let accepted = decisions.content().map(|seen| seen.sequence);
        let mut drills = reader.drills(cancel).await?;
        drills.ended = decisions.ends_of_drills();
        if self.by() == By::Owner {
            for folder in self.report_folders() {
                drills.recall(&folder, &self.database, &self.signing_key.signer())?;
            }
        }
        Ok((drills, accepted))
    }

    /// Where the reports of this database lie.
    fn report_folders(&self) -> impl Iterator<Item = PathBuf> {
        self.report_dirs.iter().map(|dir| kept::folder(dir, &self.database))
    }

    /// Removes everything again, however the attempt ended; or leaves the copy for people, and says how to look at it.
    async fn remove(&self, site: Site, found: &mut Findings, keep: bool) -> Result<Option<String>> {
        match found.scratch.take() {
            Some(scratch) if keep => {
                let how = scratch.keep().await?;
                site.keep(&how)?;
                Ok(Some(how))
            }
            Some(scratch) => {
                scratch.remove().await?;
                site.clear().map(|()| None)
            }
            None => {
                // A place that could not be started may have left something.
                if let Some(receipt) = &found.receipt {
                    (self.make_host)(&receipt.receipt.engine)?.sweep(&site.place()).await?;
                }
                site.clear().map(|()| None)
            }
        }
    }

    fn weigh(&self, found: &Findings, removed: bool) -> Result<Proof> {
        let tables = found.comparison.as_ref().map_or(&[][..], |c| &c.tables);
        let named = found.contents.as_ref().map_or(0, |m| m.streams.iter().map(|s| s.tables.len()).sum());
        let failed = |c: &&report::CheckReport| c.result == report::CheckResult::Failed;
        let differences = found.comparison.as_ref().map_or(1, |c| u64::from(!c.equal()));
        let evidence = Evidence {
            objects: found.receipt.as_ref().map_or(0, |r| r.receipt.objects.len() as u64),
            fetched: found.fetched,
            types: found.comparison.as_ref().map_or(0, |c| c.inventory.len() as u64),
            tables: named as u64,
            equal: tables.iter().filter(|t| t.equal()).count() as u64,
            differences,
            exceptions: found.exceptions.len() as u64,
            checks_failed: found.checks.iter().filter(failed).count() as u64,
            removed,
            sabotage: self.sabotage,
        };
        evidence.weigh(self.by()).map_err(|why| match self.sabotage {
            Some(sabotage) => Error::internal(format!("the sabotage `{}` was NOT noticed", sabotage.word()))
                .remedy(
                    "Drills on this machine prove nothing until this is fixed: report it as a bug in marbre.",
                ),
            None => Error::verification(format!("the drill is no proof: {why}")),
        })
    }

    /// What the last proven snapshot held, unless somebody has accepted since then that the content is another.
    fn baseline(&self, drilled: &Receipt, accepted: Option<u64>) -> Result<Option<Values>> {
        let Some(state) = self.state.as_ref().filter(|_| !self.new_baseline) else { return Ok(None) };
        let Some(baseline) = state.baseline(&self.database)? else { return Ok(None) };
        // An older snapshot is not compared with a newer one.
        if baseline.sequence > drilled.sequence {
            return Ok(None);
        }
        if accepted.is_some_and(|at| baseline.sequence < at && at <= drilled.sequence) {
            return Ok(None);
        }
        serde_json::from_str(&baseline.body).map(Some).or_internal(
            "read the values of the last proven snapshot from the state (delete the state: it is only a cache)",
        )
    }

    fn remember(&self, found: &Findings) -> Result<()> {
        let (Some(state), Some(receipt)) = (&self.state, &found.receipt) else { return Ok(()) };
        let body = serde_json::to_string(&found.values).or_internal("serialise what the drill found")?;
        state.set_baseline(&self.database, &Baseline { sequence: receipt.receipt.sequence, body })
    }

    /// What is not as the receipt says no longer counts as proven there, and is sent again.
    fn note_damage(&self, found: &Findings) -> Result<()> {
        let (Some(state), Some(object)) = (&self.state, &found.damaged) else { return Ok(()) };
        if let (Some(receipt), Some(target)) = (&found.receipt, &found.target) {
            state.disprove(&self.database, &receipt.receipt.snapshot, target, Timestamp::now())?;
        }
        resend::mark(state, &self.database, object)
    }

    /// Deletes the reports that have become too old. Where that fails the drill is as good as without, so it is a warning.
    fn forget_reports(&self, now: Timestamp) -> Option<String> {
        let ReportRetention { dir, keep } = self.report_retention.as_ref()?;
        // So old that there is nothing older.
        let before = now.checked_sub(*keep).unwrap_or(Timestamp::MIN);
        kept::forget(&kept::folder(dir, &self.database), before).err().map(|e| e.to_string())
    }

    /// Keys that waited for this drill are not needed any more.
    fn retire_keys(&self, now: Timestamp) -> Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        // A snapshot that is being taken does it at its end.
        let Ok(_lock) = Lock::take(&state.lock_file(&self.database), &self.database) else { return Ok(()) };
        key_policy::retire(state, &self.database, self.key_policy, now).map(drop)
    }
}

/// How an attempt ended.
struct Tried {
    outcome: Result<()>,
    failed_stage: Option<DrillStage>,
    /// How to look at what was left for people.
    kept: Option<String>,
}

/// How a drill ended.
struct Ended {
    drill: DrillId,
    started_at: Timestamp,
    failed_stage: Option<DrillStage>,
    kept: Option<String>,
    proof: Result<Proof>,
}
