//! Which snapshots there are, and what the receipt of one says. No key is needed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::job::restore::open::{Wanted, choose};
use crate::model::id::{DatabaseName, EpochId, PublisherName, Sha256, SnapshotId, TargetName};
use crate::model::level::Levels;
use crate::model::mark::Mark;
use crate::model::observer::Observer;
use crate::repository::catalog::{Catalog, Entry};
use crate::repository::chain::Break;
use crate::repository::decision_catalog::DecisionSummary;
use crate::repository::drill_catalog::{DrillCatalog, DrillSummary};
use crate::repository::reader::{BadRecord, Reader};
use crate::repository::receipt::{ObjectRef, Receipt};

/// What `list --json` prints for one database.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ListReport {
    /// Every snapshot with a good receipt somewhere, oldest first.
    pub snapshots: Vec<Listed>,
    /// Snapshots of branches that the history did not go on with.
    pub set_aside: Vec<Listed>,
    /// What is wrong: targets that cannot be reached, bad receipts, breaks of the chain.
    pub problems: Vec<String>,
}

/// One snapshot.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Listed {
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its epoch.
    pub epoch: EpochId,
    /// Its place in the chain, from 1.
    pub sequence: u64,
    /// The moment whose state it holds.
    pub consistent_at: Timestamp,
    /// Engine.
    pub engine: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of all streams.
    pub bytes_read: u64,
    /// How many of these were new to the epoch.
    pub new_bytes: u64,
    /// Bytes of the objects written for this snapshot.
    pub stored_bytes: u64,
    /// Bytes that a restore downloads.
    pub size: u64,
    /// It began its epoch, and needs no older one.
    pub full: bool,
    /// What somebody has decided about it, whatever the rules of retention say.
    pub mark: Option<Mark>,
    /// Every target that holds it.
    pub targets: Vec<ListedTarget>,
}

/// A target that holds a snapshot.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ListedTarget {
    /// The target.
    pub name: TargetName,
    /// What was proven for the snapshot there.
    pub levels: Levels,
}

/// What `show --json` prints: one snapshot, as its receipt says.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ShowReport {
    /// What `list` says of it.
    #[serde(flatten)]
    pub listed: Listed,
    /// Fingerprint of the signer of its receipt.
    pub signer: String,
    /// SHA-256 of the receipt.
    pub receipt_sha256: Sha256,
    /// SHA-256 of the receipt before it.
    pub previous: Option<Sha256>,
    /// Name and version of the writer.
    pub agent: String,
    /// Version of the server.
    pub engine_version: String,
    /// Version of the dump tool, or empty.
    pub tool_version: String,
    /// When the run started.
    pub started_at: Timestamp,
    /// When everything had been read and packed.
    pub finished_at: Timestamp,
    /// Number of streams.
    pub streams: u64,
    /// SHA-256 of each recipient's text.
    pub recipients: Vec<Sha256>,
    /// Every object that a restore needs.
    pub objects: Vec<ObjectRef>,
    /// What is wrong with the chain of receipts.
    pub chain: Vec<String>,
    /// Every drill of it, oldest first.
    pub drills: Vec<DrillSummary>,
    /// What was decided about the database, oldest first.
    pub decisions: Vec<DecisionSummary>,
}

/// Lists the snapshots of one database.
pub(crate) async fn list(reader: &Reader<'_>, cancel: &CancellationToken) -> Result<ListReport> {
    // Before the targets are read: reading them adds newer receipts to the state.
    let seen = reader.state.map(|s| s.head(reader.database)).transpose()?.flatten();
    let catalog = reader.read(cancel).await?;
    let drills = reader.drills(cancel).await?;
    let mut problems: Vec<String> =
        catalog.unreachable.iter().map(|(name, e)| format!("target {name} cannot be reached: {e}")).collect();
    problems.extend(catalog.bad.iter().map(|b| format!("{} at {}: {}", b.key, b.target, b.error)));
    let doubt = catalog.require_one_head(reader.database).err();
    problems.extend(
        catalog
            .certain_breaks(seen.map(|h| (h.sequence, h.hash)))
            .iter()
            .filter(|b| doubt.is_none() || !matches!(b, Break::Fork(..)))
            .map(|b| format!("the chain of receipts is broken: {b}")),
    );
    problems.extend(doubt.map(|e| e.to_string()));
    let unknown = |b: &&BadRecord| !catalog.decisions.know_damage(&b.target, &b.key);
    problems
        .extend(drills.bad.iter().filter(unknown).map(|b| format!("{} at {}: {}", b.key, b.target, b.error)));
    let (starts, marks) = (epoch_starts(&catalog), catalog.decisions.marks());
    let listed = |entry| listed(reader, &catalog, &drills, entry, (&starts, &marks));
    let snapshots = in_order(&catalog).into_iter().map(listed).collect::<Result<_>>()?;
    let set_aside = catalog.aside.values().map(listed).collect::<Result<_>>()?;
    Ok(ListReport { snapshots, set_aside, problems })
}

/// Shows one snapshot. Problems of the catalog are reported to the observer.
pub(crate) async fn show(
    reader: &Reader<'_>,
    wanted: &Wanted,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> Result<ShowReport> {
    let catalog = reader.read(cancel).await?;
    let drills = reader.drills(cancel).await?;
    let entry = choose(&catalog, wanted, reader.database, observer)?;
    let signed = reader.load(entry, cancel).await?;
    let receipt_sha256 = signed.hash();
    let receipt: Receipt = signed.receipt;
    Ok(ShowReport {
        listed: listed(
            reader,
            &catalog,
            &drills,
            entry,
            (&epoch_starts(&catalog), &catalog.decisions.marks()),
        )?,
        drills: drills.of(&entry.receipt.snapshot),
        decisions: catalog.decisions.summaries(),
        signer: signed.signer,
        receipt_sha256,
        previous: receipt.previous,
        agent: receipt.agent,
        engine_version: receipt.engine_version,
        tool_version: receipt.tool_version,
        started_at: receipt.started_at,
        finished_at: receipt.finished_at,
        streams: receipt.streams,
        recipients: receipt.recipients,
        objects: receipt.objects,
        chain: catalog.certain_breaks(None).iter().map(ToString::to_string).collect(),
    })
}

/// All snapshots, oldest first. Names say seconds: of two in one second, the number tells.
fn in_order(catalog: &Catalog) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = catalog.entries.values().collect();
    entries.sort_by_key(|entry| (entry.receipt.consistent_at.as_second(), entry.receipt.sequence));
    entries
}

/// The first known snapshot of each epoch.
fn epoch_starts(catalog: &Catalog) -> BTreeMap<EpochId, SnapshotId> {
    let mut starts = BTreeMap::new();
    for entry in in_order(catalog) {
        starts.entry(entry.receipt.epoch.clone()).or_insert_with(|| entry.receipt.snapshot.clone());
    }
    starts
}

fn listed(
    reader: &Reader<'_>,
    catalog: &Catalog,
    drills: &DrillCatalog,
    entry: &Entry,
    (starts, marks): (&BTreeMap<EpochId, SnapshotId>, &BTreeMap<Sha256, Mark>),
) -> Result<Listed> {
    let receipt = &entry.receipt;
    let at = |name: &TargetName| -> Result<ListedTarget> {
        let levels = reader.levels(catalog, drills, &receipt.snapshot, name)?;
        Ok(ListedTarget { name: name.clone(), levels })
    };
    let here = reader.targets.iter().map(|t| &t.name).filter(|name| entry.targets.contains(*name));
    Ok(Listed {
        publisher: receipt.publisher.clone(),
        database: receipt.database.clone(),
        snapshot: receipt.snapshot.clone(),
        epoch: receipt.epoch.clone(),
        sequence: receipt.sequence,
        consistent_at: receipt.consistent_at,
        engine: receipt.engine.clone(),
        rows: receipt.rows,
        bytes_read: receipt.bytes_read,
        new_bytes: receipt.new_bytes,
        stored_bytes: receipt.stored_bytes,
        size: entry.size,
        // The receipt of an epoch's true first snapshot may be missing: then the next one is not full.
        full: starts.get(&receipt.epoch) == Some(&receipt.snapshot)
            && receipt.new_bytes == receipt.bytes_read,
        mark: marks.get(&entry.link.hash).cloned(),
        targets: here.map(at).collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::job::testing::{Repository, Silent, named};
    use crate::targets::memory::MemoryTarget;

    #[tokio::test]
    async fn lists_and_shows_what_the_receipts_say() {
        let repository = Repository::of(1, MemoryTarget::new).await;
        repository.snapshot_to(1, vec![named("a", repository.a.clone())], &repository.state).await;
        let (targets, trust) = (repository.targets(), repository.trust());
        let cancel = CancellationToken::new();
        for state in [None, Some(&repository.state)] {
            let reader = Reader::new(&repository.database, &targets, &trust, state);
            let found = list(&reader, &cancel).await.unwrap();
            assert_eq!(found.problems, Vec::<String>::new());
            let [first, second] = &found.snapshots[..] else { panic!("{found:?}") };
            assert!(first.full && !second.full && first.epoch == second.epoch);
            assert_eq!((first.sequence, second.sequence), (1, 2));
            assert_eq!((first.targets.len(), second.targets.len()), (2, 1));
            assert_eq!(
                second.targets[0].levels.stored,
                Some(repository.receipt(&second.snapshot).finished_at)
            );
            let wanted = Wanted::Snapshot(second.snapshot.clone());
            let shown = show(&reader, &wanted, &Silent, &cancel).await.unwrap();
            assert_eq!(shown.objects, repository.receipt(&second.snapshot).objects);
            assert_eq!(shown.previous, Some(catalog_hash(&reader, &first.snapshot).await));
            let json = serde_json::to_value(&shown).unwrap();
            assert_eq!(json["snapshot"], second.snapshot.as_str());
            assert!(json["signer"].as_str().unwrap().starts_with("SHA256:"));
        }
        let reader = Reader::new(&repository.database, &targets, &trust, None);
        let other = Wanted::Snapshot("20200101T000000Z-00000000".parse().unwrap());
        let error = show(&reader, &other, &Silent, &cancel).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    async fn catalog_hash(reader: &Reader<'_>, snapshot: &SnapshotId) -> Sha256 {
        reader.read(&CancellationToken::new()).await.unwrap().entries[snapshot].link.hash
    }

    #[tokio::test]
    async fn problems_are_listed() {
        let repository = Repository::of(2, MemoryTarget::new).await;
        let first =
            repository.state.stored_at(&repository.database, &"a".parse().unwrap()).unwrap().remove(0);
        let receipt = repository.key(&format!("receipts/{first}.json"));
        repository.a.tamper(&receipt, Some("{}".into()));
        repository.b.tamper(&receipt, None);
        let (targets, trust) = (repository.targets(), repository.trust());
        let reader = Reader::new(&repository.database, &targets, &trust, None);
        let found = list(&reader, &CancellationToken::new()).await.unwrap();
        assert_eq!(found.snapshots.len(), 1);
        assert!(!found.snapshots[0].full, "its epoch began with a snapshot that is not there");
        assert!(found.problems.iter().any(|p| p.contains("receipt number 1 is missing")), "{found:?}");
    }
}
