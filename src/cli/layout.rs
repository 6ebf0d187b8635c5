//! Text that fits: columns of a terminal, and moments on the clock of who looks.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// How many columns a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().count()
}

/// The text in exactly this many columns: filled up, or cut off with an ellipsis.
pub(super) fn fit(text: &str, width: usize) -> String {
    match columns(text) {
        n if n <= width => format!("{text}{}", " ".repeat(width - n)),
        _ => text.chars().take(width.saturating_sub(1)).chain(['…']).take(width).collect(),
    }
}

/// The text in lines of at most this many columns, all but the first begun with `indent` blanks, broken between words; in a
/// word only where it is longer than a line.
pub(super) fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(word) <= width => *line += &format!(" {word}"),
            last => {
                let begin = if last.is_some() { " ".repeat(indent) } else { String::new() };
                let chars: Vec<char> = begin.chars().chain(word.chars()).collect();
                let (first, rest) = chars.split_at(chars.len().min(width));
                lines.push(first.iter().collect());
                for piece in rest.chunks(width - indent) {
                    lines.push(" ".repeat(indent) + &piece.iter().collect::<String>());
                }
            }
        }
    }
    lines.join("\n")
}

/// The clock of who looks.
pub(super) fn local() -> TimeZone {
    TimeZone::system()
}

/// A moment on that clock, to the second, with its zone: `2026-11-25 04:15:00 CET`.
pub(super) fn moment(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// A moment that comes soon, as short as it can be understood at `now`: `02:30`, `Sat 06:00`, `24 Dec`.
pub(super) fn soon(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let there: Zoned = at.to_zoned(zone.clone());
    let form = match at.duration_since(now).as_hours() {
        0..20 => "%H:%M",
        20..144 => "%a %H:%M",
        _ => "%e %b",
    };
    there.strftime(form).to_string().trim().to_owned()
}

/// The zone by its name and by what its clock is called now: `Europe/Paris (CET)`.
pub(super) fn zone_name(now: Timestamp, zone: &TimeZone) -> String {
    let short = now.to_zoned(zone.clone()).strftime("%Z").to_string();
    match zone.iana_name() {
        Some(name) if name != short && !name.ends_with("/UTC") => format!("{name} ({short})"),
        _ => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits() {
        assert_eq!(fit("abc", 5), "abc  ");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(wrap("  a bb ccc dddd", 8, 4), "  a bb\n    ccc\n    dddd");
        assert_eq!(wrap("a verylongword x", 6, 2), "a\n  very\n  long\n  word\n  x");
    }

    #[test]
    fn moments_are_on_the_clock_of_who_looks() {
        let zone = TimeZone::get("Europe/Paris").unwrap();
        let now: Timestamp = "2026-11-25T22:00:00Z".parse().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(moment(now, &zone), "2026-11-25 23:00:00 CET");
        assert_eq!(zone_name(now, &zone), "Europe/Paris (CET)");
        assert_eq!(zone_name(now, &TimeZone::UTC), "UTC");
        assert_eq!(soon(at("2026-11-26T01:30:00Z"), now, &zone), "02:30");
        assert_eq!(soon(at("2026-11-28T05:00:00Z"), now, &zone), "Sat 06:00");
        assert_eq!(soon(at("2026-12-04T05:00:00Z"), now, &zone), "4 Dec");
    }
}
