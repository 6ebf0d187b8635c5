//! How a publisher's people read reports.

use jiff::tz::TimeZone;

use super::*;
use crate::model::locale::Language;

fn locale(text: &str) -> Locale {
    let config = parse(text).unwrap();
    let mut publishers = config.publishers.into_values();
    publishers.next().unwrap().locale
}

#[test]
fn a_publisher_has_a_language_and_a_clock() {
    let tokyo = "time_zone = \"Asia/Tokyo\"\n";
    let zone = |name| TimeZone::get(name).unwrap();
    let silent = locale(&format!("{tokyo}{}", small()));
    assert_eq!(silent, Locale { language: Language::English, time_zone: zone("Asia/Tokyo") });
    let said = "[publisher.p]\nlanguage = \"fr\"\ntime_zone = \"Europe/Paris\"\n";
    let own = locale(&format!("{tokyo}{}", small().replace("[publisher.p]\n", said)));
    assert_eq!(own, Locale { language: Language::French, time_zone: zone("Europe/Paris") });
}
