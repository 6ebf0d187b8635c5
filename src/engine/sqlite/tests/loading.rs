use std::os::unix::fs::PermissionsExt;

use super::super::SqliteLoader;
use super::*;
use crate::engine::{Destination, Loader};
use crate::error::ErrorKind;

/// A snapshot of a database with everything in it, and a folder to restore it to.
async fn taken() -> (TempDir, Snapshot, PathBuf) {
    let (folder, path) = database(&format!("PRAGMA journal_mode = WAL; {ALL_KINDS}"));
    let snapshot = snapshot(&path).await.unwrap();
    let to = folder.path().join("restored é?#%.db");
    (folder, snapshot, to)
}

async fn load(loader: &SqliteLoader, contents: &Contents, bytes: &[u8], overwrite: bool) -> Result<Observer> {
    let observer = Observer::default();
    let source = Memory { bytes: bytes.to_vec(), ends: true };
    let cancel = CancellationToken::new();
    let report = loader.load(contents, &source, &options(overwrite), &observer, &cancel).await?;
    assert_eq!(report.bytes, bytes.len() as u64);
    Ok(observer)
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("restored"))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn comes_back_equal() {
    let (folder, snapshot, to) = taken().await;
    let (contents, cancel) = (snapshot.contents(), CancellationToken::new());
    let loader = SqliteLoader::new(&to);
    let inspected = loader.inspect(&contents, &cancel).await.unwrap();
    assert_eq!(inspected, Destination::Absent);
    let observer = load(&loader, &contents, &snapshot.bytes, false).await.unwrap();
    assert_eq!(*observer.stages.lock().unwrap(), [Stage::Pages, Stage::Check]);
    assert_eq!(*observer.bytes.lock().unwrap(), snapshot.bytes.len() as u64);
    let comparison = loader.compare(&contents, &cancel).await.unwrap();
    assert!(comparison.equal(), "{comparison:?}");
    assert_eq!(comparison.tables.len(), contents.streams[0].tables.len());
    // Until here nothing bears the destination's name, and the check left nothing beside it.
    assert_eq!(files(folder.path()), ["restored é?#%.db.marbre-incomplete"]);
    loader.finish().await.unwrap();
    assert_eq!(files(folder.path()), ["restored é?#%.db"]);
    assert_eq!(std::fs::read(&to).unwrap(), snapshot.bytes);
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    let again = SqliteLoader::new(&to).compare(&contents, &cancel).await.unwrap();
    assert!(again.equal(), "{again:?}");
}

#[tokio::test]
async fn every_kind_of_change_is_found() {
    let (_folder, snapshot, to) = taken().await;
    let (contents, cancel) = (snapshot.contents(), CancellationToken::new());
    for change in [
        "UPDATE kinds SET b = 2 WHERE b = 1",
        "UPDATE kinds SET b = CAST(b AS TEXT) WHERE b = 1",
        "DELETE FROM pairs WHERE a = 2",
        "INSERT INTO kinds SELECT a, b, \"c \"\" d\" FROM kinds LIMIT 1",
        "DROP TABLE empty",
        "DROP INDEX pairs_v",
        "DROP TRIGGER t",
        "CREATE TABLE more (a)",
        "INSERT INTO articles VALUES ('Trois', 'x')",
        "DELETE FROM sqlite_sequence; INSERT INTO sqlite_sequence VALUES ('empty', 5)",
        "PRAGMA user_version = 43",
        "DROP VIEW v; CREATE VIEW v AS SELECT 1",
    ] {
        let _ = std::fs::remove_file(&to);
        std::fs::write(&to, &snapshot.bytes).unwrap();
        let db = Connection::open(&to).unwrap();
        db.execute_batch(change).unwrap();
        drop(db);
        let comparison = SqliteLoader::new(&to).compare(&contents, &cancel).await.unwrap();
        assert!(!comparison.equal(), "{change}");
    }
}

#[tokio::test]
async fn what_is_there_is_not_overwritten_unless_told() {
    let (folder, snapshot, to) = taken().await;
    let (contents, cancel) = (snapshot.contents(), CancellationToken::new());
    let loader = SqliteLoader::new(&to);
    Connection::open(&to).unwrap().execute_batch("CREATE TABLE mine (a)").unwrap();
    std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o640)).unwrap();
    let occupied = Destination::Occupied("SQLite database, 1 table, 8.0 KiB".to_owned());
    assert_eq!(loader.inspect(&contents, &cancel).await.unwrap(), occupied);
    load(&loader, &contents, &snapshot.bytes, false).await.unwrap();
    let error = loader.finish().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(loader.inspect(&contents, &cancel).await.unwrap(), occupied);
    drop(loader);
    // Told so, it takes the place of the old one, whose log must not survive it.
    for suffix in ["-wal", "-shm", "-journal"] {
        std::fs::write(folder.path().join(format!("restored é?#%.db{suffix}")), b"old").unwrap();
    }
    let loader = SqliteLoader::new(&to);
    load(&loader, &contents, &snapshot.bytes, true).await.unwrap();
    loader.finish().await.unwrap();
    assert_eq!(files(folder.path()), ["restored é?#%.db"]);
    assert_eq!(std::fs::read(&to).unwrap(), snapshot.bytes);
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o640);
}

#[tokio::test]
async fn an_overwriting_load_that_is_given_up_leaves_what_was_there() {
    let (folder, snapshot, to) = taken().await;
    let contents = snapshot.contents();
    std::fs::write(&to, b"the old one").unwrap();
    let loader = SqliteLoader::new(&to);
    load(&loader, &contents, &snapshot.bytes, true).await.unwrap();
    loader.abandon().await.unwrap();
    assert_eq!(files(folder.path()), ["restored é?#%.db"]);
    // It cannot take its place: the old one keeps its log.
    std::fs::remove_file(&to).unwrap();
    std::fs::create_dir(&to).unwrap();
    std::fs::write(folder.path().join("restored é?#%.db-wal"), b"its log").unwrap();
    load(&loader, &contents, &snapshot.bytes, true).await.unwrap();
    assert!(loader.finish().await.is_err());
    loader.abandon().await.unwrap();
    assert_eq!(files(folder.path()), ["restored é?#%.db", "restored é?#%.db-wal"]);
}

#[tokio::test]
async fn a_log_without_its_database_is_in_the_way() {
    let (folder, snapshot, to) = taken().await;
    let (contents, cancel) = (snapshot.contents(), CancellationToken::new());
    let loader = SqliteLoader::new(&to);
    std::fs::write(&to, b"").unwrap();
    assert_eq!(loader.inspect(&contents, &cancel).await.unwrap(), Destination::Empty);
    load(&loader, &contents, &snapshot.bytes, false).await.unwrap();
    let wal = folder.path().join("restored é?#%.db-wal");
    std::fs::write(&wal, b"frames of another database").unwrap();
    assert_eq!(loader.finish().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(matches!(
        loader.inspect(&contents, &cancel).await.unwrap(),
        Destination::Occupied(what) if what.contains("-wal")
    ));
    std::fs::remove_file(&wal).unwrap();
    // An empty file is no obstacle.
    loader.finish().await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), snapshot.bytes);
}

#[tokio::test]
async fn an_interrupted_restore_stays_marked_and_can_be_run_again() {
    let (folder, snapshot, to) = taken().await;
    let (contents, cancel) = (snapshot.contents(), CancellationToken::new());
    let loader = SqliteLoader::new(&to);
    let half = Memory { bytes: snapshot.bytes[..snapshot.bytes.len() / 2].to_vec(), ends: false };
    let observer = Observer::default();
    let cut = loader.load(&contents, &half, &options(false), &observer, &cancel).await;
    assert_eq!(cut.unwrap_err().kind(), ErrorKind::Interrupted);
    assert!(loader.finish().await.is_err());
    // Meanwhile nobody else may write the same file.
    let other = load(&SqliteLoader::new(&to), &contents, &snapshot.bytes, false).await;
    assert_eq!(other.err().unwrap().kind(), ErrorKind::Conflict);
    drop(loader);
    let loader = SqliteLoader::new(&to);
    let inspected = loader.inspect(&contents, &cancel).await.unwrap();
    assert_eq!(inspected, Destination::Incomplete(None));
    assert_eq!(files(folder.path()), ["restored é?#%.db.marbre-incomplete"]);
    load(&loader, &contents, &snapshot.bytes, false).await.unwrap();
    loader.finish().await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), snapshot.bytes);
}

#[tokio::test]
async fn wrong_bytes_and_wrong_manifests_are_refused() {
    let (_folder, snapshot, to) = taken().await;
    let (mut contents, cancel) = (snapshot.contents(), CancellationToken::new());
    let loader = SqliteLoader::new(&to);
    let short = load(&loader, &contents, &snapshot.bytes[..4096], false).await;
    assert_eq!(short.err().unwrap().kind(), ErrorKind::Verification);
    let mut other = snapshot.bytes.clone();
    other[0] = b'?';
    let other = load(&loader, &contents, &other, false).await;
    assert!(other.is_err() && loader.finish().await.is_err());
    let nowhere = SqliteLoader::new(to.join("no/folder"));
    let error = nowhere.inspect(&contents, &cancel).await.unwrap_err();
    assert!(error.remedy_text().is_some(), "{error}");
    contents.streams[0].length = u64::MAX;
    let error = loader.inspect(&contents, &cancel).await.unwrap_err();
    assert!(error.message().contains("free"), "{error}");
    contents.source.engine = "postgres".to_owned();
    assert_eq!(loader.inspect(&contents, &cancel).await.unwrap_err().kind(), ErrorKind::Preflight);
}
