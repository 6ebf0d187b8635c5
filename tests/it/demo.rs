//! `marbre demo` tells its whole story to the end, and what it says holds.

use rusqlite::Connection;

use crate::support::marbre::marbre;

#[test]
fn the_demo_tells_its_story_and_restores_what_it_lost() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("demo");
    let said = marbre(["demo", "--dir"]).arg(&root).success().stdout;
    let story = [
        "La Gazette de l'Ouest has 50,000 subscribers.",
        "== The subscriber base, the keys, the configuration",
        "== Evening: the first snapshot, a full one",
        "verdict   complete: every target holds it",
        "(full, begins the epoch)",
        "== A day passes, and the next night's snapshot uploads what changed",
        "verdict   complete: every target holds it",
        "(new data only, in the epoch)",
        "== Morning: a drill restores the snapshot into a throwaway place, and proves that it is equal",
        ": PASSED, restored",
        "tables    7 of 7 equal",
        "== And a drill that changes a row of its own copy",
        ": SABOTAGE NOTICED",
        "tables    6 of 7 equal",
        "It failed, as it had to.",
        "== The disaster: the database is gone, and so is the first target",
        "== The newspaper restores by itself, from the second target, with its key alone",
        "restored, and proven equal: snapshot ",
        "== What happened",
        "Every subscriber is back as of the last snapshot, table by table and row for row",
        "== Check it without marbre (age, zstd, sha256sum, ssh-keygen, sqlite3)",
    ];
    let mut rest = said.as_str();
    for words in story {
        let found =
            rest.find(words).unwrap_or_else(|| panic!("no {words:?}, or not in its place, in\n{said}"));
        rest = &rest[found + words.len()..];
    }
    assert!(!root.join("target-paris").exists());
    let restored = Connection::open(root.join("publisher/abonnes-restored.db")).unwrap();
    let subscribers: i64 =
        restored.query_one("SELECT count(*) FROM subscribers", [], |row| row.get(0)).unwrap();
    assert_eq!(subscribers, 50_125);

    // A folder that is there already is left alone.
    marbre(["demo", "--dir"]).arg(&root).fails_with(4).expect_stderr("exists already");
}
