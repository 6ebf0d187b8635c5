//! A database whose code tries to get out: what it can do in a drill, in a snapshot, and in a restore.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::support::postgres::{Cluster, Version, run};
use crate::support::setup::Provider;
use crate::support::sqlite_setup::Setup;

/// What the code looks for outside, and where it leaves marks if it gets there.
struct Outside {
    folder: tempfile::TempDir,
    port: u16,
    /// Connections that were made: to the listener, to the socket.
    reached: Arc<[AtomicBool; 2]>,
}

impl Outside {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("out-").tempdir_in("/tmp").unwrap();
        let all = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        all(folder.path(), 0o777);
        fs::write(folder.path().join("secret"), "the restore key of another publisher").unwrap();
        all(&folder.path().join("secret"), 0o644);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = folder.path().join("socket");
        let socket = UnixListener::bind(&path).unwrap();
        fs::set_permissions(folder.path().join("socket"), fs::Permissions::from_mode(0o777)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let reached = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let (by_tcp, by_socket) = (reached.clone(), reached.clone());
        // They hang up at once. The threads end with the tests.
        std::thread::spawn(move || listener.incoming().for_each(|_| by_tcp[0].store(true, Relaxed)));
        std::thread::spawn(move || socket.incoming().for_each(|_| by_socket[1].store(true, Relaxed)));
        // What libpq calls a socket in this folder.
        std::os::unix::fs::symlink(&path, folder.path().join(".s.PGSQL.5432")).unwrap();
        Self { folder, port, reached }
    }

    /// What was reached: names of files, connections.
    fn marks(&self) -> Vec<String> {
        let known = ["secret", "socket", ".s.PGSQL.5432"];
        let names =
            fs::read_dir(self.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut marks: Vec<String> = names.filter(|name| !known.contains(&name.as_str())).collect();
        for (reached, what) in self.reached.iter().zip(["listener", "socket"]) {
            marks.extend(reached.load(Relaxed).then(|| format!("a connection to the {what}")));
        }
        marks.sort();
        marks
    }

    fn clear(&self) {
        for name in self.marks().iter().filter(|name| !name.contains(' ')) {
            fs::remove_file(self.folder.path().join(name)).unwrap();
        }
        self.reached.iter().for_each(|reached| reached.store(false, Relaxed));
    }

    /// A provider with a database that is full of such code. `os`: with a function that does what the server's user may.
    fn provider(&self, cluster: &Cluster, os: bool) -> Provider {
        let database = cluster.create_db("hostile");
        let out = self.folder.path().display().to_string();
        let port = self.port.to_string();
        let secret = format!("{out}/secret");
        let os = if os { "true" } else { "false" };
        database.load("hostile.sql", &[("out", &out), ("secret", &secret), ("port", &port), ("os", os)]);
        assert_eq!(self.marks(), Vec::<String>::new(), "at home, it keeps quiet");
        Provider::of(&database)
    }
}

/// Nobody but marbre evaluates anything at the source.
const QUIET: &[&str] = &["autovacuum=off"];

/// Processes that detached themselves.
fn detached() -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let sleeps = |path: &PathBuf| {
        fs::read(path.join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains("sleep\u{0}4321"))
    };
    processes.filter(sleeps).collect()
}

/// A check of one's own, which looks at everything that code could hide in.
const CHECKS: &str = "[database.abonnes.checks.seen]\nsql = \"SELECT count(*) FROM alice.seen\"\nequals = 20\n\
     [database.abonnes.checks.total]\nsql = \"SELECT alice.total(id) FROM alice.triggered\"\nequals = \"first\"\n\
     [database.abonnes.checks.policed]\nsql = \"SELECT count(*) FROM alice.policed\"\nequals = 20\n";

#[test]
fn code_of_the_database_gets_no_rights_even_without_a_sandbox() {
    let cluster = Cluster::start_with(Version::V15, QUIET);
    let outside = Outside::new();
    let mut provider = outside.provider(&cluster, false);
    provider.set_drills(&format!("isolation = \"none\"\n{CHECKS}"));

    provider.snapshot().success();
    assert_eq!(outside.marks(), Vec::<String>::new(), "reading runs none of it");
    let report = provider.drill().success().json();
    assert_eq!(report["isolation"], "none");
    assert_eq!(report["level"], "restored", "{report}");
    let reached = outside.marks();
    // Who may connect to where is not a matter of the database's rights: that is what the sandbox is for.
    let by_network = |mark: &&String| mark.starts_with("a connection to");
    assert_eq!(reached.iter().filter(|mark| !by_network(mark)).collect::<Vec<_>>(), Vec::<&String>::new());
    let status = provider.marbre(&["status"]).success();
    assert!(status.json()["databases"][0]["last_drill"]["isolation"] == "none", "{status}");
}

#[test]
fn code_with_the_rights_of_the_server_does_not_get_out_of_the_sandbox() {
    let cluster = Cluster::start_with(Version::V15, QUIET);
    let outside = Outside::new();
    let mut provider = outside.provider(&cluster, true);
    provider.set_drills(&format!(
        "{CHECKS}[database.abonnes.checks.processes]\nsql = \"SELECT public.processes()\"\nmin = 500\nmax = 1100\n"
    ));

    let before = detached();
    provider.snapshot().success();
    assert_eq!(outside.marks(), Vec::<String>::new(), "reading runs none of it");
    let report = provider.drill().success().json();
    assert_eq!((&report["isolation"], &report["level"]), (&"sandbox".into(), &"restored".into()), "{report}");
    // On the publisher's machine the restore key lies beside it.
    let owner = provider.drill_as_owner("nas").success().json();
    assert_eq!(
        (&owner["isolation"], &owner["level"]),
        (&"sandbox".into(), &"owner-restored".into()),
        "{owner}"
    );
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(outside.marks(), Vec::<String>::new());
    assert_eq!(detached(), before, "what detached itself ended with the sandbox");

    // The same code does get out where there is none: the attempts are real.
    provider.set_drills(&format!("isolation = \"none\"\n{CHECKS}"));
    provider.drill().success();
    let marks = outside.marks().join(" ");
    for way in ["os.check", "os.domain", "os.check.secret", "os.check.tcp", "os.check.socket", "os.view"] {
        assert!(marks.contains(way), "{way} is missing: {marks}");
    }
    outside.clear();
    for process in detached() {
        let pid = process.file_name().unwrap().to_str().unwrap().parse().unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    }
}

#[test]
fn a_restore_gives_code_of_the_database_no_rights_of_the_superuser() {
    let cluster = Cluster::start_with(Version::V15, QUIET);
    let outside = Outside::new();
    let provider = outside.provider(&cluster, false);
    provider.snapshot().success();

    let elsewhere = Cluster::start(Version::V15);
    let restored = elsewhere.database("back");
    let report = provider.restore("nas", &restored.url()).arg("--prove").success().json();
    assert_eq!(report["verdict"], "proven", "{report}");
    let reached = outside.marks();
    assert!(reached.iter().all(|mark| mark.starts_with("a connection to")), "{reached:?}");
    let roles = elsewhere
        .database("postgres")
        .sql("SELECT rolname FROM pg_roles WHERE rolsuper OR rolname ~ '^marbre'");
    assert_eq!(roles, "marbre", "no superuser came with it, and the role that loaded is gone");
}

/// A file that tries what SQLite offers: functions that reach the file system, triggers, a definition that is none, a huge value.
const HOSTILE_FILE: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t SELECT value, 'x' FROM generate_series(1, 50);
    CREATE TABLE log (x);
    CREATE TRIGGER on_delete BEFORE DELETE ON t BEGIN INSERT INTO log VALUES (load_extension('/tmp/evil.so')); END;
    CREATE VIEW loads AS SELECT load_extension('/tmp/evil.so') AS x;
    CREATE VIEW writes AS SELECT writefile('/tmp/evil', 'x') AS x;
    CREATE VIEW huge AS SELECT length(hex(zeroblob(900000000)) || hex(zeroblob(900000000))) AS x;
    PRAGMA writable_schema = ON;
    INSERT INTO sqlite_schema VALUES ('view', 'broken', 'broken', 0, 'CREATE VIEW broken AS SELECT * FROM nothing_is_here');";

#[test]
fn a_hostile_file_is_opened_in_the_sandbox_and_nowhere_else() {
    let setup = Setup::new(50, 50);
    run(Command::new("sqlite3").arg(setup.database()).arg("DROP TABLE subscriber;").arg(HOSTILE_FILE));
    let checks = ["loads", "writes", "huge", "broken"]
        .map(|view| format!("[database.abonnes.checks.{view}]\nsql = \"SELECT x FROM {view}\"\nmin = 0\n"));
    setup.configure_directories(&checks.concat());
    setup.snapshot().success();
    let outcome = setup.provider(&["drill", "abonnes"]).fails_with(9);
    let report = outcome.json();
    assert_eq!(
        (&report["isolation"], &report["failed_stage"]),
        (&"sandbox".into(), &"checks".into()),
        "{report}"
    );
    for view in ["loads", "writes", "huge", "broken"] {
        let check = report["checks"].as_array().unwrap().iter().find(|c| c["name"] == view).unwrap();
        assert_eq!(check["result"], "failed", "{check}");
    }
    assert!(!Path::new("/tmp/evil").exists());
    assert!(
        setup.provider(&["drill", "abonnes", "--sabotage", "row"]).fails_with(9).json()["sabotage"]["caught"]
            == true
    );
}

#[test]
fn without_a_sandbox_a_drill_refuses_unless_the_operator_says_so() {
    let setup = Setup::new(50, 50);
    setup.configure_directories("");
    setup.snapshot().success();
    let tools = setup.path("tools");
    fs::create_dir(&tools).unwrap();
    fs::write(
        tools.join("bwrap"),
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(tools.join("bwrap"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());

    let refused = setup.provider(&["drill", "abonnes"]).env("PATH", &path).fails_with(4);
    assert!(
        refused.json()["error"]["cause"].to_string().contains("No permissions to create new namespace"),
        "{refused}"
    );
    assert!(refused.json()["error"]["remedy"].to_string().contains("bubblewrap"), "{refused}");
    let doctor = setup.provider(&["doctor"]).env("PATH", &path).run();
    assert!(doctor.json().to_string().contains("this host offers none"), "{doctor}");

    setup.configure_directories("drills.isolation = \"none\"\n");
    let report = setup.provider(&["drill", "abonnes"]).env("PATH", &path).success().json();
    assert_eq!((&report["isolation"], &report["level"]), (&"none".into(), &"restored".into()));
    let doctor = setup.provider(&["doctor"]).run();
    assert!(doctor.json().to_string().contains("WITHOUT a sandbox"), "{doctor}");
    let status = setup.provider(&["status"]).success().json();
    assert_eq!(status["databases"][0]["last_drill"]["isolation"], "none");
}
