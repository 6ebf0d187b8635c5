//! One load into a database that is there and empty. Everything that can be loaded is; what fails is tried again after the rest, and
//! what still fails is named.

use std::sync::Mutex;

use tokio_util::sync::CancellationToken;

use super::analyze::analyze;
use super::archive::Archive;
use super::archive_load::{ArchiveLoad, Outcome, Unrestored};
use super::connect::{Connector, Session};
use super::details::{self, Details};
use super::elsewhere::{self, NotHere};
use super::exceptions;
use super::load_role::LoadRole;
use super::quote::{literal, qualified};
use super::roles;
use super::second_attempt;
use super::sections;
use super::server_error::ends_a_session;
use super::single_entries::{Attempt, SingleEntries};
use super::table_load::{NotLoaded, TableLoads, tables_here};
use super::view::DATA;
use crate::engine::postgres::relations::Sequence;
use crate::engine::{Exception, LoadOptions, LoadReport, Roles, StreamSource};
use crate::error::Result;
use crate::model::observer::LoadObserver;
use crate::model::stage::Stage;
use crate::model::stream::{Contents, StreamKind};

/// A load.
pub(crate) struct Load<'a> {
    /// The database.
    pub connector: &'a Connector,
    /// A session of the user.
    pub session: &'a Session,
    /// The role that loads in a superuser's stead.
    pub role: Option<&'a LoadRole>,
    /// What is loaded.
    pub contents: &'a Contents,
    /// Its details.
    pub details: &'a Details,
    /// Its schema.
    pub schema: &'a Archive,
    /// Where the rest comes from.
    pub streams: &'a dyn StreamSource,
    /// How.
    pub options: &'a LoadOptions,
    /// In a drill nothing may be reached: what keeps it so.
    pub drill: Option<Reach>,
    /// Who is told.
    pub observer: &'a dyn LoadObserver,
    /// Ends it.
    pub cancel: &'a CancellationToken,
}

/// What keeps a drill from reaching other servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// There is no network.
    Cut,
    /// Nothing but what is not tried.
    Open,
}

/// What is still to be done.
#[derive(Default)]
struct Left<'a> {
    entries: Vec<Unrestored>,
    tables: Vec<NotLoaded<'a>>,
}

impl Left<'_> {
    fn len(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.made).count() + self.tables.len()
    }
}

impl<'a> Load<'a> {
    /// Loads everything, and reports it. Returns how many materialized views a drill leaves empty.
    pub(super) async fn run(&self, mut archive: ArchiveLoad<'a>, report: &mut LoadReport) -> Result<u64> {
        let mut exceptions = Vec::new();
        let mut left = Left::default();
        self.before_rows(&archive, &mut left, &mut exceptions, report).await?;
        self.observer.stage(Stage::Rows);
        let rows = self.contents.streams.iter().filter(|stream| stream.kind == StreamKind::Rows).collect();
        let loads = self.table_loads().await?;
        (report.rows, left.tables) = loads.all(rows, self.options.jobs).await?;
        drop(loads);
        self.observer.stage(Stage::Indexes);
        let jobs = self.options.jobs.max(1);
        let list = sections::post_data_list(&self.entries(&archive)).await?;
        let mut not_here = NotHere::default();
        let guarded = self.drill == Some(Reach::Open) && elsewhere::within_reach(self.session).await?;
        let list = if guarded { not_here.leave_out_views(&archive.owners, &list) } else { list };
        let outcome = sections::post_data(&self.entries(&archive), &list, jobs).await?;
        take(outcome, &mut left, report);
        self.again(&archive, &mut left, &mut exceptions, report).await?;
        self.give_away(report).await?;
        self.details.links.complete(self.session, report).await?;
        report.warnings.extend(changed_extensions(self.session, self.details).await?);
        self.observer.stage(Stage::Analyze);
        let far = if guarded { not_here.leave_out_statistics(self.session).await? } else { Vec::new() };
        report.warnings.extend(analyze(self.session, &self.details.session, &far, self.cancel).await?);
        // They would fire for everything above. Only superusers can own them, so nobody makes them for others.
        archive.maker = None;
        let outcome = sections::event_triggers(&self.entries(&archive), &list).await?;
        take(outcome, &mut left, report);
        exceptions::forget_omitted(&archive.owners, self.details, &mut left.entries);
        if self.drill.is_some() {
            not_here.take(&archive.owners, &mut left.entries);
        }
        let script = exceptions::script(&archive, self.schema, &left.entries, self.cancel).await?;
        exceptions.extend(left.entries.iter().map(|entry| exceptions::of_entry(&archive.owners, entry)));
        exceptions.extend(left.tables.iter().map(exceptions::of_table));
        report.exceptions = exceptions::all(exceptions, script, self.contents);
        report.not_here = not_here.words;
        Ok(not_here.unfilled)
    }

    /// Loads what the rows need: the schema, large objects, sequences.
    async fn before_rows(
        &self,
        archive: &ArchiveLoad<'_>,
        left: &mut Left<'_>,
        exceptions: &mut Vec<Exception>,
        report: &mut LoadReport,
    ) -> Result<()> {
        self.observer.stage(Stage::Schema);
        let entries = self.entries(archive);
        take(sections::pre_data(&entries).await?, left, report);
        let failed = std::mem::take(&mut left.entries);
        take(second_attempt::all(&entries, failed, Attempt::AsItWas).await?, left, report);
        self.observer.stage(Stage::Data);
        if self.contents.streams.iter().any(|stream| stream.name == DATA) {
            let data = self.streams.open(DATA).await?;
            if let Some(reason) = archive.stream(data, self.observer, self.cancel).await? {
                exceptions.push(exceptions::of("large objects".to_owned(), reason));
            }
        }
        for (sequence, reason) in set_sequences(self.session, self.details).await? {
            let name = qualified(&sequence.schema, &sequence.name);
            let object = format!("the position of sequence {name}, {}", sequence.last_value);
            exceptions.push(exceptions::of(object, reason));
        }
        Ok(())
    }

    async fn table_loads(&self) -> Result<TableLoads<'a>> {
        Ok(TableLoads {
            connector: self.connector.clone(),
            role: self.role,
            here: tables_here(self.session).await?,
            contents: self.contents,
            details: self.details,
            streams: self.streams,
            observer: self.observer,
            cancel: self.cancel,
            idle: Mutex::default(),
        })
    }

    fn entries<'b>(&'b self, archive: &'b ArchiveLoad<'b>) -> SingleEntries<'b> {
        SingleEntries { load: archive, archive: self.schema, details: self.details, cancel: self.cancel }
    }

    /// Tries again what has failed, for as long as that helps: things depend on rows, rows on rows of other tables, and an archive
    /// knows nothing of that. At last, what the rows break is left out, and the rows are loaded.
    async fn again(
        &self,
        archive: &ArchiveLoad<'_>,
        left: &mut Left<'a>,
        exceptions: &mut Vec<Exception>,
        report: &mut LoadReport,
    ) -> Result<()> {
        let mut attempt = Attempt::AsItWas;
        while left.len() > 0 {
            let before = left.len();
            let loads = self.table_loads().await?;
            let tables = std::mem::take(&mut left.tables).into_iter().map(|table| table.stream).collect();
            let (rows, tables) = loads.all(tables, 1).await?;
            report.rows += rows;
            left.tables = tables;
            if attempt == Attempt::ForNewRows {
                let tables = std::mem::take(&mut left.tables);
                let (rows, done, tables) = loads.without_checks(self.session, tables).await?;
                report.rows += rows;
                left.tables = tables;
                exceptions
                    .extend(done.into_iter().map(|(table, checks)| exceptions::of_checks(&table, &checks)));
            }
            let failed = std::mem::take(&mut left.entries);
            take(second_attempt::all(&self.entries(archive), failed, attempt).await?, left, report);
            if left.len() == before {
                match attempt {
                    Attempt::AsItWas => attempt = Attempt::ForNewRows,
                    Attempt::ForNewRows => break,
                }
            }
        }
        Ok(())
    }

    /// Gives objects and the database to those whose they are.
    async fn give_away(&self, report: &mut LoadReport) -> Result<()> {
        let (session, database) = (self.session, self.connector.database());
        let Roles::None { owner } = &self.options.roles else {
            report.warnings.extend(roles::settle(session, &self.details.globals, database).await);
            return Ok(());
        };
        if let Some(role) = self.role {
            role.give_up(session, owner.as_deref()).await?;
        }
        if let Some(owner) = owner {
            report.warnings.extend(roles::give_everything(session, owner, database).await?);
        }
        Ok(())
    }
}

fn take(outcome: Outcome, left: &mut Left<'_>, report: &mut LoadReport) {
    report.warnings.extend(outcome.warnings);
    left.entries.extend(outcome.failed);
}

/// Sets every sequence to where it stood right after the snapshot. Returns those of which that failed, and why.
async fn set_sequences<'d>(session: &Session, details: &'d Details) -> Result<Vec<(&'d Sequence, String)>> {
    let set = |s: &Sequence| {
        let name = literal(&qualified(&s.schema, &s.name));
        // Another version of an extension may be without it: comparing tells.
        let sequence =
            if s.of_extension { format!("to_regclass({name})") } else { format!("{name}::regclass") };
        format!("setval({sequence}, {}, {})", s.last_value, s.is_called)
    };
    let mut failed = Vec::new();
    for batch in details.sequences.chunks(200) {
        let calls: Vec<String> = batch.iter().map(set).collect();
        let all = format!("SELECT {}", calls.join(", "));
        if session.client.batch_execute(&all).await.is_ok() {
            continue;
        }
        for sequence in batch {
            if let Err(e) = session.client.batch_execute(&format!("SELECT {}", set(sequence))).await {
                if ends_a_session(&e) {
                    return Err(session.failed("set the sequences", &e));
                }
                failed.push((sequence, session.cause(&e)));
            }
        }
    }
    Ok(failed)
}

async fn changed_extensions(session: &Session, details: &Details) -> Result<Vec<String>> {
    let here = details::extensions(session).await?;
    let changed = details.extensions.iter().filter_map(|was| {
        let now = here.iter().find(|e| e.name == was.name)?;
        (now.version != was.version)
            .then(|| format!("extension {} is {}, it was {}", was.name, now.version, was.version))
    });
    Ok(changed.collect())
}
