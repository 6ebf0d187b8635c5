//! What `doctor` checks before a snapshot.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Session};
use super::readers::SLOTS;
use super::tools::Tools;
use super::version::NEWEST_SERVER;
use super::{capture, catalogues, omitted, too_long};
use crate::engine::postgres::{relations, source_facts};
use crate::error::{Error, Result};
use crate::model::check::{Check, CheckState};

/// One check.
pub(crate) fn check(
    name: &str,
    state: CheckState,
    found: impl Into<String>,
    remedy: Option<String>,
) -> Check {
    Check { name: name.to_owned(), state, found: found.into(), remedy }
}

/// A check that passed.
pub(crate) fn ok(name: &str, found: impl Into<String>) -> Check {
    check(name, CheckState::Ok, found, None)
}

/// A check that passed, but should be improved.
pub(crate) fn warn(name: &str, found: impl Into<String>, remedy: &str) -> Check {
    check(name, CheckState::Warn, found, Some(remedy.to_owned()))
}

/// A check that failed with this error.
pub(crate) fn fail(name: &str, error: &Error) -> Check {
    let remedy = error.remedy_text().map(str::to_owned);
    check(name, CheckState::Fail, error.to_string(), remedy)
}

/// Names of the checks that need a connection.
const CONNECTED: [&str; 6] =
    ["server version", "client tools", "rights", "completeness", "locks", "connections"];

/// Checks everything; changes nothing.
pub(crate) async fn all(
    connector: &Connector,
    bin_dir: Option<&Path>,
    jobs: usize,
    cancel: &CancellationToken,
) -> Vec<Check> {
    let session = match connector.connect(cancel).await {
        Ok(session) => session,
        Err(error) => {
            let mut checks = vec![fail("connection", &error)];
            checks.extend(CONNECTED.map(|name| {
                check(name, CheckState::Skipped, "no connection", Some("Fix the connection first.".into()))
            }));
            return checks;
        }
    };
    let mut checks = vec![connection(connector), server(&session)];
    checks.push(match Tools::find(bin_dir, session.version.major).await {
        Ok(tools) => ok("client tools", format!("{} in {}", tools.version, tools.directory().display())),
        Err(error) => fail("client tools", &error),
    });
    for (name, result) in [
        ("rights", connector.convert_or_not(|| rights(connector, cancel)).await),
        ("completeness", connector.convert_or_not(|| completeness(connector, cancel)).await),
        ("locks", locks(&session).await),
        ("connections", connections(&session, jobs).await),
    ] {
        checks.push(result.unwrap_or_else(|error| fail(name, &error)));
    }
    checks
}

fn connection(connector: &Connector) -> Check {
    match connector.unproven_network() {
        false => ok("connection", connector.describe()),
        true => warn(
            "connection",
            format!("{}, whose identity is not verified", connector.describe()),
            "Use sslmode=verify-full, with sslrootcert if the authority is your own.",
        ),
    }
}

fn server(session: &Session) -> Check {
    let found = session.version.to_string();
    match session.version.major > NEWEST_SERVER {
        false => ok("server version", found),
        true => warn(
            "server version",
            format!("{found}, newer than any version that marbre was tested with"),
            "Prove a snapshot by a test restore, and look for a newer version of marbre.",
        ),
    }
}

async fn rights(connector: &Connector, cancel: &CancellationToken) -> Result<Check> {
    let session = connector.connect(cancel).await?;
    let tables = relations::tables(&session, connector.of_extensions()).await?;
    let missing = relations::missing_rights(&session, &tables, connector.user()).await?;
    if !missing.is_empty() {
        return Ok(fail("rights", &relations::rights_error(&missing, connector.user())));
    }
    Ok(ok("rights", format!("all of {} tables can be read", tables.len())))
}

/// What a snapshot would not hold.
async fn completeness(connector: &Connector, cancel: &CancellationToken) -> Result<Check> {
    let session = connector.connect(cancel).await?;
    source_facts::refuse_incomplete(&capture::all(&session).await?)?;
    let mut omitted = omitted::look(connector, &session).await?.omitted;
    let unknown = catalogues::unknown(&session).await?;
    if let Some(warning) = catalogues::warning(&unknown) {
        return Ok(warn("completeness", warning, catalogues::REMEDY));
    }
    // Last of all: it limits what the session may do.
    let met = too_long::look(connector, &session).await?;
    omitted.extend(met.omitted);
    let unseen = match met.unseen {
        0 => String::new(),
        n => format!("; nobody could look for rows that are too long in {n} of the large tables"),
    };
    if omitted.is_empty() {
        let found = format!("a snapshot holds everything that the database has{unseen}");
        return Ok(ok("completeness", found));
    }
    let what: Vec<String> = omitted.iter().map(|o| format!("{}: {}", o.what(), o.why)).collect();
    let remedies: Vec<&str> = omitted.iter().map(|o| o.remedy.as_str()).collect();
    Ok(warn("completeness", format!("not in a snapshot: {}{unseen}", what.join("; ")), &remedies.join(" ")))
}

/// Every table is locked by our transaction, by `pg_dump` and by each reader of rows, of which there are fewer if there is no
/// room for more.
async fn locks(session: &Session) -> Result<Check> {
    let sql = format!("SELECT (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p')), {SLOTS}");
    let rows = session.query(&sql, &[]).await?;
    let (tables, slots): (i64, i64) = rows.first().map_or((0, 0), |row| (row.get(0), row.get(1)));
    let found = format!("{tables} tables, room for {slots} locks");
    Ok(match tables * 3 < slots {
        true => ok("locks", found),
        false => warn("locks", found, "Raise max_locks_per_transaction on the server, and restart it."),
    })
}

async fn connections(session: &Session, jobs: usize) -> Result<Check> {
    let rows = session
        .query(
            "SELECT current_setting('max_connections')::int8
                    - current_setting('superuser_reserved_connections')::int8
                    - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
                    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user)::int8",
            &[],
        )
        .await?;
    let (free, limit): (i64, i64) = rows.first().map_or((0, -1), |row| (row.get(0), row.get(1)));
    let free = if limit < 0 { free } else { free.min(limit) };
    // The transaction that holds the snapshot, the one that sees who waits for it, pg_dump twice, and one to find out who blocks.
    let needed = i64::try_from(jobs).unwrap_or(i64::MAX).saturating_add(5);
    let found = format!("{free} free, a snapshot takes up to {needed}");
    Ok(match needed <= free {
        true => ok("connections", found),
        false => warn("connections", found, "Lower jobs, or raise max_connections on the server."),
    })
}
