//! The server's own check of restored tables, by CHECK TABLE.

use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use super::super::connect::Connector;
use super::super::mark::MARK;
use super::super::quote::{literal, qualified};
use super::super::session::{Row, Session};
use crate::engine::interruptible;
use crate::engine::scratch::{Examination, ExaminationResult};
use crate::error::Result;
use crate::model::human;

/// The name of the check.
pub(super) const CHECK_TABLE: &str = "check-table";

/// How many bad tables are named.
const NAMED: usize = 5;

/// Engines that would look for their rows elsewhere.
const ELSEWHERE: &str = "'CONNECT', 'FEDERATED', 'S3', 'SPIDER'";

/// What a check says of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Sound,
    Bad,
    /// Its storage engine has no check.
    Unknown,
}

/// Checks every table, with each of its rows and indexes.
pub(super) async fn tables(
    connector: &Connector,
    jobs: usize,
    cancel: &CancellationToken,
) -> Result<Examination> {
    let (result, found) = interruptible(cancel, look(connector, jobs, cancel)).await?;
    Ok(Examination { name: CHECK_TABLE.to_owned(), result, found })
}

async fn look(
    connector: &Connector,
    jobs: usize,
    cancel: &CancellationToken,
) -> Result<(ExaminationResult, String)> {
    let mut session = connector.connect(cancel).await?;
    let sql = format!(
        "SELECT TABLE_NAME FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {} AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND TABLE_NAME <> {} \
           AND COALESCE(ENGINE, '') NOT IN ({ELSEWHERE}) ORDER BY COALESCE(DATA_LENGTH, 0) DESC, TABLE_NAME",
        literal(connector.database()),
        literal(MARK)
    );
    let rows = session.query(&sql, "list the tables").await?;
    let names: Vec<String> = rows.into_iter().filter_map(|mut row| row.pop().flatten()).collect();
    drop(session);
    let connections = jobs.clamp(1, names.len().max(1));
    let parts = (0..connections).map(|at| names.iter().skip(at).step_by(connections).cloned().collect());
    let found = try_join_all(parts.map(|part| check_all(connector, part, cancel))).await?;
    Ok(result(found.into_iter().flatten().collect()))
}

/// Checks these tables by one connection.
async fn check_all(
    connector: &Connector,
    names: Vec<String>,
    cancel: &CancellationToken,
) -> Result<Vec<(String, Verdict)>> {
    let mut session = connector.connect(cancel).await?;
    let mut found = Vec::new();
    for name in names {
        let verdict = check(&mut session, connector.database(), &name).await?;
        found.push((name, verdict));
    }
    Ok(found)
}

async fn check(session: &mut Session, database: &str, name: &str) -> Result<Verdict> {
    let sql = format!("CHECK TABLE {} EXTENDED", qualified(database, name));
    let rows = session.query(&sql, &format!("check table {}", name.escape_debug())).await?;
    Ok(verdict(&rows))
}

/// The rows of an answer are Table, Op, Msg_type, Msg_text. Texts can hold values: only their types count, and what is well has one of two
/// texts.
fn verdict(rows: &[Row]) -> Verdict {
    let mut verdict = Verdict::Unknown;
    for row in rows {
        let text = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
        match (text(2).to_ascii_lowercase().as_str(), text(3)) {
            ("status", "OK" | "Table is already up to date") => verdict = Verdict::Sound,
            ("note" | "info", _) => {}
            _ => return Verdict::Bad,
        }
    }
    verdict
}

fn result(found: Vec<(String, Verdict)>) -> (ExaminationResult, String) {
    let checked = found.iter().filter(|(_, verdict)| *verdict != Verdict::Unknown).count() as u64;
    if checked == 0 {
        return (ExaminationResult::Unavailable, "there is no table that the server can check".to_owned());
    }
    let mut bad: Vec<String> = found
        .into_iter()
        .filter(|(_, verdict)| *verdict == Verdict::Bad)
        .map(|(name, _)| name.escape_debug().to_string())
        .collect();
    if bad.is_empty() {
        return (ExaminationResult::Passed, human::counted(checked, "table", "tables"));
    }
    bad.sort();
    let named = human::first_few(&bad, NAMED);
    (ExaminationResult::Failed, format!("{} of {} tables are bad: {named}", bad.len(), human::count(checked)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: &str, text: &str) -> Row {
        ["d.t", "check", kind, text].iter().map(|text| Some((*text).to_owned())).collect()
    }

    #[test]
    fn only_ok_is_sound() {
        assert_eq!(verdict(&[row("status", "OK")]), Verdict::Sound);
        assert_eq!(
            verdict(&[row("note", "The storage engine for the table doesn't support check")]),
            Verdict::Unknown
        );
        assert_eq!(verdict(&[row("warning", "InnoDB: index a"), row("status", "OK")]), Verdict::Bad);
        assert_eq!(verdict(&[row("Error", "Dupont"), row("status", "Operation failed")]), Verdict::Bad);
        assert_eq!(verdict(&[row("error", "Corrupt")]), Verdict::Bad);
    }

    #[test]
    fn bad_tables_are_named_without_what_the_server_says() {
        let found = |verdicts: &[(&str, Verdict)]| {
            result(verdicts.iter().map(|(name, verdict)| ((*name).to_owned(), *verdict)).collect())
        };
        assert_eq!(found(&[("m", Verdict::Unknown)]).0, ExaminationResult::Unavailable);
        assert_eq!(
            found(&[("a", Verdict::Sound), ("m", Verdict::Unknown)]),
            (ExaminationResult::Passed, "1 table".to_owned())
        );
        assert_eq!(
            found(&[("b", Verdict::Bad), ("a", Verdict::Sound)]),
            (ExaminationResult::Failed, "1 of 2 tables are bad: b".to_owned())
        );
    }
}
