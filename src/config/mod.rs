//! TOML files → one validated [`Config`]; everything that is wrong is reported together.
//!
//! The keys are written up in `docs/CONFIGURATION.md`; `config.example.toml` holds all of them.

mod alerts;
mod channel_values;
mod channels;
mod checks;
mod complaint;
mod drills;
mod effective;
mod engines;
mod forms;
mod lines;
mod names;
mod recipients;
mod retention;
mod schedule;
mod schema;
mod secret;
mod section;
mod signers;
mod targets;
#[cfg(test)]
mod tests;
mod web;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use alerts::{AlertChannel, Alerts};
pub(crate) use channel_values::{MailTls, PingMethod};
pub(crate) use channels::{ChannelSettings, Http, Place, WebhookShape};
pub(crate) use schedule::{Deadlines, Schedules, system_zone};
pub(crate) use secret::Secret;
pub(crate) use web::Web;

use crate::error::{Error, ErrorKind, Result};
use crate::model::drill_check::{Check, Percent};
use crate::model::engine_kind::EngineKind;
use crate::model::id::{DatabaseId, PublisherName, TargetName};
use crate::model::isolation::Isolation;
use crate::model::locale::Locale;
use crate::model::object_lock;
use crate::model::object_lock::{LockMode, LockTerm};
use crate::model::preferred_server::PreferredServer;
use crate::model::retention::Policy;
use crate::model::score::Owner;
use crate::model::wildcard;
use complaint::{Report, SourceFile, nearest};
pub(crate) use effective::{Effective, Setting};
use section::Document;

/// Where the configuration is looked for when neither flag nor environment names one.
pub(crate) const DEFAULT_PATH: &str = "/etc/marbre/marbre.toml";
/// The environment variable that names the configuration.
pub(crate) const PATH_VARIABLE: &str = "MARBRE_CONFIG";

/// What one agent protects, and how. Paths are absolute, or relative to the working directory where
/// the configuration itself was named so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Where the agent keeps its state: a cache, and the signing key unless that is elsewhere.
    pub state_dir: PathBuf,
    /// Where packs (ciphertext only) wait for their targets.
    pub spool_dir: PathBuf,
    /// How many bytes may wait there.
    pub spool_limit: u64,
    /// How long a full spool may hold a snapshot up before targets slower than the others are left behind.
    pub spool_wait: Duration,
    /// Where drills restore: plaintext lies here while a drill runs.
    pub scratch_dir: PathBuf,
    /// Where the reports of drills are kept.
    pub report_dir: PathBuf,
    /// The agent's signing key: an OpenSSH Ed25519 private key.
    pub signing_key: PathBuf,
    /// By how much the daemon spreads the starts of its jobs, at most.
    pub jitter: Duration,
    /// How many snapshots the daemon runs at the same time, and how many other jobs beside them.
    pub parallel_jobs: NonZeroUsize,
    /// How often the daemon looks at the targets, besides after every job.
    pub look_every: Duration,
    /// Databases on the servers that need no snapshots.
    pub ignore_databases: Vec<String>,
    /// Where the daemon shows how it stands; `None`: nowhere.
    pub web: Option<Web>,
    /// The owners of data.
    pub publishers: BTreeMap<PublisherName, Publisher>,
    /// The places where copies are kept.
    pub targets: BTreeMap<TargetName, TargetConfig>,
    /// What is protected, in the order of the files. At least one.
    pub databases: Vec<Database>,
    /// Who is told what.
    pub alerts: Alerts,
    /// What is said of each database and target, and where.
    pub effective: Effective,
    /// What works, but should be better: `file:line: key: text`.
    pub warnings: Vec<String>,
    /// The main file.
    pub origin: PathBuf,
}

/// An owner of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publisher {
    /// Its name.
    pub name: PublisherName,
    /// Its age recipients as text, each valid, none twice, at least one.
    pub recipients: Vec<String>,
    /// The public keys (`ssh-ed25519 AAAA…`) that sign the publisher's own drills.
    pub signers: Vec<String>,
    /// How its people read pages that are written for them.
    pub locale: Locale,
}

/// A place where copies are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetConfig {
    /// Its name.
    pub name: TargetName,
    /// Its URL: an absolute path, `file://…` or `s3://…`, without credentials.
    pub url: String,
    /// An AWS credentials file, where the usual chain is not to be used.
    pub credentials_file: Option<PathBuf>,
    /// A snapshot that is not here failed, whatever `copies` says.
    pub required: bool,
    /// What it fails together with: a building, a region, a provider.
    pub domain: Option<String>,
    /// Who runs it.
    pub owner: Option<Owner>,
    /// It is in another place than the databases.
    pub offsite: bool,
    /// How many bytes per second go there, and how many come from there, at most.
    pub bandwidth: Option<u64>,
    /// How its objects are locked.
    pub lock: Option<LockConfig>,
}

/// How the objects at a target are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockConfig {
    /// Who may end a lock before its time.
    pub mode: LockMode,
    /// How long a snapshot stays locked after its epoch; without it, as long as the rules of retention keep it.
    pub keep: Option<Duration>,
}

impl TargetConfig {
    /// How the objects of a database are locked here. `None` where they are not.
    pub(crate) fn lock_term(&self, database: &Database) -> Option<LockTerm> {
        let lock = self.lock?;
        let retained = database.retention.as_ref().and_then(|retention| object_lock::span(&retention.policy));
        // One of the two is there: a configuration without them is refused.
        let keep = lock.keep.or(retained).unwrap_or_default();
        Some(LockTerm { mode: lock.mode, epoch: database.epoch, keep })
    }
}

/// One thing to protect.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Database {
    /// Its publisher and name.
    pub id: DatabaseId,
    /// Where it is read.
    pub source: Source,
    /// Where its copies go; none twice, at least one, all of them in [`Config::targets`].
    pub targets: Vec<TargetName>,
    /// How many targets must hold a snapshot for it to count; at most the number of targets.
    pub copies: NonZeroUsize,
    /// How many streams are read at the same time, at least 1.
    pub jobs: usize,
    /// After how long an epoch ends and the next snapshot is a full one.
    pub epoch: Duration,
    /// How old the newest snapshot may become (recovery point objective).
    pub rpo: Option<Duration>,
    /// How old the newest proof may become that the publisher holds a working key.
    pub key_proof_every: Option<Duration>,
    /// Its test restores.
    pub drills: Drills,
    /// When the daemon does what.
    pub schedules: Schedules,
    /// How long that may take.
    pub deadlines: Deadlines,
    /// What its restored data must be like.
    pub checks: Vec<Check>,
    /// What is kept; without it, everything.
    pub retention: Option<Retention>,
}

/// What is kept of a database's snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retention {
    /// The rules.
    pub policy: Policy,
    /// Where days, weeks, months and years begin.
    pub time_zone: jiff::tz::TimeZone,
    /// How many snapshots one run deletes at most.
    pub max_delete: usize,
    /// How long an object must be known to be needed by nobody before it goes.
    pub grace: Duration,
}

/// How test restores of a database are made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drills {
    /// Whether the agent keeps the key of the current epoch, so that it can drill: `key = "epoch"`. With
    /// `key = "none"` only the publisher can.
    pub key: DrillKey,
    /// How long the key of an epoch that has ended is kept for its last drill, at most.
    pub keep_key: Duration,
    /// How old the newest proof may become.
    pub every: Option<Duration>,
    /// How long a recovery may take (recovery time objective).
    pub rto: Option<Duration>,
    /// A server elsewhere, instead of a throwaway one.
    pub scratch: Option<ScratchServer>,
    /// The folder of `initdb` and `postgres`, where it is not found by itself.
    pub bin_dir: Option<PathBuf>,
    /// The user that a throwaway server runs as, where the agent is root.
    pub user: Option<String>,
    /// What keeps the code of the restored database apart, where drills use no server that is named.
    pub isolation: Isolation,
    /// How far the number of all rows may be from that of the last proven snapshot.
    pub rows_change: Percent,
    /// Tables, as `schema.table` (or `table`), that may become empty.
    pub may_be_empty: Vec<String>,
    /// Tables and other objects that may go; one that ends with `*` says how names begin.
    pub may_be_missing: Vec<String>,
    /// Built-in checks to skip.
    pub skip: Vec<String>,
    /// How long the reports of drills are kept in [`Config::report_dir`].
    pub keep_reports: Duration,
}

/// Which key the agent keeps for drills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrillKey {
    /// That of the current epoch.
    Epoch,
    /// None.
    None,
}

/// A server for drills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScratchServer {
    /// Its URL, without a password; the database in it is only connected to.
    pub url: String,
    /// Where the password is, if one is needed.
    pub password: Option<Secret>,
}

/// The built-in checks of drills, which `skip` can switch off.
pub(crate) const BUILT_IN_CHECKS: [&str; 9] = [
    "missing-tables",
    "missing-objects",
    "empty-tables",
    "row-count",
    "definitions",
    "check-table",
    "integrity",
    "foreign-keys",
    "amcheck",
];

/// Where a database is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A PostgreSQL database.
    Postgres {
        /// Its connection URL, without a password.
        url: String,
        /// Where the password is, if one is needed.
        password: Option<Secret>,
        /// The folder of `pg_dump`, where the one in `PATH` is not right.
        bin_dir: Option<PathBuf>,
        /// How long to wait for the locks at the start.
        lock_timeout: Duration,
        /// Rows of extensions' tables are read, although the extensions did not register them.
        extension_rows: bool,
        /// Rows that the server cannot write as text are left out and named, and stop no snapshot.
        leave_out_too_long: bool,
        /// Which of the servers in the URL is read.
        prefer: PreferredServer,
        /// How long others may wait for the locks of a snapshot that is being read, before it is given up.
        give_way_after: Duration,
    },
    /// A MariaDB or MySQL database.
    Mysql {
        /// Which of the two.
        kind: EngineKind,
        /// Its connection URL, without a password.
        url: String,
        /// Where the password is, if one is needed.
        password: Option<Secret>,
        /// The folder of the server's programs, for drills.
        bin_dir: Option<PathBuf>,
        /// How long writers may wait at the start of a snapshot.
        lock_timeout: Duration,
        /// Tables that know no transactions are an error.
        refuse_non_transactional: bool,
        /// How long others may wait for the locks of a snapshot that is being read, before it is given up.
        give_way_after: Duration,
    },
    /// A SQLite database.
    Sqlite {
        /// Its file.
        path: PathBuf,
        /// How long a writer may wait for a snapshot, before that gives way.
        give_way_after: Duration,
    },
}

impl Source {
    /// The engine that reads it.
    pub(crate) fn engine(&self) -> EngineKind {
        match self {
            Self::Postgres { .. } => EngineKind::Postgres,
            Self::Mysql { kind, .. } => *kind,
            Self::Sqlite { .. } => EngineKind::Sqlite,
        }
    }
}

impl Config {
    /// Loads the configuration: `explicit`, else `$MARBRE_CONFIG`, else [`DEFAULT_PATH`], each with
    /// `conf.d/*.toml` beside it.
    ///
    /// # Errors
    /// One error of kind `Config` that lists every problem.
    pub(crate) fn load(explicit: Option<&Path>) -> Result<Self> {
        let main = match explicit {
            Some(path) => path.to_owned(),
            None => std::env::var_os(PATH_VARIABLE)
                .filter(|path| !path.is_empty())
                .map_or(PathBuf::from(DEFAULT_PATH), PathBuf::from),
        };
        let mut files = vec![read_file(&main, 0)?];
        for path in fragments(&main)? {
            files.push(read_file(&path, files.len())?);
        }
        Self::assemble(&files, &main)
    }

    /// Parses one text as the file `origin`; relative paths in it start from `origin`'s folder.
    ///
    /// # Errors
    /// As [`Config::load`].
    #[cfg(test)]
    pub(crate) fn parse(text: &str, origin: &Path) -> Result<Self> {
        let file = SourceFile { order: 0, path: origin.to_owned(), text: text.to_owned() };
        Self::assemble(&[file], origin)
    }

    fn assemble(files: &[SourceFile], main: &Path) -> Result<Self> {
        let report = Report::default();
        let parsed = files.iter().map(|file| Document::parse(file, &report));
        let documents: Vec<Document<'_>> = parsed.flatten().collect();
        // With a file missing, half of what follows would be its echo.
        if !report.is_clean() {
            return Err(report.error(main));
        }
        match schema::read(&documents, main, &report) {
            Some(config) if report.is_clean() => Ok(config),
            _ => Err(report.error(main)),
        }
    }

    /// The database that people call `abonnes` or `gazette/abonnes`.
    ///
    /// # Errors
    /// Kind `NotFound`, with the nearest name and the known ones.
    pub(crate) fn database(&self, name: &str) -> Result<&Database> {
        let called = |db: &&Database| db.id.database.as_str() == name || db.id.to_string() == name;
        if let Some(database) = self.databases.iter().find(called) {
            return Ok(database);
        }
        let full: Vec<String> = self.databases.iter().map(|db| db.id.to_string()).collect();
        let short = self.databases.iter().map(|db| db.id.database.as_str());
        let near = nearest(name, short.chain(full.iter().map(String::as_str)));
        let guess = near.map_or(String::new(), |near| format!("Did you mean `{near}`? "));
        Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no database {name:?} in {}", self.origin.display()),
        )
        .remedy(format!("{guess}Known databases: {}.", full.join(", "))))
    }

    /// The databases of these names, or of names as these patterns say (`shop-*`, `gazette/*`), each once, in the order of the
    /// configuration.
    ///
    /// # Errors
    /// Something that names no database.
    pub(crate) fn databases_matching(&self, names: &[String]) -> Result<Vec<&Database>> {
        let mut wanted = HashSet::new();
        for name in names {
            if !wildcard::is_pattern(name) {
                wanted.insert(&self.database(name)?.id);
                continue;
            }
            let called = |id: &DatabaseId| {
                wildcard::matches(name, id.database.as_str()) || wildcard::matches(name, &id.to_string())
            };
            let found: Vec<&DatabaseId> =
                self.databases.iter().map(|db| &db.id).filter(|id| called(id)).collect();
            if found.is_empty() {
                let full: Vec<String> = self.databases.iter().map(|db| db.id.to_string()).collect();
                let what = format!("no database in {} is called like {name:?}", self.origin.display());
                let remedy = format!("Known databases: {}.", full.join(", "));
                return Err(Error::new(ErrorKind::NotFound, what).remedy(remedy));
            }
            wanted.extend(found);
        }
        Ok(self.databases.iter().filter(|db| wanted.contains(&db.id)).collect())
    }

    /// The database of this name, or all of them where none is named.
    ///
    /// # Errors
    /// Those of [`Config::database`].
    pub(crate) fn databases_named(&self, name: Option<&str>) -> Result<Vec<&Database>> {
        match name {
            Some(name) => Ok(vec![self.database(name)?]),
            None => Ok(self.databases.iter().collect()),
        }
    }
}

/// Reads a duration of a command line, in the form that the configuration has for them.
///
/// # Errors
/// A text that shows the accepted form.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let accepted = "give a whole number and a unit, as 30s, 5m, 26h or 30d";
    forms::parse_duration(text).filter(|d| !d.is_zero()).ok_or_else(|| accepted.to_owned())
}

fn read_file(path: &Path, order: usize) -> Result<SourceFile> {
    let failed = |cause: String| {
        Error::new(ErrorKind::Config, format!("failed to read the configuration {}", path.display()))
            .cause(cause)
    };
    match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(SourceFile {
                order,
                path: path.to_owned(),
                text,
            }),
            Err(e) => Err(failed(format!(
                "not UTF-8 from byte {}",
                e.utf8_error().valid_up_to()
            ))
            .remedy("Save the file as UTF-8 text.")),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(failed(e.to_string()).remedy(format!(
            "Name a configuration with --config FILE or ${PATH_VARIABLE}, or create {DEFAULT_PATH} from config.example.toml. To restore, list or verify with --from URL none is needed."
        ))),
        Err(e) => Err(failed(e.to_string())
            .remedy("Let the user that runs marbre read the file, or run marbre as its owner.")),
    }
}

/// `conf.d/*.toml` beside the main file, sorted by name; hidden files do not count.
fn fragments(main: &Path) -> Result<Vec<PathBuf>> {
    let folder = main.parent().unwrap_or(Path::new("")).join("conf.d");
    let failed = |e: io::Error| {
        Error::new(ErrorKind::Config, format!("failed to read the configuration folder {}", folder.display()))
            .cause(e)
            .remedy("Let the user that runs marbre read the folder.")
    };
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
