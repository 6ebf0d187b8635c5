//! What the daemon does, and when: taken from the configuration.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::supervise::Limits;
use crate::config::Config;
use crate::model::id::{DatabaseId, Sha256};
use crate::model::job::JobKind;
use crate::model::schedule::Schedule;
use crate::state::Scheduled;

/// Everything the daemon has to do, and its limits.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Every job that has a schedule.
    pub jobs: Vec<Planned>,
    /// How many snapshots run at the same time, and how many other jobs beside them.
    pub parallel: usize,
    /// How often the targets are looked at, in addition to after every job.
    pub look_every: Duration,
}

/// A job of a database and its times.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// The database.
    pub database: DatabaseId,
    /// The job.
    pub kind: JobKind,
    /// When it is due.
    pub schedule: Schedule,
    /// The time zone of the schedule.
    pub zone: TimeZone,
    /// How long after each slot it starts: always the same for a job, but different between jobs.
    pub delay: Duration,
    /// How long a run may take.
    pub limits: Limits,
}

impl Plan {
    /// The plan of this configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let mut jobs = Vec::new();
        for database in &config.databases {
            for (kind, schedule) in &database.schedules.jobs {
                jobs.push(Planned {
                    database: database.id.clone(),
                    kind: *kind,
                    schedule: schedule.clone(),
                    zone: database.schedules.time_zone.clone(),
                    delay: spread(&database.id, *kind, config.jitter),
                    limits: Limits {
                        deadline: database.deadlines.of(*kind),
                        stages: database.deadlines.stages.clone(),
                        stall: database.deadlines.stall,
                    },
                });
            }
        }
        Self { jobs, parallel: config.parallel_jobs.get(), look_every: config.look_every }
    }
}

impl Planned {
    /// Its key in the state, which includes expression and zone: another schedule has other slots.
    pub(crate) fn scheduled(&self) -> Scheduled {
        Scheduled { database: self.database.clone(), kind: self.kind, rule: self.schedule.rule(&self.zone) }
    }
}

/// A share of `jitter` that is the same after every restart, so that the load of a night does not shift.
fn spread(database: &DatabaseId, kind: JobKind, jitter: Duration) -> Duration {
    let hash = Sha256::of(format!("{database} {kind}").as_bytes());
    let share = f64::from(u16::from_be_bytes([hash.0[0], hash.0[1]])) / (f64::from(u16::MAX) + 1.0);
    Duration::from_secs(jitter.mul_f64(share).as_secs())
}
