//! What the digests of a SQLite database's tables cost: their share of a snapshot's time, and the share of the
//! comparison in a restore's.
//!
//!     cargo bench --bench digests                  # 2,500,000 rows, medians of 3 runs
//!     cargo bench --bench digests -- 10000000 5    # rows, runs
//!
//! See benches/README.md for how to read it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use marbre::Result;
use marbre::internal::{
    Check, DirectoryTarget, Engine, EngineKind, KeyPolicy, LoadObserver, LoadOptions, Loader, NamedTarget,
    Neighbours, Observer, OpenOptions, Place, Recipients, RestoreJob, RestoreKey, Roles, SigningKey,
    SnapshotJob, SourceFacts, SqliteEngine, SqliteLoader, Stage, State, StreamPlan, StreamSender, TrustStore,
    View, ViewFacts, Wanted,
};
use rusqlite::Connection;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

/// Four of five rows are payments.
const TABLES: &str = "
    PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
    CREATE TABLE subscribers (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT, country TEXT,
        created_at TEXT, active INT);
    CREATE TABLE payments (id INTEGER PRIMARY KEY, subscriber INT NOT NULL REFERENCES subscribers, amount_cents INT,
        currency TEXT, paid_at TEXT, reference TEXT, vat REAL);
    CREATE INDEX payments_subscriber ON payments (subscriber);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows / 5)
    INSERT INTO subscribers SELECT i, format('user%d.%x@example.org', i, abs(random()) % (1 << 40)),
        format('Name %d', abs(random()) % (1 << 30)), substr('FRBECHDE', 1 + i % 4 * 2, 2),
        datetime(1300000000 + abs(random()) % 400000000, 'unixepoch'), i % 7 > 0 FROM n;
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows - :rows / 5)
    INSERT INTO payments SELECT i, 1 + abs(random()) % (:rows / 5), abs(random()) % 20000, 'EUR',
        datetime(1300000000 + abs(random()) % 400000000, 'unixepoch'), format('pi_%x', abs(random())),
        abs(random()) % 1000 / 1000.0 FROM n;
    PRAGMA wal_checkpoint(TRUNCATE);";

struct Silent;

impl LoadObserver for Silent {
    fn stage(&self, _: Stage) {}
    fn bytes(&self, _: u64) {}
}

impl Observer for Silent {
    fn expect(&self, _: u64) {}
    fn moves(&self) {}
    fn warn(&self, message: &str) {
        eprintln!("{message}");
    }
}

/// Reads the pages of a database, and takes no digests.
struct WithoutDigests(SqliteEngine);

struct PagesOnly(Box<dyn View>);

#[async_trait]
impl Engine for WithoutDigests {
    fn describe(&self) -> String {
        self.0.describe()
    }
    async fn check(&self, cancel: &CancellationToken) -> Vec<Check> {
        self.0.check(cancel).await
    }
    async fn open(&self, options: &OpenOptions, cancel: &CancellationToken) -> Result<Box<dyn View>> {
        Ok(Box::new(PagesOnly(self.0.open(options, cancel).await?)))
    }
    fn elsewhere(&self, failed: &marbre::Error) -> Option<Arc<dyn Engine>> {
        self.0.elsewhere(failed)
    }
    fn place(&self) -> Option<Place> {
        self.0.place()
    }
    async fn neighbours(&self, cancel: &CancellationToken) -> Result<Option<Neighbours>> {
        self.0.neighbours(cancel).await
    }
}

#[async_trait]
impl View for PagesOnly {
    fn streams(&self) -> &[Arc<StreamPlan>] {
        self.0.streams()
    }
    async fn read(&self, stream: &StreamPlan, out: &StreamSender, cancel: &CancellationToken) -> Result<()> {
        self.0.read(stream, out, cancel).await
    }
    async fn close(self: Box<Self>, _: &CancellationToken) -> Result<ViewFacts> {
        let source = SourceFacts {
            omitted: Vec::new(),
            instead_of: None,
            engine: EngineKind::Sqlite.name().to_owned(),
            version: rusqlite::version().to_owned(),
            consistent_at: Timestamp::now(),
            consistency_point: String::new(),
            settings: Default::default(),
            inventory: Default::default(),
            details: Default::default(),
        };
        Ok(ViewFacts { source, tables: Vec::new(), warnings: Vec::new() })
    }
}

/// What the runs share. Every run has a repository of its own in `folder`.
struct Bench<'a> {
    folder: &'a Path,
    recipient: String,
}

impl Bench<'_> {
    fn place(&self, run: &str) -> std::path::PathBuf {
        self.folder.join(run)
    }

    async fn targets(&self, run: &str) -> Vec<NamedTarget> {
        let target = DirectoryTarget::create(self.place(run).join("target")).await.unwrap();
        vec![NamedTarget { name: "disk".parse().unwrap(), target: Arc::new(target) }]
    }

    fn signing_key(&self) -> SigningKey {
        SigningKey::load(&self.folder.join("agent")).unwrap()
    }

    /// Seconds of a first snapshot: everything is new.
    async fn snapshot(&self, run: &str, engine: Arc<dyn Engine>) -> f64 {
        std::fs::create_dir(self.place(run)).unwrap();
        let job = SnapshotJob {
            database: "gazette/abonnes".parse().unwrap(),
            engine,
            targets: self.targets(run).await,
            copies: NonZeroUsize::MIN,
            required: Default::default(),
            locks: Default::default(),
            recipients: Recipients::parse(std::slice::from_ref(&self.recipient)).unwrap(),
            signing_key: self.signing_key(),
            state: State::open(&self.place(run).join("state")).unwrap(),
            spool_dir: self.place(run).join("spool"),
            spool_limit: 8 << 30,
            spool_wait: Duration::from_secs(60),
            jobs: 2,
            epoch: Duration::from_secs(30 * 86_400),
            key_policy: KeyPolicy { keep: false, longest: Duration::ZERO },
        };
        let report = job.run(Timestamp::now(), Arc::new(Silent), &CancellationToken::new()).await.unwrap();
        report.seconds
    }

    /// Seconds of a restore with its proof, and how many of them the comparison took.
    async fn restore(&self, run: &str) -> (f64, f64) {
        let job = RestoreJob {
            database: "gazette/abonnes".parse().unwrap(),
            targets: self.targets(run).await,
            trust: TrustStore::own(self.signing_key().signer()),
            state: None,
            key: RestoreKey::load(&self.folder.join("key"), || unreachable!()).unwrap(),
            wanted: Wanted::Latest,
            spool: Some(self.place(run)),
            options: LoadOptions { overwrite: false, jobs: 2, roles: Roles::Plain },
            dry_run: false,
            prove: true,
            exceptions: None,
        };
        let to = self.place(run).join("restored.db");
        let make = |_: &str| Ok(Arc::new(SqliteLoader::new(&to)) as Arc<dyn Loader>);
        let report = job.run(&make, Arc::new(Silent), &CancellationToken::new()).await.unwrap();
        let compare = report.stages.iter().filter(|s| s.name == Stage::Compare).map(|s| s.seconds).sum();
        (report.seconds, compare)
    }
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

#[tokio::main]
async fn main() {
    // Cargo adds `--bench`.
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let (rows, runs) = (numbers.next().unwrap_or(2_500_000), numbers.next().unwrap_or(3));
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.db");
    Connection::open(&source).unwrap().execute_batch(&TABLES.replace(":rows", &rows.to_string())).unwrap();
    let key = age::x25519::Identity::generate();
    std::fs::write(folder.path().join("key"), key.to_string().expose_secret()).unwrap();
    SigningKey::generate("bench").unwrap().write(&folder.path().join("agent")).unwrap();
    let bench = Bench { folder: folder.path(), recipient: key.to_public().to_string() };
    let megabytes = std::fs::metadata(&source).unwrap().len() >> 20;
    println!("{rows} rows, {megabytes} MiB, seconds, medians of {runs} runs");

    let (mut with, mut without, mut restore, mut compare) = (vec![], vec![], vec![], vec![]);
    for run in 0..runs {
        let engine = SqliteEngine::new(&source);
        without.push(bench.snapshot("pages", Arc::new(WithoutDigests(engine.clone()))).await);
        with.push(bench.snapshot("whole", Arc::new(engine)).await);
        let (seconds, of_these) = bench.restore("whole").await;
        restore.push(seconds);
        compare.push(of_these);
        println!(
            "run {run}: snapshot {:.2}, without digests {:.2}; restore {seconds:.2}, comparison {of_these:.2}",
            with[with.len() - 1],
            without[without.len() - 1]
        );
        for place in ["pages", "whole"] {
            std::fs::remove_dir_all(bench.place(place)).unwrap();
        }
    }
    let (with, without) = (median(with), median(without));
    let (restore, compare) = (median(restore), median(compare));
    println!("{:>10} {:>10} {:>14} {:>7}", "", "whole, s", "the rest, s", "share");
    println!("{:>10} {with:>10.2} {without:>14.2} {:>6.0} %", "digests", 100.0 * (with - without) / with);
    println!(
        "{:>10} {restore:>10.2} {:>14.2} {:>6.0} %",
        "compare",
        restore - compare,
        100.0 * compare / restore
    );
}
