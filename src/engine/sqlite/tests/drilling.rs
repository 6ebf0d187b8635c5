use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::super::SqliteScratchHost;
use super::*;
use crate::engine::scratch::{Damage, ExaminationResult, Scratch, ScratchHost};
use crate::error::ErrorKind;
use crate::model::isolation::Isolation;

const LONG: Duration = Duration::from_secs(30);

/// A snapshot of a database made by `sql`, loaded into a throwaway place but not finished.
async fn loaded(sql: &str) -> (TempDir, Contents, Box<dyn Scratch>) {
    let (folder, path) = database(sql);
    let snapshot = snapshot(&path).await.unwrap();
    let (contents, cancel) = (snapshot.contents(), CancellationToken::new());
    let place = folder.path().join("place");
    let scratch = SqliteScratchHost::new(Isolation::None).start(&contents, &place, &cancel).await.unwrap();
    let source = Memory { bytes: snapshot.bytes, ends: true };
    let observer = Observer::default();
    scratch.loader().load(&contents, &source, &options(false), &observer, &cancel).await.unwrap();
    (folder, contents, scratch)
}

async fn restored(sql: &str) -> (TempDir, Box<dyn Scratch>) {
    let (folder, contents, scratch) = loaded(sql).await;
    let comparison = scratch.loader().compare(&contents, &CancellationToken::new()).await.unwrap();
    assert!(comparison.equal(), "{comparison:?}");
    scratch.loader().finish().await.unwrap();
    (folder, scratch)
}

#[tokio::test]
async fn a_place_is_private_and_goes_away() {
    let (folder, scratch) = restored(&format!("PRAGMA journal_mode = WAL; {ALL_KINDS}")).await;
    let place = folder.path().join("place");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place), 0o700);
    assert_eq!(mode(&place.join("database.sqlite")), 0o600);
    assert_eq!(scratch.version(), rusqlite::version());
    assert!(scratch.describe().contains(rusqlite::version()));
    let cancel = CancellationToken::new();
    scratch.query("SELECT count(*) FROM kinds", LONG, &cancel).await.unwrap();
    scratch.examine(&[], &cancel).await.unwrap();
    // Looking leaves nothing beside the database.
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
    scratch.remove().await.unwrap();
    assert!(!place.exists());
    SqliteScratchHost::new(Isolation::None).sweep(&place).await.unwrap();
}

#[tokio::test]
async fn what_a_drill_left_is_swept_and_nothing_is_taken_over() {
    let (folder, contents, scratch) = loaded(ALL_KINDS).await;
    let (place, host, cancel) =
        (folder.path().join("place"), SqliteScratchHost::new(Isolation::None), CancellationToken::new());
    assert!(host.start(&contents, &place, &cancel).await.is_err());
    let how = scratch.keep().await.unwrap();
    assert!(how.contains("sqlite3 '") && how.contains("database.sqlite.marbre-incomplete'"), "{how}");
    assert!(place.exists());
    host.sweep(&place).await.unwrap();
    assert!(!place.exists());
    let mut other = contents;
    other.source.engine = "postgres".to_owned();
    assert_eq!(host.start(&other, &place, &cancel).await.err().unwrap().kind(), ErrorKind::Preflight);
    host.sweep(&place).await.unwrap();
    let host = SqliteScratchHost::new(Isolation::Sandbox);
    assert!(host.check(&place, &cancel).await.iter().all(|c| c.state == crate::model::check::CheckState::Ok));
}

#[tokio::test]
async fn questions_are_answered_as_sqlite_prints() {
    let (_folder, scratch) = restored(&format!(
        "{ALL_KINDS} CREATE VIRTUAL TABLE places USING rtree(id, x0, x1); INSERT INTO places VALUES (1, 2, 3);"
    ))
    .await;
    let cancel = CancellationToken::new();
    for (sql, expected) in [
        ("SELECT count(*) FROM kinds -- all of them", Some("5")),
        ("SELECT NULL", None),
        ("SELECT 1.5;", Some("1.5")),
        ("SELECT 1e100", Some("1.0e+100")),
        ("SELECT -9e999", Some("-Inf")),
        ("SELECT 'é'", Some("é")),
        ("SELECT ''", Some("")),
        (
            "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 9) SELECT sum(i) FROM c",
            Some("45"),
        ),
        ("SELECT count(*) FROM articles WHERE articles MATCH 'reserve'", Some("1")),
        ("SELECT count(*) FROM places WHERE x0 < 5", Some("1")),
        ("SELECT count(*) FROM v", Some("3")),
        ("SELECT group_concat(name) FROM pragma_table_info('pairs')", Some("b,a,v")),
        ("PRAGMA user_version", Some("42")),
        ("VALUES (7)", Some("7")),
    ] {
        let answer = scratch.query(sql, LONG, &cancel).await;
        assert_eq!(answer.as_ref().map(|a| a.as_deref()).ok(), Some(expected), "{sql}: {answer:?}");
    }
}

#[tokio::test]
async fn questions_can_only_read_one_value_of_this_file() {
    let (folder, scratch) = restored(ALL_KINDS).await;
    let cancel = CancellationToken::new();
    let other = folder.path().join("source.db").display().to_string();
    let outside = folder.path().join("outside.db").display().to_string();
    for sql in [
        "",
        "SELEC 1",
        "SELECT 1; SELECT 2",
        "SELECT 1, 2",
        "SELECT 1 WHERE 0",
        "SELECT 1 UNION SELECT 2",
        "SELECT x'00'",
        "SELECT CAST(x'ff' AS TEXT)",
        "SELECT secret FROM nowhere",
        "DELETE FROM kinds",
        "DELETE FROM kinds RETURNING a",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t AS SELECT 1",
        "BEGIN",
        "PRAGMA query_only = OFF",
        "PRAGMA user_version = 3",
        "PRAGMA journal_mode = WAL",
        "PRAGMA temp_store_directory = '/tmp'",
        "SELECT load_extension('x')",
        "EXPLAIN SELECT 1",
        "REINDEX",
        &format!("ATTACH '{other}' AS other"),
        &format!("VACUUM INTO '{outside}'"),
    ] {
        let error = scratch.query(sql, LONG, &cancel).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Database, "{sql}: {error}");
        assert!(error.remedy_text().is_some() && error.cause_text().is_some(), "{sql}: {error:?}");
    }
    assert!(!Path::new(&outside).exists());
    assert_eq!(scratch.query("SELECT count(*) FROM kinds", LONG, &cancel).await.unwrap().unwrap(), "5");
}

#[tokio::test]
async fn a_question_may_not_take_forever() {
    const ENDLESS: &str =
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT max(i) FROM c";
    let (_folder, scratch) = restored(ALL_KINDS).await;
    let (cancel, started) = (CancellationToken::new(), Instant::now());
    let error = scratch.query(ENDLESS, Duration::from_millis(300), &cancel).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(error.message().contains("took longer than 0.3 s"), "{error}");
    let (asked, ()) = tokio::join!(scratch.query(ENDLESS, LONG, &cancel), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cancel.cancel();
    });
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(started.elapsed() < LONG / 3);
}

const PARENTS: &str = "
    PRAGMA foreign_keys = OFF;
    CREATE TABLE subscribers (id INTEGER PRIMARY KEY, email TEXT);
    CREATE TABLE payments (id INTEGER PRIMARY KEY, subscriber INT REFERENCES subscribers);
    INSERT INTO subscribers VALUES (1, 'a@example.org'); INSERT INTO payments VALUES (1, 1), (2, NULL);";

/// What the checks found, by name.
async fn examined(scratch: &dyn Scratch) -> BTreeMap<String, (ExaminationResult, String)> {
    let found = scratch.examine(&[], &CancellationToken::new()).await.unwrap();
    found.into_iter().map(|e| (e.name, (e.result, e.found))).collect()
}

#[tokio::test]
async fn sound_databases_pass_the_checks_that_are_wanted() {
    let (_folder, scratch) = restored(PARENTS).await;
    let found = examined(&*scratch).await;
    assert_eq!(found["integrity"], (ExaminationResult::Passed, "3 pages".to_owned()));
    assert_eq!(found["foreign-keys"], (ExaminationResult::Passed, "1 foreign key".to_owned()));
    let cancel = CancellationToken::new();
    let some = scratch.examine(&["foreign-keys".to_owned()], &cancel).await.unwrap();
    assert_eq!(some.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["integrity"]);
    let (_folder, scratch) = restored(ALL_KINDS).await;
    assert_eq!(examined(&*scratch).await["foreign-keys"].1, "0 foreign keys");
}

#[tokio::test]
async fn broken_references_are_those_of_the_source_and_counted_without_their_values() {
    let (folder, scratch) =
        restored(&format!("{PARENTS} INSERT INTO payments VALUES (4711, 815), (4712, 816);")).await;
    let found = examined(&*scratch).await;
    assert_eq!(found["integrity"].0, ExaminationResult::Passed);
    let expected = "1 foreign key; as in the source: 2 rows of payments without their row of subscribers";
    assert_eq!(found["foreign-keys"], (ExaminationResult::Passed, expected.to_owned()));
    // One more, or one less, is not what the source had.
    let copy = Connection::open(folder.path().join("place/database.sqlite")).unwrap();
    copy.execute_batch("PRAGMA foreign_keys = OFF; INSERT INTO payments VALUES (4713, 817)").unwrap();
    let expected = "3 rows of payments without their row of subscribers";
    assert_eq!(examined(&*scratch).await["foreign-keys"], (ExaminationResult::Failed, expected.to_owned()));
    copy.execute_batch("DELETE FROM payments WHERE id > 4711").unwrap();
    assert_eq!(examined(&*scratch).await["foreign-keys"].0, ExaminationResult::Failed);
    // A parent without the key that is referred to cannot be looked through.
    let (_folder, scratch) = restored(
        "CREATE TABLE p (a); CREATE TABLE c (a REFERENCES p (a)); PRAGMA foreign_keys = OFF; INSERT INTO c VALUES (1);",
    )
    .await;
    assert_eq!(examined(&*scratch).await["foreign-keys"].0, ExaminationResult::Unavailable);
}

/// A damaged index is copied as it is: no restore is refused for it, and every drill finds it.
#[tokio::test]
async fn damage_of_the_source_is_found_by_drills() {
    let (folder, path) =
        database("CREATE TABLE t (a); CREATE INDEX i ON t (a); INSERT INTO t VALUES ('needle'), ('other');");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).rposition(|w| w == b"needle").unwrap();
    bytes[at] = b'N';
    std::fs::write(&path, &bytes).unwrap();
    let contents = snapshot(&path).await.unwrap().contents();
    let (place, cancel) = (folder.path().join("place"), CancellationToken::new());
    let scratch = SqliteScratchHost::new(Isolation::None).start(&contents, &place, &cancel).await.unwrap();
    let source = Memory { bytes, ends: true };
    scratch.loader().load(&contents, &source, &options(false), &Observer::default(), &cancel).await.unwrap();
    assert!(scratch.loader().compare(&contents, &cancel).await.unwrap().equal());
    scratch.loader().finish().await.unwrap();
    let (result, found) = examined(&*scratch).await.remove("integrity").unwrap();
    assert_eq!(result, ExaminationResult::Failed);
    assert!(found.contains("index i") && !found.contains("eedle"), "{found}");
    // Damage that keeps SQLite from reading on is found, too.
    let path = place.join("database.sqlite");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100..200].fill(0xee);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(examined(&*scratch).await["integrity"].0, ExaminationResult::Failed);
}

#[tokio::test]
async fn every_sabotage_is_seen_as_a_difference() {
    let stubborn = "
        CREATE TABLE big (a INTEGER PRIMARY KEY CHECK (a < 100), b TEXT UNIQUE CHECK (length(b) = 1)) STRICT;
        INSERT INTO big SELECT rowid, char(64 + rowid) FROM kinds; INSERT INTO big VALUES (9, 'y'), (8, 'z');
        CREATE TRIGGER never BEFORE UPDATE ON big BEGIN SELECT RAISE(ABORT, 'never'); END;
        INSERT INTO empty (t) VALUES ('x');";
    for mode in ["DELETE", "WAL"] {
        for (damage, said) in [
            (Damage::Row, "one row of table big was altered"),
            (Damage::MissingTable, "was dropped"),
            (Damage::Index, "index pairs_v was dropped"),
            (Damage::Sequence, "the sequence of table empty"),
        ] {
            let sql = format!("PRAGMA journal_mode = {mode}; {ALL_KINDS} {stubborn}");
            let (folder, contents, scratch) = loaded(&sql).await;
            let cancel = CancellationToken::new();
            let loader = scratch.loader();
            assert!(loader.compare(&contents, &cancel).await.unwrap().equal());
            let what = scratch.damage(damage, &contents, &cancel).await.unwrap();
            assert!(what.contains(said), "{what}");
            let comparison = loader.compare(&contents, &cancel).await.unwrap();
            assert!(!comparison.equal(), "{mode} {damage:?}");
            let differing = comparison.tables.iter().filter(|t| !t.equal()).count();
            match damage {
                Damage::Row | Damage::Sequence => assert_eq!(differing, 1, "{comparison:?}"),
                Damage::Index => assert!(comparison.inventory.contains(&("index".to_owned(), 1, 0))),
                Damage::MissingTable => assert!(!comparison.differences.is_empty()),
            }
            // The damaged file is still the marked one, and whole.
            let names = std::fs::read_dir(folder.path().join("place")).unwrap();
            assert_eq!(
                names.map(|e| e.unwrap().file_name()).collect::<Vec<_>>(),
                ["database.sqlite.marbre-incomplete"]
            );
            assert_eq!(examined(&*scratch).await["integrity"].0, ExaminationResult::Passed);
            scratch.remove().await.unwrap();
        }
    }
}

#[tokio::test]
async fn every_kind_of_table_can_lose_a_row() {
    for (sql, altered) in [
        ("CREATE TABLE t (a); INSERT INTO t VALUES (1);", true),
        ("CREATE TABLE t (a); INSERT INTO t VALUES (NULL);", false),
        ("CREATE TABLE t (a REAL); INSERT INTO t VALUES (1.0);", true),
        ("CREATE TABLE t (a NUMERIC); INSERT INTO t VALUES (2.5), ('x'), (x'00');", true),
        ("CREATE TABLE t (rowid, oid, _rowid_); INSERT INTO t VALUES (NULL, NULL, NULL);", false),
        ("CREATE TABLE t (rowid, b); INSERT INTO t VALUES ('é', NULL);", true),
        (
            "CREATE TABLE \"t \"\" u\" (\"a \"\" b\" BLOB) STRICT; INSERT INTO \"t \"\" u\" VALUES (x'');",
            true,
        ),
        (
            "CREATE TABLE t (a TEXT, b INT, c, PRIMARY KEY (b, a)) WITHOUT ROWID; INSERT INTO t VALUES ('x', 1, NULL);",
            true,
        ),
        ("CREATE TABLE t (a PRIMARY KEY) WITHOUT ROWID; INSERT INTO t VALUES (9223372036854775807);", true),
        ("CREATE VIRTUAL TABLE t USING fts5(a); INSERT INTO t VALUES ('x');", true),
    ] {
        let (_folder, contents, scratch) = loaded(sql).await;
        let cancel = CancellationToken::new();
        let damaged = scratch.damage(Damage::Row, &contents, &cancel).await;
        // Three names for the rowid are all taken: such a row has no name of its own.
        if sql.contains("oid, _rowid_") {
            assert_eq!(damaged.unwrap_err().kind(), ErrorKind::Preflight);
            continue;
        }
        let what = damaged.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(what.contains("altered"), altered, "{sql}: {what}");
        let comparison = scratch.loader().compare(&contents, &cancel).await.unwrap();
        assert_eq!(comparison.tables.iter().filter(|t| !t.equal()).count(), 1, "{sql}: {comparison:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_cannot_be_damaged() {
    let (_folder, contents, scratch) = loaded("CREATE VIEW v AS SELECT 1").await;
    let cancel = CancellationToken::new();
    for damage in [Damage::Row, Damage::MissingTable, Damage::Index, Damage::Sequence] {
        let error = scratch.damage(damage, &contents, &cancel).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Preflight, "{damage:?}");
        assert!(error.remedy_text().is_some());
    }
    let (_folder, contents, scratch) = loaded("CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT)").await;
    let error = scratch.damage(Damage::Sequence, &contents, &cancel).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Preflight);
}
