//! Replacing a database by one that was loaded beside it on the same server: by rename, in one transaction.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Session};
use super::database_properties::Database;
use super::destination::{drop_database, drop_subscriptions, maintenance, marked};
use super::quote::{ident, literal};
use crate::error::{Error, ErrorKind, Result};
use crate::model::id::{Sha256, SnapshotId};

/// The longest name that PostgreSQL keeps, in bytes.
const LONGEST: usize = 63;

/// How often sessions are ended while the rename waits for their end.
const INTERVAL: Duration = Duration::from_millis(200);

/// The beginning of the comment of a database that was replaced.
const REPLACED: &str = "marbre: REPLACED by a restore of ";

/// The beginning of the comment of a database that was replaced by something that lacks a part.
const KEPT: &str = "marbre: KEPT beside a restore with exceptions of ";

/// The names that a replacement uses beside a database's own.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The database that is to be replaced.
    pub database: String,
    /// The database that is being loaded.
    pub new: String,
    /// The replaced database, until it is dropped.
    pub old: String,
    /// The replaced database, where what has replaced it lacks a part: that is left to people.
    pub kept: String,
}

impl Names {
    /// The names beside this one. They are always the same, so that what a killed restore left is found.
    pub(super) fn beside(database: &str) -> Self {
        Self {
            database: database.to_owned(),
            new: suffixed(database, ".marbre-new"),
            old: suffixed(database, ".marbre-old"),
            kept: suffixed(database, ".marbre-kept"),
        }
    }
}

/// A name with a suffix. What is too long for the server is cut and given a hash, which keeps the names apart.
fn suffixed(name: &str, suffix: &str) -> String {
    if name.len() + suffix.len() <= LONGEST {
        return format!("{name}{suffix}");
    }
    let hash = Sha256::of(name.as_bytes()).to_string();
    let suffix = format!(".{}{suffix}", &hash[..8]);
    let end = (0..=LONGEST - suffix.len()).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    format!("{}{suffix}", &name[..end])
}

/// Removes what an earlier replacement left. Fails if somebody else's database has one of the names, or if the
/// database could not be renamed at the end.
pub(super) async fn prepare(
    connector: &Connector,
    server: &Session,
    names: &Names,
    cancel: &CancellationToken,
) -> Result<()> {
    let rows = server
        .query("SELECT count(*) FROM pg_prepared_xacts WHERE database = $1::text", &[&names.database])
        .await?;
    let prepared: i64 = rows.first().map_or(0, |row| row.get(0));
    if prepared > 0 {
        return Err(Error::preflight(format!(
            "database {} has {prepared} prepared transactions and cannot be replaced",
            names.database.escape_debug()
        ))
        .remedy("End them with COMMIT PREPARED or ROLLBACK PREPARED: `pg_prepared_xacts` lists them."));
    }
    for name in [&names.new, &names.old] {
        let rows = server
            .query(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1::text",
                &[name],
            )
            .await?;
        let Some(row) = rows.first() else { continue };
        let comment = row.get::<_, Option<String>>(0).unwrap_or_default();
        if marked(&comment).is_none() && !comment.starts_with(REPLACED) {
            return Err(Error::preflight(format!(
                "a database {} is in the way, which marbre did not make",
                name.escape_debug()
            ))
            .remedy("Rename it, or drop it."));
        }
        remove(connector, server, name, &mut Vec::new(), cancel).await?;
    }
    Ok(())
}

/// Puts the new database in the place of the old one. The old one keeps its place if this fails.
pub(super) async fn swap(
    connector: &Connector,
    names: &Names,
    comment: Option<&str>,
    snapshot: &SnapshotId,
) -> Result<()> {
    let cancel = CancellationToken::new();
    let server = maintenance(connector, &cancel).await?;
    let terminator = maintenance(connector, &cancel).await?;
    let replaced = format!("{REPLACED}{snapshot}; nothing needs this database any more, drop it");
    // Statements that are sent together are one transaction.
    let sql = [
        format!("ALTER DATABASE {} RENAME TO {}", ident(&names.database), ident(&names.old)),
        format!("ALTER DATABASE {} RENAME TO {}", ident(&names.new), ident(&names.database)),
        Database::comment_on(&names.database, comment),
        Database::comment_on(&names.old, Some(&replaced)),
    ]
    .join(";\n");
    let operation = format!("put the restored database in the place of {}", names.database.escape_debug());
    let renaming = server.batch(&sql, &operation);
    tokio::pin!(renaming);
    loop {
        // The rename lets nobody in, and waits up to 5 s for those who are in.
        let renamed = tokio::select! {
            renamed = &mut renaming => renamed,
            () = terminate(&terminator, names) => continue,
        };
        return renamed.map_err(|e| {
            e.remedy(format!(
                "The old database is as it was. End what uses {}, and run the command again.",
                names.database.escape_debug()
            ))
        });
    }
}

/// Keeps the replaced database under another name, unless one is kept already: then this one was put here by a restore with
/// exceptions itself, and is dropped. Returns what people should know.
pub(super) async fn keep_old(
    connector: &Connector,
    names: &Names,
    snapshot: &SnapshotId,
) -> Result<Vec<String>> {
    let server = maintenance(connector, &CancellationToken::new()).await?;
    let sql = "SELECT FROM pg_database WHERE datname = $1::text";
    if !server.query(sql, &[&names.kept]).await?.is_empty() {
        return Ok(drop_old(connector, names).await);
    }
    let sql = [
        format!("ALTER DATABASE {} RENAME TO {}", ident(&names.old), ident(&names.kept)),
        Database::comment_on(&names.kept, Some(&format!("{KEPT}{snapshot}"))),
    ];
    server.batch(&sql.join(";\n"), "keep the old database").await?;
    Ok(vec![format!(
        "what was in {} is kept as database {}, because not all of the snapshot could be restored: drop it when nobody needs it",
        ident(&names.database),
        ident(&names.kept)
    )])
}

/// Ends the sessions of both databases, and waits a moment.
async fn terminate(session: &Session, names: &Names) {
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({}, {})",
        literal(&names.database),
        literal(&names.new)
    );
    // If they may not be ended, the rename says that the database is in use.
    let _ = session.batch(&sql, "end the sessions of the old database").await;
    tokio::time::sleep(INTERVAL).await;
}

/// Drops the replaced database. What does not work is a warning: the restore itself is done.
pub(super) async fn drop_old(connector: &Connector, names: &Names) -> Vec<String> {
    let mut warnings = Vec::new();
    let cancel = CancellationToken::new();
    let dropping = async {
        let server = maintenance(connector, &cancel).await?;
        remove(connector, &server, &names.old, &mut warnings, &cancel).await
    };
    if let Err(e) = dropping.await {
        warnings
            .push(format!("the old database is still there as {}: {e}; drop it", names.old.escape_debug()));
    }
    warnings
}

/// Drops what was loaded beside the database, if it is there.
pub(super) async fn drop_new(connector: &Connector, names: &Names) -> Result<()> {
    let cancel = CancellationToken::new();
    let server = maintenance(connector, &cancel).await?;
    remove(connector, &server, &names.new, &mut Vec::new(), &cancel).await.map_err(|e| {
        e.remedy(format!("Drop the database {}, or run the restore again.", names.new.escape_debug()))
    })
}

/// Drops a database with its subscriptions. It may be gone already.
async fn remove(
    connector: &Connector,
    server: &Session,
    name: &str,
    warnings: &mut Vec<String>,
    cancel: &CancellationToken,
) -> Result<()> {
    match connector.with_database(name).connect(cancel).await {
        Ok(session) => drop_subscriptions(&session, warnings).await?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    drop_database(server, name).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_fit_and_differ() {
        let short = Names::beside("abonnes");
        assert_eq!((short.new.as_str(), short.old.as_str()), ("abonnes.marbre-new", "abonnes.marbre-old"));
        let (long, other) = ("é".repeat(31), format!("{}a", "é".repeat(31)));
        let names: Vec<Names> = [long, other].iter().map(|name| Names::beside(name)).collect();
        for name in &names {
            assert!(name.new.len() <= LONGEST && name.new.ends_with(".marbre-new"), "{name:?}");
            assert_ne!(name.new, name.old);
        }
        assert_ne!(names[0].new, names[1].new);
    }
}
