//! Runs the owner's queries as a user who may only read.

use std::time::Duration;

use bytes::Bytes;
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::super::connect::Connector;
use super::super::quote::ident;
use super::super::server_error::ServerError;
use super::super::session::{Failure, Lines, Session};
use super::server::{Login, Server};
use crate::engine::interruptible;
use crate::engine::throwaway::{random_name, random_password};
use crate::error::{Error, ErrorKind, Result};
use crate::model::engine_kind::EngineKind;
use crate::model::human;

/// How much longer we wait than the server may take, because its own error says more than ours.
const GRACE: Duration = Duration::from_secs(5);

/// The longest answer, in bytes: answers are stored in records.
const LONGEST_ANSWER: usize = 10_000;

/// The numbers of the errors of a statement that took too long: of MariaDB, and of MySQL.
const TOO_LONG: [u16; 2] = [1969, 3024];
/// The number of the error of a statement that cannot be read.
const SYNTAX: u16 = 1064;

/// A separate user in the restored database, created when it is first needed.
pub(super) struct Reader {
    login: Login,
    admin: Connector,
    /// The database, as that user.
    connector: Connector,
    made: OnceCell<()>,
}

impl Reader {
    /// A reader of the server's database.
    pub(super) fn new(server: &Server) -> Result<Self> {
        let login = Login { user: random_name("marbre_reader"), password: random_password() };
        let connector = server.connector_of(&login)?;
        Ok(Self { login, admin: server.connector().clone(), connector, made: OnceCell::new() })
    }

    /// Runs one statement, which must return one row of one column.
    pub(super) async fn query(
        &self,
        sql: &str,
        timeout: Duration,
        cancel: &CancellationToken,
    ) -> Result<Option<String>> {
        self.made.get_or_try_init(|| interruptible(cancel, self.make())).await?;
        let mut session = self.connector.connect(cancel).await.map_err(|e| match e.kind() {
            ErrorKind::Interrupted => e,
            _ => e.with_kind(ErrorKind::Database).context("the user for queries"),
        })?;
        let asking = interruptible(cancel, ask(&mut session, self.admin.kind(), sql, timeout));
        match tokio::time::timeout(timeout.saturating_add(GRACE), asking).await {
            Ok(answer) => answer,
            Err(_) => Err(too_long(timeout)),
        }
    }

    async fn make(&self) -> Result<()> {
        let mut session = self.admin.connect_to_server(&CancellationToken::new()).await?;
        let user = format!("'{}'@'localhost'", self.login.user);
        let create = format!("CREATE USER {user} IDENTIFIED BY '{}'", self.login.password.expose_secret());
        // In a grant, the name of a database is a pattern.
        let pattern = self.admin.database().replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%");
        let grant = format!("GRANT SELECT ON {}.* TO {user}", ident(&pattern));
        for sql in [create, grant] {
            session.run(&sql, "create a user who may only read").await?;
        }
        Ok(())
    }
}

fn too_long(timeout: Duration) -> Error {
    Error::database(format!("the query took longer than {}", human::duration(timeout.as_secs_f64())))
}

fn too_much() -> Error {
    Error::database(format!("the answer is longer than {LONGEST_ANSWER} bytes"))
        .remedy("Query something short: a number, a time, a word.")
}

fn not_one(what: &str) -> Error {
    Error::database(format!("the query returns {what}, not one row of one column"))
        .remedy("Write it so that it returns one value, e.g. with count(*), max(…) or LIMIT 1.")
}

async fn ask(
    session: &mut Session,
    kind: EngineKind,
    sql: &str,
    timeout: Duration,
) -> Result<Option<String>> {
    let limit = match kind {
        EngineKind::MySql => {
            format!("SET SESSION max_execution_time = {}", timeout.as_millis().clamp(1, u128::from(u32::MAX)))
        }
        _ => format!(
            "SET SESSION max_statement_time = {:.3}",
            timeout.as_secs_f64().clamp(0.001, 31_536_000.0)
        ),
    };
    session.run(&limit, "prepare to run a query").await?;
    session.run("START TRANSACTION READ ONLY", "prepare to run a query").await?;
    let mut answer = Answer(Vec::new());
    let failure = match session.lines(sql, &mut answer).await {
        Ok(()) => return value(&answer.0),
        Err(failure) => failure,
    };
    Err(match failure {
        Failure::Server(ServerError { code, .. }) if TOO_LONG.contains(&code) => too_long(timeout),
        Failure::Server(ServerError { code: SYNTAX, .. }) => session
            .failed("run the query", failure)
            .remedy("Write it as one SELECT, and try it with the server's own client."),
        Failure::Server(_) => session.failed("run the query", failure).with_kind(ErrorKind::Database),
        Failure::Lost(e) if e.kind() == std::io::ErrorKind::InvalidData => not_one("no column"),
        Failure::Lost(_) | Failure::Other(_) => session.failed("run the query", failure),
    })
}

/// What has come of an answer, as lines of cells with tabs between them.
struct Answer(Vec<u8>);

impl Lines for Answer {
    async fn take(&mut self, lines: Bytes) -> Result<()> {
        // Of the lines that are too much, one says that they are.
        self.0.extend_from_slice(&lines);
        match self.0.len() <= 4 * LONGEST_ANSWER {
            true => Ok(()),
            false => Err(value(&self.0).err().unwrap_or_else(too_much)),
        }
    }
}

/// The one cell of the one line.
fn value(lines: &[u8]) -> Result<Option<String>> {
    let Some(end) = lines.iter().position(|byte| *byte == b'\n') else {
        return Err(if lines.is_empty() { not_one("no row") } else { too_much() });
    };
    let line = &lines[..end];
    match line.iter().filter(|byte| **byte == b'\t').count() {
        0 => {}
        tabs => return Err(not_one(&format!("{} columns", tabs + 1))),
    }
    if end + 1 < lines.len() {
        return Err(not_one("more than one row"));
    }
    if line == b"\\N" {
        return Ok(None);
    }
    let mut text = Vec::with_capacity(line.len());
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        text.push(match byte {
            b'\\' => match bytes.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                other => other.unwrap_or(byte),
            },
            other => other,
        });
    }
    match text.len() <= LONGEST_ANSWER {
        true => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        false => Err(too_much()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_one_value() {
        assert_eq!(value(b"3\n").unwrap().as_deref(), Some("3"));
        assert_eq!(value(b"\n").unwrap().as_deref(), Some(""));
        assert_eq!(value(b"\\N\n").unwrap(), None);
        assert_eq!(value(b"\\\\N\n").unwrap().as_deref(), Some("\\N"));
        assert_eq!(value(b"a\\tb\\nc\n").unwrap().as_deref(), Some("a\tb\nc"));
        for (lines, why) in [
            (&b""[..], "no row"),
            (b"1\n2\n", "more than one row"),
            (b"1\t2\n", "2 columns"),
            (b"1\t2\n1\t2\n", "2 columns"),
            (b"without an end", "longer than"),
        ] {
            let error = value(lines).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        let long = [&[b'x'; LONGEST_ANSWER + 1][..], b"\n"].concat();
        assert!(value(&long).unwrap_err().to_string().contains("longer than"));
    }
}
