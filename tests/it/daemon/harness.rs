//! A daemon on a folder of its own, and everything by which it is heard and seen.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use marbre::internal::{JobKind, SlotRecord, SlotState, State};
use rustix::process::Signal;
use serde_json::Value;

use crate::support::free_ports;
use crate::support::marbre::{Marbre, Outcome, Running};
use crate::support::postgres::{Database, Version};
use crate::support::schemas;
use crate::support::setup::{processes_below, scratch_folder};
use crate::support::sqlite_setup::{Setup, files};

/// How long anything may take that comes by itself: far longer than it does, so that a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// A schedule that is due all the time.
pub const ALWAYS: &str = "* * * * * *";
/// A schedule that is not due while a test runs.
pub const NEVER: &str = "0 0 1 1 *";

/// Waits until `look` finds something; fails with all that `context` says when it never does.
#[track_caller]
pub fn until<T>(what: &str, context: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}\n{}", context());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A provider with one SQLite database, keys, and the folders of two targets, on which daemons run.
pub struct Site {
    pub setup: Setup,
    port: u16,
    scratch: tempfile::TempDir,
}

impl Site {
    /// So many rows, each with so many random bytes.
    pub fn new(rows: u32, blob: u32) -> Self {
        let [port] = free_ports();
        Self { setup: Setup::new(rows, blob), port, scratch: scratch_folder() }
    }

    /// Something in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// A secret in a file that only its owner can read; its path.
    pub fn secret(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// Writes the configuration: keys at its top, and tables.
    pub fn configure(&self, top: &str, tables: &str) {
        fs::write(self.path("provider/marbre.toml"), self.text(top, tables)).unwrap();
    }

    /// The configuration as text.
    pub fn text(&self, top: &str, tables: &str) -> String {
        format!(
            "state_dir = \"state\"\nscratch_dir = {:?}\nsigning_key = \"agent_ed25519\"\nlook_every = \"1s\"\n\
             time_zone = \"UTC\"\n{top}\n[web]\nlisten = \"127.0.0.1:{}\"\n[alerts]\nsettle = \"1s\"\ngather = \"1s\"\nagent = \"db1\"\n\
             [publisher.gazette]\nrecipients_file = \"../publisher/restore.pub\"\n{tables}\n",
            self.scratch.path().join("s"),
            self.port
        )
    }

    /// Tables of one directory target `a` with these lines, and of the SQLite database with these: its own first, its
    /// tables after them.
    pub fn one_directory(&self, target: &str, database: &str) -> String {
        format!(
            "[target.a]\nurl = {:?}\n{target}\n[database.abonnes]\npublisher = \"gazette\"\nengine = \"sqlite\"\n\
             path = {:?}\ntargets = [\"a\"]\n{database}\n",
            self.setup.target("a"),
            self.setup.database()
        )
    }

    /// The same, with schedules and nothing else.
    pub fn scheduled(&self, target: &str, schedules: &str) {
        let tables = self.one_directory(target, &format!("[database.abonnes.schedule]\n{schedules}"));
        self.configure("", &tables);
    }

    /// `marbre daemon`, not yet started. Its log names the stages.
    pub fn run(&self) -> Marbre {
        let daemon = self.setup.provider(&["daemon"]).timeout(Duration::from_secs(600));
        daemon.env("MARBRE_LOG", "marbre=debug")
    }

    /// Starts a daemon.
    pub fn daemon(&self) -> Daemon {
        Daemon { running: RefCell::new(self.run().start()), port: self.port }
    }

    /// What became of the slots of a job, the newest first.
    pub fn slots(&self, kind: JobKind) -> Vec<SlotRecord> {
        let state = State::open(&self.path("provider/state")).unwrap();
        state.slots(&"gazette/abonnes".parse().unwrap(), kind).unwrap()
    }

    /// The newest of them that began, as a state.
    pub fn last_run(&self, kind: JobKind) -> Option<SlotState> {
        let never_began = |state: &SlotState| matches!(state, SlotState::Overlapped | SlotState::Missed);
        self.slots(kind).into_iter().map(|record| record.state).find(|state| !never_began(state))
    }

    /// Nothing waits, nothing readable lies around, and no process works for a drill.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        assert_eq!(self.setup.spooled(), Vec::<PathBuf>::new());
        assert_eq!(files(self.scratch.path()), Vec::<PathBuf>::new());
        assert_eq!(processes_below(self.scratch.path()), Vec::<String>::new());
    }

    /// A port that is not this daemon's own: its web address, for somebody else to take.
    pub fn web_address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// The configuration of a PostgreSQL database: with these lines of its target, these of itself, and its tables.
pub fn postgres(site: &Site, database: &Database<'_>, lines: &str, tables: &str) {
    let bin = Version::V15.bin();
    site.configure(
        "",
        &format!(
            "[target.a]\nurl = {:?}\n[database.abonnes]\npublisher = \"gazette\"\nengine = \"postgres\"\nurl = {:?}\n\
             bin_dir = {bin:?}\ntargets = [\"a\"]\n{lines}\n{tables}\n",
            site.setup.target("a"),
            database.url()
        ),
    );
}

/// Somebody else's transaction that holds a table fast, as a migration does.
pub struct Migration<'a> {
    database: &'a Database<'a>,
    table: &'static str,
    psql: Child,
}

impl<'a> Migration<'a> {
    /// Begins it; it has the lock when this returns.
    pub fn begin(database: &'a Database<'a>, table: &'static str) -> Self {
        let mut psql = database.psql();
        psql.args([
            "-c",
            &format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)"),
        ]);
        let psql = psql.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Self { database, table, psql };
        until("the table is locked", String::new, || (begun.locks("granted") != "0").then_some(()));
        begun
    }

    /// Whether somebody waits for the table.
    pub fn is_waited_for(&self) -> bool {
        self.locks("NOT granted") != "0"
    }

    /// Ends it, and nothing of it stays.
    pub fn end(mut self) {
        let of_it =
            format!("relation = '{}'::regclass AND granted AND mode = 'AccessExclusiveLock'", self.table);
        self.database.sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE {of_it}"));
        self.psql.wait().unwrap();
    }

    fn locks(&self, which: &str) -> String {
        let of_table = format!("relation = '{}'::regclass AND {which}", self.table);
        self.database.sql(&format!("SELECT count(*) FROM pg_locks WHERE {of_table}"))
    }
}

/// A daemon that runs. Killed on drop.
pub struct Daemon {
    running: RefCell<Running>,
    port: u16,
}

impl Daemon {
    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.running.borrow().stderr()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.running.borrow().signal(signal);
    }

    /// Waits until `look` finds something.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let context = || {
            let incidents = self.status().map(|status| status["incidents"].to_string()).unwrap_or_default();
            format!("--- incidents\n{incidents}\n--- log\n{}", self.log())
        };
        until(what, context, || {
            let ended = self.running.borrow_mut().ended();
            assert!(ended.is_none(), "the daemon has ended: {}", ended.unwrap_or_default());
            look()
        })
    }

    /// Waits until it has logged this.
    #[track_caller]
    pub fn says(&self, words: &str) {
        self.until(&format!("it says {words:?}"), || self.log().contains(words).then_some(()));
    }

    /// The status code and the body of a page; `None` while nobody answers.
    pub fn get(&self, page: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// `/status.json`.
    pub fn status(&self) -> Option<Value> {
        let (code, body) = self.get("/status.json")?;
        assert_eq!(code, 200, "{body}");
        let document = serde_json::from_str(&body).unwrap();
        schemas::holds(&document, "").unwrap_or_else(|e| panic!("{e}\nof {body}"));
        Some(document)
    }

    /// How a database stands.
    pub fn database(&self, name: &str) -> Option<Value> {
        self.status()?["databases"].as_array()?.iter().find(|d| d["database"] == name).cloned()
    }

    /// Whether an incident is open.
    pub fn is_open(&self, key: &str) -> Option<bool> {
        Some(self.status()?["incidents"].as_array()?.iter().any(|incident| incident["key"] == key))
    }

    /// Waits until an incident is open.
    #[track_caller]
    pub fn opens(&self, key: &str) {
        self.until(&format!("{key} is open"), || self.is_open(key).filter(|open| *open));
    }

    /// Waits until an incident is over.
    #[track_caller]
    pub fn resolves(&self, key: &str) {
        self.until(&format!("{key} is over"), || self.is_open(key).filter(|open| !*open));
    }

    /// Tells it to end (SIGTERM), and waits until it has.
    #[track_caller]
    pub fn stop(self) -> Outcome {
        let asked = Instant::now();
        self.signal(Signal::TERM);
        let outcome = self.running.into_inner().wait().expect_code(0);
        let took = asked.elapsed();
        // What it said is shown where the test fails later on.
        println!("{outcome}");
        assert!(took < Duration::from_secs(25), "it took {took:?} to end: {outcome}");
        outcome
    }

    /// Kills it (SIGKILL).
    pub fn kill(self) -> Outcome {
        self.signal(Signal::KILL);
        self.running.into_inner().wait()
    }
}
