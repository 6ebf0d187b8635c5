//! From what a drill found to what is recorded: report, page, receipt, signature, and their copies.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::attempt::Findings;
use super::report::{CheckResult, DrillReport, ObjectReport, SabotageReport, TrendPoint};
use super::{DrillJob, Ended, kept};
use crate::error::{Error, ErrorRecord, Result, ResultExt};
use crate::job::recorded_at::RecordedAt;
use crate::job::restore::recovery::differences;
use crate::job::restore::tables;
use crate::job::stopwatch::{StageTime, Stopwatch};
use crate::keys::Namespace;
use crate::model::document::Named;
use crate::model::drill_stage::DrillStage;
use crate::model::id::Sha256;
use crate::model::observer::LoadObserver as _;
use crate::model::omission::Omission;
use crate::model::stage::Stage;
use crate::repository::drill_catalog::{DrillCatalog, KnownDrill};
use crate::repository::drill_receipt::{
    DrillKind, DrillReceipt, Failure, Found, ReportRecord, SabotageRecord, StageRecord, Subject,
};
use crate::repository::manifest::FORMAT;
use crate::repository::receipt::ObjectRef;
use crate::repository::remembered::Remembered as _;
use crate::repository::signed_record::Signed;
use crate::repository::{canonical, layout};
use crate::state::{make_private_folder, write_private_file};
use crate::targets::NamedTarget;
use crate::targets::{TargetExt, Upload};

/// Drills of the past that a report shows.
const TREND: usize = 12;

/// Records a drill.
pub(super) struct Recorder<'a> {
    pub job: &'a DrillJob,
    pub drills: &'a DrillCatalog,
    pub watch: &'a Arc<Stopwatch>,
    pub cancel: &'a CancellationToken,
}

/// What one target gets, in this order.
type Objects = Vec<(String, Vec<u8>)>;

impl Recorder<'_> {
    /// Signs and stores what was found. The report says where it could not be stored.
    pub(super) async fn record(&self, ended: Ended, found: Findings) -> Result<DrillReport> {
        let mut report = self.report(&ended, &found);
        let page = (self.job.pages.html)(&report, &self.job.locale);
        let mut objects = Objects::new();
        let sealed = self.seal(&report, page.as_bytes(), &mut objects)?;
        let signed =
            self.sign(&report, &found, ReportRecord { page: Sha256::of(page.as_bytes()), sealed })?;
        if let Some(state) = &self.job.state {
            state.remember_drill(&self.job.database, &signed)?;
        }
        objects.extend(records(&signed));
        self.watch.stage(Stage::Record);
        let puts = self.job.targets.iter().map(|target| self.put(target, &objects));
        for (target, put) in self.job.targets.iter().zip(join_all(puts).await) {
            let error = put.err().map(|e| e.to_string());
            report.targets.push(RecordedAt { name: target.name.clone(), error });
        }
        self.write(&mut report, &page, &objects)?;
        Ok(report)
    }

    fn report(&self, ended: &Ended, found: &Findings) -> DrillReport {
        let job = self.job;
        let receipt = found.receipt.as_ref().map(|r| &r.receipt);
        let (stages, seconds) = self.watch.read();
        let comparison = found.comparison.as_ref();
        let error = ended.proof.as_ref().err();
        let level = ended.proof.as_ref().ok().map(|proof| proof.level());
        let sabotage = job.sabotage.map(|kind| SabotageReport {
            kind,
            done: found.damage.clone(),
            expected_stage: kind.stage(),
            caught: found.caught && ended.failed_stage == Some(kind.stage()),
        });
        DrillReport {
            drill: ended.drill.clone(),
            publisher: job.database.publisher.clone(),
            database: job.database.database.clone(),
            by: job.by(),
            snapshot: receipt.map(|r| r.snapshot.clone()),
            epoch: receipt.map(|r| r.epoch.clone()),
            consistent_at: receipt.map(|r| r.consistent_at),
            target: found.target.clone(),
            level,
            passed: level.is_some(),
            sabotage,
            failed_stage: ended.failed_stage.or(error.map(|_| DrillStage::Verdict)),
            error: error.map(ErrorRecord::from),
            tables: comparison.map(tables).unwrap_or_default(),
            objects: comparison.map(|c| c.inventory.iter().map(object).collect()).unwrap_or_default(),
            exceptions: found.exceptions.clone(),
            differences: comparison.filter(|c| !c.equal()).map(differences).unwrap_or_default(),
            omitted: found.contents.as_ref().map(|m| m.source.omitted.clone()).unwrap_or_default(),
            checks: found.checks.clone(),
            rows: comparison.map_or(0, |c| c.tables.iter().map(|t| t.rows).sum()),
            bytes: found.contents.as_ref().map_or(0, |m| m.streams.iter().map(|s| s.length).sum()),
            fetched_bytes: if found.fetched > 0 { receipt.map_or(0, |r| r.size()) } else { 0 },
            older_versions: found.older.len() as u64,
            started_at: canonical::whole_second(ended.started_at),
            finished_at: canonical::whole_second(Timestamp::now()),
            seconds,
            rto_seconds: found.rto_seconds,
            rto_promised_seconds: job.rto.map(|rto| rto.as_secs()),
            stages: grouped(&stages),
            engine: receipt.map(|r| r.engine.clone()),
            source_version: receipt.map(|r| r.engine_version.clone()),
            scratch: found.place.as_ref().map(|(place, _)| place.clone()),
            isolation: found.isolation,
            scratch_version: found.place.as_ref().map(|(_, version)| version.clone()),
            snapshot_signer: found.receipt.as_ref().map(|r| r.signer.clone()),
            receipt_sha256: found.receipt.as_ref().map(|r| r.hash()),
            signer: job.signing_key.signer().fingerprint(),
            trend: self.trend(),
            targets: Vec::new(),
            reports: Vec::new(),
            kept: ended.kept.clone(),
            warnings: self.warnings(found),
        }
    }

    fn warnings(&self, found: &Findings) -> Vec<String> {
        let mut warnings = found.warnings.clone();
        if let Some(first) = found.older.first() {
            warnings.push(format!(
                "{} objects are damaged or deleted at the target (the first: {first}): what was restored are older versions of them",
                found.older.len()
            ));
        }
        if let (Some(took), Some(rto)) = (found.rto_seconds, self.job.rto)
            && took > rto.as_secs_f64()
        {
            warnings.push("the recovery took longer than was promised (rto)".to_owned());
        }
        let breaks = self.drills.breaks(self.job.by(), None);
        warnings.extend(breaks.iter().map(|b| format!("the chain of drills is broken: {b}")));
        warnings
    }

    /// The drills before this one that were no sabotage, oldest first.
    fn trend(&self) -> Vec<TrendPoint> {
        let points: Vec<TrendPoint> = self
            .drills
            .without_sabotage(self.job.by())
            .map(|d| TrendPoint {
                drill: d.drill.clone(),
                at: d.finished_at,
                passed: d.level.is_some(),
                rto_seconds: d.rto_milliseconds.map(|ms| ms as f64 / 1000.0),
            })
            .collect();
        points[points.len().saturating_sub(TREND)..].to_vec()
    }

    /// The page, sealed to the owner.
    fn seal(&self, report: &DrillReport, page: &[u8], objects: &mut Objects) -> Result<Option<ObjectRef>> {
        let Some(recipients) = &self.job.recipients else { return Ok(None) };
        let sealed = recipients.seal(page)?;
        let key = layout::drill_page(&report.drill);
        let object = ObjectRef { key: key.clone(), sha256: Sha256::of(&sealed), size: sealed.len() as u64 };
        objects.push((key, sealed));
        Ok(Some(object))
    }

    fn sign(
        &self,
        report: &DrillReport,
        found: &Findings,
        page: ReportRecord,
    ) -> Result<Signed<DrillReceipt>> {
        let job = self.job;
        let head = self.drills.head(job.by());
        let receipt = DrillReceipt {
            format: FORMAT,
            kind: DrillKind::Drill,
            publisher: report.publisher.clone(),
            database: report.database.clone(),
            drill: report.drill.clone(),
            by: report.by,
            sequence: head.map_or(1, |(sequence, _)| sequence + 1),
            previous: head.map(|(_, hash)| hash),
            agent: concat!("marbre ", env!("CARGO_PKG_VERSION")).to_owned(),
            subject: subject(found, report),
            target: report.target.clone(),
            place: report.target.as_ref().and_then(|target| self.drills.places.of(target)),
            started_at: report.started_at,
            finished_at: report.finished_at,
            level: report.level,
            sabotage: report.sabotage.as_ref().map(|s| SabotageRecord { kind: s.kind, caught: s.caught }),
            failure: report.error.as_ref().map(|e| Failure {
                stage: report.failed_stage.map_or_else(String::new, |stage| stage.word().to_owned()),
                exit_code: e.exit_code,
            }),
            found: counted(report),
            older_versions: report.older_versions,
            milliseconds: milliseconds(report.seconds),
            isolation: report.isolation,
            rto_milliseconds: report.rto_seconds.map(milliseconds),
            rto_promised_seconds: report.rto_promised_seconds,
            stages: report
                .stages
                .iter()
                .map(|s| StageRecord {
                    name: s.name.word().to_owned(),
                    milliseconds: milliseconds(s.seconds),
                })
                .collect(),
            report: Some(page),
        };
        let bytes = receipt.to_bytes()?;
        let signature = job.signing_key.sign(Namespace::DrillReceipt, &bytes)?;
        // What could not be read back is not written.
        DrillReceipt::parse(&bytes, &job.database, &report.drill)?;
        Ok(Signed { record: receipt, bytes, signature, signer: report.signer.clone() })
    }

    /// Puts this drill's records to a target, and those of earlier drills that it lacks.
    async fn put(&self, target: &NamedTarget, objects: &Objects) -> Result<()> {
        if !self.drills.unreachable.contains(&target.name) {
            let by = self.job.by();
            let lacks = |k: &&KnownDrill| k.signed.record.by == by && !k.targets.contains(&target.name);
            for known in self.drills.drills.values().filter(lacks) {
                self.put_all(target, &records(&known.signed)).await?;
            }
        }
        self.put_all(target, objects).await
    }

    async fn put_all(&self, target: &NamedTarget, objects: &[(String, Vec<u8>)]) -> Result<()> {
        for (key, bytes) in objects {
            let key = layout::key(&self.job.database, key)?;
            target.target.put_or_compare(&key, &Upload::memory(bytes.clone()), self.cancel).await?;
        }
        Ok(())
    }

    /// Writes the report for people and programs.
    fn write(&self, report: &mut DrillReport, page: &str, objects: &Objects) -> Result<()> {
        for folder in self.job.report_folders() {
            make_private_folder(&folder)?;
            let file = |ending: &str| kept::file(&folder, &report.drill, ending);
            report.reports.push(file(kept::HTML).display().to_string());
            private_file(&file(kept::HTML), page.as_bytes())?;
            private_file(
                &file(kept::MARKDOWN),
                (self.job.pages.markdown)(report, &self.job.locale).as_bytes(),
            )?;
            for (key, bytes) in objects {
                let name = Path::new(key).file_name().unwrap_or_default();
                private_file(&folder.join(name), bytes)?;
            }
            let json = serde_json::to_vec_pretty(&Named::of(report)).or_internal("serialise the report")?;
            private_file(&file(kept::JSON), &json)?;
        }
        Ok(())
    }
}

fn private_file(path: &Path, bytes: &[u8]) -> Result<()> {
    write_private_file(path, bytes).map_err(|e| {
        Error::preflight(format!("failed to write the report {}", path.display()))
            .cause(e)
            .remedy("Name another `report_dir`, or give its disk some room.")
    })
}

/// Signature first: a receipt without one proves nothing.
fn records(signed: &Signed<DrillReceipt>) -> Objects {
    let drill = &signed.record.drill;
    vec![
        (layout::drill_signature(drill), signed.signature.clone().into_bytes()),
        (layout::drill(drill), signed.bytes.clone()),
    ]
}

fn subject(found: &Findings, report: &DrillReport) -> Option<Subject> {
    let signed = found.receipt.as_ref()?;
    let receipt = &signed.receipt;
    Some(Subject {
        snapshot: receipt.snapshot.clone(),
        receipt: signed.hash(),
        sequence: receipt.sequence,
        epoch: receipt.epoch.clone(),
        consistent_at: receipt.consistent_at,
        engine: receipt.engine.clone(),
        source_version: receipt.engine_version.clone(),
        scratch_version: report.scratch_version.clone(),
    })
}

fn counted(report: &DrillReport) -> Found {
    let checks =
        |results: &[CheckResult]| report.checks.iter().filter(|c| results.contains(&c.result)).count() as u64;
    Found {
        tables: report.tables.len() as u64,
        tables_equal: report.tables.iter().filter(|t| t.equal).count() as u64,
        types: report.objects.len() as u64,
        rows: report.rows,
        bytes: report.bytes,
        fetched_bytes: report.fetched_bytes,
        omitted: report.omitted.iter().map(Omission::number).sum(),
        checks_passed: checks(&[CheckResult::Passed]),
        checks_failed: checks(&[CheckResult::Failed]),
        exceptions: report.exceptions.len() as u64,
        checks_not_made: checks(&[CheckResult::NoBaseline, CheckResult::Unavailable, CheckResult::Off]),
    }
}

fn object((kind, expected, found): &(String, u64, u64)) -> ObjectReport {
    ObjectReport { kind: kind.clone(), expected: *expected, found: *found }
}

/// The stages as reports name them, each once.
fn grouped(stages: &[StageTime]) -> Vec<StageTime<DrillStage>> {
    let mut groups: Vec<StageTime<DrillStage>> = Vec::new();
    for stage in stages {
        let Some(name) = DrillStage::of(stage.name) else { continue };
        match groups.iter_mut().find(|g| g.name == name) {
            Some(known) => known.seconds = ((known.seconds + stage.seconds) * 1000.0).round() / 1000.0,
            None => groups.push(StageTime { name, seconds: stage.seconds }),
        }
    }
    groups
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
