//! A look at a database: what its targets hold, which drills there were, and what follows from that.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::health::conditions::{Observation, age};
use crate::health::inspection::Inspection;
use crate::health::status::{
    DatabaseStatus, DrillSummary, Promises, SnapshotFigures, SuccessionSummary, TargetStatus,
};
use crate::job::snapshot::packed_so_far;
use crate::model::condition::{ConditionKind, first_of_each};
use crate::model::id::TargetName;
use crate::model::job::JobKind;
use crate::model::level::{By, Level, Levels};
use crate::model::run::findings;
use crate::model::standing::Standing;
use crate::repository::canonical::whole_second;
use crate::repository::catalog::{Catalog, Entry};
use crate::repository::drill_catalog::DrillCatalog;
use crate::repository::layout;
use crate::repository::reader::Reader;

/// Looks at one database.
pub(crate) async fn database_status(
    reader: &Reader<'_>,
    promises: Promises,
    now: Timestamp,
    cancel: &CancellationToken,
) -> Result<DatabaseStatus> {
    let rpo = promises.rpo;
    // Before the targets are read: reading them teaches the state newer receipts.
    let seen = reader.state.map(|s| s.head(reader.database)).transpose()?.flatten();
    let mut catalog = reader.read(cancel).await?;
    let drills = reader.drills(cancel).await?;
    let inspection = Inspection::of(reader, &mut catalog, &drills, cancel).await?;
    let newest = catalog.newest();
    let mut targets = Vec::new();
    for target in reader.targets {
        let mut status = target_status(reader, &catalog, &drills, &target.name, now)?;
        if inspection.newest.contains(&target.name) {
            // Whatever was proven of it, what is listed now is not that.
            status.levels = Levels { damaged: Some(whole_second(now)), ..Levels::default() };
        }
        targets.push(status);
    }
    let twins = catalog.places.twins(reader.targets.iter().map(|target| &target.name));
    for twin in &twins {
        let mut of_twin = targets.iter_mut().filter(|target| target.name == twin.name);
        of_twin.by_ref().for_each(|target| target.same_place_as = Some(twin.of.clone()));
    }
    let mut status = DatabaseStatus {
        publisher: reader.database.publisher.clone(),
        database: reader.database.database.clone(),
        snapshot: newest.map(|e| e.receipt.snapshot.clone()),
        consistent_at: newest.map(|e| e.receipt.consistent_at),
        dated_at: newest.map(|e| e.receipt.consistent_at.max(e.receipt.finished_at)),
        age_seconds: None,
        ahead_seconds: None,
        rpo_seconds: rpo.map(|r| r.within.as_secs()),
        rpo_from: rpo.map(|r| r.from),
        late: false,
        first_due_at: promises.first_due_at,
        next_run: None,
        figures: newest.map(|e| SnapshotFigures::of(&e.receipt)),
        packed_so_far: reader.state.map(|s| packed_so_far(s, reader.database)).transpose()?.flatten(),
        targets,
        last_drill: last_drill(&drills),
        drill_every_seconds: promises.drill_every.map(|every| every.as_secs()),
        decisions: catalog.decisions.summaries(),
        successions: catalog.agents.accepted().map(|k| SuccessionSummary::of(&k.signed.record)).collect(),
        score: None,
        state: Standing::Unknown,
        conditions: Vec::new(),
        awaited: Vec::new(),
    };
    status.set_age(now);
    let breaks = catalog.certain_breaks(seen.map(|h| (h.sequence, h.hash)));
    let look = Observation {
        status: &status,
        catalog: &catalog,
        drills: &drills,
        oddities: &inspection.oddities,
        twins: &twins,
        promises,
        breaks: &breaks,
        now,
    };
    let mut conditions = match reader.state {
        Some(state) => findings(&state.runs(reader.database)?),
        None => Vec::new(),
    };
    // Whoever has accepted the content has seen how much it is.
    let accepted = catalog.decisions.content().map(|seen| &seen.snapshot);
    if accepted.is_some() && accepted == status.snapshot.as_ref() {
        conditions.retain(|condition| condition.kind != ConditionKind::SizeOutOfBand);
    }
    conditions.extend(look.conditions());
    status.tell(first_of_each(conditions), now);
    Ok(status)
}

fn target_status(
    reader: &Reader<'_>,
    catalog: &Catalog,
    drills: &DrillCatalog,
    name: &TargetName,
    now: Timestamp,
) -> Result<TargetStatus> {
    let error = catalog.unreachable.iter().find(|(n, _)| n == name).map(|(_, e)| e.to_string());
    let snapshot = match (&error, reader.state) {
        (None, _) => catalog.newest_at(name).map(|e| e.receipt.snapshot.clone()),
        (Some(_), Some(state)) => state.newest_stored_at(reader.database, name)?,
        (Some(_), None) => None,
    };
    let levels = match &snapshot {
        Some(snapshot) => reader.levels(catalog, drills, snapshot, name)?,
        None => Levels::default(),
    };
    let pruned = catalog.prunes.snapshots();
    // What is known to be damaged there will not come.
    let known = |e: &Entry| {
        let key = layout::key(reader.database, &layout::receipt(&e.receipt.snapshot));
        key.is_ok_and(|key| catalog.decisions.know_damage(name, key.as_str()))
    };
    let lacks = |e: &&Entry| !e.targets.contains(name) && !pruned.contains(&e.receipt.snapshot) && !known(e);
    let lacking = || catalog.entries.values().filter(lacks);
    let behind = error.is_none().then(|| lacking().count() as u64);
    let oldest = lacking().map(|e| e.receipt.finished_at).min().filter(|_| error.is_none());
    let behind_seconds = oldest.map(|at| age(at, now));
    let restored = drills.last_proof(name, Level::Restored);
    let owner_restored = drills.last_proof(name, Level::OwnerRestored);
    Ok(TargetStatus {
        name: name.clone(),
        snapshot,
        levels,
        restored,
        owner_restored,
        behind,
        behind_seconds,
        same_place_as: None,
        unneeded_bytes: unneeded_bytes(reader, name)?,
        error,
    })
}

/// What the last prune left at a target for the end of its grace; a job that never ran knows nothing.
fn unneeded_bytes(reader: &Reader<'_>, target: &TargetName) -> Result<Option<u64>> {
    let Some(state) = reader.state else { return Ok(None) };
    let pruned = state.runs(reader.database)?.iter().any(|run| run.kind == JobKind::Prune);
    pruned.then(|| state.unneeded_bytes(reader.database, target)).transpose()
}

fn last_drill(drills: &DrillCatalog) -> Option<DrillSummary> {
    drills.without_sabotage(By::Agent).next_back().map(DrillSummary::of)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;

    use std::time::Duration;

    use super::*;
    use crate::health::status::{Rpo, RpoSource};
    use crate::job::testing::{Repository, named, start};
    use crate::model::condition::Condition;
    use crate::state::State;
    use crate::targets::NamedTarget;
    use crate::targets::TargetErrorKind;
    use crate::targets::memory::MemoryTarget;
    use crate::targets::wrapper::faulty::{Fault, Faulty, Operation};

    async fn status(
        repository: &Repository,
        targets: &[NamedTarget],
        state: Option<&State>,
        rpo: Option<Duration>,
    ) -> DatabaseStatus {
        let rpo = rpo.map(|within| Rpo { within, from: RpoSource::Configuration });
        let trust = repository.trust();
        let reader = Reader::new(&repository.database, targets, &trust, state);
        let now = start() + SignedDuration::from_hours(48);
        let promises = Promises { rpo, ..Promises::default() };
        database_status(&reader, promises, now, &CancellationToken::new()).await.unwrap()
    }

    #[tokio::test]
    async fn nothing_yet() {
        let repository = Repository::new();
        let found = status(&repository, &repository.targets(), None, Some(Duration::from_secs(60))).await;
        assert_eq!(found.incidents(), ["There is no snapshot yet."]);
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
        assert_eq!(found.incidents(), Vec::<&str>::new());
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
        let reader = Reader::new(&repository.database, &targets, &trust, None);
        let late = first.consistent_at + SignedDuration::from_hours(24 * 400);
        let promises = Promises {
            rpo: Some(Rpo::of(Some(Duration::from_secs(86_400)), || None)),
            ..Promises::default()
        };
        let found = database_status(&reader, promises, late, &CancellationToken::new()).await.unwrap();
        assert!(found.late);
        assert!(found.incidents()[0].contains("may be 1 d 0 h old at most"), "{:?}", found.incidents());
        let lacks = "Target b lacks 1 of 2 snapshots, among them the newest";
        assert!(found.incidents()[1].starts_with(lacks), "{:?}", found.incidents());
        assert_eq!(found.targets[1].snapshot, Some(first.snapshot.clone()));

        let receipt = repository.key(&format!("receipts/{}.json", first.snapshot));
        repository.a.tamper(&receipt, Some("{}".into()));
        repository.b.tamper(&receipt, None);
        let found = status(&repository, &repository.targets(), None, None).await;
        assert!(found.incidents().iter().any(|i| i.contains("at target a cannot be trusted")), "{found:?}");
        assert!(found.incidents().iter().any(|i| i.contains("receipt number 1 is missing")), "{found:?}");
    }

    #[tokio::test]
    async fn whatever_is_hidden_is_told() {
        let id = "20261122T020000Z-1f3a9c4e";
        for relative in [
            "agents/1-01234567.json".to_owned(),
            format!("drills/{id}.json"),
            format!("prunes/{id}.json"),
            format!("receipts/{id}.json"),
        ] {
            let repository = Repository::of(1, MemoryTarget::versioned).await;
            let key = repository.key(&relative);
            repository.a.tamper(&key, Some("{}".into()));
            repository.a.tamper(&key, None);
            let found = status(&repository, &repository.targets(), Some(&repository.state), None).await;
            let of_kind = |c: &&Condition| c.kind == ConditionKind::TargetDamaged;
            let damaged: Vec<&Condition> = found.conditions.iter().filter(of_kind).collect();
            assert_eq!(damaged.len(), 1, "{relative}: {:?}", found.incidents());
            assert!(damaged[0].summary.contains("1 under a delete marker"), "{}", damaged[0].summary);
            // The newest snapshot itself is as it was.
            assert!(found.targets[0].levels.stored.is_some());
        }
    }

    #[tokio::test]
    async fn a_target_that_stops_answering_in_the_middle_is_away_and_not_suspicious() {
        let repository = Repository::of(2, MemoryTarget::new).await;
        let fail = Fault::Fail(TargetErrorKind::Unavailable);
        let broken = Faulty::new(repository.a.clone()).with(Operation::Get, 1..=u64::MAX, fail);
        let targets = [named("a", Arc::new(broken)), named("b", repository.b.clone())];
        let found = status(&repository, &targets, None, None).await;
        let kinds: Vec<_> = found.conditions.iter().map(|condition| condition.kind).collect();
        assert_eq!(kinds, [ConditionKind::TargetFailing], "{:?}", found.incidents());
        assert!(found.targets[0].error.is_some());
    }

    #[tokio::test]
    async fn an_unreachable_target_shows_what_was_known() {
        let repository = Repository::of(1, MemoryTarget::new).await;
        let fail = Fault::Fail(TargetErrorKind::Unavailable);
        let down = Faulty::new(MemoryTarget::new()).with(Operation::List, 1..=u64::MAX, fail);
        let targets = [named("a", repository.a.clone()), named("b", Arc::new(down))];
        let found = status(&repository, &targets, Some(&repository.state), None).await;
        assert!(found.incidents()[0].starts_with("Target b cannot be reached"), "{:?}", found.incidents());
        assert_eq!(found.incidents().len(), 1);
        let b = &found.targets[1];
        assert_eq!(b.behind, None);
        assert!(b.error.is_some() && b.snapshot == found.snapshot && b.levels.stored.is_some());
        let alone = status(&repository, &targets[1..], None, None).await;
        assert_eq!(alone.incidents()[0], "There is no snapshot at any target that can be reached.");
    }
}
