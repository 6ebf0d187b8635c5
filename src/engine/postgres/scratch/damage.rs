//! Damages a restored database, to see whether it is noticed.

use rand::seq::SliceRandom;
use tokio_util::sync::CancellationToken;

use super::super::connect::{Connector, Session};
use super::super::details::Details;
use super::super::load_role::LoadRole;
use super::super::quote::{ident, ident_line, literal, qualified};
use crate::engine::interruptible;
use crate::engine::postgres::relations::{OWN_SCHEMA, Sequence};
use crate::engine::scratch::Damage;
use crate::error::{Error, Result};
use crate::model::stream::Contents;
use crate::model::table::TableId;

/// Damages something chosen at random, and says what.
pub(crate) async fn damage(
    connector: &Connector,
    loader: Option<&LoadRole>,
    damage: Damage,
    contents: &Contents,
    cancel: &CancellationToken,
) -> Result<String> {
    let details = Details::of(contents)?;
    let session = connector.connect(cancel).await?;
    silence(&session).await;
    let doing = async {
        match (damage, loader) {
            // Finding and changing a row evaluates expressions of the database.
            (Damage::Row, Some(loader)) => {
                row(&loader.session(None, cancel).await?, contents, &details).await
            }
            (Damage::Row, None) => row(&session, contents, &details).await,
            (damage, _) => on_definitions(&session, damage, contents, &details).await,
        }
    };
    interruptible(cancel, doing).await
}

async fn on_definitions(
    session: &Session,
    damage: Damage,
    contents: &Contents,
    details: &Details,
) -> Result<String> {
    match damage {
        Damage::Row | Damage::MissingTable => table(session, contents, details).await,
        Damage::Index => index(session).await,
        Damage::Sequence => sequence(session, details).await,
    }
}

/// Switches off triggers, rules, foreign keys and event triggers for a session: none may undo, refuse or follow what a drill
/// does. Only a superuser may do this, and only a superuser needs it.
pub(super) async fn silence(session: &Session) {
    let _not_allowed = session.client.batch_execute("SET session_replication_role = replica").await;
    // These fire all the same.
    let always = "SELECT evtname::text FROM pg_event_trigger WHERE evtenabled = 'A'";
    for row in session.query(always, &[]).await.unwrap_or_default() {
        let sql = format!("ALTER EVENT TRIGGER {} DISABLE", ident(&row.get::<_, String>(0)));
        let _not_allowed = session.client.batch_execute(&sql).await;
    }
}

fn nothing(what: &str) -> Error {
    Error::preflight(format!("the restored database has {what}"))
        .remedy("Choose another sabotage, or another database.")
}

/// The tables of the manifest in random order, without those of extensions: not all of their rows are the user's, and
/// they cannot be dropped.
fn tables<'a>(contents: &'a Contents, details: &Details, with_rows: bool) -> Vec<&'a TableId> {
    let proofs = contents.streams.iter().flat_map(|stream| &stream.tables);
    let of_extension = |table: &TableId| details.config_tables.iter().any(|c| c.table == *table);
    let mut tables: Vec<&TableId> = proofs
        .filter(|proof| proof.rows > 0 || !with_rows)
        .map(|proof| &proof.table)
        .filter(|table| !of_extension(table))
        .collect();
    tables.shuffle(&mut rand::rng());
    tables
}

async fn row(session: &Session, contents: &Contents, details: &Details) -> Result<String> {
    let mut last = None;
    for table in tables(contents, details, true) {
        let name = qualified(&table.schema, &table.table);
        let sql = format!("DELETE FROM ONLY {name} WHERE ctid = (SELECT ctid FROM ONLY {name} LIMIT 1)");
        match session.client.execute(&sql, &[]).await {
            Ok(0) => {}
            Ok(_) => return Ok(format!("one row of table {table} was deleted")),
            Err(e) => last = Some(session.failed(&format!("delete a row of table {table}"), &e)),
        }
    }
    Err(last.unwrap_or_else(|| nothing("no row that could be deleted")))
}

async fn table(session: &Session, contents: &Contents, details: &Details) -> Result<String> {
    let mut last = None;
    for table in tables(contents, details, false) {
        let sql = format!("DROP TABLE {} CASCADE", qualified(&table.schema, &table.table));
        match session.client.batch_execute(&sql).await {
            Ok(()) => return Ok(format!("table {table} was dropped")),
            Err(e) => last = Some(session.failed(&format!("drop table {table}"), &e)),
        }
    }
    Err(last.unwrap_or_else(|| nothing("no table that could be dropped")))
}

/// An index that nothing else needs: not a part of a partitioned one, and not of an extension.
async fn index(session: &Session) -> Result<String> {
    let rows = session
        .query(
            &format!(
                "SELECT n.nspname::text, c.relname::text, t.relname::text,
                   (SELECT k.conname::text FROM pg_constraint k
                    WHERE k.conindid = c.oid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x') LIMIT 1)
                 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind IN ('i', 'I') AND NOT c.relispartition AND t.relkind IN ('r', 'p', 'm')
                   AND c.relpersistence = 'p' AND {OWN_SCHEMA}
                   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                     AND d.objid IN (c.oid, t.oid) AND d.deptype = 'e')
                 ORDER BY random() LIMIT 1"
            ),
            &[],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Err(nothing("no index that could be dropped"));
    };
    let (schema, index, table): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let constraint: Option<String> = row.get(3);
    let sql = match &constraint {
        Some(constraint) => {
            format!(
                "ALTER TABLE {} DROP CONSTRAINT {} CASCADE",
                qualified(&schema, &table),
                ident(constraint)
            )
        }
        None => format!("DROP INDEX {} CASCADE", qualified(&schema, &index)),
    };
    let name = format!("{}.{}", ident_line(&schema), ident_line(&index));
    session.batch(&sql, &format!("drop index {name}")).await?;
    Ok(match constraint {
        Some(_) => format!("index {name} was dropped, with the constraint that it belongs to"),
        None => format!("index {name} was dropped"),
    })
}

async fn sequence(session: &Session, details: &Details) -> Result<String> {
    let mut sequences: Vec<&Sequence> = details.sequences.iter().collect();
    sequences.shuffle(&mut rand::rng());
    let Some(sequence) = sequences.first() else {
        return Err(nothing("no sequence that could be set back"));
    };
    let name = literal(&qualified(&sequence.schema, &sequence.name));
    let rows = session
        .query(&format!("SELECT seqmin, seqmax FROM pg_sequence WHERE seqrelid = {name}::regclass"), &[])
        .await?;
    let (lowest, highest) = rows.first().map_or((1, 1), |row| (row.get(0), row.get(1)));
    let (value, called) = moved(sequence, lowest, highest);
    let shown = format!("{}.{}", ident_line(&sequence.schema), ident_line(&sequence.name));
    let sql = format!("SELECT setval({name}::regclass, {value}, {called})");
    session.batch(&sql, &format!("set sequence {shown}")).await?;
    Ok(format!("sequence {shown} was set to another value"))
}

/// Another valid position of the sequence: one back, as after the loss of the last rows, if possible.
fn moved(sequence: &Sequence, lowest: i64, highest: i64) -> (i64, bool) {
    match sequence.last_value {
        value if value > lowest => (value - 1, sequence.is_called),
        value if value < highest => (value + 1, sequence.is_called),
        value => (value, !sequence.is_called),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_move_within_their_bounds() {
        let at = |last_value| Sequence {
            schema: "s".into(),
            name: "q".into(),
            last_value,
            is_called: true,
            of_extension: false,
        };
        assert_eq!(moved(&at(7), 1, 9), (6, true));
        assert_eq!(moved(&at(1), 1, 9), (2, true));
        assert_eq!(moved(&at(1), 1, 1), (1, false));
        assert_eq!(moved(&at(i64::MIN), i64::MIN, i64::MAX), (i64::MIN + 1, true));
    }
}
