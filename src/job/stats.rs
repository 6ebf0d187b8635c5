//! What lies at targets: counted from their lists, page by page, without a key. A target that does not come to its end in time is
//! shown with what was counted until then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::job::tally::{Sum, Tally};
use crate::model::id::{DatabaseId, DatabaseName, PublisherName, TargetName};
use crate::targets::{NamedTarget, TargetError, TargetErrorKind};

/// Everything that counting needs.
pub(crate) struct StatsJob {
    /// Where to look.
    pub targets: Vec<NamedTarget>,
    /// The archive to look for; `None` for all.
    pub only: Option<DatabaseId>,
    /// The databases of the configuration.
    pub configured: BTreeSet<DatabaseId>,
    /// How long a target may take.
    pub wait: Duration,
}

/// What was counted, as `stats --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StatsReport {
    /// Every target that was asked for.
    pub targets: Vec<TargetStats>,
    /// Every publisher of which there is an archive, over all targets.
    pub publishers: Vec<PublisherStats>,
}

/// What lies at one target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TargetStats {
    /// The target.
    pub name: TargetName,
    /// Every archive.
    pub archives: Vec<ArchiveStats>,
    /// All archives together.
    pub total: Sum,
    /// Why not everything was counted.
    pub error: Option<String>,
}

/// What lies of one database at one target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ArchiveStats {
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// It is in the configuration.
    pub configured: bool,
    /// What was counted.
    #[serde(flatten)]
    pub tally: Tally,
}

impl ArchiveStats {
    /// Whether there is something to delete that no database of the configuration needs: of what was deleted, records stay.
    pub(crate) fn is_left(&self) -> bool {
        !self.configured && self.tally.snapshots + self.tally.epochs > 0
    }
}

/// What lies of one publisher at all targets.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PublisherStats {
    /// The publisher.
    pub publisher: PublisherName,
    /// How many databases have an archive.
    pub archives: u64,
    /// Objects and bytes at all targets together.
    pub total: Sum,
}

/// What was counted at a target until now.
#[derive(Default)]
struct Counted {
    archives: BTreeMap<DatabaseId, Tally>,
}

impl StatsJob {
    /// Counts. An error means an interruption; what could not be counted is in the report.
    pub(crate) async fn run(self, cancel: &CancellationToken) -> Result<StatsReport> {
        let counted = join_all(self.targets.iter().map(|target| self.target(target, cancel))).await;
        let targets = counted.into_iter().collect::<Result<Vec<TargetStats>>>()?;
        let publishers = publishers(&targets);
        Ok(StatsReport { targets, publishers })
    }

    async fn target(&self, target: &NamedTarget, cancel: &CancellationToken) -> Result<TargetStats> {
        let mut counted = Counted::default();
        let counting = tokio::time::timeout(self.wait, self.count(target, &mut counted, cancel));
        let error = match counting.await {
            Ok(Ok(())) => None,
            Ok(Err(e)) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
            Ok(Err(e)) => Some(e.to_string()),
            Err(_) => {
                let seconds = self.wait.as_secs_f64();
                Some(format!("not counted to the end within {seconds} s: there may be more"))
            }
        };
        let archive = |(id, tally): (DatabaseId, Tally)| ArchiveStats {
            configured: self.configured.contains(&id),
            publisher: id.publisher,
            database: id.database,
            tally,
        };
        let archives: Vec<ArchiveStats> = counted.archives.into_iter().map(archive).collect();
        let mut total = Sum::default();
        archives.iter().for_each(|archive| total.add(archive.tally.total));
        Ok(TargetStats { name: target.name.clone(), archives, total, error })
    }

    async fn count(
        &self,
        target: &NamedTarget,
        counted: &mut Counted,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        let prefix = self
            .only
            .as_ref()
            .map(|id| id.to_string().parse())
            .transpose()
            .map_err(|e| TargetError::new(TargetErrorKind::Unsupported, "list the archive", e))?;
        let mut pages = target.target.list(prefix.as_ref(), None, cancel).await?;
        while let Some(page) = pages.try_next().await? {
            for object in page {
                let mut parts = object.key.as_str().splitn(3, '/');
                let id = parts.next().and_then(|publisher| publisher.parse().ok());
                let id = id.zip(parts.next().and_then(|database| database.parse().ok()));
                // What lies beside the archives is none.
                let (Some((publisher, database)), Some(relative)) = (id, parts.next()) else { continue };
                counted
                    .archives
                    .entry(DatabaseId { publisher, database })
                    .or_default()
                    .add(relative, object.size);
            }
        }
        Ok(())
    }
}

fn publishers(targets: &[TargetStats]) -> Vec<PublisherStats> {
    let mut found: BTreeMap<&PublisherName, (BTreeSet<&DatabaseName>, Sum)> = BTreeMap::new();
    for archive in targets.iter().flat_map(|target| &target.archives) {
        let (archives, total) = found.entry(&archive.publisher).or_default();
        archives.insert(&archive.database);
        total.add(archive.tally.total);
    }
    let of = |(publisher, (archives, total)): (&PublisherName, (BTreeSet<&DatabaseName>, Sum))| {
        PublisherStats { publisher: publisher.clone(), archives: archives.len() as u64, total }
    };
    found.into_iter().map(of).collect()
}

impl StatsReport {
    /// The error that the command ends with where not everything was counted, or nothing was found of what was asked for.
    pub(crate) fn error(&self, only: Option<&DatabaseId>) -> Option<Error> {
        let failed = |target: &TargetStats| Some(format!("{}: {}", target.name, target.error.as_ref()?));
        let failed: Vec<String> = self.targets.iter().filter_map(failed).collect();
        if !failed.is_empty() {
            return Some(
                Error::new(ErrorKind::Target, "not every target could be counted")
                    .cause(failed.join("; "))
                    .remedy("Bring the target back; where there is much, --wait gives it more time."),
            );
        }
        let only = only.filter(|_| self.publishers.is_empty())?;
        Some(
            Error::new(ErrorKind::NotFound, format!("there is nothing of {only} at any target"))
                .remedy("`marbre stats` shows what there is."),
        )
    }
}
