//! PostgreSQL's own check of restored indexes, by the extension amcheck.

use std::pin::pin;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::super::connect::{Connector, Session};
use super::super::quote::{ident, ident_line, qualified};
use super::super::server_error::ends_a_session;
use super::super::session_settings::{SEARCH_PATH, SessionSettings, set_path};
use super::damage::silence;
use super::random_name;
use crate::engine::interruptible;
use crate::engine::postgres::relations::OWN_SCHEMA;
use crate::engine::postgres::row::Row;
use crate::engine::scratch::{Examination, ExaminationResult};
use crate::engine::together::TOGETHER;
use crate::error::Result;
use crate::model::human;

/// The name of the check.
pub(crate) const AMCHECK: &str = "amcheck";

/// How many bad indexes are named.
const NAMED: usize = 5;

/// Checks every index. Expressions of indexes are evaluated with the search path of the source's sessions.
pub(crate) async fn indexes(
    connector: &Connector,
    source: &SessionSettings,
    cancel: &CancellationToken,
) -> Result<Examination> {
    let session = connector.connect(cancel).await?;
    let path = source.get(SEARCH_PATH).map_or("", String::as_str);
    let (result, found) = interruptible(cancel, amcheck(&session, path)).await?;
    Ok(Examination { name: AMCHECK.to_owned(), result, found })
}

async fn amcheck(session: &Session, path: &str) -> Result<(ExaminationResult, String)> {
    silence(session).await;
    let schema = match install(session).await? {
        Ok(schema) => schema,
        Err(why) => return Ok((ExaminationResult::Unavailable, why)),
    };
    let indexes = session
        .query(
            &format!(
                "SELECT c.oid, n.nspname::text, c.relname::text
                 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam
                 WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p'
                   AND i.indisvalid AND i.indisready AND {OWN_SCHEMA}
                 ORDER BY 2, 3"
            ),
            &[],
        )
        .await?;
    if indexes.is_empty() {
        return Ok((ExaminationResult::Unavailable, "there is no index to check".to_owned()));
    }
    let call = format!(
        "SELECT {}(index => $1::oid::regclass, heapallindexed => true)",
        qualified(&schema, "bt_index_check")
    );
    let check = session.client.prepare(&call).await.map_err(|e| session.failed("call amcheck", &e))?;
    session.batch(&set_path(path), "set the search path").await?;
    let (mut bad, mut unchecked) = (Vec::new(), Vec::new());
    // Most indexes are small: the way to the server and back would take longer than to look at them.
    let look = |row| {
        let check = &check;
        async move { (row, session.client.execute(check, &[&Row::get::<_, u32>(row, 0)]).await) }
    };
    let looks: Vec<_> = indexes.iter().map(look).collect();
    let mut looks = pin!(stream::iter(looks).buffered(TOGETHER));
    while let Some((row, looked)) = looks.next().await {
        let (schema, name): (String, String) = (row.get(1), row.get(2));
        let index = format!("{}.{}", ident_line(&schema), ident_line(&name));
        if let Err(e) = looked {
            // Corruption has its own error class. Other errors say nothing about the index.
            if ends_a_session(&e) {
                return Err(session.failed(&format!("check index {index}"), &e));
            }
            let corrupt = e.code().is_some_and(|code| code.code().starts_with("XX"));
            let list = if corrupt { &mut bad } else { &mut unchecked };
            list.push(format!("{index}: {}", session.cause(&e)));
        }
    }
    let all = indexes.len() as u64;
    if bad.is_empty() && !unchecked.is_empty() {
        let named = human::first_few(&unchecked, NAMED);
        return Ok((
            ExaminationResult::Unavailable,
            format!("{} of {} indexes could not be checked: {named}", unchecked.len(), human::count(all)),
        ));
    }
    if bad.is_empty() {
        return Ok((ExaminationResult::Passed, human::counted(all, "index", "indexes")));
    }
    let more = match bad.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let (all, named) = (human::count(all), bad[..bad.len().min(NAMED)].join("; "));
    Ok((ExaminationResult::Failed, format!("{} of {all} indexes are bad: {named}{more}", bad.len())))
}

/// The schema of amcheck, or why it is unavailable. The snapshot itself may have had it.
async fn install(session: &Session) -> Result<std::result::Result<String, String>> {
    let rows = session
        .query(
            "SELECT (SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                     WHERE e.extname = 'amcheck'),
                    EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck'),
                    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
            &[],
        )
        .await?;
    let (there, available, superuser): (Option<String>, bool, bool) =
        rows.first().map_or((None, false, false), |row| (row.get(0), row.get(1), row.get(2)));
    if !superuser {
        return Ok(Err(
            "only a superuser may check indexes, and the user of the server for drills is not one".to_owned(),
        ));
    }
    if let Some(schema) = there {
        return Ok(Ok(schema));
    }
    if !available {
        return Ok(Err(
            "the extension amcheck is not installed on the server (package postgresql-contrib)".to_owned()
        ));
    }
    let schema = random_name("marbre_amcheck");
    let sql = format!("CREATE SCHEMA {0}; CREATE EXTENSION amcheck SCHEMA {0}", ident(&schema));
    session.batch(&sql, "install amcheck in the restored database").await?;
    Ok(Ok(schema))
}
