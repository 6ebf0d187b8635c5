//! A closer look at the newest snapshot of every target: what the target lists of it, held against its receipt. What is
//! only listed may still be rotten; but what lies under a delete marker, has another size or is gone, is known at once.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::model::id::TargetName;
use crate::repository::catalog::Catalog;
use crate::repository::drill_catalog::DrillCatalog;
use crate::repository::epoch_list::Inspected;
use crate::repository::layout;
use crate::repository::oddity::Oddity;
use crate::repository::reader::Reader;
use crate::targets::{NamedTarget, TargetError, TargetErrorKind};

/// What the lists of all targets show.
#[derive(Debug, Default)]
pub(super) struct Inspection {
    /// By target, everything that is not as a signed record says.
    pub oddities: BTreeMap<TargetName, Vec<Oddity>>,
    /// The targets whose newest snapshot is among that.
    pub newest: BTreeSet<TargetName>,
}

impl Inspection {
    /// Gathers what was found while receipts were listed, and lists what the newest snapshots need. A target that stops
    /// answering is noted in the catalogue.
    pub(super) async fn of(
        reader: &Reader<'_>,
        catalog: &mut Catalog,
        drills: &DrillCatalog,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let mut found = Self::default();
        for (target, odd) in catalog.oddities.iter().chain(&drills.oddities) {
            found.oddities.entry(target.clone()).or_default().extend(odd.iter().cloned());
        }
        let seen = &*catalog;
        let looks = join_all(reader.targets.iter().map(|target| newest(reader, seen, target, cancel))).await;
        for (NamedTarget { name, .. }, look) in reader.targets.iter().zip(looks) {
            match look {
                Ok((of_receipt, Inspected { needed, others })) => {
                    if of_receipt || !needed.is_empty() {
                        found.newest.insert(name.clone());
                    }
                    found.oddities.entry(name.clone()).or_default().extend(needed.into_iter().chain(others));
                }
                Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
                // Who may not list the objects can still read receipts.
                Err(e) if e.kind == TargetErrorKind::Denied => {}
                Err(e) => catalog.unreachable.push((name.clone(), e)),
            }
        }
        Ok(found)
    }
}

/// Whether the receipt of the newest snapshot at a target is odd, and what else of the snapshot is.
async fn newest(
    reader: &Reader<'_>,
    catalog: &Catalog,
    target: &NamedTarget,
    cancel: &CancellationToken,
) -> std::result::Result<(bool, Inspected), TargetError> {
    let away = catalog.is_away(&target.name);
    let Some(entry) = catalog.newest_at(&target.name).filter(|_| !away) else {
        return Ok((false, Inspected::default()));
    };
    let signed = match reader.load(entry, cancel).await {
        Ok(signed) => signed,
        Err(e) if e.kind() == ErrorKind::Interrupted => {
            return Err(TargetError::cancelled("look at a snapshot"));
        }
        // What is wrong with its receipt is said of the receipt.
        Err(_) => return Ok((false, Inspected::default())),
    };
    let receipt = layout::receipt(&entry.receipt.snapshot);
    let mut known = catalog.oddities.get(&target.name).into_iter().flatten();
    let of_receipt = known.any(|odd| odd.key.trim_end_matches(".sig").ends_with(&receipt));
    Ok((of_receipt, reader.inspect(target, &signed.receipt, cancel).await?))
}
