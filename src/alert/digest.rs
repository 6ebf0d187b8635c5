//! What a digest says.

use jiff::Timestamp;

use super::line::{LINE, clean, second};
use crate::model::digest::{DatabaseDigest, Digest, Standing};
use crate::model::human;

/// The most databases that are listed.
const DATABASES: usize = 200;

/// The head: how many databases, and how many are not as they should be.
pub(super) fn head(digest: &Digest) -> String {
    let count = |is: fn(&DatabaseDigest) -> bool| digest.databases.iter().filter(|of| is(of)).count();
    let stands = |of: &DatabaseDigest, is: fn(&Standing) -> bool| of.now.as_ref().is_some_and(is);
    let wrong = [
        (digest.databases.iter().filter(|of| stands(of, |now| now.late)).count(), "late"),
        (digest.databases.iter().filter(|of| stands(of, |now| now.unproven)).count(), "not proven"),
        (count(|of| of.now.is_none()), "unknown"),
        (count(|of| !of.open.is_empty()), "with open incidents"),
    ];
    let wrong: Vec<String> =
        wrong.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let all = match digest.databases.len() {
        1 => "1 database".to_owned(),
        n => format!("{n} databases"),
    };
    match wrong.is_empty() {
        true => format!("{all}, everything proven and on time"),
        false => format!("{all}: {}", wrong.join(", ")),
    }
}

/// The text: the head, a line for each database, and what has changed.
pub(super) fn text(digest: &Digest, agent: &str) -> String {
    let mut text = format!("{}.\n\n", head(digest));
    for of in digest.databases.iter().take(DATABASES) {
        text += &format!("{}: {}\n", of.database, clean(&line(of, digest.until), LINE));
        for open in &of.open {
            text += &format!("  open: {}\n", clean(open, LINE));
        }
    }
    if let Some(more @ 1..) = digest.databases.len().checked_sub(DATABASES) {
        text += &format!("and {more} more\n");
    }
    for gone in &digest.gone {
        text += &format!("{gone}: no longer in the configuration\n");
    }
    text += &format!("\nPeriod: {} to {}\nAgent: {agent}\n", second(digest.since), second(digest.until));
    text
}

fn line(of: &DatabaseDigest, now: Timestamp) -> String {
    let Some(standing) = &of.now else { return "it is unknown how it stands".to_owned() };
    let age = |at: Timestamp| human::duration(now.duration_since(at).as_secs_f64().max(0.0));
    let before = of.before.as_ref();
    let mut parts = Vec::new();
    parts.push(match (standing.newest, standing.late) {
        (None, _) => "no snapshot yet".to_owned(),
        (Some(at), false) => format!("newest snapshot {} old", age(at)),
        (Some(at), true) => format!("newest snapshot {} old, LATE", age(at)),
    });
    parts.push(match (standing.proven, standing.unproven) {
        (None, false) => "not proven yet".to_owned(),
        (None, true) => "NOT PROVEN".to_owned(),
        (Some(at), false) => format!("proven state {} old", age(at)),
        (Some(at), true) => format!("proven state {} old, which is TOO OLD", age(at)),
    });
    let took = |milliseconds: u64| human::duration(milliseconds as f64 / 1000.0);
    if let Some(recovery) = standing.recovery {
        let was = before.and_then(|before| before.recovery).map(|was| format!("was {}", took(was)));
        let promised =
            standing.promised.map(|promised| format!("promised {}", human::duration(promised as f64)));
        let more: Vec<String> = was.into_iter().chain(promised).collect();
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        parts.push(format!("recovers in {}{more}", took(recovery)));
    }
    if standing.newest.is_some() {
        let rows = before.map(|before| difference(standing.rows, before.rows, human::count));
        let bytes = before.map(|before| difference(standing.bytes, before.bytes, human::bytes));
        parts.push(format!("{} rows{}", human::count(standing.rows), rows.unwrap_or_default()));
        parts.push(format!("{}{}", human::bytes(standing.bytes), bytes.unwrap_or_default()));
    }
    if of.incidents > 0 {
        parts.push(format!("incidents since: {}", of.incidents));
    }
    if before.is_none() {
        parts.push("new".to_owned());
    }
    parts.join("; ")
}

/// By how much a number has changed: ` (+12)`; nothing where it has not.
fn difference(now: u64, before: u64, words: fn(u64) -> String) -> String {
    match now.cmp(&before) {
        std::cmp::Ordering::Equal => String::new(),
        std::cmp::Ordering::Greater => format!(" (+{})", words(now - before)),
        std::cmp::Ordering::Less => format!(" (-{})", words(before - now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing {
            newest: Some("2026-11-30T02:00:00Z".parse().unwrap()),
            late: false,
            proven: Some("2026-11-29T02:00:00Z".parse().unwrap()),
            unproven: false,
            recovery: Some(182_000),
            promised: Some(3600),
            rows: 1200,
            bytes: 4096,
        }
    }

    fn digest(now: Option<Standing>, before: Option<Standing>) -> Digest {
        let database = "gazette/abonnes".parse().unwrap();
        Digest {
            since: "2026-11-23T08:00:00Z".parse().unwrap(),
            until: "2026-11-30T08:00:00Z".parse().unwrap(),
            databases: vec![DatabaseDigest { database, now, before, incidents: 2, open: Vec::new() }],
            gone: vec!["matin/old".parse().unwrap()],
        }
    }

    #[test]
    fn a_good_week_is_told_with_what_has_changed() {
        let before = Standing { rows: 1000, recovery: Some(170_000), ..standing() };
        let digest = digest(Some(standing()), Some(before));
        assert_eq!(head(&digest), "1 database, everything proven and on time");
        assert_eq!(
            text(&digest, "db1"),
            "1 database, everything proven and on time.\n\n\
             gazette/abonnes: newest snapshot 6 h 0 min old; proven state 1 d 6 h old; recovers in 3 min 2 s (was 2 min \
             50 s, promised 1 h 0 min); 1,200 rows (+200); 4.0 KiB; incidents since: 2\n\
             matin/old: no longer in the configuration\n\n\
             Period: 2026-11-23T08:00:00Z to 2026-11-30T08:00:00Z\nAgent: db1\n"
        );
    }

    #[test]
    fn what_is_not_well_stands_in_the_head() {
        let late = Standing { late: true, unproven: true, proven: None, ..standing() };
        let mut digest = digest(Some(late), None);
        digest.databases[0].open.push("It is late.".to_owned());
        assert_eq!(head(&digest), "1 database: 1 late, 1 not proven, 1 with open incidents");
        let text = text(&digest, "db1");
        assert!(text.contains("LATE; NOT PROVEN") && text.contains("; new\n  open: It is late.\n"), "{text}");
    }
}
