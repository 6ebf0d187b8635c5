//! A throwaway database on a server that the owner names, and everything else that a drill makes there.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::super::connect::{Connector, Session};
use super::super::destination;
use super::super::details::Details;
use super::super::quote::{ident, idents, literal};
use super::super::version::Version;
use super::processes::remove_folder;
use super::random_name;
use crate::engine::interruptible;
use crate::error::{Error, ErrorKind, Result, ResultExt};

/// Written before anything is made on the server, so that a later run can remove it.
const JOURNAL: &str = "elsewhere.json";

/// What a drill makes on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Journal {
    /// The server, for people and to recognize it.
    server: String,
    /// The database.
    database: String,
    /// Roles that did not exist: the snapshot's, and the one for queries. They are made after the database.
    roles: Vec<String>,
    /// The database is being dropped: from here on roles may exist without it.
    dropping: bool,
}

impl Journal {
    fn path(folder: &Path) -> PathBuf {
        folder.join(JOURNAL)
    }

    fn read(folder: &Path) -> Result<Option<Self>> {
        let path = Self::path(folder);
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).or_internal(format!("read {}", path.display()))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).or_internal(format!("read {}", path.display())),
        }
    }

    /// Writes it atomically.
    fn write(&self, folder: &Path) -> Result<()> {
        let (path, new) = (Self::path(folder), folder.join("elsewhere.new"));
        let write = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(folder)?.sync_all()
        };
        write().or_internal(format!("write {}", path.display()))
    }
}

/// How long a drill waits for another one that uses the server.
const TURN: &str = "30min";
/// How long to wait for the server if it is in use and the operation can be retried later.
const LOOK: &str = "3s";

/// Only one drill uses a server at a time. Otherwise it would be unclear which drill made a role: one drill's role would
/// exist for the next, which would then depend on it.
async fn take_turn(admin: &Connector, lock_timeout: &str, cancel: &CancellationToken) -> Result<Session> {
    let session = admin.connect(cancel).await?;
    session.batch(&format!("SET lock_timeout = '{lock_timeout}'"), "set up the session").await?;
    let taking = async {
        let sql = "SELECT pg_advisory_lock(hashtextextended('marbre drill', 0))";
        session.client.batch_execute(sql).await.map_err(|e| match e.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Error::new(
                ErrorKind::Conflict,
                format!("another drill uses the server of {}", admin.describe()),
            )
            .remedy("Run the command again when it is done, or let the drills use different servers."),
            _ => session.failed("wait for other drills", &e),
        })
    };
    interruptible(cancel, taking).await?;
    Ok(session)
}

/// The version and the rights of the user.
pub(crate) struct Rights {
    /// The server's version.
    pub version: Version,
    /// The user may create databases.
    pub databases: bool,
    /// The user may create roles.
    pub roles: bool,
    /// The user may do everything.
    pub superuser: bool,
}

/// Reads what the user may do.
pub(crate) async fn rights(session: &Session) -> Result<Rights> {
    let rows = session
        .query(
            "SELECT rolcreatedb OR rolsuper, rolcreaterole OR rolsuper, rolsuper FROM pg_roles
             WHERE rolname = current_user",
            &[],
        )
        .await?;
    let (databases, roles, superuser) =
        rows.first().map_or((false, false, false), |row| (row.get(0), row.get(1), row.get(2)));
    Ok(Rights { version: session.version, databases, roles, superuser })
}

impl Rights {
    /// Fails where the user may not create databases.
    pub(super) fn refuse(&self, admin: &Connector) -> Result<()> {
        match self.databases {
            true => Ok(()),
            false => Err(Error::preflight(format!(
                "user {} may not create databases on the server for drills",
                admin.user().escape_debug()
            ))
            .remedy("Let its administrator run: ALTER ROLE … CREATEDB CREATEROLE.")),
        }
    }
}

/// A database with a random name.
pub(crate) struct RemoteDatabase {
    admin: Connector,
    folder: PathBuf,
    database: String,
    version: Version,
    /// While it lives, no other drill uses the server.
    turn: Session,
}

impl RemoteDatabase {
    /// Checks that the server fits, and records what will be made there; the loader makes the database itself.
    /// `own` are the roles that the drill makes for itself.
    pub(super) async fn start(
        admin: Connector,
        details: &Details,
        database: String,
        own: &[String],
        folder: &Path,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let turn = take_turn(&admin, TURN, cancel).await?;
        let (version, wanted) = (turn.version, details.server_major);
        if version.major != wanted {
            return Err(Error::preflight(format!(
                "wrong major version: the server for drills is PostgreSQL {version}, the snapshot's server was {wanted}"
            ))
            .remedy(format!(
                "Name a server of PostgreSQL {wanted} with `scratch`, or none: then a throwaway server is used."
            )));
        }
        rights(&turn).await?.refuse(&admin)?;
        destination::refuse(&turn, details).await?;
        let rows = turn.query("SELECT rolname::text FROM pg_roles", &[]).await?;
        let there: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        let of_snapshot = details.globals.roles.iter().map(|role| role.name.as_str());
        let roles = of_snapshot
            .chain(own.iter().map(String::as_str))
            .filter(|name| !there.contains(*name))
            .map(str::to_owned)
            .collect();
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .or_internal(format!("make the folder {}", folder.display()))?;
        let server = admin.describe();
        Journal { server, database: database.clone(), roles, dropping: false }.write(folder)?;
        Ok(Self { admin, folder: folder.to_owned(), database, version, turn })
    }

    /// A name for a database.
    pub(super) fn name() -> String {
        random_name(super::DATABASE_PREFIX)
    }

    /// The server's version.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Drops everything that was made.
    pub(super) async fn remove(self) -> Result<()> {
        // Held until the end, unless the connection has been lost in the meantime.
        let _turn = self.turn;
        clear(&self.admin, &self.folder).await
    }

    /// Leaves the database, and says what is there.
    pub(super) fn keep(self) -> Result<String> {
        let roles = Journal::read(&self.folder)?.map(|journal| journal.roles).unwrap_or_default();
        let roles = match roles.is_empty() {
            true => String::new(),
            false => format!(" DROP ROLE IF EXISTS {};", idents(&roles)),
        };
        Ok(format!(
            "The restored database is {} on the server of {}. When you are done with it, run there: DROP DATABASE {} \
             WITH (FORCE);{roles}",
            self.database,
            self.admin.describe(),
            ident(&self.database)
        ))
    }
}

/// Whether this folder belongs to a remote database.
pub(crate) fn is_remote(folder: &Path) -> Result<bool> {
    Ok(Journal::read(folder)?.is_some())
}

/// Removes what a drill left on a remote server, and its folder.
pub(crate) async fn sweep(admin: Option<&Connector>, folder: &Path) -> Result<()> {
    let Some(journal) = Journal::read(folder)? else { return Ok(()) };
    match admin {
        Some(admin) if admin.describe() == journal.server => {
            // A running drill must not lose roles that both use.
            let _turn = take_turn(admin, LOOK, &CancellationToken::new()).await?;
            clear(admin, folder).await
        }
        _ => Err(Error::preflight(format!(
            "a drill left database {} on the server of {}, which is not the server for drills now",
            journal.database, journal.server
        ))
        .remedy(format!("Drop the database there, then remove {}.", folder.display()))),
    }
}

/// Drops the database, then the roles, and verifies that they are gone; finally removes the folder.
async fn clear(admin: &Connector, folder: &Path) -> Result<()> {
    let Some(mut journal) = Journal::read(folder)? else { return remove_folder(folder).await };
    let server = admin.connect(&CancellationToken::new()).await?;
    if exists(&server, "pg_database", "datname", &journal.database).await? {
        journal.dropping = true;
        journal.write(folder)?;
        drop_database(admin, &server, &journal.database).await?;
    }
    // Without its database the drill made no role: a role of this name belongs to somebody else.
    if journal.dropping {
        drop_roles(&server, &journal.roles).await?;
    }
    remove_folder(folder).await
}

async fn exists(server: &Session, catalogue: &str, column: &str, name: &str) -> Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT FROM {catalogue} WHERE {column} = {})", literal(name));
    Ok(server.query(&sql, &[]).await?.first().is_some_and(|row| row.get(0)))
}

/// How often to try: a session that has just been closed may linger.
const TRIES: u32 = 10;

async fn drop_database(admin: &Connector, server: &Session, name: &str) -> Result<()> {
    if let Ok(inside) = admin.with_database(name).connect(&CancellationToken::new()).await {
        // If this fails, dropping the database fails too and says why.
        let _refused = destination::drop_subscriptions(&inside, &mut Vec::new()).await;
    }
    let mut tries = 0;
    loop {
        tries += 1;
        match destination::drop_database(server, name).await {
            Ok(()) => break,
            Err(e) if tries == TRIES => {
                return Err(e.remedy(format!("Drop database {name} on the server for drills by hand.")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
    match exists(server, "pg_database", "datname", name).await? {
        false => Ok(()),
        true => Err(Error::database(format!("database {name} is still on the server for drills"))
            .remedy("Drop it by hand.")),
    }
}

async fn drop_roles(server: &Session, roles: &[String]) -> Result<()> {
    let mut there = Vec::new();
    for role in roles {
        if exists(server, "pg_roles", "rolname", role).await? {
            there.push(role.clone());
        }
    }
    if there.is_empty() {
        return Ok(());
    }
    let shown = there.iter().map(|role| role.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
    // All at once, because they may depend on each other.
    let sql = format!("DROP ROLE {}", idents(&there));
    server
        .batch(&sql, &format!("drop the roles that the drill made ({shown})"))
        .await
        .map_err(|e| e.remedy("Drop these roles on the server for drills by hand."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_made_elsewhere_is_never_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_remote(folder.path()).unwrap());
        let journal = Journal {
            server: "postgres database postgres on db.example".into(),
            database: "marbre_scratch_1".into(),
            roles: vec!["app".into()],
            dropping: false,
        };
        journal.write(folder.path()).unwrap();
        assert_eq!(Journal::read(folder.path()).unwrap(), Some(journal));
        let error = sweep(None, folder.path()).await.unwrap_err().to_string();
        assert!(error.contains("marbre_scratch_1") && error.contains("db.example"), "{error}");
        fs::write(Journal::path(folder.path()), "{").unwrap();
        assert!(is_remote(folder.path()).is_err());
    }
}
