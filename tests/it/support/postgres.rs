//! Throwaway PostgreSQL clusters: on a socket of their own, as an unprivileged user, gone when dropped.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The superuser of every cluster. Authentication is `trust`: the socket's directory is private.
pub const SUPERUSER: &str = "marbre";

/// Runs the server, and outlives the test process just long enough to stop it: the end of its standard
/// input is the signal, so that a panic, Ctrl-C and `kill -9` of the tests leave no server behind.
const SUPERVISOR: &str = r#"trap '' INT TERM HUP
bin=$1; dir=$2; shift 2
start() { "$bin/postgres" -D "$dir/data" -k "$dir/s" "$@" >>"$dir/log" 2>&1 </dev/null & pid=$!; }
start "$@"
while read -r word; do
  case $word in
    stop) kill -INT "$pid"; wait "$pid" ;;
    start) start "$@" ;;
  esac
done
kill -QUIT "$pid" 2>/dev/null
wait "$pid"
rm -rf "$dir""#;

/// A major version that the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Debian's, with ICU, libxml and LZ4.
    V15,
    /// From PyPI, without them.
    V18,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Version; 2] = [Version::V15, Version::V18];

    /// The directory of its programs.
    pub fn bin(self) -> PathBuf {
        let (variable, default) = match self {
            Version::V15 => ("MARBRE_TEST_PG15_BIN", "/usr/lib/postgresql/15/bin"),
            Version::V18 => ("MARBRE_TEST_PG18_BIN", "/var/cache/marbre-tests/pg18/bin"),
        };
        let bin = std::env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from);
        assert!(
            bin.join("postgres").is_file(),
            "there is no PostgreSQL in {}: run the tests with tests/run, which installs it, or set {variable}",
            bin.display()
        );
        bin
    }

    /// One of its programs.
    pub fn program(self, name: &str) -> PathBuf {
        self.bin().join(name)
    }
}

/// A running server with a data directory of its own. Stopped, and its files removed, on drop.
#[derive(Debug)]
pub struct Cluster {
    version: Version,
    // Dropped in this order: the supervisor's exit comes before the directory's removal.
    supervisor: Child,
    dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts a fresh cluster.
    pub fn start(version: Version) -> Self {
        Self::start_with(version, &[])
    }

    /// Starts a fresh cluster of Debian's server that can speak French and German: `lc_messages` says so.
    pub fn start_multilingual() -> Self {
        Self::start_in(Version::V15, &[], Some(&locales()))
    }

    /// Starts a fresh cluster with more settings, each as `name=value`.
    pub fn start_with(version: Version, settings: &[&str]) -> Self {
        Self::start_in(version, settings, None)
    }

    /// Starts a hot standby of this cluster.
    pub fn standby(&self) -> Self {
        self.standby_with(&[])
    }

    /// Starts a hot standby with more settings, each as `name=value`.
    pub fn standby_with(&self, settings: &[&str]) -> Self {
        let dir = Self::folder();
        let mut backup = as_postgres(self.version.program("pg_basebackup"));
        backup.args(["-R", "-c", "fast", "-U", SUPERUSER, "-h"]).arg(self.socket_dir());
        run(backup.arg("-D").arg(dir.path().join("data")));
        Self::start_from(self.version, dir, settings, None)
    }

    fn start_in(version: Version, settings: &[&str], locales: Option<&Path>) -> Self {
        let (template, dir) = (template(version), Self::folder());
        run(as_postgres("cp").args(["-a", "--reflink=auto"]).arg(&template).arg(dir.path().join("data")));
        Self::start_from(version, dir, settings, locales)
    }

    fn folder() -> tempfile::TempDir {
        // A socket's path is limited to 107 bytes, whatever TMPDIR is.
        let dir = tempfile::Builder::new().prefix("mpg-").tempdir_in("/tmp").unwrap();
        let sockets = dir.path().join("s");
        fs::create_dir(&sockets).unwrap();
        for path in [dir.path(), &sockets] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
            give_to_postgres(path);
        }
        dir
    }

    fn start_from(
        version: Version,
        dir: tempfile::TempDir,
        settings: &[&str],
        locales: Option<&Path>,
    ) -> Self {
        let mut command = as_postgres("sh");
        command.args(["-c", SUPERVISOR, "supervisor"]).arg(version.bin()).arg(dir.path());
        for setting in ["listen_addresses=", "fsync=off", "max_wal_size=4GB"].iter().chain(settings) {
            command.arg("-c").arg(setting);
        }
        command.envs(locales.map(|folder| ("LOCPATH", folder)));
        let supervisor = command.stdin(Stdio::piped()).spawn().unwrap();
        let cluster = Self { version, supervisor, dir };
        cluster.wait_until_ready();
        cluster
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let ready = self.tool("pg_isready").arg("-q").status().unwrap().success();
            if ready {
                return;
            }
            assert!(Instant::now() < deadline, "PostgreSQL did not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Cuts it off: connections end with an error, and new ones find nobody.
    pub fn stop(&self) {
        self.tell("stop");
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.data_dir().join("postmaster.pid").exists() {
            assert!(Instant::now() < deadline, "PostgreSQL did not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again after [`Cluster::stop`].
    pub fn resume(&self) {
        self.tell("start");
        self.wait_until_ready();
    }

    fn tell(&self, word: &str) {
        use std::io::Write;
        let mut input = self.supervisor.stdin.as_ref().unwrap();
        writeln!(input, "{word}").unwrap();
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The directory of its socket: what `host` is in a connection string.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// The process id of the server.
    pub fn pid(&self) -> i32 {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap();
        text.lines().next().and_then(|line| line.trim().parse().ok()).unwrap()
    }

    /// One of the version's client programs, pointed at this cluster as its superuser.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.version.program(name));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        command.env("PGHOST", self.socket_dir()).env("PGUSER", SUPERUSER);
        command
    }

    /// An existing database.
    pub fn database(&self, name: &str) -> Database<'_> {
        Database { cluster: self, name: name.to_owned() }
    }

    /// Creates an empty database (UTF-8, locale `C.utf8`).
    pub fn create_db(&self, name: &str) -> Database<'_> {
        self.database("postgres").sql(&format!("CREATE DATABASE {} TEMPLATE template0", quote_name(name)));
        self.database(name)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// A database of a [`Cluster`].
#[derive(Debug, Clone)]
pub struct Database<'a> {
    /// Where it is.
    pub cluster: &'a Cluster,
    /// Its name.
    pub name: String,
}

impl Database<'_> {
    /// Its address, as marbre and libpq read it.
    pub fn url(&self) -> String {
        format!(
            "postgres:///{}?host={}&user={SUPERUSER}",
            percent_encode(&self.name),
            percent_encode(self.cluster.socket_dir().to_str().unwrap())
        )
    }

    /// `psql` on this database: no startup file, stops at the first error.
    pub fn psql(&self) -> Command {
        let mut command = self.cluster.tool("psql");
        // In the environment, a name is taken as it is; as an argument it could be a connection string.
        command.env("PGDATABASE", &self.name).args(["-X", "-q", "-v", "ON_ERROR_STOP=1"]);
        command
    }

    /// Runs statements, and returns what they print: no headers, columns divided by `|`.
    pub fn sql(&self, sql: &str) -> String {
        let output = output_with_input(self.psql().arg("-At"), sql.as_bytes());
        assert!(
            output.status.success(),
            "in database {:?}: {}\n{sql}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// Loads a script of `tests/it/sql`, with psql variables.
    pub fn load(&self, script: &str, variables: &[(&str, &str)]) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sql").join(script);
        let mut command = self.psql();
        for (name, value) in variables {
            command.arg("-v").arg(format!("{name}={value}"));
        }
        run(command.arg("-f").arg(path));
    }

    /// Loads the torture database. `portable` leaves out what only some servers are built with.
    pub fn load_torture(&self, portable: bool) {
        self.load("torture.sql", &[("portable", if portable { "true" } else { "false" })]);
    }

    /// Loads a subscription database with so many subscribers (about 5 rows each).
    pub fn load_subscriptions(&self, subscribers: u64) {
        self.load("subscriptions.sql", &[("subscribers", &subscribers.to_string())]);
    }
}

/// A name as an SQL identifier.
pub fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL literal.
pub fn quote_text(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() || b"-._~/".contains(&b) => (b as char).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

/// Runs a command to its end with this input.
pub fn output_with_input(command: &mut Command, input: &[u8]) -> Output {
    use std::io::Write;
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A program that ends early closes its input; its status says more than our write error.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Runs a command that must succeed; its standard output.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// PostgreSQL refuses to run as root; other users run it as themselves.
fn as_postgres(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
        command.current_dir("/");
        command
    } else {
        Command::new(program)
    }
}

fn give_to_postgres(path: &Path) {
    if is_root() {
        let id = |flag| -> u32 {
            let text = run(Command::new("id").args([flag, "postgres"]));
            String::from_utf8_lossy(&text).trim().parse().unwrap()
        };
        chown(path, Some(id("-u")), Some(id("-g"))).unwrap();
    }
}

/// An initialised data directory, kept between runs: copying it takes a tenth of the time of `initdb`.
fn template(version: Version) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let full = run(Command::new(version.program("postgres")).arg("--version"));
    let full: String =
        String::from_utf8_lossy(&full).chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    let base = PathBuf::from(format!("/var/tmp/marbre-tests-{}", rustix::process::geteuid().as_raw()));
    let template = base.join(format!("template-1-{full}"));
    if template.is_dir() {
        return template;
    }
    fs::create_dir_all(&base).unwrap();
    give_to_postgres(&base);
    let new = base.join(format!("new-{full}-{}", std::process::id()));
    run(as_postgres(version.program("initdb"))
        .args([
            "--no-sync",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.utf8",
            "--username",
            SUPERUSER,
            "-D",
        ])
        .arg(&new));
    // Another test process may have been faster: then its template is used.
    if fs::rename(&new, &template).is_err() {
        fs::remove_dir_all(&new).unwrap();
    }
    template
}

/// A folder with the locales of other languages than English, kept between runs: a system need not have them.
fn locales() -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let base = PathBuf::from(format!("/var/tmp/marbre-tests-{}", rustix::process::geteuid().as_raw()));
    fs::create_dir_all(&base).unwrap();
    give_to_postgres(&base);
    let folder = base.join("locales-1");
    if !folder.is_dir() {
        let new = tempfile::Builder::new().prefix("locales-").tempdir_in(&base).unwrap();
        for name in ["fr_FR", "de_DE"] {
            let place = new.path().join(format!("{name}.UTF-8"));
            run(Command::new("localedef").args(["-i", name, "-f", "UTF-8"]).arg(place));
        }
        run(Command::new("chmod").args(["-R", "a+rX"]).arg(new.path()));
        // Another test process may have been faster: then its folder is used.
        let _taken = fs::rename(new.path(), &folder);
    }
    folder
}

mod tests {
    use super::*;

    #[test]
    fn clusters_start_with_awkward_databases_and_leave_nothing() {
        for version in Version::ALL {
            let cluster = Cluster::start(version);
            let name = "abonnés \"d'été\" = x%20";
            let database = cluster.create_db(name);
            assert_eq!(database.sql("SELECT current_database()"), name);
            let through_url = run(cluster.tool("psql").args([
                "-XAt",
                "-c",
                "SELECT 6*7, current_database()",
                &database.url(),
            ]));
            assert_eq!(String::from_utf8(through_url).unwrap(), format!("42|{name}\n"));
            let (pid, dir) = (cluster.pid(), cluster.dir.path().to_owned());
            drop(cluster);
            assert!(!Path::new(&format!("/proc/{pid}")).exists());
            assert!(!dir.exists());
        }
    }

    #[test]
    fn a_cluster_is_gone_after_a_panic() {
        let (send, receive) = std::sync::mpsc::channel();
        let panicked = std::thread::spawn(move || {
            let cluster = Cluster::start(Version::V15);
            send.send((cluster.pid(), cluster.dir.path().to_owned())).unwrap();
            panic!("as a failing test does");
        })
        .join();
        assert!(panicked.is_err());
        let (pid, dir) = receive.recv().unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!dir.exists());
    }
}
