//! What is kept.

use super::*;
use crate::model::retention::Policy;

fn retention(lines: &str) -> Option<Retention> {
    let text = format!("{}{lines}", small());
    parse(&text).unwrap().databases.remove(0).retention
}

#[test]
fn without_a_table_everything_is_kept() {
    assert_eq!(retention(""), None);
}

#[test]
fn one_rule_is_enough() {
    let expected = Retention {
        policy: Policy { daily: 30, ..Policy::default() },
        time_zone: jiff::tz::TimeZone::UTC,
        max_delete: 50,
        grace: Duration::from_secs(7 * 86_400),
    };
    assert_eq!(retention("[database.d.retention]\nkeep_daily = 30\n"), Some(expected));
}

#[test]
fn everything_about_retention() {
    let found = retention(
        "[database.d.retention]\nkeep_last = 1\nkeep_hourly = 2\nkeep_daily = 3\nkeep_weekly = 4\nkeep_monthly = 5\n\
         keep_yearly = 6\nkeep_within = \"14d\"\ntime_zone = \"Europe/Paris\"\nmax_delete = 7\ngrace = \"2d\"\n",
    );
    let within = Some(Duration::from_secs(14 * 86_400));
    let expected = Retention {
        policy: Policy { last: 1, hourly: 2, daily: 3, weekly: 4, monthly: 5, yearly: 6, within },
        time_zone: jiff::tz::TimeZone::get("Europe/Paris").unwrap(),
        max_delete: 7,
        grace: Duration::from_secs(2 * 86_400),
    };
    assert_eq!(found, Some(expected));
}
