//! States of a daemon, with everything that can be shown.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use marbre::internal::{
    By, ConditionKind, ConfigLoad, DatabaseStatus, DrillProof, DrillSummary, JobFigures, JobKind, Level,
    Levels, Look, OpenIncident, Published, PublishedDatabase, Severity, SlotState, SnapshotFigures,
    SnapshotId, Standing, TargetStatus,
};

const RPO: u64 = 26 * 3600;

fn hours(now: Timestamp, hours: i64) -> Timestamp {
    now - SignedDuration::from_hours(hours)
}

fn snapshot() -> SnapshotId {
    "20261122T020000Z-1f3a9c4e".parse().unwrap()
}

/// A daemon that looked just before `now`; all is well with its one database.
pub fn good(now: Timestamp) -> Published {
    let database = PublishedDatabase {
        database: "gazette/abonnes".parse().unwrap(),
        look: Some(Look { at: now - SignedDuration::from_secs(30), status: status(now, 10) }),
        jobs: vec![
            job(now, JobKind::Snapshot, SlotState::Done),
            job(now, JobKind::Drill, SlotState::Running),
        ],
    };
    Published {
        started_at: hours(now, 100),
        config: ConfigLoad { loaded_at: hours(now, 50), refused_at: None },
        look_within: Duration::from_secs(15 * 60),
        databases: vec![database],
        incidents: Vec::new(),
    }
}

/// The snapshot became too old after the look, a target is down, another database was never looked at.
pub fn bad(now: Timestamp) -> Published {
    let mut published = good(now);
    let database = &mut published.databases[0];
    let mut seen = status(now, 27);
    seen.targets[1].error = Some("connection refused".to_owned());
    seen.targets[1].behind = None;
    seen.last_drill.as_mut().unwrap().passed = false;
    database.look = Some(Look { at: now, status: seen });
    database.jobs[0] = job(now, JobKind::Snapshot, SlotState::Failed);
    published.databases.push(PublishedDatabase {
        database: "gazette/boutique".parse().unwrap(),
        look: None,
        jobs: Vec::new(),
    });
    published.config.refused_at = Some(now);
    published.incidents = vec![
        incident(now, ConditionKind::SnapshotLate, Severity::Critical, Some("gazette/abonnes"), None),
        incident(
            now,
            ConditionKind::TargetFailing,
            Severity::Warning,
            Some("gazette/abonnes"),
            Some("n\"a\\s"),
        ),
        incident(now, ConditionKind::DiskLow, Severity::Warning, None, None),
    ];
    published
}

fn status(now: Timestamp, age: i64) -> DatabaseStatus {
    DatabaseStatus {
        decisions: Vec::new(),
        publisher: "gazette".parse().unwrap(),
        database: "abonnes".parse().unwrap(),
        snapshot: Some(snapshot()),
        consistent_at: Some(hours(now, age)),
        // As of a look that is long over: what is shown must follow from the clock.
        dated_at: Some(hours(now, age)),
        age_seconds: Some(1),
        ahead_seconds: None,
        rpo_seconds: Some(RPO),
        rpo_from: None,
        late: false,
        first_due_at: None,
        next_run: None,
        packed_so_far: None,
        figures: Some(SnapshotFigures {
            seconds: 42.5,
            rows: 150_000,
            bytes_read: 3_000_000_000,
            new_bytes: 30_000_000,
            stored_bytes: 9_000_000,
        }),
        targets: vec![target(now, "nas"), target(now, "s3")],
        last_drill: Some(DrillSummary {
            drill: "20261122T031500Z-9e848d8c".parse().unwrap(),
            by: By::Agent,
            at: hours(now, 9),
            snapshot: Some(snapshot()),
            target: Some("nas".parse().unwrap()),
            passed: true,
            sabotage: None,
            failed_stage: None,
            isolation: None,
            rto_seconds: Some(1800.25),
            rto_promised_seconds: Some(4 * 3600),
        }),
        drill_every_seconds: Some(7 * 86_400),
        successions: Vec::new(),
        score: None,
        conditions: Vec::new(),
        awaited: Vec::new(),
        state: Standing::Well,
    }
}

fn target(now: Timestamp, name: &str) -> TargetStatus {
    let proof = |level| DrillProof {
        older_versions: 0,
        place: None,
        snapshot: snapshot(),
        target: name.parse().unwrap(),
        level,
        at: hours(now, 9),
        drill: "20261122T031500Z-9e848d8c".parse().unwrap(),
    };
    TargetStatus {
        name: name.parse().unwrap(),
        snapshot: Some(snapshot()),
        levels: Levels {
            stored: Some(hours(now, 10)),
            intact: Some(hours(now, 9)),
            restored: Some(hours(now, 9)),
            owner_restored: None,
            damaged: (name == "s3").then(|| hours(now, 1)),
        },
        restored: Some(proof(Level::Restored)),
        owner_restored: Some(proof(Level::OwnerRestored)),
        behind_seconds: None,
        behind: Some(0),
        same_place_as: None,
        unneeded_bytes: (name == "nas").then_some(4096),
        error: None,
    }
}

fn job(now: Timestamp, job: JobKind, last_state: SlotState) -> JobFigures {
    JobFigures {
        job,
        next_run: Some(hours(now, -14)),
        last_state: Some(last_state),
        last_attempt: Some(hours(now, 2)),
        last_success: Some(hours(now, 10)),
    }
}

fn incident(
    now: Timestamp,
    kind: ConditionKind,
    severity: Severity,
    database: Option<&str>,
    object: Option<&str>,
) -> OpenIncident {
    let words = [Some(kind.word()), database, object];
    OpenIncident {
        key: words.into_iter().flatten().collect::<Vec<_>>().join(" "),
        kind,
        severity,
        database: database.map(|d| d.parse().unwrap()),
        affected: Vec::new(),
        since: hours(now, 1),
        gone: false,
        summary: "Something is wrong.".to_owned(),
    }
}
