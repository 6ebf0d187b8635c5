//! One origin, one incident: whatever comes from the same target, server, key or disk becomes one condition, which says
//! which databases it hits.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::{Affected, Condition, ConditionKind};
use super::id::DatabaseId;
use super::incident::Unknown;
use crate::error::Origin;

/// Replaces the conditions that share an origin by one, at the place of the first of them. All others stay as they are.
pub(crate) fn fold(conditions: Vec<Condition>) -> Vec<Condition> {
    let targets = failing_targets(&conditions);
    let mut groups: BTreeMap<Origin, Vec<Condition>> = BTreeMap::new();
    let mut order: Vec<Result<Condition, Origin>> = Vec::new();
    for condition in conditions {
        match origin(&condition, &targets) {
            None => order.push(Ok(condition)),
            Some(origin) => {
                if !groups.contains_key(&origin) {
                    order.push(Err(origin.clone()));
                }
                groups.entry(origin).or_default().push(condition);
            }
        }
    }
    // What only follows from a problem that is told is no problem of its own.
    let mut alone = Vec::new();
    for place in order {
        match place {
            Err(origin) => alone.push(Err(origin)),
            Ok(condition) => {
                match groups.iter_mut().find(|(origin, group)| follows(&condition, origin, group)) {
                    Some((_, group)) => group.push(condition),
                    None => alone.push(Ok(condition)),
                }
            }
        }
    }
    alone
        .into_iter()
        .filter_map(|place| place.map_or_else(|origin| one(&origin, groups.get(&origin)?), Some))
        .collect()
}

/// What stands within others of these: for what it was told alone before, it is not over.
pub(crate) fn within(conditions: &[Condition]) -> Vec<Unknown> {
    let parts = conditions.iter().flat_map(|condition| {
        condition.affected.iter().flat_map(move |affected| {
            affected.kinds.iter().map(move |kind| Unknown {
                kind: Some(*kind),
                database: Some(affected.database.clone()),
                // Another target of the same database can be well again meanwhile.
                object: condition.object.clone().filter(|_| *kind == condition.kind),
            })
        })
    });
    parts.collect()
}

/// The targets that fail, by the databases that say so.
fn failing_targets(conditions: &[Condition]) -> BTreeMap<DatabaseId, String> {
    let failing = conditions.iter().filter(|condition| condition.kind == ConditionKind::TargetFailing);
    failing.filter_map(|condition| Some((condition.database.clone()?, condition.object.clone()?))).collect()
}

/// Where a condition comes from, if that is known. Only what concerns a database has something to share, and a full disk,
/// which is also seen where no job has met it.
fn origin(condition: &Condition, targets: &BTreeMap<DatabaseId, String>) -> Option<Origin> {
    let Some(database) = condition.database.as_ref() else {
        let is_disk = condition.kind == ConditionKind::DiskLow;
        return condition.object.clone().filter(|_| is_disk).map(Origin::Disk);
    };
    match condition.origin.as_ref()? {
        Origin::SomeTarget => targets.get(database).cloned().map(Origin::Target),
        known => Some(known.clone()),
    }
}

/// Whether a condition is only a consequence of those that come from this origin.
fn follows(condition: &Condition, origin: &Origin, group: &[Condition]) -> bool {
    use ConditionKind as C;
    let cause = match condition.kind {
        C::SnapshotLate => C::SnapshotFailed,
        C::DrillOverdue => C::DrillFailed,
        C::TargetBehind => {
            let name = condition.object.as_deref();
            return matches!(origin, Origin::Target(target) if Some(target.as_str()) == name);
        }
        _ => return false,
    };
    condition.database.is_some()
        && group.iter().any(|other| other.kind == cause && other.database == condition.database)
}

/// The one condition that stands for all of an origin.
fn one(origin: &Origin, group: &[Condition]) -> Option<Condition> {
    let severity = group.iter().map(|condition| condition.severity).max()?;
    // Whoever met the problem itself knows most of it.
    let knows = |condition: &&Condition| {
        matches!(condition.kind, ConditionKind::TargetFailing | ConditionKind::DiskLow)
    };
    let lead = group.iter().find(knows).or(group.first())?;
    if lead.kind == ConditionKind::DiskLow {
        return Some(Condition { severity, affected: affected(group), ..lead.clone() });
    }
    let (kind, object, summary) = match origin {
        Origin::Target(name) => (ConditionKind::TargetFailing, name, format!("Target {name} fails.")),
        Origin::Server(address) => (
            ConditionKind::ServerFailing,
            address,
            format!("The database server {address} cannot be reached."),
        ),
        Origin::Login(login) => {
            (ConditionKind::ServerFailing, login, format!("The database server {login} refuses connections."))
        }
        Origin::Key(path) => {
            (ConditionKind::KeyFailing, path, format!("The agent's key {path} cannot be used."))
        }
        Origin::Disk(name) => {
            (ConditionKind::DiskLow, name, format!("The disk of the {name} folder is full."))
        }
        Origin::SomeTarget => return None,
    };
    let mut found = Condition::new(kind, severity, summary).object(object).remedy(lead.remedy.clone());
    found.error = lead.error.clone().or_else(|| Some(lead.summary.clone()));
    found.origin = Some(origin.clone());
    found.affected = affected(group);
    Some(found)
}

fn affected(group: &[Condition]) -> Vec<Affected> {
    let mut databases: BTreeMap<&DatabaseId, Affected> = BTreeMap::new();
    for condition in group {
        let Some(database) = &condition.database else { continue };
        let of = databases.entry(database).or_insert_with(|| Affected {
            database: database.clone(),
            kinds: BTreeSet::new(),
            error: None,
            proven_at: None,
        });
        of.kinds.insert(condition.kind);
        of.error = of.error.take().or_else(|| condition.error.clone());
        of.proven_at = of.proven_at.or(condition.proven_at);
    }
    databases.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::condition::Severity;

    fn wrong(kind: ConditionKind, database: &str, origin: Option<Origin>) -> Condition {
        let severity =
            if kind == ConditionKind::TargetFailing { Severity::Warning } else { Severity::Critical };
        let condition = Condition::new(kind, severity, "It is wrong.").of(&database.parse().unwrap());
        condition.error("it broke").remedy("Repair it.").origin(origin)
    }

    fn target(database: &str) -> Condition {
        wrong(ConditionKind::TargetFailing, database, Some(Origin::Target("nas".into()))).object("nas")
    }

    fn keys(conditions: Vec<Condition>) -> Vec<String> {
        fold(conditions).iter().map(|condition| condition.key().to_string()).collect()
    }

    #[test]
    fn what_comes_from_one_target_is_one_condition() {
        use ConditionKind as C;
        let some = Some(Origin::SomeTarget);
        let found = fold(vec![
            wrong(C::SnapshotFailed, "gazette/a", some.clone()),
            target("gazette/a"),
            target("matin/b"),
            wrong(C::VerifyFailed, "matin/b", some.clone()),
            wrong(C::SnapshotLate, "gazette/a", None),
            wrong(C::SnapshotLate, "matin/b", None),
            wrong(C::PruneFailed, "matin/elsewhere", some),
        ]);
        let keys: Vec<String> = found.iter().map(|condition| condition.key().to_string()).collect();
        assert_eq!(
            keys,
            ["target-failing nas", "snapshot-late matin/b", "prune-failed matin/elsewhere"],
            "what has another cause, or one that nobody knows, stays alone"
        );
        let one = &found[0];
        assert_eq!((one.severity, one.summary.as_str()), (Severity::Critical, "Target nas fails."));
        let of = |affected: &Affected| {
            let kinds: Vec<_> = affected.kinds.iter().map(|kind| kind.word()).collect();
            format!("{}: {}", affected.database, kinds.join(", "))
        };
        let affected: Vec<String> = one.affected.iter().map(of).collect();
        assert_eq!(
            affected,
            [
                "gazette/a: snapshot-failed, snapshot-late, target-failing",
                "matin/b: verify-failed, target-failing"
            ]
        );
        assert_eq!(one.publishers().len(), 2);
    }

    #[test]
    fn other_origins_are_other_conditions() {
        use ConditionKind as C;
        let failed = |database, origin| wrong(C::SnapshotFailed, database, Some(origin));
        let server = || Origin::Server("db1:5432".into());
        let found = keys(vec![
            failed("gazette/a", server()),
            failed("gazette/b", server()),
            failed("gazette/c", Origin::Key("/etc/marbre/agent".into())),
            failed("gazette/d", Origin::Disk("spool".into())),
            failed("gazette/a", Origin::Login("db1:5432 as marbre".into())),
            wrong(C::SnapshotFailed, "gazette/e", None),
        ]);
        assert_eq!(
            found,
            [
                "server-failing db1:5432",
                "key-failing /etc/marbre/agent",
                "disk-low spool",
                "server-failing db1:5432 as marbre",
                "snapshot-failed gazette/e"
            ]
        );
    }

    #[test]
    fn a_full_disk_is_one_condition_whoever_meets_it() {
        let low = Condition::new(ConditionKind::DiskLow, Severity::Warning, "It has 1 MiB left.");
        let failed =
            wrong(ConditionKind::SnapshotFailed, "gazette/a", Some(Origin::Disk("spool".to_owned())));
        let found = fold(vec![low.clone().object("state"), failed, low.object("spool")]);
        let keys: Vec<String> = found.iter().map(|condition| condition.key().to_string()).collect();
        assert_eq!(keys, ["disk-low state", "disk-low spool"]);
        assert_eq!(
            (found[1].severity, found[1].summary.as_str()),
            (Severity::Critical, "It has 1 MiB left.")
        );
        assert_eq!((found[0].affected.len(), found[1].affected.len()), (0, 1));
    }
}
