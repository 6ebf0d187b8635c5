//! What a deletion would delete, before anybody confirms it. Nothing is changed.

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::DeleteJob;
use crate::error::{Error, ErrorKind, Origin, Result};
use crate::job::tally::Tally;
use crate::model::id::{DecisionId, TargetName};
use crate::model::level::By;
use crate::repository::catalog::Catalog;
use crate::repository::decision::Decision;
use crate::repository::deletion::{Deletion, DrillsEnd};
use crate::repository::drill_catalog::DrillCatalog;
use crate::repository::layout;
use crate::repository::part::Part;
use crate::repository::reader::Reader;
use crate::repository::signed_record::Signed;
use crate::targets::{NamedTarget, TargetError, TargetErrorKind};

/// What would be deleted, and what would be recorded of it.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Every target that was asked for.
    pub targets: Vec<Planned>,
    /// What the record says.
    pub(super) deletion: Deletion,
    /// The record of a run that did not come to its end.
    pub(super) begun: Option<Signed<Decision>>,
    /// The records of earlier deletions: they stay.
    pub(super) records: Vec<DecisionId>,
}

/// What would be deleted at one target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Planned {
    /// The target.
    pub name: TargetName,
    /// What lies there, without what stays.
    pub tally: Tally,
}

impl Plan {
    /// Targets of the configuration that keep their copy.
    pub(crate) fn elsewhere(&self) -> &[TargetName] {
        &self.deletion.elsewhere
    }

    /// Whether a run that was interrupted has recorded all this already.
    pub(crate) fn goes_on(&self) -> bool {
        self.begun.is_some()
    }
}

impl DeleteJob {
    /// Looks at what there is. Fails where a target that was asked for cannot be listed, or where somebody else goes on with
    /// the chain.
    pub(crate) async fn plan(&self, cancel: &CancellationToken) -> Result<Plan> {
        let reader = Reader::new(&self.database, &self.targets, &self.trust, Some(&self.state));
        let catalog = reader.read(cancel).await?;
        if let Some((name, e)) = catalog.unreachable.first() {
            return Err(not_listed(name, e));
        }
        catalog.require_agent(&self.database, &self.signing_key.signer())?;
        let drills = reader.drills(cancel).await?;
        let records: Vec<DecisionId> =
            catalog.decisions.deletions().map(|(known, _)| known.signed.record.decision.clone()).collect();
        let tallies = self.targets.iter().map(|target| self.tally(target, &records, cancel));
        let mut targets = Vec::new();
        for (target, tally) in self.targets.iter().zip(join_all(tallies).await) {
            let tally = tally.map_err(|e| not_listed(&target.name, &e))?;
            targets.push(Planned { name: target.name.clone(), tally });
        }
        let elsewhere = self.elsewhere(cancel).await?;
        let deletion = self.deletion(&catalog, &drills, elsewhere);
        // What a run that was cut off has recorded holds for what it left, where nothing was added since.
        let same = |d: &Deletion| Deletion { snapshots: deletion.snapshots, ..d.clone() } == deletion;
        let begun = catalog.decisions.deletions().filter(|(_, d)| same(d)).last();
        let begun = begun.map(|(known, _)| known.signed.clone());
        let is_empty = targets.iter().all(|planned| planned.tally.total.objects == 0);
        if is_empty && begun.is_none() {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no archive of {}", self.database))
                .cause(format!("nothing of it lies at {}", names(targets.iter().map(|t| &t.name))))
                .remedy("`marbre stats` shows what lies at the targets. Check the name: it is publisher/database."));
        }
        Ok(Plan { targets, deletion, begun, records })
    }

    fn deletion(&self, catalog: &Catalog, drills: &DrillCatalog, elsewhere: Vec<TargetName>) -> Deletion {
        let before = catalog.decisions.deleted();
        let end = |by: By| {
            let (sequence, receipt) = drills.head(by)?;
            Some(DrillsEnd { by, sequence, receipt })
        };
        let known = [By::Agent, By::Owner].map(|by| {
            let earlier = before.and_then(|d| d.drills.iter().find(|end| end.by == by)).cloned();
            end(by).into_iter().chain(earlier).max_by_key(|end| end.sequence)
        });
        Deletion {
            targets: self.targets.iter().map(|target| target.name.clone()).collect(),
            elsewhere,
            snapshots: (catalog.entries.len() + catalog.aside.len()) as u64,
            last: catalog.heads.first().cloned(),
            drills: known.into_iter().flatten().collect(),
        }
    }

    /// Counts what lies at a target, page by page.
    async fn tally(
        &self,
        target: &NamedTarget,
        records: &[DecisionId],
        cancel: &CancellationToken,
    ) -> Result<Tally, TargetError> {
        let prefix = format!("{}/", self.database);
        let mut tally = Tally::default();
        let mut pages = target.target.list(Some(&self.folder()?), None, cancel).await?;
        while let Some(page) = pages.try_next().await? {
            for object in page {
                let relative = object.key.as_str().strip_prefix(&prefix).unwrap_or_default();
                if !stays(relative, records) {
                    tally.add(relative, object.size);
                }
            }
        }
        Ok(tally)
    }

    /// The other targets that hold snapshots, or of which nobody can tell.
    async fn elsewhere(&self, cancel: &CancellationToken) -> Result<Vec<TargetName>> {
        let looks = join_all(self.others.iter().map(|target| self.holds_snapshots(target, cancel))).await;
        let mut elsewhere = Vec::new();
        for (target, look) in self.others.iter().zip(looks) {
            match look {
                Ok(false) => {}
                Ok(true) => elsewhere.push(target.name.clone()),
                Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
                Err(_) if self.state.stored_at(&self.database, &target.name)?.is_empty() => {}
                Err(_) => elsewhere.push(target.name.clone()),
            }
        }
        Ok(elsewhere)
    }

    async fn holds_snapshots(
        &self,
        target: &NamedTarget,
        cancel: &CancellationToken,
    ) -> Result<bool, TargetError> {
        let folder = layout::key(&self.database, "receipts").map_err(malformed)?;
        let mut pages = target.target.list(Some(&folder), None, cancel).await?;
        Ok(pages.try_next().await?.is_some_and(|page| !page.is_empty()))
    }

    /// The folder of the database, to list it.
    fn folder(&self) -> Result<crate::model::object::ObjectKey, TargetError> {
        self.database.to_string().parse().map_err(malformed)
    }
}

fn malformed(e: impl std::fmt::Display) -> TargetError {
    TargetError::new(TargetErrorKind::Unsupported, "list the archive", e)
}

/// Whether an object stays: the records of deletions, and what says who may have signed them.
pub(super) fn stays(relative: &str, records: &[DecisionId]) -> bool {
    match Part::of(relative) {
        Part::Succession => true,
        Part::Decision => records.iter().any(|id| {
            [layout::decision(id), layout::decision_signature(id)].iter().any(|key| key == relative)
        }),
        _ => false,
    }
}

fn names<'a>(targets: impl Iterator<Item = &'a TargetName>) -> String {
    targets.map(TargetName::as_str).collect::<Vec<_>>().join(", ")
}

/// The error where a target cannot be listed: nobody knows then where the chain ends.
fn not_listed(target: &TargetName, e: &TargetError) -> Error {
    if e.kind == TargetErrorKind::Cancelled {
        return Error::interrupted();
    }
    let remedy = match e.kind {
        TargetErrorKind::Denied => {
            "Credentials that may only put cannot delete an archive. For this command, give the target credentials that may \
             list objects and versions, read, put and delete below its prefix (`credentials_file`), and take them back \
             afterwards. Or name the other targets with --target. Nothing was changed."
        }
        _ => "Bring the target back, or name the others with --target. Nothing was changed.",
    };
    Error::new(ErrorKind::Target, format!("target {target} cannot be listed"))
        .cause(e.to_string())
        .origin(Origin::Target(target.to_string()))
        .remedy(remedy)
}
