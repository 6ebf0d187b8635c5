//! What is kept of a database's snapshots, and for how long.

use std::time::Duration;

use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::{Retention, forms};
use crate::config::complaint::Complaint;
use crate::config::section::Section;
use crate::model::retention::Policy;

const DEFAULT_MAX_DELETE: usize = 50;
const DEFAULT_GRACE: Duration = Duration::from_secs(7 * 86_400);

/// The rules. At least one of them must be there.
const RULES: [&str; 7] =
    ["keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly", "keep_within"];

/// Without rules every snapshot is kept. What no receipt names goes after the grace all the same.
impl Default for Retention {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            time_zone: TimeZone::UTC,
            max_delete: DEFAULT_MAX_DELETE,
            grace: DEFAULT_GRACE,
        }
    }
}

/// Reads `[database.NAME.retention]`. Without it no snapshot is ever deleted.
pub(super) fn read(database: &mut Section<'_>) -> Option<Retention> {
    let mut retention = None;
    database.table("retention", |section| {
        let mut number = |key| section.optional(key, forms::whole_number(1..=1_000_000)).unwrap_or(0);
        let policy = Policy {
            last: number("keep_last"),
            hourly: number("keep_hourly"),
            daily: number("keep_daily"),
            weekly: number("keep_weekly"),
            monthly: number("keep_monthly"),
            yearly: number("keep_yearly"),
            within: section.optional("keep_within", forms::duration),
        };
        if !RULES.iter().any(|key| section.has(key)) {
            section.refuse_self(
                Complaint::new("keeps nothing").accepted(format!("one or more of {}", RULES.join(", "))).remedy(
                    "Say what is kept, for example `keep_daily = 30`. To keep everything, remove the table.",
                ),
            );
        }
        let time_zone = section.optional("time_zone", time_zone);
        let max_delete = section.optional("max_delete", forms::amount(100_000));
        let grace = section.optional("grace", forms::duration);
        retention = Some(Retention {
            policy,
            time_zone: time_zone.unwrap_or(TimeZone::UTC),
            max_delete: max_delete.map_or(DEFAULT_MAX_DELETE, std::num::NonZeroUsize::get),
            grace: grace.unwrap_or(DEFAULT_GRACE),
        });
    });
    retention
}

fn time_zone(value: &DeValue<'_>) -> Result<TimeZone, Complaint> {
    let name = forms::text(value)?;
    TimeZone::get(&name).map_err(|_| {
        Complaint::new(format!("there is no time zone {name:?}"))
            .accepted("a name from the IANA database, such as \"Europe/Paris\" or \"UTC\"")
    })
}
