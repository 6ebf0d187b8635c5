//! Real databases, read and loaded as the jobs do it.

mod digests;
mod drilling;
mod loading;
mod reading;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{STREAM, SqliteEngine};
use crate::engine::queue::Room;
use crate::engine::{
    Engine, LoadOptions, OpenOptions, StreamItem, StreamReceiver, StreamSource, View, ViewFacts,
};
use crate::error::Result;
use crate::model::observer::LoadObserver;
use crate::model::stage::Stage;
use crate::model::stream::StreamKind;
use crate::model::stream::{Contents, StreamFacts};
use crate::model::table::TableProof;

const KEY: [u8; 32] = [7; 32];

/// A folder with a database in it, made by `sql`.
fn database(sql: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(sql).unwrap();
    drop(db);
    (folder, path)
}

/// A snapshot's bytes and what the view said.
struct Snapshot {
    bytes: Vec<u8>,
    page_size: u32,
    facts: ViewFacts,
}

fn opening(spool: &tempfile::TempDir) -> OpenOptions {
    OpenOptions { row_key: KEY, spool: spool.path().to_owned(), reserved: 0 }
}

async fn snapshot(path: &Path) -> Result<Snapshot> {
    let cancel = CancellationToken::new();
    let spool = tempfile::tempdir().unwrap();
    let view = SqliteEngine::new(path).open(&opening(&spool), &cancel).await?;
    read(view, &cancel).await
}

async fn read(view: Box<dyn View>, cancel: &CancellationToken) -> Result<Snapshot> {
    let plan = view.streams()[0].clone();
    let StreamKind::Pages { page_size } = plan.kind else { panic!("{plan:?}") };
    let (out, mut receiver) = Room::new(1).queue();
    let collect = tokio::spawn(async move {
        let mut bytes = Vec::new();
        while let Some(batch) = receiver.recv().await {
            assert!(batch.bytes.len() <= 1 << 20);
            assert_eq!(batch.bytes.len() % page_size as usize, 0);
            bytes.extend_from_slice(&batch.bytes);
        }
        bytes
    });
    view.read(&plan, &out, cancel).await?;
    drop(out);
    let facts = view.close(cancel).await?;
    Ok(Snapshot { bytes: collect.await.unwrap(), page_size, facts })
}

impl Snapshot {
    /// The proofs by table name.
    fn tables(&self) -> BTreeMap<&str, &TableProof> {
        let tables = &self.facts.tables[0].1;
        tables.iter().map(|t| (t.table.table.as_str(), t)).collect()
    }

    fn contents(&self) -> Contents {
        let stamp = "20261122T020000Z-00000000";
        Contents {
            snapshot: stamp.parse().unwrap(),
            source: self.facts.source.clone(),
            row_key: KEY,
            streams: vec![StreamFacts {
                name: STREAM.to_owned(),
                kind: StreamKind::Pages { page_size: self.page_size },
                length: self.bytes.len() as u64,
                tables: self.facts.tables[0].1.clone(),
            }],
        }
    }

    /// The bytes as a file, opened by SQLite as any application would.
    fn opened(&self, folder: &Path) -> Connection {
        let path = folder.join("opened.db");
        std::fs::write(&path, &self.bytes).unwrap();
        let db = Connection::open(path).unwrap();
        let sound: String = db.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        db
    }
}

/// Serves bytes as a stream; `ends` says whether it comes to a verified end.
struct Memory {
    bytes: Vec<u8>,
    ends: bool,
}

#[async_trait]
impl StreamSource for Memory {
    async fn open(&self, name: &str) -> Result<StreamReceiver> {
        assert_eq!(name, STREAM);
        let (sender, receiver) = mpsc::channel(1);
        let (bytes, ends) = (self.bytes.clone(), self.ends);
        tokio::spawn(async move {
            // An odd size: nothing may depend on how the bytes are cut.
            for part in bytes.chunks(77_777) {
                let item = StreamItem::Bytes(Bytes::copy_from_slice(part));
                if sender.send(Ok(item)).await.is_err() {
                    return;
                }
            }
            if ends {
                let _ = sender.send(Ok(StreamItem::End)).await;
            }
        });
        Ok(StreamReceiver(receiver))
    }
}

#[derive(Default)]
struct Observer {
    stages: Mutex<Vec<Stage>>,
    bytes: Mutex<u64>,
}

impl LoadObserver for Observer {
    fn stage(&self, stage: Stage) {
        self.stages.lock().unwrap().push(stage);
    }
    fn bytes(&self, n: u64) {
        *self.bytes.lock().unwrap() += n;
    }
}

fn options(overwrite: bool) -> LoadOptions {
    LoadOptions { overwrite, jobs: 1, roles: crate::engine::Roles::Plain }
}

const ALL_KINDS: &str = "
    PRAGMA user_version = 42; PRAGMA application_id = 77;
    CREATE TABLE kinds (a, b, \"c \"\" d\", g AS (a || 'x') VIRTUAL, s AS (b) STORED);
    INSERT INTO kinds VALUES (NULL, 1, 1.5), (-9223372036854775808, 9e999, -9e999), ('é,\n', '', x''),
        (x'00ff', CAST(x'ff41' AS TEXT), -0.0), (1, 1.0, '1');
    CREATE TABLE empty (id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT);
    CREATE TABLE pairs (b TEXT, a INT, v, PRIMARY KEY (a, b)) WITHOUT ROWID;
    INSERT INTO pairs VALUES ('x', 1, 'one'), ('y', 1, 'two'), ('x', 2, zeroblob(3000000));
    CREATE VIRTUAL TABLE articles USING fts5(title, body);
    INSERT INTO articles VALUES ('Une', 'la réserve, prête à imprimer'), ('Deux', 'autre');
    CREATE INDEX pairs_v ON pairs (b) WHERE a > 1;
    CREATE VIEW v AS SELECT * FROM pairs;
    CREATE TRIGGER t AFTER INSERT ON empty BEGIN DELETE FROM empty; END;
";
