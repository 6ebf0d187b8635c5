//! Runs the owner's queries as a role that may only read.

use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::super::connect::{Connector, Session};
use super::super::event_triggers;
use super::super::quote::{ident, literal};
use super::damage::silence;
use super::{random_name, random_password};
use crate::engine::interruptible;
use crate::engine::postgres::relations::OWN_SCHEMA;
use crate::error::{Error, ErrorKind, Result};
use crate::model::human;

/// How much longer we wait than the server may take, because its own error says more than ours.
const GRACE: Duration = Duration::from_secs(5);

/// The longest answer, in bytes: answers are stored in records.
const LONGEST_ANSWER: usize = 10_000;

/// A separate role in the restored database, created when it is first needed.
pub(crate) struct Reader {
    name: String,
    password: SecretString,
    admin: Connector,
    made: OnceCell<Connector>,
}

impl Reader {
    /// A reader of `admin`'s database, in which `admin` may do everything.
    pub(super) fn new(admin: Connector) -> Self {
        let (name, password) = (random_name("marbre_reader"), random_password());
        Self { name, password, admin, made: OnceCell::new() }
    }

    /// The role's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Runs one statement, which must return one row of one column.
    pub(super) async fn query(
        &self,
        sql: &str,
        timeout: Duration,
        cancel: &CancellationToken,
    ) -> Result<Option<String>> {
        let connector = self.made.get_or_try_init(|| interruptible(cancel, self.make())).await?;
        let session = connector.connect(cancel).await.map_err(|e| match e.kind() {
            ErrorKind::Interrupted => e,
            _ => e.with_kind(ErrorKind::Database).context("the role for queries"),
        })?;
        // The owner wrote the query: what it names may be named.
        self.admin.known().learn_words(sql);
        let asking = interruptible(cancel, ask(&session, sql, timeout));
        match tokio::time::timeout(timeout.saturating_add(GRACE), asking).await {
            Ok(answer) => answer,
            Err(_) => Err(too_long(timeout)),
        }
    }

    async fn make(&self) -> Result<Connector> {
        let session = self.admin.connect(&CancellationToken::new()).await?;
        let try_to = async |sql: String| session.client.batch_execute(&sql).await.is_ok();
        silence(&session).await;
        let (name, database) = (ident(&self.name), ident(self.admin.database()));
        let create = format!("CREATE ROLE {name} LOGIN PASSWORD {}", literal(self.password.expose_secret()));
        if !try_to(format!("{create} BYPASSRLS")).await {
            session.batch(&create, "create a role that may only read").await.map_err(|e| {
                e.remedy(
                    "Give the user of the server for drills CREATEROLE: queries are run by a separate role.",
                )
            })?;
        }
        if session.version.major >= event_triggers::SINCE {
            try_to(format!("ALTER ROLE {name} {}", event_triggers::OFF_FOR_ROLE)).await;
        }
        try_to(format!("ALTER DATABASE {database} CONNECTION LIMIT -1")).await;
        try_to(format!("GRANT CONNECT ON DATABASE {database} TO {name}")).await;
        if session.version.major < 14 || !try_to(format!("GRANT pg_read_all_data TO {name}")).await {
            let sql = format!("SELECT n.nspname::text FROM pg_namespace n WHERE {OWN_SCHEMA}");
            for row in session.query(&sql, &[]).await? {
                let schema = ident(&row.get::<_, String>(0));
                try_to(format!("GRANT USAGE ON SCHEMA {schema} TO {name}")).await;
                try_to(format!("GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {name}")).await;
                try_to(format!("GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {name}")).await;
            }
        }
        Ok(self.admin.with_user(&self.name, self.password.clone()))
    }
}

fn too_long(timeout: Duration) -> Error {
    Error::database(format!("the query took longer than {}", human::duration(timeout.as_secs_f64())))
}

fn not_one(what: &str) -> Error {
    Error::database(format!("the query returns {what}, not one row of one column"))
        .remedy("Write it so that it returns one value, e.g. with count(*), max(…) or LIMIT 1.")
}

async fn ask(session: &Session, sql: &str, timeout: Duration) -> Result<Option<String>> {
    let error = |e: tokio_postgres::Error| match e.code() {
        Some(&SqlState::QUERY_CANCELED) => too_long(timeout),
        Some(&SqlState::SYNTAX_ERROR) => {
            session.failed("run the query", &e).remedy("Write it as one SELECT, and try it with psql.")
        }
        _ => session.failed("run the query", &e),
    };
    // People write names as usual in this database, that is with its own search path.
    let milliseconds = timeout.as_millis().clamp(1, i32::MAX as u128);
    let begin = format!("RESET search_path; SET statement_timeout = {milliseconds}; BEGIN READ ONLY");
    session.batch(&begin, "prepare to run a query").await?;
    // A text that can be prepared is a single statement, so it is safe as a simple query, for which the server
    // writes the answer as text, whatever its type is.
    let statement = session.client.prepare(sql).await.map_err(error)?;
    if !statement.params().is_empty() {
        return Err(Error::database("the query has parameters").remedy("Write the values into it."));
    }
    match statement.columns().len() {
        1 => {}
        0 => return Err(not_one("no column")),
        n => return Err(not_one(&format!("{n} columns"))),
    }
    let messages = session.client.simple_query_raw(sql).await.map_err(error)?;
    pin_mut!(messages);
    let mut answer = None;
    while let Some(message) = messages.next().await {
        let SimpleQueryMessage::Row(row) = message.map_err(error)? else { continue };
        if answer.is_some() {
            return Err(not_one("more than one row"));
        }
        answer = Some(row.get(0).map(str::to_owned));
    }
    match answer {
        None => Err(not_one("no row")),
        Some(Some(text)) if text.len() > LONGEST_ANSWER => {
            Err(Error::database(format!("the answer is longer than {LONGEST_ANSWER} bytes"))
                .remedy("Query something short: a number, a time, a word."))
        }
        Some(answer) => Ok(answer),
    }
}
