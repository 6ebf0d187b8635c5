//! Damages a restored database on purpose: a drill must find it.

use rand::seq::SliceRandom;
use tokio_util::sync::CancellationToken;

use super::super::connect::Connector;
use super::super::details::Details;
use super::super::quote::{ident, literal, qualified};
use super::super::session::{Failure, Session};
use crate::engine::interruptible;
use crate::engine::scratch::Damage;
use crate::error::{Error, Result};
use crate::model::stream::Contents;
use crate::model::table::TableId;

/// How far a counter is moved.
const FAR: u64 = 1000;

/// Damages something chosen at random, and says what. The session looks at no foreign keys: none may refuse or follow what a drill does.
pub(super) async fn damage(
    connector: &Connector,
    damage: Damage,
    contents: &Contents,
    cancel: &CancellationToken,
) -> Result<String> {
    let details = Details::of(contents)?;
    let mut session = connector.connect(cancel).await?;
    let mut target = Target { session: &mut session, database: connector.database() };
    let doing = async {
        match damage {
            Damage::Row => target.row(contents, &details).await,
            Damage::MissingTable => target.table(contents).await,
            Damage::Index => target.index().await,
            Damage::Sequence => target.sequence(&details).await,
        }
    };
    interruptible(cancel, doing).await
}

fn nothing(what: &str) -> Error {
    Error::preflight(format!("the restored database has {what}"))
        .remedy("Choose another sabotage, or another database.")
}

/// The tables of the manifest in random order.
fn tables(contents: &Contents, with_rows: bool) -> Vec<&TableId> {
    let proofs = contents.streams.iter().flat_map(|stream| &stream.tables);
    let mut tables: Vec<&TableId> =
        proofs.filter(|proof| proof.rows > 0 || !with_rows).map(|proof| &proof.table).collect();
    tables.shuffle(&mut rand::rng());
    tables
}

/// The restored database.
struct Target<'a> {
    session: &'a mut Session,
    database: &'a str,
}

impl Target<'_> {
    fn name(&self, name: &str) -> String {
        qualified(self.database, name)
    }

    /// How many rows a statement changed, or why the server refuses it: something else may do.
    async fn attempt(&mut self, sql: &str, what: &str) -> Result<std::result::Result<u64, Error>> {
        match self.session.execute(sql).await {
            Ok(done) => Ok(Ok(done.rows)),
            Err(Failure::Server(e)) if !e.ends_a_session() => {
                Ok(Err(self.session.failed(what, Failure::Server(e))))
            }
            Err(failure) => Err(self.session.failed(what, failure)),
        }
    }

    /// Tables where code of the database runs when a row is deleted: it could put the row back.
    async fn watched(&mut self) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS \
             WHERE EVENT_OBJECT_SCHEMA = {} AND EVENT_MANIPULATION LIKE '%DELETE%'",
            literal(self.database)
        );
        let rows = self.session.query(&sql, "list the triggers").await?;
        Ok(rows.into_iter().filter_map(|mut row| row.pop().flatten()).collect())
    }

    async fn row(&mut self, contents: &Contents, details: &Details) -> Result<String> {
        let watched = self.watched().await?;
        let keeps_history =
            |table: &TableId| details.table(&table.table).is_ok_and(|described| described.period.is_some());
        let mut all = tables(contents, true);
        all.sort_by_key(|table| (watched.contains(&table.table), keeps_history(table)));
        let mut last = None;
        for table in all {
            let name = self.name(&table.table);
            // What empties a table as a whole runs no triggers.
            let (sql, done) = match watched.contains(&table.table) {
                false => {
                    (format!("DELETE FROM {name} LIMIT 1"), format!("one row of table {table} was deleted"))
                }
                true => (format!("TRUNCATE TABLE {name}"), format!("all rows of table {table} were deleted")),
            };
            match self.attempt(&sql, &format!("delete a row of table {table}")).await? {
                Ok(0) if !watched.contains(&table.table) => {}
                Ok(_) => return Ok(done),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| nothing("no row that could be deleted")))
    }

    async fn table(&mut self, contents: &Contents) -> Result<String> {
        let mut last = None;
        for table in tables(contents, false) {
            let sql = format!("DROP TABLE {}", self.name(&table.table));
            match self.attempt(&sql, &format!("drop table {table}")).await? {
                Ok(_) => return Ok(format!("table {table} was dropped")),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| nothing("no table that could be dropped")))
    }

    /// An index that nothing else needs: the server refuses to drop one of a foreign key or of a column that counts.
    async fn index(&mut self) -> Result<String> {
        let sql = format!(
            "SELECT DISTINCT s.TABLE_NAME, s.INDEX_NAME FROM information_schema.STATISTICS s \
             JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = s.TABLE_SCHEMA AND t.TABLE_NAME = s.TABLE_NAME \
             WHERE s.TABLE_SCHEMA = {} AND s.INDEX_NAME <> 'PRIMARY' \
               AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')",
            literal(self.database)
        );
        let mut all = self.session.query(&sql, "list the indexes").await?;
        all.shuffle(&mut rand::rng());
        self.session.run("SET SESSION foreign_key_checks = 1", "set up the session").await?;
        for row in all {
            let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
            let (table, index) = (text(0), text(1));
            let shown = format!("index {} of table {}", index.escape_debug(), table.escape_debug());
            let sql = format!("ALTER TABLE {} DROP INDEX {}", self.name(&table), ident(&index));
            if self.attempt(&sql, &format!("drop {shown}")).await?.is_ok() {
                return Ok(format!("{shown} was dropped"));
            }
        }
        Err(nothing("no index that could be dropped"))
    }

    async fn sequence(&mut self, details: &Details) -> Result<String> {
        let mut sequences: Vec<&String> = details.sequences.keys().collect();
        sequences.shuffle(&mut rand::rng());
        for name in sequences {
            let shown = format!("sequence {}", name.escape_debug());
            let sql = format!(
                "SELECT next_not_cached_value, minimum_value, maximum_value FROM {}",
                self.name(name)
            );
            let rows = self.session.query(&sql, &format!("read {shown}")).await?;
            let number = |at: usize| rows.first()?.get(at)?.as_deref()?.parse::<i128>().ok();
            let (Some(next), Some(lowest), Some(highest)) = (number(0), number(1), number(2)) else {
                continue;
            };
            let Some(moved) = moved(next, lowest, highest) else { continue };
            // SETVAL would not go back.
            let sql = format!("ALTER SEQUENCE {} RESTART WITH {moved}", self.name(name));
            if self.attempt(&sql, &format!("set {shown}")).await?.is_ok() {
                return Ok(format!("{shown} was set to another value"));
            }
        }
        self.counter(details).await
    }

    async fn counter(&mut self, details: &Details) -> Result<String> {
        let mut counters: Vec<(&String, &u64)> = details.counters.iter().collect();
        counters.shuffle(&mut rand::rng());
        for (name, next) in counters {
            let shown = format!("the counter of table {}", name.escape_debug());
            // A server does not let it go back.
            let Some(moved) = next.checked_add(FAR) else { continue };
            let sql = format!("ALTER TABLE {} AUTO_INCREMENT = {moved}", self.name(name));
            if self.attempt(&sql, &format!("set {shown}")).await?.is_ok() {
                return Ok(format!("{shown} was set to another value"));
            }
        }
        Err(nothing("no sequence or counter that could be set to another value"))
    }
}

/// Another valid position of a sequence: one back, as after the loss of the last rows, if possible.
fn moved(next: i128, lowest: i128, highest: i128) -> Option<i128> {
    match next {
        next if next > highest => Some(highest),
        next if next > lowest => Some(next - 1),
        next if next < highest => Some(next + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_move_within_their_bounds() {
        assert_eq!(moved(7, 1, 9), Some(6));
        assert_eq!(moved(1, 1, 9), Some(2));
        assert_eq!(moved(10, 1, 9), Some(9), "one that has come to its end");
        assert_eq!(moved(1, 1, 1), None);
    }
}
