//! What people read: the report of a drill in their language, the page over all databases, and what becomes of old ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::postgres::output_with_input;
use crate::support::sqlite_setup::{Setup, files};

const FAILING: &str = "[database.abonnes.checks.many]\nsql = \"SELECT count(*) FROM subscriber\"\nmin = 1000";

fn french(setup: &Setup, database: &str) {
    setup.configure_directories(database);
    let file = setup.path("provider/marbre.toml");
    let text = fs::read_to_string(&file).unwrap();
    let said = "[publisher.gazette]\nlanguage = \"fr\"\ntime_zone = \"Asia/Tokyo\"\n";
    fs::write(file, text.replace("[publisher.gazette]\n", said)).unwrap();
}

fn reports(setup: &Setup) -> PathBuf {
    setup.path("provider/state/reports/gazette/abonnes")
}

/// The page that `report` prints with these arguments.
fn page(setup: &Setup, args: &[&str]) -> String {
    let written = setup.provider(&[&["report"], args].concat()).success().json();
    written["page"].as_str().unwrap().to_owned()
}

#[test]
fn people_read_a_drill_in_their_language_on_their_clock_and_programs_in_english() {
    let setup = Setup::new(20, 10);
    french(&setup, "");
    setup.snapshot().success();
    let none = setup.provider(&["report", "abonnes"]).fails_with(5);
    assert!(none.stdout.contains("marbre drill gazette/abonnes"), "{none}");

    let drill = setup.provider(&["drill", "abonnes"]).success().json();
    let kept = fs::read_to_string(drill["reports"][0].as_str().unwrap()).unwrap();
    assert!(kept.contains("<html lang=\"fr\">") && kept.contains("RÉUSSI"), "{kept}");
    assert!(kept.contains("21 lignes"), "{kept}");
    let utc = drill["finished_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let there = utc.in_tz("Asia/Tokyo").unwrap().strftime("%d/%m/%Y %H:%M:%S JST").to_string();
    assert!(kept.contains(&there), "no {there} in {kept}");

    // The same again, byte for byte: its hash is in the signed receipt. A sabotage says nothing of the backup.
    setup.provider(&["drill", "abonnes", "--sabotage", "row"]).fails_with(9);
    assert_eq!(page(&setup, &["abonnes"]), kept);
    let config = setup.path("provider/marbre.toml");
    let printed =
        crate::support::marbre::marbre(["--config"]).arg(config).args(["report", "abonnes"]).success();
    assert_eq!(printed.stdout, kept);
    let sum = output_with_input(&mut Command::new("sha256sum"), printed.stdout.as_bytes());
    let receipt =
        fs::read(reports(&setup).join(format!("{}.json", drill["drill"].as_str().unwrap()))).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(String::from_utf8_lossy(&sum.stdout[..64]), receipt["report"]["page"].as_str().unwrap());
    assert!(page(&setup, &["abonnes", "--format", "markdown"]).starts_with("# Test de restauration"));
}

#[test]
fn the_page_over_all_says_what_is_proven_and_what_is_not() {
    let setup = Setup::new(20, 10);
    setup.configure_directories(FAILING);
    let text = page(&setup, &["--format", "markdown"]);
    assert!(text.contains("Anything: there is no snapshot yet."), "{text}");
    setup.snapshot().success();
    setup.provider(&["drill", "abonnes"]).fails_with(9);
    let text = page(&setup, &["--format", "markdown"]);
    assert!(text.starts_with("# Backups of gazette\n\n## ✗ ACT NOW: 1 of 1 at risk\n"), "{text}");
    assert!(text.contains("| Failed checks | `many` |"), "{text}");
    assert!(text.contains("- Target a: no snapshot was ever restored from there and found equal."), "{text}");
    assert!(text.contains("What the last drill was to prove: it failed."), "{text}");

    french(&setup, "");
    setup.provider(&["drill", "abonnes", "--target", "a"]).success();
    fs::rename(setup.path("b"), setup.path("gone")).unwrap();
    let file = setup.path("page.html");
    fs::write(&file, "older").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let written =
        setup.provider(&["report", "--publisher", "gazette", "--output"]).arg(&file).success().json();
    assert_eq!((&written["page"], &written["file"]), (&Value::Null, &file.to_str().unwrap().into()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("<html lang=\"fr\">") && text.contains("INJOIGNABLE"), "{text}");
    assert!(text.contains("restauré depuis la cible a"), "{text}");
    let unknown = setup.provider(&["report", "--publisher", "nobody"]).fails_with(5);
    assert!(unknown.stdout.contains("Known publishers: gazette."), "{unknown}");
}

#[test]
fn old_reports_go_after_a_drill_and_nothing_else() {
    let setup = Setup::new(20, 10);
    setup.configure_directories("drills.keep_reports = \"30d\"");
    setup.snapshot().success();
    let first = setup.provider(&["drill", "abonnes"]).success().json();
    let folder = reports(&setup);
    let old = "20250101T000000Z-0000000a";
    for file in files(&folder) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let name = name.replace(first["drill"].as_str().unwrap(), old);
        fs::copy(&file, folder.join(name)).unwrap();
    }
    fs::write(folder.join("20250101-notes.html"), "mine").unwrap();
    assert!(folder.join(format!("{old}.html")).exists());
    let sealed = |name: &str| setup.path("a/gazette/abonnes/drills").join(name);
    let page = format!("{}.html.age", first["drill"].as_str().unwrap());
    assert!(sealed(&page).exists());

    setup.provider(&["drill", "abonnes"]).success();
    let left: Vec<String> =
        files(&folder).iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert!(!left.iter().any(|name| name.starts_with(old)), "{left:?}");
    assert!(left.contains(&"20250101-notes.html".to_owned()), "{left:?}");
    assert!(left.contains(&format!("{}.html", first["drill"].as_str().unwrap())), "{left:?}");
    assert!(sealed(&page).exists(), "what is at targets stays");
}
