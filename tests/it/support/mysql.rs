//! Throwaway MariaDB and MySQL servers: on a socket of their own, as an unprivileged user, gone when dropped.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::free_ports;
use super::postgres::{output_with_input, run};

/// The administrator of every server, without a password: the socket's directory is private.
pub const ADMIN: &str = "root";
/// The user that marbre reads as.
pub const READER: &str = "marbre";
/// The password of [`READER`].
pub const PASSWORD: &str = "correct-horse-9461";

/// What [`READER`] needs on its database: the rows; a lock on the tables; the statements that made views, triggers and events.
/// Without TRIGGER or EVENT the catalogue hides them, and says nothing.
pub const DATABASE_RIGHTS: [&str; 5] = ["SELECT", "LOCK TABLES", "SHOW VIEW", "TRIGGER", "EVENT"];

/// Runs the server, and outlives the test process just long enough to stop it: the end of its standard input is the signal.
const SUPERVISOR: &str = r#"trap '' INT TERM HUP
server=$1; dir=$2; shift 2
"$server" --no-defaults "$@" >>"$dir/log" 2>&1 </dev/null & pid=$!
read -r _
kill -KILL "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
rm -rf "$dir""#;

/// A product that the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// Debian's.
    MariaDb,
    /// Unpacked from Debian unstable.
    MySql,
}

impl Flavor {
    /// The directory of its server's program.
    pub fn bin(self) -> PathBuf {
        let (variable, default) = match self {
            Flavor::MariaDb => ("MARBRE_TEST_MARIADB_BIN", "/usr/sbin"),
            Flavor::MySql => ("MARBRE_TEST_MYSQL_BIN", "/var/cache/marbre-tests/mysql9/bin"),
        };
        let bin = std::env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from);
        assert!(
            bin.join(self.program()).is_file(),
            "there is no {} in {}: run the tests with tests/run, which installs it, or set {variable}",
            self.program(),
            bin.display()
        );
        bin
    }

    /// The name of its server's program.
    pub fn program(self) -> &'static str {
        match self {
            Flavor::MariaDb => "mariadbd",
            Flavor::MySql => "mysqld",
        }
    }

    /// What `engine` is in the configuration.
    pub fn engine(self) -> &'static str {
        match self {
            Flavor::MariaDb => "mariadb",
            Flavor::MySql => "mysql",
        }
    }

    /// What [`READER`] needs on the whole server: the global read lock, the statements of others, the position in the
    /// binary log, and in MySQL the bodies of routines, which MariaDB shows to who may read `mysql.proc`.
    pub fn server_rights(self) -> &'static [&'static str] {
        match self {
            Flavor::MariaDb => &["PROCESS", "BINLOG MONITOR"],
            Flavor::MySql => &["PROCESS", "REPLICATION CLIENT", "SHOW_ROUTINE"],
        }
    }

    /// Its own dump, of which no code is marbre's.
    fn dump(self) -> Command {
        match self {
            Flavor::MariaDb => Command::new("mariadb-dump"),
            Flavor::MySql => Command::new(self.bin().join("mysqldump")),
        }
    }
}

/// A running server with a data directory of its own. Stopped, and its files removed, on drop.
#[derive(Debug)]
pub struct MysqlServer {
    flavor: Flavor,
    port: Option<u16>,
    // Dropped in this order: the supervisor's exit comes before the directory's removal.
    supervisor: Child,
    dir: tempfile::TempDir,
}

impl MysqlServer {
    /// Starts a fresh server that listens on its socket only.
    pub fn start(flavor: Flavor) -> Self {
        Self::start_with(flavor, &[])
    }

    /// Starts a fresh server with more settings, each as `--name=value`.
    pub fn start_with(flavor: Flavor, settings: &[&str]) -> Self {
        Self::start_at(flavor, None, settings)
    }

    /// Starts a fresh server that also listens on a port of 127.0.0.1.
    pub fn with_tcp(flavor: Flavor) -> Self {
        let [port] = free_ports();
        Self::start_at(flavor, Some(port), &[])
    }

    fn start_at(flavor: Flavor, port: Option<u16>, settings: &[&str]) -> Self {
        let template = template(flavor);
        // A socket's path is limited to 107 bytes, whatever TMPDIR is.
        let dir = tempfile::Builder::new().prefix("mmy-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        give_to_mysql(dir.path());
        run(as_mysql("cp").args(["-a", "--reflink=auto"]).arg(&template).arg(dir.path().join("data")));
        let mut command = as_mysql("sh");
        command
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(flavor.bin().join(flavor.program()))
            .arg(dir.path());
        let at = |name: &str| dir.path().join(name).display().to_string();
        command.arg(format!("--datadir={}", at("data"))).arg(format!("--socket={}", at("s")));
        command.arg(format!("--pid-file={}", at("pid"))).arg("--server-id=1");
        // Not with those of other servers.
        command.arg(format!("--tmpdir={}", dir.path().display()));
        // Nothing of these servers has to survive a power failure.
        command.args([
            "--innodb-flush-log-at-trx-commit=0",
            "--sync-binlog=0",
            "--innodb-buffer-pool-size=32M",
        ]);
        match flavor {
            Flavor::MariaDb => {
                command.args(["--log-bin", "--innodb-log-file-size=32M", "--innodb-fast-shutdown=2"])
            }
            Flavor::MySql => {
                command.args([
                    "--mysqlx=OFF",
                    "--secure-file-priv=NULL",
                    "--innodb-redo-log-capacity=32M",
                    // Otherwise each ALTER TABLE waits for the disk.
                    "--innodb-flush-method=nosync",
                    "--local-infile=ON",
                ])
            }
        };
        match port {
            Some(port) => command.arg("--bind-address=127.0.0.1").arg(format!("--port={port}")),
            None => command.arg("--skip-networking"),
        };
        let supervisor = command.args(settings).stdin(Stdio::piped()).spawn().unwrap();
        let server = Self { flavor, port, supervisor, dir };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !self.client("").args(["-e", "SELECT 1"]).output().unwrap().status.success() {
            assert!(Instant::now() < deadline, "{:?} did not start:\n{}", self.flavor, self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Which product it is.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// The process id of the server.
    pub fn pid(&self) -> i32 {
        fs::read_to_string(self.dir.path().join("pid")).unwrap().trim().parse().unwrap()
    }

    /// MariaDB's client, which talks to both, as the administrator. It reads no file of options, and keeps comments.
    pub fn client(&self, database: &str) -> Command {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--batch", "--raw", "--skip-column-names", "--comments"]);
        command.args(["--default-character-set=utf8mb4", "-u", ADMIN, "-S"]).arg(self.socket());
        command.args((!database.is_empty()).then(|| format!("--database={database}")));
        command
    }

    /// Runs statements in a database (or in none: ""), and returns what they print, columns divided by tabs.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = output_with_input(&mut self.client(database), sql.as_bytes());
        assert!(
            output.status.success(),
            "in database {database:?}: {}\n{sql}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// Runs statements that must fail, and returns the server's message.
    pub fn sql_fails(&self, database: &str, sql: &str) -> String {
        let output: Output = output_with_input(&mut self.client(database), sql.as_bytes());
        assert!(!output.status.success(), "in database {database:?} this did not fail:\n{sql}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The address of a database, as marbre reads it.
    pub fn url(&self, user: &str, database: &str) -> String {
        let socket = self.socket();
        let socket = percent_encode(socket.to_str().unwrap());
        format!("mysql:///{}?socket={socket}&user={}", percent_encode(database), percent_encode(user))
    }

    /// Where a database is, as lines of the configuration: read by [`READER`] with its password.
    pub fn source(&self, database: &str) -> String {
        let (engine, url) = (self.flavor.engine(), self.url(READER, database));
        format!(
            "engine = \"{engine}\"\nurl = {url:?}\npassword_file = {:?}\nbin_dir = {:?}\nlock_timeout = \"2s\"\n",
            self.password_file(),
            self.flavor.bin()
        )
    }

    /// A file with the password of [`READER`].
    pub fn password_file(&self) -> PathBuf {
        let path = self.dir.path().join("password");
        fs::write(&path, format!("{PASSWORD}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Creates an empty database.
    pub fn create_db(&self, name: &str) {
        self.sql("", &format!("CREATE DATABASE {} CHARACTER SET utf8mb4", quote_name(name)));
    }

    /// Creates [`READER`] with exactly the rights that it needs for a database.
    pub fn create_reader(&self, database: &str) {
        let (on, server) =
            (quote_name(&database.replace('_', "\\_")), self.flavor.server_rights().join(", "));
        self.sql(
            "",
            &format!(
                "CREATE USER {READER}@localhost IDENTIFIED BY '{PASSWORD}';
                 GRANT {} ON {on}.* TO {READER}@localhost;
                 GRANT SELECT ON mysql.* TO {READER}@localhost;
                 GRANT {server} ON *.* TO {READER}@localhost;",
                DATABASE_RIGHTS.join(", ")
            ),
        );
    }

    /// Loads scripts of `tests/it/sql/mysql`.
    pub fn load(&self, database: &str, scripts: &[&str]) {
        for script in scripts {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sql/mysql").join(script);
            self.sql(database, &fs::read_to_string(path).unwrap());
        }
    }

    /// Creates the torture database: what both products have, and what only this one has.
    pub fn load_torture(&self, database: &str) {
        self.create_db(database);
        let own = format!("{}.sql", self.flavor.engine());
        self.load(database, &["values.sql", "tables.sql", &own, "rights.sql"]);
    }

    /// All of a database as the product's own dump writes it, without the database's name, and what the dump rounds or
    /// leaves out: checksums of the rows as they are stored, history, and positions of sequences.
    pub fn picture(&self, database: &str) -> String {
        let mut dump = self.flavor.dump();
        dump.args(["--no-defaults", "-u", ADMIN, "--default-character-set=utf8mb4", "-S"]).arg(self.socket());
        dump.args(["--skip-dump-date", "--skip-comments", "--hex-blob", "--order-by-primary", "--routines"]);
        dump.args(["--events", "--triggers", "--skip-extended-insert", "--skip-lock-tables", "--force"]);
        if self.flavor == Flavor::MySql {
            dump.args(["--set-gtid-purged=OFF", "--column-statistics=0"]);
        }
        // A view of a table that is gone makes it fail, after it has written everything.
        let output = dump.arg(database).output().unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.len() > 1000, "{}", String::from_utf8_lossy(&output.stderr));
        text += &self.checksums(database);
        text += &self.history(database);
        text.replace(&format!("`{database}`."), "").replace(&format!("{database}."), "")
    }

    fn names(&self, database: &str, condition: &str) -> Vec<String> {
        let sql = format!(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND {condition} ORDER BY table_name"
        );
        self.sql(database, &sql).lines().map(quote_name).collect()
    }

    fn checksums(&self, database: &str) -> String {
        // What MySQL keeps for an index over an array counts in the checksum, and is different each time.
        let tables = self.names(
            database,
            "table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_name <> 'functional'",
        );
        if tables.is_empty() {
            return String::new();
        }
        self.sql(database, &format!("CHECKSUM TABLE {}", tables.join(", ")))
    }

    fn history(&self, database: &str) -> String {
        let mut text = String::new();
        for table in self.names(database, "table_type = 'SYSTEM VERSIONED'") {
            let (starts, ends) = match table.as_str() {
                "`versioned_columns`" => ("since", "until"),
                _ => ("row_start", "row_end"),
            };
            let sql =
                format!("SELECT *, {starts}, {ends} FROM {table} FOR SYSTEM_TIME ALL ORDER BY id, {starts}");
            text += &format!("\n{table}\n{}", self.sql(database, &sql));
        }
        for sequence in self.names(database, "table_type = 'SEQUENCE'") {
            text += &format!("\n{sequence}\n{}", self.sql(database, &format!("SELECT * FROM {sequence}")));
        }
        text
    }
}

impl Drop for MysqlServer {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

/// Both databases look the same to the product's own dump.
#[track_caller]
pub fn assert_same(expected: (&MysqlServer, &str), found: (&MysqlServer, &str)) {
    let pictures = [expected.0.picture(expected.1), found.0.picture(found.1)];
    if pictures[0] == pictures[1] {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = ["expected", "found"].map(|name| dir.path().join(name));
    for (path, picture) in paths.iter().zip(&pictures) {
        fs::write(path, picture).unwrap();
    }
    let diff = Command::new("diff").args(["-U0", "--text"]).args(&paths).output().unwrap();
    let lines = String::from_utf8_lossy(&diff.stdout).into_owned();
    let lines: Vec<String> = lines.lines().take(60).map(|line| line.chars().take(300).collect()).collect();
    panic!("the databases differ:\n{}", lines.join("\n"));
}

/// A name as an SQL identifier.
pub fn quote_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b if b.is_ascii_alphanumeric() || b"-._~/".contains(&b) => (b as char).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Neither server runs as root; other users run it as themselves.
fn as_mysql(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=mysql", "--regid=mysql", "--init-groups", "--"]).arg(program);
        command.current_dir("/");
        command
    } else {
        Command::new(program)
    }
}

fn give_to_mysql(path: &Path) {
    if is_root() {
        let id = |flag| -> u32 {
            let text = run(Command::new("id").args([flag, "mysql"]));
            String::from_utf8_lossy(&text).trim().parse().unwrap()
        };
        chown(path, Some(id("-u")), Some(id("-g"))).unwrap();
    }
}

/// An initialised data directory, kept between runs: copying it takes a small part of the time of making it.
fn template(flavor: Flavor) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let server = flavor.bin().join(flavor.program());
    let full = run(Command::new(&server).arg("--version"));
    let full = String::from_utf8_lossy(&full).into_owned();
    let full = full.split("Ver ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let base = PathBuf::from(format!("/var/tmp/marbre-tests-mysql-{}", rustix::process::geteuid().as_raw()));
    let template = base.join(format!("template-1-{}-{full}", flavor.engine()));
    if template.is_dir() {
        return template;
    }
    fs::create_dir_all(&base).unwrap();
    give_to_mysql(&base);
    let new = base.join(format!("new-{}-{}", flavor.engine(), std::process::id()));
    let at = format!("--datadir={}", new.display());
    match flavor {
        Flavor::MariaDb => run(as_mysql("mariadb-install-db").args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--innodb-log-file-size=32M",
            &at,
        ])),
        Flavor::MySql => run(as_mysql(&server).args([
            "--no-defaults",
            "--initialize-insecure",
            "--innodb-redo-log-capacity=32M",
            &at,
        ])),
    };
    // A server that has this file would share its identity with others.
    let _absent = fs::remove_file(new.join("auto.cnf"));
    // Another test process may have been faster: then its template is used.
    if fs::rename(&new, &template).is_err() {
        fs::remove_dir_all(&new).unwrap();
    }
    template
}

mod tests {
    use super::*;

    fn comes_and_goes(flavor: Flavor) {
        let server = MysqlServer::with_tcp(flavor);
        let name = "abonnés `d'été` = x%20";
        server.create_db(name);
        assert_eq!(server.sql(name, "SELECT 6 * 7, DATABASE()"), format!("42\t{name}"));
        server.create_reader(name);
        assert!(server.sql_fails(name, "SELECT nonsense").contains("1054"));
        let (pid, dir) = (server.pid(), server.dir.path().to_owned());
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!dir.exists());
    }

    #[test]
    fn a_mariadb_comes_and_goes() {
        comes_and_goes(Flavor::MariaDb);
    }

    #[test]
    fn a_mysql_comes_and_goes() {
        comes_and_goes(Flavor::MySql);
    }
}
