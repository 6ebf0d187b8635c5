//! When the daemon does what, and how long it may take.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::forms;
use crate::config::complaint::Complaint;
use crate::config::section::Section;
use crate::model::job::JobKind;
use crate::model::schedule::{ACCEPTED, Schedule};
use crate::model::stage::Stage;

const DEFAULT_DEADLINE: Duration = Duration::from_secs(6 * 3600);
/// A stage that only opens something or writes something down takes seconds.
const DEFAULT_BRIEF: Duration = Duration::from_secs(3600);
/// An index of a large table moves no byte for long.
const DEFAULT_STALL: Duration = Duration::from_secs(3600);
/// When targets are caught up unless the configuration says otherwise.
const DEFAULT_SYNC: &str = "30 * * * *";
const TIME_ZONE: &str = "the name of a time zone, such as \"Europe/Paris\" or \"UTC\"";

/// When the daemon does what for a database. What has no schedule, it does not do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedules {
    /// The zone whose clocks count.
    pub time_zone: TimeZone,
    /// Each job that has a schedule, in the order of [`JobKind::ALL`].
    pub jobs: Vec<(JobKind, Schedule)>,
}

impl Schedules {
    /// The schedule of one job.
    pub(crate) fn of(&self, kind: JobKind) -> Option<&Schedule> {
        self.jobs.iter().find(|(job, _)| *job == kind).map(|(_, schedule)| schedule)
    }
}

/// How long a job of the daemon may take before it is stopped, and counts as failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// A snapshot.
    pub snapshot: Duration,
    /// A drill, also with sabotage.
    pub drill: Duration,
    /// A verification.
    pub verify: Duration,
    /// A prune.
    pub prune: Duration,
    /// A sync.
    pub sync: Duration,
    /// Single stages, of whatever job has them. One that is not here may take as long as its job.
    pub stages: BTreeMap<Stage, Duration>,
    /// How long any of them may stand still: no stage ends, no byte moves, no target answers.
    pub stall: Duration,
}

impl Deadlines {
    /// That of one job.
    pub(crate) fn of(&self, kind: JobKind) -> Duration {
        match kind {
            JobKind::Snapshot => self.snapshot,
            JobKind::Drill | JobKind::Sabotage => self.drill,
            JobKind::Verify => self.verify,
            JobKind::Prune => self.prune,
            JobKind::Sync => self.sync,
        }
    }
}

/// The zone of everything that names none of its own.
pub(super) fn zone(section: &mut Section<'_>) -> Option<TimeZone> {
    section.optional("time_zone", time_zone)
}

/// The clock of this host where it is set up, else UTC.
pub(crate) fn system_zone() -> TimeZone {
    TimeZone::try_system().ok().filter(|zone| !zone.is_unknown()).unwrap_or(TimeZone::UTC)
}

/// What a database can do at all.
pub(super) struct Abilities {
    /// The agent keeps a key for drills.
    pub drill: bool,
    /// There is more than one target.
    pub sync: bool,
}

/// Reads `[database.NAME.schedule]`, which may be absent.
pub(super) fn read(database: &mut Section<'_>, zone: &TimeZone, can: &Abilities) -> Schedules {
    let mut schedules = Schedules { time_zone: zone.clone(), jobs: Vec::new() };
    database.table("schedule", |section| {
        for &kind in JobKind::ALL {
            if let Some(schedule) = section.optional(kind.word(), schedule) {
                schedules.jobs.push((kind, schedule));
            }
        }
        if let Some(own) = self::zone(section) {
            schedules.time_zone = own;
        }
        let no_key = "cannot be done here: with `drills.key = \"none\"` the agent keeps no key";
        let one_target = "cannot be done here: there is only one target";
        let impossible = [
            (JobKind::Drill, can.drill, no_key, "Remove the key, or set `drills.key = \"epoch\"`."),
            (JobKind::Sabotage, can.drill, no_key, "Remove the key, or set `drills.key = \"epoch\"`."),
            (JobKind::Sync, can.sync, one_target, "Remove the key, or add a target."),
        ];
        for (kind, possible, why, remedy) in impossible {
            if !possible && schedules.of(kind).is_some() {
                section.refuse(kind.word(), Complaint::new(why).remedy(remedy));
            }
        }
    });
    // A target that was down is caught up without anybody asking for it.
    if can.sync && schedules.of(JobKind::Snapshot).is_some() && schedules.of(JobKind::Sync).is_none() {
        schedules.jobs.extend(DEFAULT_SYNC.parse().ok().map(|schedule| (JobKind::Sync, schedule)));
    }
    schedules
}

/// Reads `[database.NAME.deadlines]`, which may be absent. `lock_timeout` is how long a snapshot of this database waits
/// for each lock.
pub(super) fn deadlines(database: &mut Section<'_>, lock_timeout: Option<Duration>) -> Deadlines {
    let mut deadlines = Deadlines {
        snapshot: DEFAULT_DEADLINE,
        drill: DEFAULT_DEADLINE,
        verify: DEFAULT_DEADLINE,
        prune: DEFAULT_DEADLINE,
        sync: DEFAULT_DEADLINE,
        stages: Stage::ALL.iter().copied().filter(|s| s.is_brief()).map(|s| (s, DEFAULT_BRIEF)).collect(),
        stall: DEFAULT_STALL,
    };
    // Who asks for long waits must not be told that opening took too long.
    if lock_timeout.is_some_and(|timeout| timeout > DEFAULT_BRIEF / 6) {
        deadlines.stages.remove(&Stage::Open);
    }
    database.table("deadlines", |section| {
        let fields = [
            ("snapshot", &mut deadlines.snapshot),
            ("drill", &mut deadlines.drill),
            ("verify", &mut deadlines.verify),
            ("prune", &mut deadlines.prune),
            ("sync", &mut deadlines.sync),
            ("stall", &mut deadlines.stall),
        ];
        for (key, field) in fields {
            *field = section.optional(key, forms::duration).unwrap_or(*field);
        }
        section.reject("sabotage", || {
            Complaint::new("is not a key of its own")
                .remedy("Remove the key: `drill` holds for sabotage drills too.")
        });
        section.table("stages", |section| {
            for &stage in Stage::ALL {
                if let Some(limit) = section.optional(stage.word(), forms::duration) {
                    deadlines.stages.insert(stage, limit);
                }
            }
        });
    });
    deadlines
}

fn schedule(value: &DeValue<'_>) -> Result<Schedule, Complaint> {
    let text = forms::text(value).map_err(|complaint| complaint.accepted(ACCEPTED))?;
    text.parse().map_err(|e| Complaint::new(format!("is not a schedule: {e}")).accepted(ACCEPTED))
}

fn time_zone(value: &DeValue<'_>) -> Result<TimeZone, Complaint> {
    let name = forms::text(value)?;
    TimeZone::get(&name).map_err(|_| {
        Complaint::new(format!("there is no time zone {name:?}"))
            .accepted(TIME_ZONE)
            .remedy("Look at `timedatectl list-timezones`.")
    })
}
