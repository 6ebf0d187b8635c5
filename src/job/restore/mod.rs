//! Restoring a snapshot: from a target and a key, with no configuration and no state.

pub(crate) mod open;
pub(crate) mod recovery;
pub(crate) mod streams;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::engine::{Comparison, Destination, Exception, Exceptions, LoadOptions, Loader, TableComparison};
use crate::error::{Error, ErrorKind, Result};
use crate::job::stopwatch::{StageTime, Stopwatch};
use crate::keys::{RestoreKey, TrustStore};
use crate::model::id::{DatabaseId, SnapshotId, TargetName};
use crate::model::observer::LoadObserver as _;
use crate::model::observer::Observer;
use crate::model::omission::Omission;
use crate::model::stage::Stage;
use crate::repository::reader::Reader;
use crate::state::{State, write_private_file};
use crate::system::disk;
use crate::targets::NamedTarget;
use open::{Fetcher, OpenSnapshot, Opener, Wanted, choose};
use recovery::{Recovery, differences, first_few};
use streams::Streams;

/// Makes the loader that fits a snapshot's engine and the destination.
pub(crate) type MakeLoader<'a> = &'a (dyn Fn(&str) -> Result<Arc<dyn Loader>> + Send + Sync);

/// Everything a restore needs.
pub struct RestoreJob {
    /// The database that was snapshotted.
    pub database: DatabaseId,
    /// Where its snapshots may be.
    pub targets: Vec<NamedTarget>,
    /// Whose receipts count.
    pub trust: TrustStore,
    /// What the agent remembers, on its own host; a fresh machine has nothing.
    pub state: Option<State>,
    /// The publisher's key.
    pub key: RestoreKey,
    /// Which snapshot.
    pub wanted: Wanted,
    /// Where packs are kept while they are read: a folder on a disk with enough room; by default the system's temporary folder.
    pub spool: Option<PathBuf>,
    /// How to load.
    pub options: LoadOptions,
    /// Only report what would be done.
    pub dry_run: bool,
    /// Compare the result with the manifest, table by table.
    pub prove: bool,
    /// The file for statements that could not be run; by default one in the current folder, named after database and snapshot.
    pub exceptions: Option<PathBuf>,
}

/// How a restore went, as `restore --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The moment whose state it holds.
    pub consistent_at: Timestamp,
    /// The target that it mainly came from.
    pub target: TargetName,
    /// Fingerprint of the signer of its receipt.
    pub signer: String,
    /// Where it went.
    pub destination: String,
    /// What the destination held before.
    pub destination_was: String,
    /// How it ended.
    pub verdict: RestoreVerdict,
    /// Rows loaded.
    pub rows: u64,
    /// Bytes of all streams.
    pub bytes: u64,
    /// Bytes to fetch from the target.
    pub fetched_bytes: u64,
    /// In a dry run: how long fetching will take, from a sample.
    pub estimated_seconds: Option<f64>,
    /// The tables, if they were compared.
    pub tables: Vec<TableReport>,
    /// In a dry run: which roles would be made, and how.
    pub roles: Vec<String>,
    /// What was left out on purpose.
    pub left_out: Vec<String>,
    /// What could not be restored, or not as it was.
    pub exceptions: Vec<Exception>,
    /// The file with the statements for these, for people to mend and run.
    pub exceptions_file: Option<PathBuf>,
    /// How long it took.
    pub seconds: f64,
    /// How long each stage took.
    pub stages: Vec<StageTime>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// How a restore ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreVerdict {
    /// Nothing was changed.
    DryRun,
    /// Loaded, every byte verified on its way in.
    Restored,
    /// Loaded, and then found equal, table by table.
    Proven,
    /// Loaded, except for what is listed.
    RestoredExcept,
}

/// A table that was compared.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    /// Its name.
    pub name: String,
    /// Rows found.
    pub rows: u64,
    /// Rows of the snapshot.
    pub expected_rows: u64,
    /// Count and digest are equal.
    pub equal: bool,
}

impl RestoreJob {
    /// Restores. An error means that the destination is as it was; if nothing was in it, it may be marked as incomplete.
    pub async fn run(
        self,
        make_loader: MakeLoader<'_>,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<RestoreReport> {
        let watch = Arc::new(Stopwatch::new(observer));
        watch.stage(Stage::Receipts);
        let reader = Reader::new(&self.database, &self.targets, &self.trust, self.state.as_ref());
        let catalog = reader.read(cancel).await?;
        let entry = choose(&catalog, &self.wanted, &self.database, &*watch)?;
        let spool = self.make_spool()?;
        watch.stage(Stage::Open);
        let receipt = reader.load(entry, cancel).await?;
        // A pack stays until the last table that has rows in it was read: at worst, all of them lie there.
        disk::require(spool.path(), receipt.receipt.size(), "the snapshot's packs")
            .map_err(|e| e.remedy("Free some space, or name a folder on a larger disk with `--spool`."))?;
        let fetcher = Fetcher::of(&reader, entry);
        let opener = Opener::Owner(&self.key);
        let opened = OpenSnapshot::open(receipt, fetcher, opener, spool.path(), &*watch, cancel).await?;
        let loader = make_loader(&opened.contents.source.engine)?;
        let was = loader.inspect(&opened.contents, cancel).await?;
        if let Destination::Occupied(what) = &was
            && !self.options.overwrite
        {
            return Err(Error::preflight(format!("{} is not empty: {what}", loader.describe()))
                .remedy("Restore into a new or empty place, or pass `--overwrite` to lose what is there."));
        }
        let streams = Streams::new(&opened, spool.path(), watch.clone(), cancel);
        let mut report = self.blank_report(&opened, &*loader, &was);
        if self.dry_run {
            report.roles = loader.plan(&opened.contents, &self.options)?;
            report.estimated_seconds = estimate(&streams, opened.receipt.receipt.size()).await?;
        } else if let Err(e) = self.load(&opened, &*loader, &streams, &watch, &mut report, cancel).await {
            if let Err(left) = loader.abandon().await {
                watch.warn(&format!("what was loaded is still there: {left}"));
            }
            let replaces = matches!(was, Destination::Occupied(_));
            return Err(if e.remedy_text().is_some() { e } else { e.remedy(after_failure(replaces)) });
        }
        (report.stages, report.seconds) = watch.read();
        Ok(report)
    }

    async fn load(
        &self,
        opened: &OpenSnapshot,
        loader: &dyn Loader,
        streams: &Streams,
        watch: &Stopwatch,
        report: &mut RestoreReport,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let recovery = Recovery { opened, loader, streams, watch };
        let loaded = recovery.load(&self.options, cancel).await?;
        report.rows = opened.receipt.receipt.rows;
        report.bytes = loaded.bytes;
        report.warnings = opened.contents.source.omitted.iter().map(Omission::reminder).collect();
        report.warnings.extend(loaded.warnings);
        report.left_out = loaded.left_out;
        report.verdict = RestoreVerdict::Restored;
        let exceptions = loaded.exceptions;
        if self.prove {
            let comparison = recovery.compare(cancel).await?;
            report.tables = tables(&comparison);
            report.warnings.extend(comparison.excused.clone());
            let as_excepted = !exceptions.list.is_empty() && only_excepted(&comparison, &exceptions.list);
            if !comparison.equal() && !as_excepted {
                return Err(differs(loader, &comparison));
            }
            report.verdict = RestoreVerdict::Proven;
        }
        if exceptions.list.is_empty() {
            report.warnings.extend(loader.finish().await?);
            return Ok(());
        }
        report.verdict = RestoreVerdict::RestoredExcept;
        report.warnings.extend(loader.finish_with_exceptions().await?);
        self.write(exceptions, report);
        Ok(())
    }

    /// Writes the statements of what could not be restored to a file.
    fn write(&self, exceptions: Exceptions, report: &mut RestoreReport) {
        let path = self.exceptions.clone().unwrap_or_else(|| {
            PathBuf::from(format!("{}.{}.exceptions.sql", self.database.database, report.snapshot))
        });
        report.exceptions = exceptions.list;
        match write_private_file(&path, &exceptions.script) {
            Ok(()) => report.exceptions_file = Some(path),
            Err(e) => {
                report.warnings.push(format!("the statements of what could not be restored are nowhere: {e}"))
            }
        }
    }

    fn make_spool(&self) -> Result<tempfile::TempDir> {
        let folder = self.spool.clone().unwrap_or_else(std::env::temp_dir);
        tempfile::Builder::new().prefix("marbre-restore-").tempdir_in(&folder).map_err(|e| {
            let cause = match folder.is_dir() {
                true => e.to_string(),
                false => "there is no such folder".to_owned(),
            };
            Error::preflight(format!("failed to create a folder for packs in {}", folder.display()))
                .cause(cause)
                .remedy("Name a folder on a disk with enough room with `--spool`.")
        })
    }

    fn blank_report(&self, opened: &OpenSnapshot, loader: &dyn Loader, was: &Destination) -> RestoreReport {
        let receipt = &opened.receipt.receipt;
        RestoreReport {
            snapshot: receipt.snapshot.clone(),
            consistent_at: receipt.consistent_at,
            target: opened.fetcher.targets[0].name.clone(),
            signer: opened.receipt.signer.clone(),
            destination: loader.describe(),
            destination_was: match was {
                Destination::Absent => "not there".to_owned(),
                Destination::Empty => "empty".to_owned(),
                Destination::Incomplete(_) => "an interrupted restore".to_owned(),
                Destination::Occupied(what) => what.clone(),
            },
            verdict: RestoreVerdict::DryRun,
            rows: receipt.rows,
            bytes: receipt.bytes_read,
            fetched_bytes: receipt.size(),
            estimated_seconds: None,
            tables: Vec::new(),
            roles: Vec::new(),
            left_out: Vec::new(),
            exceptions: Vec::new(),
            exceptions_file: None,
            seconds: 0.0,
            stages: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl RestoreReport {
    /// Why the command does not end with 0.
    pub(crate) fn error(&self) -> Option<Error> {
        let what = match self.exceptions.len() {
            0 => return None,
            1 => "restored, except for one thing".to_owned(),
            n => format!("restored, except for {n} things"),
        };
        let list: Vec<String> = self.exceptions.iter().map(Exception::to_string).collect();
        let remedy = match &self.exceptions_file {
            Some(file) => format!(
                "Everything else is there and can be used. Mend the statements in {}, and run them.",
                file.display()
            ),
            None => "Everything else is there and can be used.".to_owned(),
        };
        Some(Error::new(ErrorKind::Exceptions, what).cause(first_few(&list)).remedy(remedy))
    }
}

/// Whether of the rows only those differ that are known not to be there. Objects that are missing are known by another name.
fn only_excepted(comparison: &Comparison, exceptions: &[Exception]) -> bool {
    let excepted = |t: &TableComparison| exceptions.iter().any(|e| e.table.as_ref() == Some(&t.table));
    comparison.tables.iter().all(|t| t.equal() || excepted(t))
}

/// How long it takes to fetch `size` bytes, at the rate of one pack fetched now.
async fn estimate(streams: &Streams, size: u64) -> Result<Option<f64>> {
    let started = Instant::now();
    let sample = streams.try_one_pack().await?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(sample.filter(|bytes| *bytes > 0).map(|bytes| seconds * size as f64 / bytes as f64))
}

/// The tables of a comparison, for reports.
pub(crate) fn tables(comparison: &Comparison) -> Vec<TableReport> {
    let table = |t: &crate::engine::TableComparison| TableReport {
        name: t.table.to_string(),
        rows: t.rows,
        expected_rows: t.expected_rows,
        equal: t.equal(),
    };
    comparison.tables.iter().map(table).collect()
}

fn differs(loader: &dyn Loader, comparison: &Comparison) -> Error {
    Error::verification(format!("what was restored into {} is not equal to the snapshot", loader.describe()))
        .cause(first_few(&differences(comparison)))
}

/// What to do after a load that failed.
fn after_failure(replaces: bool) -> &'static str {
    match replaces {
        true => "What was to be overwritten is as it was. Restore again, or another snapshot.",
        false => {
            "The destination stays marked as incomplete: do not use it. Restore again, or another snapshot."
        }
    }
}
