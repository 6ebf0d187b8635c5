//! Which target, and which snapshot there.

use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Origin, Result};
use crate::job::restore::open::{Wanted, choose};
use crate::model::id::TargetName;
use crate::model::level::By;
use crate::model::observer::Observer;
use crate::model::sabotage::Sabotage;
use crate::repository::catalog::{Catalog, Entry};
use crate::repository::drill_catalog::DrillCatalog;
use crate::repository::layout;
use crate::repository::oddity::Oddity;
use crate::repository::reader::Reader;
use crate::repository::receipt::SignedReceipt;
use crate::targets::{NamedTarget, TargetErrorKind};

/// The target of this name.
pub(super) fn named<'a>(targets: &'a [NamedTarget], name: &TargetName) -> Result<&'a NamedTarget> {
    let known: Vec<&str> = targets.iter().map(|t| t.name.as_str()).collect();
    targets.iter().find(|t| t.name == *name).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("the database has no target `{name}`"))
            .remedy(format!("Its targets are: {}.", known.join(", ")))
    })
}

/// The target that is asked for, or else the one whose last drill by this maker is oldest; without any first, and in the
/// order of the configuration. That is the one whose last proof is oldest, while drills pass; a target where they fail
/// does not keep the others from being proven.
pub(super) fn target<'a>(
    targets: &'a [NamedTarget],
    wanted: Option<&TargetName>,
    drills: &DrillCatalog,
    by: By,
) -> Result<&'a NamedTarget> {
    if let Some(name) = wanted {
        return named(targets, name);
    }
    let last = |t: &&NamedTarget| drills.last_number(&t.name, by);
    targets.iter().min_by_key(last).ok_or_else(|| Error::internal("a database without targets"))
}

/// Chooses the snapshot at the one target of `reader`, and fetches its receipt from there anew. With
/// [`Sabotage::Stale`], the target's newest receipt is not seen. Also says which objects of it the target lists other than
/// the receipt says: they can only be read as older versions, if at all.
pub(super) async fn snapshot(
    reader: &Reader<'_>,
    wanted: &Wanted,
    sabotage: Option<Sabotage>,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<(Entry, SignedReceipt, Vec<String>)> {
    let [target] = reader.targets else {
        return Err(Error::internal("a drill reads from one target"));
    };
    let mut catalog = reader.read(cancel).await?;
    if let Some((name, e)) = catalog.unreachable.pop() {
        return Err(Error::from(e)
            .with_kind(ErrorKind::Target)
            .origin(Origin::Target(name.to_string()))
            .context(format!("target {name}")));
    }
    if sabotage == Some(Sabotage::Stale)
        && let Some(newest) = catalog.newest().map(|e| e.receipt.snapshot.clone())
    {
        catalog.entries.remove(&newest);
    }
    if *wanted == Wanted::Latest {
        not_stale(reader, target, &catalog)?;
    }
    let entry = choose(&catalog, wanted, reader.database, observer)?.clone();
    let head = catalog.heads.last().filter(|head| head.sequence > entry.receipt.sequence);
    if let Some(head) = head.filter(|_| *wanted == Wanted::Latest) {
        observer.warn(&format!(
            "target {} lacks the newest snapshot {}: the drill takes {}",
            target.name, head.snapshot, entry.receipt.snapshot
        ));
    }
    let receipt = reader.fetch(target, &entry.receipt.snapshot, cancel).await?;
    if receipt.hash() != entry.link.hash {
        return Err(Error::verification(format!(
            "target {} shows another receipt of {} than was seen before",
            target.name, entry.receipt.snapshot
        ))
        .remedy("Tell the publisher: the agent's signing key may be in other hands."));
    }
    let record = format!("{}/{}", reader.database, layout::receipt(&entry.receipt.snapshot));
    let of_record = |odd: &Oddity| odd.key.trim_end_matches(".sig") == record;
    let mut odd = catalog.oddities.remove(&target.name).unwrap_or_default();
    odd.retain(of_record);
    match reader.inspect(target, &receipt.receipt, cancel).await {
        Ok(found) => odd.extend(found.needed),
        Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
        // Reading the objects will show what is wrong with the target.
        Err(_) => {}
    }
    let odd = odd.into_iter().map(|odd| odd.key).collect();
    Ok((entry, receipt, odd))
}

/// A target that has acknowledged a newer snapshot than it shows is showing an old state.
fn not_stale(reader: &Reader<'_>, target: &NamedTarget, catalog: &Catalog) -> Result<()> {
    let Some(state) = reader.state else { return Ok(()) };
    let Some(acknowledged) = state.newest_stored_at(reader.database, &target.name)? else { return Ok(()) };
    let shown = catalog.newest().map(|e| &e.receipt.snapshot);
    let here = |key: &str| key.contains(acknowledged.as_str());
    // A bad receipt that is there is reported by an error of its own.
    if catalog.find(&acknowledged).is_some() || catalog.bad.iter().any(|b| here(&b.key)) {
        return Ok(());
    }
    Err(Error::verification(format!(
        "target {} has acknowledged snapshot {acknowledged}, and does not show it",
        target.name
    ))
    .cause(match shown {
        Some(shown) => format!("an old state is being shown: its newest snapshot is {shown}"),
        None => "it shows no snapshot at all".to_owned(),
    })
    .remedy(
        "Find out who removed it, or what serves an old copy; `marbre verify` shows what else is missing.",
    ))
}
