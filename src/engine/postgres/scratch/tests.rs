use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::connect::Session;
use super::super::database_properties::Database;
use super::super::globals::{Globals, Role};
use super::*;
use crate::engine::scratch::ExaminationResult;
use crate::error::ErrorKind;
use crate::model::engine_kind::EngineKind;
use crate::model::isolation::Isolation;
use crate::model::stream::StreamFacts;
use crate::model::stream::{SourceFacts, StreamKind};
use crate::model::table::{RowDigest, TableId, TableProof};
use crate::system::runner::Runner;

fn go() -> CancellationToken {
    CancellationToken::new()
}

fn bin() -> PathBuf {
    let bin = std::env::var_os("MARBRE_TEST_PG15_BIN").unwrap_or("/usr/lib/postgresql/15/bin".into());
    let bin = PathBuf::from(bin);
    assert!(
        bin.join("postgres").is_file(),
        "there is no PostgreSQL in {}: run the tests with tests/run, which installs it, or set MARBRE_TEST_PG15_BIN",
        bin.display()
    );
    bin
}

fn config() -> PostgresScratchConfig {
    PostgresScratchConfig {
        scratch: None,
        password: None,
        bin_dir: Some(bin()),
        user: None,
        isolation: Isolation::Sandbox,
        jobs: 2,
    }
}

fn scratch_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("mps-").tempdir_in("/tmp").unwrap()
}

fn contents(major: u32) -> Contents {
    let role =
        |name: &str| Role { name: name.into(), inherit: true, connection_limit: -1, ..Role::default() };
    let details = Details {
        server_major: major,
        tool_version: format!("{major}.20"),
        public_schema: true,
        globals: Globals {
            roles: vec![role("owner_of_all"), role("was_there")],
            database: Database { name: "subs".into(), encoding: "UTF8".into(), ..Database::default() },
            ..Globals::default()
        },
        sequences: vec![crate::engine::postgres::relations::Sequence {
            schema: "public".into(),
            name: "t_id_seq".into(),
            last_value: 3,
            is_called: true,
            of_extension: false,
        }],
        ..Details::default()
    };
    let table = TableProof {
        table: TableId { schema: "public".into(), table: "t".into() },
        columns: vec!["id".into()],
        key: vec!["id".into()],
        rows: 3,
        digest: RowDigest(0),
    };
    Contents {
        snapshot: "20261122T020000Z-1f3a9c4e".parse().unwrap(),
        source: SourceFacts {
            omitted: Vec::new(),
            instead_of: None,
            engine: EngineKind::Postgres.name().into(),
            version: format!("{major}.20"),
            consistent_at: "2026-11-22T02:00:00Z".parse().unwrap(),
            consistency_point: String::new(),
            settings: Default::default(),
            inventory: Default::default(),
            details: serde_json::to_value(details).unwrap(),
        },
        row_key: [0; 32],
        streams: vec![StreamFacts {
            name: "rows/0001".into(),
            kind: StreamKind::Rows,
            length: 6,
            tables: vec![table],
        }],
    }
}

async fn server(folder: &Path) -> Server {
    let programs = Programs::find(Some(&bin()), 15).await.unwrap();
    let runner = Runner::new("postgres", Isolation::Sandbox).await.unwrap();
    let size = Size { jobs: 2, tables: 1, major: 15, preload: Vec::new() };
    Server::start(programs, &bin(), runner, folder, size, &go()).await.unwrap()
}

/// What a load would make.
async fn fill(connector: &Connector) -> Session {
    let server = connector.with_database("postgres").connect(&go()).await.unwrap();
    server.batch(&format!("CREATE DATABASE {}", connector.database()), "test").await.unwrap();
    let session = connector.connect(&go()).await.unwrap();
    let sql = "CREATE TABLE public.t (id serial PRIMARY KEY, note text);
        INSERT INTO public.t (note) SELECT 'n' || i FROM generate_series(1, 3) i;
        CREATE TYPE public.mood AS ENUM ('fine');
        ALTER TABLE public.t ENABLE ROW LEVEL SECURITY";
    session.batch(sql, "test").await.unwrap();
    session
}

fn processes_of(folder: &Path) -> Vec<PathBuf> {
    let name = processes::cluster_name(folder);
    let is_of = |path: &PathBuf| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains(&name) || line.contains(folder.to_str().unwrap())
    };
    fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).filter(is_of).collect()
}

fn processes_in(folder: &Path) -> usize {
    processes_of(folder).len()
}

async fn ask(scratch: &dyn Scratch, sql: &str) -> Result<Option<String>> {
    scratch.query(sql, Duration::from_secs(20), &go()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_made_asked_examined_damaged_and_gone() {
    let dir = scratch_dir();
    let folder = dir.path().join("d.place");
    let host = PostgresScratchHost::new(config()).unwrap();
    assert!(host.check(&folder, &go()).await.iter().all(|c| c.state == crate::model::check::CheckState::Ok));
    let contents = contents(15);
    let server = server(&folder).await;
    let way = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    for (path, mode) in [(folder.clone(), way), (folder.join("data"), 0o700), (folder.join("s"), 0o700)] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
    assert!(!folder.join("password").exists());
    assert!(processes_in(&folder) > 1);
    for process in processes_of(&folder) {
        let limits = fs::read_to_string(process.join("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }

    // The socket is the only way in, and asks for a password.
    let connector = server.connector().clone();
    let stranger = connector.with_user(connector.user(), "wrong".to_owned().into());
    let refused = stranger.with_database("postgres").connect(&go()).await.err().unwrap();
    assert!(refused.to_string().contains("28P01"), "{refused}");

    fill(&connector).await;
    let reader = Reader::new(connector.clone());
    let scratch = host.place(Location::Local(Box::new(server)), connector, reader, SessionSettings::new());
    assert!(scratch.describe().starts_with("a throwaway server, PostgreSQL 15."));
    questions(&*scratch).await;
    let found = scratch.examine(&[], &go()).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].result, found[0].found.as_str()), (ExaminationResult::Passed, "1 index"));
    assert!(scratch.examine(&["amcheck".to_owned()], &go()).await.unwrap().is_empty());
    for (damage, words) in [
        (Damage::Row, "one row of table public.t was deleted"),
        (Damage::Sequence, "sequence \"public\".\"t_id_seq\" was set to another value"),
        (Damage::Index, "index \"public\".\"t_pkey\" was dropped, with the constraint that it belongs to"),
        (Damage::MissingTable, "table public.t was dropped"),
    ] {
        assert_eq!(scratch.damage(damage, &contents, &go()).await.unwrap(), words);
    }
    let nothing = scratch.damage(Damage::Index, &contents, &go()).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::Preflight, "{nothing}");
    scratch.remove().await.unwrap();
    assert!(!folder.exists());
    assert_eq!(processes_in(&folder), 0);
    host.sweep(&folder).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_drill_died_is_swept_away() {
    let dir = scratch_dir();
    let folder = dir.path().join("d.place");
    // Outside of a sandbox it leaves more: its shared memory is in no namespace of its own.
    let host =
        PostgresScratchHost::new(PostgresScratchConfig { isolation: Isolation::None, ..config() }).unwrap();
    let wrong = host.start(&contents(14), &folder, &go()).await.err().unwrap();
    assert_eq!(wrong.kind(), ErrorKind::Preflight);
    assert!(wrong.to_string().contains("wrong major version"), "{wrong}");
    assert!(!folder.exists());
    let scratch = host.start(&contents(15), &folder, &go()).await.unwrap();
    let segment = processes::Segment::of(&folder).unwrap();
    assert!(segment.is_there());
    // As after kill -9, where the kernel does not end children with their parent.
    std::mem::forget(scratch);
    assert!(processes_in(&folder) > 1);
    host.sweep(&folder).await.unwrap();
    assert_eq!(processes_in(&folder), 0);
    assert!(!folder.exists() && !segment.is_there());
    host.sweep(&folder).await.unwrap();

    let host = PostgresScratchHost::new(config()).unwrap();
    std::mem::forget(host.start(&contents(15), &folder, &go()).await.unwrap());
    assert!(processes_in(&folder) > 1);
    host.sweep(&folder).await.unwrap();
    assert!(processes_in(&folder) == 0 && !folder.exists());

    let cancelled = go();
    cancelled.cancel();
    let error = host.start(&contents(15), &folder, &cancelled).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    host.sweep(&folder).await.unwrap();
    assert!(!folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_can_be_looked_at() {
    let dir = scratch_dir();
    let folder = dir.path().join("d.place");
    let server = server(&folder).await;
    drop(fill(server.connector()).await);
    let how = server.keep().await.unwrap();
    assert_eq!(processes_in(&folder), 0);
    let commands: Vec<&str> = how.split('`').skip(1).step_by(2).collect();
    let [start, look] = commands.as_slice() else { panic!("{how}") };
    let mut started =
        std::process::Command::new("sh").args(["-c", &format!("exec {start}")]).spawn().unwrap();
    let ask = format!("{look} -XAtc 'SELECT count(*) FROM public.t'");
    let mut answer = String::new();
    for _ in 0..200 {
        let output = std::process::Command::new("sh").args(["-c", &ask]).output().unwrap();
        answer = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster::sweep(&folder).await.unwrap();
    started.wait().unwrap();
    assert_eq!(answer, "3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_elsewhere_goes_with_the_roles_that_came_with_it() {
    let dir = scratch_dir();
    let server = server(&dir.path().join("server")).await;
    let admin = server.connector().with_database("postgres");
    let host = PostgresScratchHost { config: config(), admin: Some(admin.clone()) };
    let folder = dir.path().join("d.place");
    let session = admin.connect(&go()).await.unwrap();
    session.batch("CREATE ROLE was_there; CREATE ROLE weak LOGIN PASSWORD 'w'", "test").await.unwrap();
    let state = async || -> Vec<String> {
        let sql = "SELECT rolname::text FROM pg_roles WHERE rolname !~ '^pg_'
                   UNION ALL SELECT datname::text FROM pg_database ORDER BY 1";
        session.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    let before = state().await;

    let wrong = host.start(&contents(16), &folder, &go()).await.err().unwrap();
    assert!(wrong.to_string().contains("wrong major version"), "{wrong}");
    let weak =
        PostgresScratchHost { config: config(), admin: Some(admin.with_user("weak", "w".to_owned().into())) };
    let error = weak.start(&contents(15), &folder, &go()).await.err().unwrap();
    assert!(error.to_string().contains("may not create databases"), "{error}");
    assert_eq!(weak.check(&folder, &go()).await[1].state, crate::model::check::CheckState::Fail);

    for died in [false, true] {
        let scratch = host.start(&contents(15), &folder, &go()).await.unwrap();
        let name = fs::read_to_string(folder.join("elsewhere.json")).unwrap();
        let name = name.split('"').find(|word| word.starts_with("marbre_scratch_")).unwrap().to_owned();
        fill(&admin.with_database(&name)).await;
        session.batch("CREATE ROLE owner_of_all", "test").await.unwrap();
        let owner = admin.with_database(&name).connect(&go()).await.unwrap();
        owner
            .batch("ALTER TABLE public.t OWNER TO owner_of_all; GRANT was_there TO owner_of_all", "test")
            .await
            .unwrap();
        assert_eq!(ask(&*scratch, "SELECT count(*) FROM t").await.unwrap().as_deref(), Some("3"));
        assert!(state().await.len() == before.len() + 3);
        let busy = host.sweep(&folder).await.unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::Conflict, "{busy}");
        match died {
            false => scratch.remove().await.unwrap(),
            true => {
                drop(scratch);
                host.sweep(&folder).await.unwrap();
            }
        }
        assert_eq!(state().await, before);
        assert!(!folder.exists());
    }
    server.remove().await.unwrap();
}

/// What may be asked and what may not.
async fn questions(scratch: &dyn Scratch) {
    for (sql, answer) in [
        ("SELECT count(*) FROM t", Some("3")),
        ("SELECT max(note) FROM t;", Some("n3")),
        ("SELECT NULL::int", None),
        ("SELECT 'fine'::mood -- a comment", Some("fine")),
        ("SELECT timestamptz '2026-01-02 03:04:05+01'", Some("2026-01-02 02:04:05+00")),
        ("SELECT current_setting('transaction_read_only')", Some("on")),
        ("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", Some("f")),
    ] {
        assert_eq!(ask(scratch, sql).await.unwrap().as_deref(), answer, "{sql}");
    }
    for (sql, why) in [
        ("SELECT id FROM t", "more than one row"),
        ("SELECT id FROM t WHERE false", "no row"),
        ("SELECT 1, 2", "2 columns"),
        ("", "no column"),
        ("SELECT 1; SELECT 2", "a syntax error"),
        ("DELETE FROM t RETURNING id", "may only read"),
        ("SELECT set_config('transaction_read_only', 'off', false)", "SQLSTATE 25"),
        ("COMMIT", "no column"),
        ("SELECT nope FROM t", "nope"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied"),
        ("SELECT repeat('x', 20000)", "longer than"),
        ("SELECT 'Dupont'::int", "a value is not of its type"),
    ] {
        let error = ask(scratch, sql).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Database, "{sql}: {error}");
        assert!(error.to_string().contains(why), "{sql}: {error}");
        assert!(!error.to_string().contains("Dupont"), "{error}");
    }
    let slow =
        scratch.query("SELECT pg_sleep(60)::text", Duration::from_millis(300), &go()).await.unwrap_err();
    assert!(slow.to_string().contains("took longer than 0.3 s"), "{slow}");
}

#[tokio::test]
async fn a_closed_folder_on_the_way_is_named() {
    let dir = scratch_dir();
    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    for path in [&scratch, dir.path()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let runner = Runner::new("postgres", Isolation::None).await.unwrap();
    let way = runner.open_way(&scratch).await;
    let mode = fs::metadata(&scratch).unwrap().permissions().mode() & 0o777;
    if runner.user.is_none() {
        // As ourselves: nothing is in the way, and nothing needs to be opened.
        way.unwrap();
        assert_eq!(mode, 0o700);
        return;
    }
    let error = way.unwrap_err();
    assert_eq!((error.kind(), mode), (ErrorKind::Preflight, 0o711));
    assert!(
        error.to_string().ends_with(&format!("the folder {} is closed to that user", dir.path().display())),
        "{error}"
    );
    assert!(error.remedy_text().unwrap().contains("scratch_dir"));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    runner.open_way(&scratch).await.unwrap();
}
