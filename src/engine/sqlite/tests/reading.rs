use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::params;
use rusqlite::types::ValueRef;

use super::super::digest::encode;
use super::super::{SqliteLoader, SqliteScratchHost};
use super::*;
use crate::engine::Loader;
use crate::engine::scratch::{ExaminationResult, ScratchHost};
use crate::error::ErrorKind;
use crate::model::check::CheckState;
use crate::model::isolation::Isolation;

#[test]
fn every_value_has_one_form() {
    let form = |value: ValueRef<'_>| {
        let mut out = Vec::new();
        encode(value, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(form(ValueRef::Null), "n");
    assert_eq!(form(ValueRef::Integer(i64::MIN)), "i-9223372036854775808");
    assert_eq!(form(ValueRef::Real(1.5)), "r3ff8000000000000");
    assert_eq!(form(ValueRef::Real(-0.0)), "r8000000000000000");
    assert_eq!(form(ValueRef::Text("é,".as_bytes())), "t3:é,");
    assert_eq!(form(ValueRef::Blob(b"n")), "b1:n");
}

#[tokio::test]
async fn rows_are_hashed_as_documented() {
    let (_folder, path) = database("CREATE TABLE t (a, b); INSERT INTO t VALUES (1, 'x'), (NULL, x'00');");
    let snapshot = snapshot(&path).await.unwrap();
    let hash = |row: &[u8]| {
        let hash = blake3::keyed_hash(&KEY, row);
        u128::from_le_bytes(hash.as_bytes()[..16].try_into().unwrap())
    };
    let expected = hash(b"i1,t1:x").wrapping_add(hash(b"n,b1:\0"));
    assert_eq!(snapshot.tables()["t"].digest.0, expected);
    assert_eq!(snapshot.tables()["t"].rows, 2);
    // The schema is a table like the others: its digest pins every definition.
    assert_eq!(snapshot.tables()["sqlite_schema"].rows, 1);
}

#[tokio::test]
async fn all_kinds_of_tables_are_counted() {
    let (folder, path) = database(ALL_KINDS);
    let snapshot = snapshot(&path).await.unwrap();
    let tables = snapshot.tables();
    assert_eq!(tables["kinds"].columns, ["a", "b", "c \" d"]);
    assert_eq!(tables["kinds"].rows, 5);
    assert_eq!(tables["pairs"].key, ["a", "b"]);
    assert_eq!(tables["empty"].rows, 0);
    assert_eq!(tables["articles_content"].rows, 2);
    assert!(tables.contains_key("articles_data") && tables.contains_key("sqlite_sequence"));
    assert!(!tables.contains_key("articles"));
    let source = &snapshot.facts.source;
    assert_eq!(source.details["user_version"], 42);
    assert_eq!(source.details["application_id"], 77);
    assert_eq!(source.settings["encoding"], "UTF-8");
    let count = |kind: &str| source.inventory[kind];
    assert_eq!(
        [count("table"), count("virtual table"), count("view"), count("trigger"), count("index")],
        [8, 1, 1, 1, 1]
    );
    assert_eq!(snapshot.facts.warnings, [""; 0]);
    let db = snapshot.opened(folder.path());
    let found: i64 = db
        .query_row("SELECT count(*) FROM articles WHERE articles MATCH 'reserve'", [], |r| r.get(0))
        .unwrap();
    assert_eq!(found, 1);
}

#[tokio::test]
async fn every_page_size_and_form_of_file() {
    for size in [512, 1024, 4096, 32_768, 65_536] {
        for setting in
            ["auto_vacuum = FULL", "auto_vacuum = INCREMENTAL", "encoding = 'UTF-16le'", "journal_mode = WAL"]
        {
            let (folder, path) = database(&format!(
                "PRAGMA page_size = {size}; PRAGMA {setting}; {ALL_KINDS}
                DELETE FROM pairs WHERE a = 2;"
            ));
            let snapshot = snapshot(&path).await.unwrap();
            assert_eq!(snapshot.page_size, size, "{setting}");
            assert_eq!(snapshot.bytes, std::fs::read(&path).unwrap(), "{size} {setting}");
            snapshot.opened(folder.path());
        }
    }
}

/// Two accounts between which a writer moves money for as long as the snapshot lasts: their sum must be the
/// same in the pages and in the digests, and must be of the moment at which the snapshot began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_goes_on_writing() {
    let (folder, path) = database(
        "PRAGMA journal_mode = WAL; CREATE TABLE a (id INTEGER PRIMARY KEY, n INT); CREATE TABLE b (id INTEGER PRIMARY KEY, n INT);
         CREATE TABLE log (t TEXT);
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 20000) INSERT INTO a SELECT i, 100 FROM c;
         INSERT INTO b SELECT id, 100 FROM a;",
    );
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = std::thread::spawn({
        let (path, stop, written) = (path.clone(), Arc::clone(&stop), Arc::clone(&written));
        move || {
            let mut db = Connection::open(path).unwrap();
            db.pragma_update(None, "synchronous", "OFF").unwrap();
            let mut id = 1_u64;
            while !stop.load(Ordering::Relaxed) {
                id = id.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let row = (id >> 33) as i64 % 20_000 + 1;
                let tx = db.transaction().unwrap();
                tx.execute("UPDATE a SET n = n - 1 WHERE id = ?1", [row]).unwrap();
                tx.execute("INSERT INTO log VALUES (hex(randomblob(200)))", []).unwrap();
                tx.execute("UPDATE b SET n = n + 1 WHERE id = ?1", [20_001 - row]).unwrap();
                tx.commit().unwrap();
                written.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for _ in 0..5 {
        let before = written.load(Ordering::Relaxed);
        let snapshot = snapshot(&path).await.unwrap();
        let during = written.load(Ordering::Relaxed) - before;
        assert!(during > 5, "the writer was held up: {during} transactions");
        let db = snapshot.opened(folder.path());
        let sum: i64 =
            db.query_row("SELECT (SELECT sum(n) FROM a) + (SELECT sum(n) FROM b)", [], |r| r.get(0)).unwrap();
        assert_eq!(sum, 4_000_000);
        let lines: i64 = db.query_row("SELECT count(*) FROM log", [], |r| r.get(0)).unwrap();
        // The digests were taken after the pages, and are of the same state.
        assert_eq!(snapshot.tables()["log"].rows, lines as u64);
        drop(db);
        let opened = folder.path().join("opened.db");
        let (loader, cancel) = (SqliteLoader::new(&opened), CancellationToken::new());
        let comparison = loader.compare(&snapshot.contents(), &cancel).await.unwrap();
        assert!(comparison.equal(), "{comparison:?}");
        // Looking at a database in WAL mode leaves its empty log.
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(folder.path().join(format!("opened.db{suffix}")));
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}

async fn refusal(path: &Path) -> crate::Error {
    let cancel = CancellationToken::new();
    let error =
        SqliteEngine::new(path).open(&opening(&tempfile::tempdir().unwrap()), &cancel).await.err().unwrap();
    assert!(error.remedy_text().is_some(), "{error}");
    let checks = SqliteEngine::new(path).check(&cancel).await;
    assert!(checks.iter().any(|c| c.state == CheckState::Fail), "{checks:?}");
    error
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    assert_eq!(refusal(&path).await.kind(), ErrorKind::NotFound);
    assert!(refusal(folder.path()).await.message().contains("regular file"));
    std::fs::write(&path, b"").unwrap();
    assert!(refusal(&path).await.message().contains("empty file"));
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert!(refusal(&path).await.message().contains("encrypted"));
    assert_eq!(refusal(&path).await.kind(), ErrorKind::Preflight);
}

#[tokio::test]
async fn a_damaged_database_is_an_error() {
    let (_folder, path) = database(&format!("{ALL_KINDS} VACUUM;"));
    let mut bytes = std::fs::read(&path).unwrap();
    for page in 1..8 {
        bytes[page * 4096..page * 4096 + 200].fill(0xee);
    }
    std::fs::write(&path, bytes).unwrap();
    let error = snapshot(&path).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(error.message().contains("is damaged"), "{error}");
}

#[tokio::test]
async fn a_file_cut_short_is_an_error() {
    let (_folder, path) = database(ALL_KINDS);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2 / 4096 * 4096).unwrap();
    assert_eq!(snapshot(&path).await.err().unwrap().kind(), ErrorKind::Database);
}

#[tokio::test]
async fn a_transaction_that_was_cut_off_is_explained() {
    let (_folder, path) = database(ALL_KINDS);
    // Copies of database and journal in the middle of a transaction are what a crash leaves.
    let crashed = path.with_file_name("crashed.db");
    let mut db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA cache_size = 5; PRAGMA synchronous = FULL;").unwrap();
    let tx = db.transaction().unwrap();
    tx.execute("UPDATE kinds SET a = zeroblob(500000)", []).unwrap();
    std::fs::copy(&path, &crashed).unwrap();
    std::fs::copy(path.with_file_name("source.db-journal"), path.with_file_name("crashed.db-journal"))
        .unwrap();
    let error = refusal(&crashed).await;
    assert!(error.message().contains("interrupted transaction"), "{error}");
}

#[tokio::test]
async fn a_lock_is_waited_for_and_given_up_on_cancellation() {
    let (_folder, path) = database(ALL_KINDS);
    let db = Connection::open(&path).unwrap();
    db.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = refusal_of_check(&path).await;
    assert!(error.contains("locked by another process"), "{error}");
    let cancel = CancellationToken::new();
    let engine = SqliteEngine::new(&path);
    let spool = tempfile::tempdir().unwrap();
    let options = opening(&spool);
    let (opened, ()) = tokio::join!(engine.open(&options, &cancel), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
    });
    assert_eq!(opened.err().unwrap().kind(), ErrorKind::Interrupted);
    let (opened, ()) = tokio::join!(snapshot(&path), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        db.execute_batch("COMMIT").unwrap();
    });
    assert!(opened.is_ok());
}

async fn refusal_of_check(path: &Path) -> String {
    let checks = SqliteEngine::new(path).check(&CancellationToken::new()).await;
    let failed = checks.into_iter().find(|c| c.state == CheckState::Fail);
    failed.unwrap().found
}

#[tokio::test]
async fn cancellation_stops_a_reader_that_waits_and_the_digests() {
    let (_folder, path) = database("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(8000000));");
    let cancel = CancellationToken::new();
    let spool = tempfile::tempdir().unwrap();
    let view = SqliteEngine::new(&path).open(&opening(&spool), &cancel).await.unwrap();
    let plan = view.streams()[0].clone();
    let (out, mut receiver) = Room::new(1).queue();
    let started = Instant::now();
    let (read, ()) = tokio::join!(view.read(&plan, &out, &cancel), async {
        receiver.recv().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel.cancel();
    });
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(started.elapsed() < Duration::from_secs(2));
    // What was not read to its end proves nothing.
    assert!(view.close(&CancellationToken::new()).await.is_err());
}

#[tokio::test]
async fn what_only_the_application_knows_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "CREATE TABLE t (a, b, UNIQUE (b)); INSERT INTO t VALUES (1, 'x'); PRAGMA writable_schema = ON;",
    )
    .unwrap();
    // The same as an application does that registers a collation of its own.
    db.execute(
        "UPDATE sqlite_schema SET sql = ?1 WHERE name = 't'",
        params!["CREATE TABLE t (a, b COLLATE français, UNIQUE (b))"],
    )
    .unwrap();
    db.execute_batch("PRAGMA writable_schema = RESET; PRAGMA user_version = 2;").unwrap();
    drop(db);
    let snapshot = snapshot(&path).await.unwrap();
    assert_eq!(snapshot.tables()["t"].rows, 1);
    assert!(snapshot.facts.warnings[0].contains("français"), "{:?}", snapshot.facts.warnings);
    // A restore of it is equal, although it cannot be checked either.
    let (contents, cancel) = (snapshot.contents(), CancellationToken::new());
    assert!(contents.source.details["uncheckable"].as_str().is_some_and(|why| why.contains("français")));
    let comparison = SqliteLoader::new(&path).compare(&contents, &cancel).await.unwrap();
    assert!(comparison.equal(), "{comparison:?}");
    let place = path.with_file_name("place");
    let scratch = SqliteScratchHost::new(Isolation::None).start(&contents, &place, &cancel).await.unwrap();
    std::fs::copy(&path, place.join("database.sqlite")).unwrap();
    let found = scratch.examine(&["foreign-keys".to_owned()], &cancel).await.unwrap();
    assert_eq!(found[0].result, ExaminationResult::Unavailable);
    assert!(found[0].found.contains("français"), "{found:?}");
}

#[tokio::test]
async fn doctor_sees_mode_and_rights() {
    let (_folder, path) = database(ALL_KINDS);
    let engine = SqliteEngine::new(&path);
    let cancel = CancellationToken::new();
    let state = |checks: &[crate::model::check::Check], name: &str| {
        checks.iter().find(|c| c.name == name).unwrap().state
    };
    let checks = engine.check(&cancel).await;
    assert_eq!(state(&checks, "read access"), CheckState::Ok);
    assert_eq!(state(&checks, "SQLite library"), CheckState::Ok);
    assert_eq!(state(&checks, "journal mode"), CheckState::Warn);
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    let checks = engine.check(&cancel).await;
    assert_eq!(state(&checks, "journal mode"), CheckState::Ok);
    assert!(!format!("{checks:?}").contains("imprimer"));
}

/// Root may read everything, so where the tests run as root this part runs again as nobody.
#[test]
fn missing_rights_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let exe = folder.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let (closed, wal) = (folder.path().join("closed.db"), folder.path().join("wal.db"));
    for path in [&closed, &wal] {
        Connection::open(path)
            .unwrap()
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a);")
            .unwrap();
    }
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let test = "engine::sqlite::tests::reading::missing_rights_of_nobody";
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&exe);
        command
    } else {
        std::process::Command::new(&exe)
    };
    let ran = command
        .args([test, "--exact", "--ignored"])
        .env("MARBRE_TEST_FOLDER", folder.path())
        .output()
        .unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
#[ignore = "run by missing_rights_are_explained"]
async fn missing_rights_of_nobody() {
    let folder = PathBuf::from(std::env::var_os("MARBRE_TEST_FOLDER").unwrap());
    let error = refusal(&folder.join("closed.db")).await;
    assert!(error.message().contains("no permission"), "{error}");
    let error = refusal(&folder.join("wal.db")).await;
    assert!(error.message().contains("cannot write its wal.db-shm"), "{error}");
}

/// Without a write-ahead log, writers wait for readers: so there is none any more when the first page waits for a target.
#[tokio::test]
async fn without_wal_nobody_waits_for_the_targets() {
    let (_folder, path) = database(&format!("PRAGMA journal_mode = DELETE; {ALL_KINDS}"));
    let (before, cancel) = (snapshot(&path).await.unwrap(), CancellationToken::new());
    let spool = tempfile::tempdir().unwrap();
    let view = SqliteEngine::new(&path).open(&opening(&spool), &cancel).await.unwrap();
    let writer = Connection::open(&path).unwrap();
    writer.busy_timeout(Duration::ZERO).unwrap();
    writer.execute("DELETE FROM kinds", []).unwrap();
    let after = read(view, &cancel).await.unwrap();
    assert!(after.bytes == before.bytes);
    assert_eq!(after.tables(), before.tables());
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0);
}

/// Where there is no room for a copy, a writer that has waited for too long ends the snapshot.
#[tokio::test]
async fn a_snapshot_gives_way_to_a_writer_that_waits() {
    let (_folder, path) = database(&format!("PRAGMA journal_mode = DELETE; {ALL_KINDS}"));
    let (spool, cancel) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let options = OpenOptions { reserved: u64::MAX, ..opening(&spool) };
    let engine = SqliteEngine::new(&path).giving_way_after(Duration::ZERO);
    let view = engine.open(&options, &cancel).await.unwrap();
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            let db = Connection::open(path).unwrap();
            db.busy_timeout(Duration::from_secs(60)).unwrap();
            db.execute("DELETE FROM kinds", []).unwrap()
        }
    });
    let plan = view.streams()[0].clone();
    // Nobody takes anything: a target that is slow.
    let (out, _taker) = Room::new(1).queue();
    let filler = bytes::Bytes::from(vec![0; 1 << 20]);
    out.send(filler).await.unwrap();
    let error = view.read(&plan, &out, &cancel).await.unwrap_err();
    assert!(error.message().contains("gave way to its writers"), "{error}");
    assert!(error.remedy_text().unwrap().contains("give_way_after"));
    drop(view);
    assert!(writer.join().unwrap() > 0);
}
