//! What the agent remembers between runs, in SQLite. All of it is a cache (invariant I6): without it the
//! next snapshot is a full one, and receipts are read from the targets again.

mod agents;
mod ballast;
mod baseline;
mod epoch_keys;
mod forget;
mod guarantees;
mod incidents;
mod migrations;
mod outbox;
mod places;
mod proofs;
mod records;
mod runs;
mod slots;
mod unneeded;

pub(crate) use baseline::Baseline;
pub(crate) use outbox::{ChannelHealth, Post, Waiting, Which};
pub(crate) use records::{SavedDrill, SavedReceipt, SavedRecord, SavedSummary};
pub use slots::SlotRecord;
pub(crate) use slots::{DIED, Scheduled, Slots};
pub(crate) use unneeded::Waited;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags, OptionalExtension, ffi, params};

use crate::error::{BoxError, Error, Result, ResultExt, disk_remedy};
use crate::model::id::{DatabaseId, EpochId, Sha256, SnapshotId, TargetName};
use crate::model::object::{ObjectKey, VersionId};

const FILE: &str = "state.sqlite";

/// The agent's memory.
#[derive(Debug, Clone)]
pub struct State {
    folder: PathBuf,
    connection: Arc<Mutex<Connection>>,
    /// Why nothing that is noted here is kept, where the disk takes no writes.
    unwritable: Option<Arc<str>>,
}

/// Goes on where something could not be noted: the state is a cache, and what is not in it is read from the targets again.
pub(crate) fn noted(result: Result<()>) {
    if let Err(e) = result {
        tracing::warn!(cause = e.to_string(), "the state cannot be written");
    }
}

/// The epoch that snapshots of a database currently join. Nothing here can decrypt it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EpochState {
    /// The epoch.
    pub epoch: EpochId,
    /// The public half of its key.
    pub recipient: String,
    /// The key of the row hashes.
    pub row_key: [u8; 32],
    /// The content of `epoch.age`.
    pub sealed: Vec<u8>,
    /// When it began.
    pub created_at: Timestamp,
    /// The recipients that it was sealed to.
    pub recipients: Vec<Sha256>,
}

/// The newest receipt of a database that this agent knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its place in the chain.
    pub sequence: u64,
    /// Its hash.
    pub hash: Sha256,
    /// Its snapshot.
    pub snapshot: SnapshotId,
}

impl State {
    /// Opens the state in this folder if there is one; creates nothing.
    pub(crate) fn open_existing(folder: &Path) -> Result<Option<Self>> {
        folder.join(FILE).exists().then(|| Self::open(folder)).transpose()
    }

    /// Opens the state in this folder (created with mode 0700 if it does not exist).
    pub fn open(folder: &Path) -> Result<Self> {
        refuse_other_owner(folder)?;
        make_private_folder(folder)?;
        let path = folder.join(FILE);
        let what = format!("open the state {}", path.display());
        let unusable = |e| {
            Error::internal(format!("failed to {what}")).cause(e).remedy(format!(
                "The state is only a cache: move {} away if it is damaged. The next snapshot is then a full one.",
                folder.display()
            ))
        };
        let mut private = Ok(());
        let opened = Connection::open(&path).and_then(|connection| {
            private = restrict(&path);
            migrations::prepare(&connection)?;
            // A disk that is read-only lets it be opened, where the files beside it are there already.
            match connection.is_readonly("main")? {
                true => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None)),
                false => Ok(connection),
            }
        });
        let mut unwritable = None;
        let connection = match opened {
            Err(e) if takes_no_writes(&e) => {
                unwritable = Some(e.to_string().into());
                tracing::warn!(
                    cause = e.to_string(),
                    "the state in {} cannot be written: what is noted from here on is lost, and the next snapshot may send more than what changed",
                    folder.display()
                );
                copy_in_memory(&path).map_err(unusable)?
            }
            opened => private.and(opened.map_err(unusable))?,
        };
        Ok(Self { folder: folder.to_owned(), connection: Arc::new(Mutex::new(connection)), unwritable })
    }

    /// What people must know where nothing that is noted here is kept: a fragment for a warning.
    pub(crate) fn unwritable(&self) -> Option<String> {
        let cause = self.unwritable.as_ref()?;
        Some(format!(
            "the state in {} cannot be written, so nothing is noted: {cause}",
            self.folder.display()
        ))
    }

    /// The folder for what is remembered of a database's streams (see `job::snapshot::stream_cache`).
    pub(crate) fn streams_folder(&self, database: &DatabaseId) -> PathBuf {
        self.folder.join("streams").join(database.publisher.as_str()).join(database.database.as_str())
    }

    /// The file whose lock says that a snapshot or a prune runs for a database.
    pub(crate) fn lock_file(&self, database: &DatabaseId) -> PathBuf {
        self.lock_file_for(database, "snapshot")
    }

    /// Names of publishers and databases have no dots, so no two databases have one lock.
    fn lock_file_for(&self, database: &DatabaseId, what: &str) -> PathBuf {
        self.folder.join("locks").join(format!("{}.{}.{what}", database.publisher, database.database))
    }

    /// The file whose lock says that a sync or a prune runs for a database. A sync copies what is complete, so it does not
    /// block a snapshot; but what a prune deletes it would copy again.
    pub(crate) fn sync_lock_file(&self, database: &DatabaseId) -> PathBuf {
        self.lock_file_for(database, "sync")
    }

    /// The file whose lock says that a prune runs for a database, or that somebody decides what the next one does.
    pub(crate) fn prune_lock_file(&self, database: &DatabaseId) -> PathBuf {
        self.lock_file_for(database, "prune")
    }

    /// The file whose lock says that a drill runs for a database: drills and snapshots do not block each
    /// other.
    pub(crate) fn drill_lock_file(&self, database: &DatabaseId) -> PathBuf {
        self.lock_file_for(database, "drill")
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere cannot leave a SQLite connection half-used: statements are atomic.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current epoch of a database.
    pub(crate) fn epoch(&self, database: &DatabaseId) -> Result<Option<EpochState>> {
        let row = self
            .db()
            .query_row(
                "SELECT epoch, recipient, row_key, sealed, created_at, recipients FROM epoch WHERE database = ?1",
                [database.to_string()],
                |r| {
                    Ok((
                        r.get::<_, String>(0)?,
                        r.get::<_, String>(1)?,
                        r.get::<_, [u8; 32]>(2)?,
                        r.get::<_, Vec<u8>>(3)?,
                        r.get::<_, String>(4)?,
                        r.get::<_, String>(5)?,
                    ))
                },
            )
            .optional()
            .or_internal("read the epoch from the state")?;
        row.map(|(epoch, recipient, row_key, sealed, created_at, recipients)| {
            Ok(EpochState {
                epoch: parse(&epoch)?,
                recipient,
                row_key,
                sealed,
                created_at: parse(&created_at)?,
                recipients: recipients.split_whitespace().map(parse).collect::<Result<_>>()?,
            })
        })
        .transpose()
    }

    /// Notes that the current epoch can hold no more snapshots: the next one begins a new epoch.
    pub(crate) fn forget_epoch(&self, database: &DatabaseId) -> Result<()> {
        self.db()
            .execute("DELETE FROM epoch WHERE database = ?1", [database.to_string()])
            .or_internal("forget the epoch in the state")
            .map(drop)
    }

    /// Remembers an epoch as it begins: what is stored of it is used again, even if its first snapshot is cut off.
    pub(crate) fn begin_epoch(&self, database: &DatabaseId, epoch: &EpochState) -> Result<()> {
        save_epoch(&self.db(), database, epoch).or_internal("save the epoch in the state")
    }

    /// Remembers the current epoch and the newest receipt together, once a snapshot is stored.
    pub(crate) fn commit(
        &self,
        database: &DatabaseId,
        epoch: &EpochState,
        receipt: &SavedReceipt,
    ) -> Result<()> {
        let mut db = self.db();
        let change = |db: &mut Connection| -> rusqlite::Result<()> {
            let transaction = db.transaction()?;
            save_epoch(&transaction, database, epoch)?;
            records::save_receipt(&transaction, database, receipt)?;
            agents::know_chain(&transaction, database)?;
            transaction.commit()
        };
        change(&mut db).or_internal("save the snapshot in the state")
    }

    /// Packs that failed a check: the next snapshot does not refer to them.
    pub(crate) fn lost_packs(&self, database: &DatabaseId) -> Result<Vec<Sha256>> {
        let db = self.db();
        let mut statement = db
            .prepare_cached("SELECT pack FROM lost_pack WHERE database = ?1")
            .or_internal("read lost packs from the state")?;
        let rows = statement
            .query_map([database.to_string()], |r| r.get::<_, String>(0))
            .or_internal("read lost packs from the state")?;
        rows.map(|r| parse(&r.or_internal("read lost packs from the state")?)).collect()
    }

    /// Notes that a pack failed a check.
    pub(crate) fn lose_pack(&self, database: &DatabaseId, pack: &Sha256) -> Result<()> {
        self.db()
            .execute(
                "INSERT OR IGNORE INTO lost_pack (database, pack) VALUES (?1, ?2)",
                [database.to_string(), pack.to_string()],
            )
            .or_internal("save a lost pack in the state")
            .map(drop)
    }

    /// Notes that no pack is lost any more: every copy was read.
    pub(crate) fn find_packs(&self, database: &DatabaseId) -> Result<()> {
        self.db()
            .execute("DELETE FROM lost_pack WHERE database = ?1", [database.to_string()])
            .or_internal("forget lost packs in the state")
            .map(drop)
    }

    /// Remembers which version of an object is ours.
    pub(crate) fn remember_version(
        &self,
        target: &TargetName,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<()> {
        let place = self.place_of(target)?;
        self.db()
            .execute(
                "INSERT OR REPLACE INTO version (target, key, version) VALUES (?1, ?2, ?3)",
                [place.as_str(), key.as_str(), &version.0],
            )
            .or_internal("save an object's version in the state")
            .map(drop)
    }

    /// Which version of an object is ours, if the target has versions.
    pub(crate) fn version(&self, target: &TargetName, key: &ObjectKey) -> Result<Option<VersionId>> {
        let place = self.place_of(target)?;
        self.db()
            .query_row(
                "SELECT version FROM version WHERE target = ?1 AND key = ?2",
                [place.as_str(), key.as_str()],
                |r| r.get(0).map(VersionId),
            )
            .optional()
            .or_internal("read an object's version from the state")
    }
}

/// Proofs are remembered to the second.
fn whole_second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Creates a folder that only this user can enter, with its parents.
pub(crate) fn make_private_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| {
        let remedy = disk_remedy(&e).unwrap_or(
            "Make it writable for the user that runs marbre, or name another `state_dir` or `spool_dir`.",
        );
        Error::preflight(format!("failed to make the folder {}", folder.display())).cause(e).remedy(remedy)
    })
}

/// Root may write into a folder of another user, and that user can then not read what root has made there: every later run
/// would fail.
fn refuse_other_owner(folder: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let Ok(owner) = std::fs::metadata(folder).map(|folder| folder.uid()) else { return Ok(()) };
    if owner == 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let name = user_name(owner).unwrap_or_else(|| format!("#{owner}"));
    let what = format!("the state in {} belongs to user {name}, and this runs as root", folder.display());
    Err(Error::preflight(what).remedy(format!("Run the same command as that user: sudo -u {name} marbre …")))
}

fn user_name(id: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut users = users.lines().map(|user| user.split(':'));
    users.find_map(|mut user| {
        let name = user.next()?;
        (user.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

/// Writes a file that only this user can read, replacing its content.
pub(crate) fn write_private_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

fn restrict(path: &Path) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .or_internal(format!("restrict {}", path.display()))
}

/// Whether this is because the disk is full, broken, or mounted for reading only.
fn takes_no_writes(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, DiskFull, ReadOnly, SystemIoFailure};
    matches!(e.sqlite_error_code(), Some(CannotOpen | DiskFull | ReadOnly | SystemIoFailure))
}

/// What the file holds, in memory: a snapshot must not fail because nothing can be noted about it.
fn copy_in_memory(path: &Path) -> rusqlite::Result<Connection> {
    let mut memory = Connection::open_in_memory()?;
    if let Ok(mut url) = url::Url::from_file_path(path) {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let mut copied = Ok(());
        // What is in the log beside the file is only seen where the log's own index is there, or can be made.
        for query in ["mode=ro", "immutable=1"] {
            url.set_query(Some(query));
            if let Ok(file) = Connection::open_with_flags(url.as_str(), flags) {
                copied = Backup::new(&file, &mut memory)
                    .and_then(|backup| backup.run_to_completion(1024, std::time::Duration::ZERO, None));
                if copied.is_ok() {
                    break;
                }
            }
        }
        copied?;
    }
    migrations::prepare(&memory)?;
    Ok(memory)
}

fn save_epoch(db: &Connection, database: &DatabaseId, epoch: &EpochState) -> rusqlite::Result<()> {
    let recipients: Vec<String> = epoch.recipients.iter().map(Sha256::to_string).collect();
    db.execute(
        "INSERT OR REPLACE INTO epoch (database, epoch, recipient, row_key, sealed, created_at, recipients)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            database.to_string(),
            epoch.epoch.as_str(),
            epoch.recipient,
            epoch.row_key,
            epoch.sealed,
            epoch.created_at.to_string(),
            recipients.join(" ")
        ],
    )
    .map(drop)
}

fn parse<T: std::str::FromStr<Err: Into<BoxError>>>(text: &str) -> Result<T> {
    text.parse().or_internal("understand the state (delete the state folder: it is only a cache)")
}
