//! One load: tables, rows, keys, and then everything that refers to them. What cannot be made is named, and does not cost the rest.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

use super::accounts::{Account, renamed};
use super::compare::digest;
use super::connect::Connector;
use super::definitions::{Definition, Kind};
use super::details::Details;
use super::quote::{ident, qualified};
use super::server_error::ServerError;
use super::session::{Failure, Session};
use super::table_parts::TableParts;
use crate::engine::{Exception, LoadReport, Roles, StreamSource};
use crate::error::{Error, Result};
use crate::model::observer::LoadObserver;
use crate::model::stage::Stage;
use crate::model::stream::{Contents, StreamFacts};
use crate::model::table::TableId;

/// What a load makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// Everything.
    All,
    /// Everything but what runs by itself.
    WithoutEvents,
}

/// What a load needs.
pub(super) struct Load<'a> {
    /// The destination.
    pub connector: &'a Connector,
    /// What is loaded.
    pub contents: &'a Contents,
    /// Its details, with the destination's name where the source's was.
    pub details: &'a Details,
    /// Where it comes from.
    pub streams: &'a dyn StreamSource,
    /// How many connections at a time.
    pub jobs: usize,
    /// Who is told.
    pub observer: &'a dyn LoadObserver,
    /// Ends it.
    pub cancel: &'a CancellationToken,
}

/// A table whose keys are made after its rows.
struct Later {
    name: String,
    keys: Option<String>,
    foreign: Vec<String>,
}

/// Settings of connections that load: values are taken as they are, and what refers to other tables is looked at afterwards.
const LOADING: &str = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO', SESSION unique_checks = 0, SESSION foreign_key_checks = 0";

/// For tables that keep their history, MariaDB only: what was is loaded as what was.
const HISTORY: &str = "SET SESSION system_versioning_insert_history = 1";

impl Load<'_> {
    /// Loads everything.
    pub(super) async fn run(&self, roles: &Roles, made: Made) -> Result<LoadReport> {
        let mut report = LoadReport::default();
        let mut session = self.session().await?;
        self.observer.stage(Stage::Schema);
        let later = self.tables(&mut session, &mut report).await?;
        self.observer.stage(Stage::Rows);
        self.rows(&mut report).await?;
        self.observer.stage(Stage::Indexes);
        self.keys(&later, &mut report).await?;
        self.sequences(&mut session, &mut report).await?;
        if made == Made::All {
            self.make_definers(&mut session).await?;
        }
        self.program(&mut session, made, &mut report).await?;
        if made == Made::All {
            self.own_rights(&mut session).await?;
        }
        self.observer.stage(Stage::Roles);
        self.accounts(&mut session, roles, &mut report).await?;
        self.observer.stage(Stage::Analyze);
        self.analyze(&mut session, &mut report).await?;
        report.bytes = self.contents.streams.iter().map(|stream| stream.length).sum();
        Ok(report)
    }

    async fn session(&self) -> Result<Session> {
        let mut session = self.connector.connect(self.cancel).await?;
        session.run(LOADING, "set up a connection that loads").await?;
        Ok(session)
    }

    /// Makes sequences, then tables without what comes after their rows.
    async fn tables(&self, session: &mut Session, report: &mut LoadReport) -> Result<Vec<Later>> {
        let mut later = Vec::new();
        for definition in self.of(&[Kind::Sequence, Kind::Table]) {
            let parts =
                (definition.kind == Kind::Table).then(|| TableParts::parse(&definition.create)).flatten();
            let first = Definition {
                create: parts.as_ref().map_or_else(|| definition.create.clone(), TableParts::first),
                ..definition.clone()
            };
            if let Err(e) = make(session, &first).await {
                let table = (definition.kind == Kind::Table).then(|| table_id(&definition.name));
                except(report, definition, &e, table);
                continue;
            }
            if let Some(parts) = parts {
                later.push(Later {
                    name: definition.name.clone(),
                    keys: parts.keys(),
                    foreign: parts.foreign_keys().map(str::to_owned).collect(),
                });
            }
        }
        session.run(LOADING, "set up a connection that loads").await?;
        Ok(later)
    }

    fn of(&self, kinds: &[Kind]) -> impl Iterator<Item = &Definition> {
        self.details.definitions.iter().filter(move |definition| kinds.contains(&definition.kind))
    }

    async fn rows(&self, report: &mut LoadReport) -> Result<()> {
        let missing: Vec<TableId> = report.exceptions.list.iter().filter_map(|e| e.table.clone()).collect();
        let there = |stream: &&StreamFacts| stream.tables.iter().any(|proof| !missing.contains(&proof.table));
        let mut streams: Vec<&StreamFacts> = self.contents.streams.iter().filter(there).collect();
        streams.sort_by_key(|stream| std::cmp::Reverse(stream.length));
        let loads: Vec<_> = streams.into_iter().map(|stream| self.table(stream)).collect();
        let mut loads = futures_util::stream::iter(loads).buffer_unordered(self.jobs);
        while let Some((rows, exceptions)) = loads.try_next().await? {
            report.rows += rows;
            report.exceptions.list.extend(exceptions);
        }
        Ok(())
    }

    /// Loads the rows of one table.
    async fn table(&self, stream: &StreamFacts) -> Result<(u64, Option<Exception>)> {
        let [proof] = stream.tables.as_slice() else {
            return Err(Error::verification(format!("stream {} does not name its table", stream.name)));
        };
        let table = self.details.table(&proof.table.table)?;
        let names = table.columns.iter().map(|column| &column.name);
        if !names.eq(proof.columns.iter()) {
            return Err(Error::verification(format!(
                "the manifest names other columns of table {}",
                proof.table
            )));
        }
        let mut session = self.session().await?;
        if table.period.is_some() {
            session.run(HISTORY, "set up a connection that loads").await?;
        }
        let mut bytes = self.streams.open(&stream.name).await?;
        let sql = table.load(&qualified(self.connector.database(), &table.name), "rows");
        let exception = |reason: String| Exception {
            object: format!("rows of table {}", proof.table),
            reason,
            table: Some(proof.table.clone()),
        };
        match session.load(&sql, &mut bytes, self.observer).await {
            Ok(done) if done.rows == proof.rows && done.warnings == 0 => Ok((done.rows, None)),
            Ok(done) if done.rows == proof.rows => {
                let same = digest(self.connector, self.contents, table, self.cancel).await?
                    == (proof.rows, proof.digest);
                let what = format!(
                    "the server says that it changed {} of their values, and they differ",
                    done.warnings
                );
                Ok((done.rows, (!same).then(|| exception(what))))
            }
            Ok(done) => {
                Ok((done.rows, Some(exception(format!("{} of {} were taken", done.rows, proof.rows)))))
            }
            Err(Failure::Server(e)) if !e.ends_a_session() => Ok((0, Some(exception(e.cause())))),
            Err(e) => Err(session.failed(&format!("load table {}", proof.table), e)),
        }
    }

    /// Makes the keys of all tables, and then what refers from one to another.
    async fn keys(&self, later: &[Later], report: &mut LoadReport) -> Result<()> {
        let with_keys = later.iter().filter_map(|table| Some(self.alter(table, table.keys.as_deref()?)));
        let keys: Vec<_> = with_keys.collect();
        let mut keys = futures_util::stream::iter(keys).buffer_unordered(self.jobs);
        while let Some(failed) = keys.try_next().await? {
            report.exceptions.list.extend(failed);
        }
        for table in later.iter().filter(|table| !table.foreign.is_empty()) {
            let all = table.foreign.iter().map(|key| format!("ADD {key}")).collect::<Vec<_>>().join(", ");
            report.exceptions.list.extend(self.alter(table, &all).await?);
        }
        Ok(())
    }

    /// Changes a table. What cannot be made is named.
    async fn alter(&self, table: &Later, action: &str) -> Result<Option<Exception>> {
        let mut session = self.session().await?;
        let sql = format!("ALTER TABLE {} {action}", qualified(self.connector.database(), &table.name));
        let object = format!("keys of table {}: {action}", table.name.escape_debug());
        let failed = attempt(&mut session, &sql, "make a key").await?.err();
        Ok(failed.map(|e| Exception { object, reason: e.cause(), table: None }))
    }

    async fn sequences(&self, session: &mut Session, report: &mut LoadReport) -> Result<()> {
        for (name, next) in &self.details.sequences {
            let Ok(next) = next.parse::<i128>() else {
                return Err(Error::verification(format!(
                    "the manifest's sequence {} stands nowhere",
                    name.escape_debug()
                )));
            };
            let sql = format!("DO SETVAL({}, {next}, 0)", qualified(self.connector.database(), name));
            if let Err(e) = attempt(session, &sql, "set a sequence").await? {
                report.exceptions.list.push(Exception {
                    object: format!("sequence {}", name.escape_debug()),
                    reason: e.cause(),
                    table: None,
                });
            }
        }
        Ok(())
    }

    /// As whom objects run.
    fn definers(&self) -> BTreeSet<&str> {
        self.details.definitions.iter().filter_map(Definition::definer).collect()
    }

    /// In a drill, makes everybody as whom objects run, with all rights in the database: on a server that is gone afterwards, they need not
    /// have those that they have elsewhere. A view over views of somebody who is not there cannot be made.
    async fn make_definers(&self, session: &mut Session) -> Result<()> {
        let database = ident(self.connector.database());
        for name in self.definers() {
            let create = create_account(name, !name.contains("`@`"));
            for sql in [create, format!("GRANT ALL PRIVILEGES ON {database}.* TO {name}")] {
                // Who cannot be made is missed by an object, which is then named.
                let _refused = attempt(session, &sql, "make a definer").await?;
            }
        }
        Ok(())
    }

    /// Takes those rights back from whoever has rights of their own in the database, which come next.
    async fn own_rights(&self, session: &mut Session) -> Result<()> {
        let (definers, database) = (self.definers(), ident(self.connector.database()));
        for name in self.details.accounts.iter().map(Account::name) {
            if definers.contains(name.as_str()) {
                let sql = format!("REVOKE ALL PRIVILEGES ON {database}.* FROM {name}");
                let _refused = attempt(session, &sql, "take the rights of a definer back").await?;
            }
        }
        Ok(())
    }

    /// Makes routines, views, triggers and events. What refers to something that comes later is tried again after it.
    async fn program(&self, session: &mut Session, made: Made, report: &mut LoadReport) -> Result<()> {
        let events = made == Made::All;
        let wanted = |d: &&Definition| d.kind > Kind::Table && (events || d.kind != Kind::Event);
        let mut left: Vec<&Definition> = self.details.definitions.iter().filter(wanted).collect();
        loop {
            let mut failed = Vec::new();
            let before = left.len();
            for definition in left {
                if let Err(e) = make(session, definition).await {
                    if e.ends_a_session() {
                        return Err(
                            session.failed(&format!("make {}", definition.what()), Failure::Server(e))
                        );
                    }
                    failed.push((definition, e));
                }
            }
            if failed.is_empty() || failed.len() == before {
                let (broken, lost): (Vec<_>, Vec<_>) =
                    failed.iter().partition(|(definition, _)| definition.broken);
                lost.iter().for_each(|(definition, e)| except(report, definition, e, None));
                report.warnings.extend(broken.iter().map(|(definition, e)| {
                    format!(
                        "{} cannot be made, and could not be used in the source either: {}",
                        definition.what(),
                        e.cause()
                    )
                }));
                break;
            }
            left = failed.into_iter().map(|(definition, _)| definition).collect();
        }
        session.run("SET SESSION time_zone = '+00:00'", "set up the connection").await?;
        session.run(LOADING, "set up a connection that loads").await.map(drop)
    }

    /// Makes users and roles that are not there, without a way in, and gives all of them their rights in the database.
    async fn accounts(&self, session: &mut Session, roles: &Roles, report: &mut LoadReport) -> Result<()> {
        if matches!(roles, Roles::None { .. }) {
            report
                .left_out
                .extend(self.details.accounts.iter().map(|a| format!("user {} and its rights", a.name())));
            return Ok(());
        }
        for account in &self.details.accounts {
            let mut statements = vec![create_account(&account.name(), account.host.is_empty())];
            let grants = account
                .grants
                .iter()
                .map(|grant| renamed(grant, &self.details.database, self.connector.database()));
            statements.extend(grants);
            let mut known = false;
            for (at, sql) in statements.iter().enumerate() {
                match session.execute(sql).await {
                    // A note says that it was there.
                    Ok(done) => known |= at == 0 && done.warnings > 0,
                    Err(Failure::Server(e)) if !e.ends_a_session() => report.warnings.push(format!(
                        "a right of {} was not given: {}",
                        account.name(),
                        e.cause()
                    )),
                    Err(e) => return Err(session.failed("give rights", e)),
                }
            }
            if !known && !account.host.is_empty() {
                report
                    .left_out
                    .push(format!("user {}: its password; it is locked until it has one", account.name()));
            }
        }
        Ok(())
    }

    async fn analyze(&self, session: &mut Session, report: &mut LoadReport) -> Result<()> {
        for table in self.details.tables.iter().filter(|table| table.has_rows) {
            let sql = format!(
                "ANALYZE NO_WRITE_TO_BINLOG TABLE {}",
                qualified(self.connector.database(), &table.name)
            );
            if let Err(e) = attempt(session, &sql, "gather statistics").await? {
                report.warnings.push(format!(
                    "no statistics of table {}: {}",
                    table.name.escape_debug(),
                    e.cause()
                ));
            }
        }
        Ok(())
    }
}

/// The statement that makes an account: nobody can log in as it before somebody has given it a password.
fn create_account(name: &str, is_role: bool) -> String {
    match is_role {
        true => format!("CREATE ROLE IF NOT EXISTS {name}"),
        false => format!("CREATE USER IF NOT EXISTS {name} ACCOUNT LOCK"),
    }
}

/// Runs a statement. What the server refuses is for the caller; a lost connection is not.
async fn attempt(
    session: &mut Session,
    sql: &str,
    what: &str,
) -> Result<std::result::Result<(), ServerError>> {
    match session.execute(sql).await {
        Ok(_) => Ok(Ok(())),
        Err(Failure::Server(e)) if !e.ends_a_session() => Ok(Err(e)),
        Err(e) => Err(session.failed(what, e)),
    }
}

/// Makes one object, under the settings that it was made under.
pub(super) async fn make(
    session: &mut Session,
    definition: &Definition,
) -> std::result::Result<(), ServerError> {
    for sql in [&definition.settings(), &definition.create] {
        match session.execute(sql).await {
            Ok(_) => {}
            Err(Failure::Server(e)) => return Err(e),
            Err(Failure::Lost(e)) => return Err(ServerError::lost(&e)),
            Err(Failure::Other(e)) => return Err(ServerError::lost(&std::io::Error::other(e.to_string()))),
        }
    }
    Ok(())
}

fn table_id(name: &str) -> TableId {
    TableId { schema: String::new(), table: name.to_owned() }
}

fn except(report: &mut LoadReport, definition: &Definition, e: &ServerError, table: Option<TableId>) {
    report.exceptions.list.push(Exception { object: definition.what(), reason: e.cause(), table });
    let script = super::script::statement(definition);
    report.exceptions.script.extend_from_slice(script.as_bytes());
}
