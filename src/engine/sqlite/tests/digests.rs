use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::types::ValueRef;

use super::super::SqliteLoader;
use super::super::connection::{begin_together, open_shared};
use super::super::digest::encode;
use super::super::proving::Proving;
use super::super::tables;
use super::*;
use crate::engine::Loader;

/// The documented form of a value, written down once more and in another way.
fn form(value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Null => b"n".to_vec(),
        ValueRef::Integer(number) => format!("i{number}").into_bytes(),
        ValueRef::Real(number) => format!("r{:016x}", number.to_bits()).into_bytes(),
        ValueRef::Text(text) => [format!("t{}:", text.len()).as_bytes(), text].concat(),
        ValueRef::Blob(blob) => [format!("b{}:", blob.len()).as_bytes(), blob].concat(),
    }
}

#[test]
fn values_have_their_documented_form() {
    let mut numbers = vec![0, i64::MIN, i64::MAX];
    numbers.extend((0..63).flat_map(|bit| [1_i64 << bit, (1 << bit) - 1, -(1 << bit)]));
    numbers.extend((0..19).flat_map(|power| [10_i64.pow(power), 10_i64.pow(power) - 1]));
    for number in numbers {
        let (mut integer, mut real) = (Vec::new(), Vec::new());
        encode(ValueRef::Integer(number), &mut integer);
        assert_eq!(integer, form(ValueRef::Integer(number)));
        let value = f64::from_bits(number.cast_unsigned());
        encode(ValueRef::Real(value), &mut real);
        assert_eq!(real, form(ValueRef::Real(value)));
    }
    for length in [0, 1, 9, 10, 99, 100, 70_000] {
        let bytes = vec![b'x'; length];
        for value in [ValueRef::Text(&bytes), ValueRef::Blob(&bytes), ValueRef::Null] {
            let mut out = Vec::new();
            encode(value, &mut out);
            assert_eq!(out, form(value));
        }
    }
}

/// Rows and digest of a table as anybody would compute them from the documentation.
fn by_hand(db: &Connection, table: &str, columns: &[String]) -> (u64, u128) {
    let columns: Vec<String> = columns.iter().map(|c| tables::quoted(c)).collect();
    let sql = format!("SELECT {} FROM {}", columns.join(","), tables::quoted(table));
    let mut statement = db.prepare(&sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    let (mut count, mut sum) = (0, 0_u128);
    while let Some(row) = rows.next().unwrap() {
        let values: Vec<Vec<u8>> = (0..columns.len()).map(|i| form(row.get_ref(i).unwrap())).collect();
        let hash = blake3::keyed_hash(&KEY, &values.join(&b","[..]));
        sum = sum.wrapping_add(u128::from_le_bytes(hash.as_bytes()[..16].try_into().unwrap()));
        count += 1;
    }
    (count, sum)
}

#[tokio::test]
async fn digests_are_those_of_the_documentation() {
    let wide: Vec<String> = (0..1500).map(|n| format!("c{n}")).collect();
    let wide =
        format!("CREATE TABLE wide ({}); INSERT INTO wide (c0, c1499) VALUES (1, 'x');", wide.join(", "));
    // Rowids from end to end, crowded in one place; columns that take the names of the rowid, one of them generated
    // and NULL in some rows.
    let rowids = "
        CREATE TABLE ends (id INTEGER PRIMARY KEY, v);
        INSERT INTO ends VALUES (-9223372036854775808, 'least'), (9223372036854775807, 'most'), (0, NULL);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO ends SELECT i, hex(i) FROM n;
        CREATE TABLE many (v REAL, t TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) INSERT INTO many SELECT i / 7.0, i FROM n;
        DELETE FROM many WHERE rowid % 3 = 0;
        CREATE TABLE shadowed (a, rowid AS (CASE WHEN a > 5 THEN a END), _ROWID_);
        INSERT INTO shadowed (a, _ROWID_) SELECT v, 'x' FROM many LIMIT 70000;
        CREATE TABLE taken (rowid, oid, _rowid_); INSERT INTO taken VALUES (1, 2, 3), (NULL, NULL, NULL);
        ALTER TABLE taken ADD COLUMN late DEFAULT 'later';";
    // Values, and rows of several, that are read in pieces: or not, where SQLite has no way to do so.
    let long = "
        CREATE TABLE long (a, t TEXT, b);
        INSERT INTO long VALUES (1, 'é' || hex(zeroblob(4300000)), randomblob(9000000)), ('x', 'y', x'00'), (NULL, hex(zeroblob(4300000)), NULL),
            (randomblob(3000000), hex(zeroblob(1500000)), randomblob(3000000)), (randomblob(8388608), '', NULL), (randomblob(8388609), '', NULL);
        CREATE TABLE long_beside_generated (a, g AS (length(a)), b); INSERT INTO long_beside_generated (a, b) VALUES (1, randomblob(9000000));
        CREATE TABLE long_without_rowid (k PRIMARY KEY, b) WITHOUT ROWID; INSERT INTO long_without_rowid VALUES (1, randomblob(9000000));";
    for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
        let long = if encoding == "UTF-16be" { "" } else { long };
        let (_folder, path) = database(&format!(
            "PRAGMA encoding = '{encoding}'; {ALL_KINDS} {wide} {rowids} {long}
            INSERT INTO kinds (a) VALUES ('😀' || char(55357) || char(0) || 'é'), (x'd83d');"
        ));
        let snapshot = snapshot(&path).await.unwrap();
        let db = Connection::open(&path).unwrap();
        for (name, proof) in snapshot.tables() {
            let expected = by_hand(&db, name, &proof.columns);
            assert_eq!((proof.rows, proof.digest.0), expected, "{encoding} {name}");
        }
        drop(db);
        assert_eq!(snapshot.tables()["many"].rows, 133_334);
        assert_eq!(snapshot.tables()["shadowed"].rows, 70_000);
        assert_eq!(snapshot.tables()["ends"].rows, 3003);
        let comparison =
            SqliteLoader::new(&path).compare(&snapshot.contents(), &CancellationToken::new()).await;
        assert!(comparison.unwrap().equal());
    }
}

#[tokio::test]
async fn parts_that_nobody_read_are_no_proof() {
    let (_folder, path) = database(ALL_KINDS);
    let db = open_shared(&path).unwrap();
    let tables = tables::list(&db).unwrap();
    let proving = Arc::new(Proving::plan(&db, path, tables, KEY));
    proving.run(&[], &CancellationToken::new()).await.unwrap();
    assert!(proving.finish().is_err());
}

/// Where transactions begin together they see the same, whatever a writer does meanwhile.
#[test]
fn transactions_that_begin_together_see_the_same() {
    for mode in ["WAL", "DELETE"] {
        let (_folder, path) = database(&format!(
            "PRAGMA journal_mode = {mode}; CREATE TABLE counter (n INT); INSERT INTO counter VALUES (0);"
        ));
        let cancel = CancellationToken::new();
        let begun = |patience| {
            let connections = (0..3).map(|_| open_shared(&path).unwrap()).collect();
            let connections = begin_together(connections, &path, patience, &cancel).unwrap();
            let look = |db: &Connection| db.query_row("SELECT n FROM counter", [], |r| r.get::<_, i64>(0));
            let seen: Vec<i64> = connections.iter().map(|db| look(db).unwrap()).collect();
            assert!(connections.iter().all(|db| !db.is_autocommit()));
            assert!(seen.iter().all(|n| *n == seen[0]), "{mode}: {seen:?}");
            seen
        };
        assert_eq!(begun(Duration::ZERO), [0, 0, 0]);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (path, stop) = (path.clone(), Arc::clone(&stop));
            move || {
                let db = Connection::open(path).unwrap();
                db.busy_timeout(Duration::from_secs(20)).unwrap();
                db.pragma_update(None, "synchronous", "OFF").unwrap();
                while !stop.load(Ordering::Relaxed) {
                    db.execute("UPDATE counter SET n = n + 1", []).unwrap();
                }
            }
        });
        let seen: Vec<Vec<i64>> = (0..200).map(|_| begun(Duration::from_secs(20))).collect();
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        assert!(seen.last() > seen.first());
    }
}
