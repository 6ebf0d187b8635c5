use super::*;

fn locale(language: Language, zone: &str) -> Locale {
    Locale { language, time_zone: TimeZone::get(zone).unwrap() }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn numbers_and_moments_are_as_readers_write_them() {
    let (english, french) = (locale(Language::English, "UTC"), locale(Language::French, "Europe/Paris"));
    let (en, fr) = (Words::of(&english), Words::of(&french));
    assert_eq!(
        (en.count(1_234_567).as_str(), fr.count(1_234_567).as_str()),
        ("1,234,567", "1\u{202f}234\u{202f}567")
    );
    assert_eq!((en.bytes(1536).as_str(), fr.bytes(1536).as_str()), ("1.5 KiB", "1,5\u{a0}Kio"));
    assert_eq!(fr.bytes(12), "12\u{a0}o");
    assert_eq!((en.duration(0.44).as_str(), fr.duration(0.44).as_str()), ("0.4 s", "0,4\u{a0}s"));
    assert_eq!(fr.duration(90_000.0), "1\u{a0}j 1\u{a0}h");
    let winter = at("2026-12-01T23:30:05Z");
    assert_eq!(
        (en.time(winter), en.moment(winter)),
        (en.moment(winter), "2026-12-01 23:30:05 UTC".to_owned())
    );
    assert_eq!(fr.time(winter), "02/12/2026 00:30:05 CET");
    assert_eq!(fr.moment(winter), "2\u{a0}décembre 2026 à 00:30:05 CET");
    assert_eq!(fr.moment(at("2026-07-31T22:00:00Z")), "1er\u{a0}août 2026 à 00:00:00 CEST");
    assert_eq!((en.zone(winter), fr.zone(winter)), ("UTC".to_owned(), "Europe/Paris".to_owned()));
}

#[test]
fn french_counts_from_two() {
    let french = locale(Language::French, "UTC");
    let words = Words::of(&french);
    assert_eq!([0, 1, 2].map(|n| words.rows(n)), ["0 ligne", "1 ligne", "2 lignes"]);
    let english = locale(Language::English, "UTC");
    assert_eq!([0, 1, 2].map(|n| Words::of(&english).rows(n)), ["0 rows", "1 row", "2 rows"]);
}

#[test]
fn french_has_narrow_spaces_beside_its_punctuation_and_curved_apostrophes() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/words");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // In a table of phrases, whatever follows the English text, to the end of the phrase.
        let tables = text.split("! {\n").skip(1).filter_map(|rest| Some(rest.split_once("\n}\n")?.0));
        let french = tables
            .flat_map(|table| table.split(";\n"))
            .filter_map(|phrase| Some(phrase.split_once("\",")?.1));
        for phrase in french.filter(|phrase| phrase.trim_start().starts_with('"')) {
            for wrong in [" :", " ;", " !", " ?", " »", "« ", "'", "..."] {
                assert!(!phrase.contains(wrong), "{wrong:?} in {}: {phrase}", path.display());
            }
        }
    }
}
