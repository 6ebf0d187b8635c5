//! How each database stands at a glance: freshness, targets, levels, and what is wrong now.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::job::catalog::{Catalog, Entry, Reader};
use crate::model::human;
use crate::model::id::{DatabaseName, PublisherName, SnapshotId, TargetName};
use crate::model::level::Levels;
use crate::repository::chain::Break;

/// What `status --json` prints.
#[derive(Debug, Clone, Serialize)]
pub struct StatusReport {
    /// Every database that was asked for.
    pub databases: Vec<DatabaseStatus>,
}

/// How one database stands.
#[derive(Debug, Clone, Serialize)]
pub struct DatabaseStatus {
    /// Whose data.
    pub publisher: PublisherName,
    /// Which database.
    pub database: DatabaseName,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotId>,
    /// The moment whose state it holds.
    pub consistent_at: Option<Timestamp>,
    /// Seconds since that moment.
    pub age_seconds: Option<i64>,
    /// How old it may become, in seconds, where that is agreed.
    pub rpo_seconds: Option<u64>,
    /// It is older than that, or there is none.
    pub late: bool,
    /// When the next snapshot starts; `null` without a schedule.
    pub next_run: Option<Timestamp>,
    /// Every target.
    pub targets: Vec<TargetStatus>,
    /// What is wrong now, in full sentences.
    pub incidents: Vec<String>,
}

/// How one target stands.
#[derive(Debug, Clone, Serialize)]
pub struct TargetStatus {
    /// The target.
    pub name: TargetName,
    /// The newest snapshot that it holds; where it cannot be reached, that it once acknowledged.
    pub snapshot: Option<SnapshotId>,
    /// The levels proven for that snapshot there.
    pub levels: Levels,
    /// How many snapshots it lacks that another target has; `null` where it cannot be reached.
    pub behind: Option<u64>,
    /// Why it cannot be reached.
    pub error: Option<String>,
}

/// Looks at one database. `rpo` is how old its newest snapshot may become.
pub async fn database_status(
    reader: &Reader<'_>,
    rpo: Option<Duration>,
    now: Timestamp,
    cancel: &CancellationToken,
) -> Result<DatabaseStatus> {
    // Before the targets are read: reading them teaches the state newer receipts.
    let seen = reader.state.map(|s| s.head(reader.database)).transpose()?.flatten();
    let catalog = reader.read(cancel).await?;
    let newest = catalog.newest();
    let age = catalog.age(now);
    let late = rpo.is_some_and(|rpo| age.is_none_or(|age| age.unsigned_abs() > rpo.as_secs()));
    let mut targets = Vec::new();
    for target in reader.targets {
        targets.push(target_status(reader, &catalog, &target.name)?);
    }
    let mut status = DatabaseStatus {
        publisher: reader.database.publisher.clone(),
        database: reader.database.database.clone(),
        snapshot: newest.map(|e| e.receipt.snapshot.clone()),
        consistent_at: newest.map(|e| e.receipt.consistent_at),
        age_seconds: age,
        rpo_seconds: rpo.map(|r| r.as_secs()),
        late,
        next_run: None,
        targets,
        incidents: Vec::new(),
    };
    status.incidents = incidents(&status, &catalog);
    let breaks = chain_breaks(&catalog, seen.map(|h| (h.sequence, h.hash)));
    status.incidents.extend(breaks.iter().map(|b| format!("The chain of receipts is broken: {b}.")));
    Ok(status)
}

fn target_status(reader: &Reader<'_>, catalog: &Catalog, name: &TargetName) -> Result<TargetStatus> {
    let error = catalog.unreachable.iter().find(|(n, _)| n == name).map(|(_, e)| e.to_string());
    let snapshot = match (&error, reader.state) {
        (None, _) => newest_at(catalog, name).map(|e| e.receipt.snapshot.clone()),
        (Some(_), Some(state)) => state.stored_at(reader.database, name)?.pop(),
        (Some(_), None) => None,
    };
    let levels = match &snapshot {
        Some(snapshot) => levels(reader, catalog, snapshot, name)?,
        None => Levels::default(),
    };
    let lacks = |e: &&Entry| !e.targets.contains(name);
    let behind = error.is_none().then(|| catalog.entries.values().filter(lacks).count() as u64);
    Ok(TargetStatus { name: name.clone(), snapshot, levels, behind, error })
}

/// The levels of one snapshot at one target. `stored` is what the target shows: a signed receipt, written last.
pub(super) fn levels(
    reader: &Reader<'_>,
    catalog: &Catalog,
    snapshot: &SnapshotId,
    target: &TargetName,
) -> Result<Levels> {
    let mut levels = match reader.state {
        Some(state) => state.levels(reader.database, snapshot, target)?,
        None => Levels::default(),
    };
    let unreachable = catalog.unreachable.iter().any(|(name, _)| name == target);
    if !unreachable {
        let here = catalog.entries.get(snapshot).filter(|e| e.targets.contains(target));
        levels.stored = here.map(|e| e.receipt.finished_at);
    }
    Ok(levels)
}

fn newest_at<'a>(catalog: &'a Catalog, target: &TargetName) -> Option<&'a Entry> {
    let here = catalog.entries.values().filter(|e| e.targets.contains(target));
    here.max_by_key(|e| e.receipt.sequence)
}

/// What is wrong with the chain. Receipts that no target shows may be at one that cannot be reached.
pub(super) fn chain_breaks(catalog: &Catalog, seen: Option<(u64, crate::model::id::Sha256)>) -> Vec<Break> {
    let mut breaks = catalog.breaks(seen);
    if !catalog.unreachable.is_empty() {
        breaks.retain(|b| !matches!(b, Break::Missing(..) | Break::Rollback(_)));
    }
    breaks
}

fn incidents(status: &DatabaseStatus, catalog: &Catalog) -> Vec<String> {
    let mut incidents = Vec::new();
    let span = |seconds: u64| human::duration(seconds as f64);
    match (status.age_seconds, status.rpo_seconds) {
        (None, _) if catalog.unreachable.is_empty() => incidents.push("There is no snapshot yet.".to_owned()),
        (None, _) => incidents.push("There is no snapshot at any target that can be reached.".to_owned()),
        (Some(age), Some(rpo)) if status.late => incidents.push(format!(
            "The newest snapshot is {} old, and may be {} old at most.",
            span(age.unsigned_abs()),
            span(rpo)
        )),
        _ => {}
    }
    for (name, e) in &catalog.unreachable {
        incidents.push(format!("Target {name} cannot be reached: {e}."));
    }
    let total = catalog.entries.len();
    for target in &status.targets {
        let behind = target.behind.unwrap_or(0);
        if behind > 0 {
            let newest = if target.snapshot == status.snapshot { "" } else { ", among them the newest" };
            incidents.push(format!("Target {} lacks {behind} of {total} snapshots{newest}.", target.name));
        }
    }
    for bad in &catalog.bad {
        incidents.push(format!("{} at target {} cannot be trusted: {}.", bad.key, bad.target, bad.error));
    }
    incidents
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;

    use super::*;
    use crate::job::NamedTarget;
    use crate::job::testing::{Repository, named, start};
    use crate::model::level::Level;
    use crate::state::State;
    use crate::target::TargetErrorKind;
    use crate::target::faulty::{Fault, Faulty, Operation};
    use crate::target::memory::MemoryTarget;

    async fn status(
        repository: &Repository,
        targets: &[NamedTarget],
        state: Option<&State>,
        rpo: Option<Duration>,
    ) -> DatabaseStatus {
        let trust = repository.trust();
        let reader = Reader { database: &repository.database, targets, trust: &trust, state };
        let now = start() + SignedDuration::from_hours(48);
        database_status(&reader, rpo, now, &CancellationToken::new()).await.unwrap()
    }

    #[tokio::test]
    async fn nothing_yet() {
        let repository = Repository::new();
        let found = status(&repository, &repository.targets(), None, Some(Duration::from_secs(60))).await;
        assert_eq!(found.incidents, ["There is no snapshot yet."]);
        assert!(found.late && found.snapshot.is_none());
        assert_eq!(serde_json::to_value(&found).unwrap()["next_run"], serde_json::Value::Null);
    }

    #[tokio::test]
    async fn fresh_and_whole_is_no_incident() {
        let repository = Repository::of(2, MemoryTarget::new).await;
        let newest = repository.state.head(&repository.database).unwrap().unwrap().snapshot;
        let state = &repository.state;
        state.prove(&repository.database, &newest, &"b".parse().unwrap(), Level::Intact, start()).unwrap();
        // The source is read now, so nothing that looks back from a fixed day can be old.
        let found = status(&repository, &repository.targets(), Some(state), Some(Duration::MAX)).await;
        assert_eq!(found.incidents, Vec::<String>::new());
        assert!(!found.late);
        assert_eq!(found.snapshot.as_ref(), Some(&newest));
        for target in &found.targets {
            assert_eq!((target.snapshot.as_ref(), target.behind), (Some(&newest), Some(0)));
            assert_eq!(target.levels.stored, Some(repository.receipt(&newest).finished_at));
        }
        assert_eq!(found.targets[0].levels.intact, None);
        assert_eq!(found.targets[1].levels.intact, Some(start()));
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        let repository = Repository::of(1, MemoryTarget::new).await;
        let state = &repository.state;
        repository.snapshot_to(1, vec![named("a", repository.a.clone())], state).await;
        let first =
            repository.receipt(&state.stored_at(&repository.database, &"b".parse().unwrap()).unwrap()[0]);
        let trust = repository.trust();
        let targets = repository.targets();
        let reader = Reader { database: &repository.database, targets: &targets, trust: &trust, state: None };
        let late = first.consistent_at + SignedDuration::from_hours(24 * 400);
        let rpo = Some(Duration::from_secs(86_400));
        let found = database_status(&reader, rpo, late, &CancellationToken::new()).await.unwrap();
        assert!(found.late);
        assert!(found.incidents[0].contains("may be 1 d 0 h old at most"), "{:?}", found.incidents);
        assert_eq!(found.incidents[1], "Target b lacks 1 of 2 snapshots, among them the newest.");
        assert_eq!(found.targets[1].snapshot, Some(first.snapshot.clone()));

        let receipt = repository.key(&format!("receipts/{}.json", first.snapshot));
        repository.a.tamper(&receipt, Some("{}".into()));
        repository.b.tamper(&receipt, None);
        let found = status(&repository, &repository.targets(), None, None).await;
        assert!(found.incidents.iter().any(|i| i.contains("at target a cannot be trusted")), "{found:?}");
        assert!(found.incidents.iter().any(|i| i.contains("receipt number 1 is missing")), "{found:?}");
    }

    #[tokio::test]
    async fn an_unreachable_target_shows_what_was_known() {
        let repository = Repository::of(1, MemoryTarget::new).await;
        let fail = Fault::Fail(TargetErrorKind::Unavailable);
        let down = Faulty::new(MemoryTarget::new()).with(Operation::List, 1..=u64::MAX, fail);
        let targets = [named("a", repository.a.clone()), named("b", Arc::new(down))];
        let found = status(&repository, &targets, Some(&repository.state), None).await;
        assert!(found.incidents[0].starts_with("Target b cannot be reached"), "{:?}", found.incidents);
        assert_eq!(found.incidents.len(), 1);
        let b = &found.targets[1];
        assert_eq!(b.behind, None);
        assert!(b.error.is_some() && b.snapshot == found.snapshot && b.levels.stored.is_some());
        let alone = status(&repository, &targets[1..], None, None).await;
        assert_eq!(alone.incidents[0], "There is no snapshot at any target that can be reached.");
    }
}
