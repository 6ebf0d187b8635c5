//! Loading a snapshot into a database.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Session};
use super::contents_list::Owners;
use super::database_properties::Database;
use super::details::Details;
use super::inventory::POPULATED;
use super::load_role::LoadRole;
use super::loading::{Load, Reach};
use super::postgres_config::PostgresConfig;
use super::replace::{self, Names};
use super::tools::Tools;
use super::version::Version;
use super::view::SCHEMA;
use super::{compare, destination, roles, session_settings};
use crate::engine::interruptible;
use crate::engine::postgres::archive::Archive;
use crate::engine::postgres::archive_load::ArchiveLoad;
use crate::engine::{Comparison, Destination, LoadOptions, LoadReport, Loader, Roles, StreamSource};
use crate::error::{Error, Result};
use crate::model::id::SnapshotId;
use crate::model::observer::LoadObserver;
use crate::model::stage::Stage;
use crate::model::stream::Contents;
use crate::system::runner::Confinement;

/// Loads snapshots of PostgreSQL into the database that its URL names. Where that is to be replaced, they are loaded
/// beside it, and [`Loader::finish`] puts the new database in its place.
pub(crate) struct PostgresLoader {
    connector: Connector,
    bin_dir: Option<PathBuf>,
    jobs: usize,
    /// Nothing outlives a drill, and nothing is reached from it.
    drill: Option<Reach>,
    /// How client tools run in a drill.
    confinement: Option<Arc<Confinement>>,
    loading: Mutex<Option<Loading>>,
}

/// A load that was begun by this loader.
#[derive(Clone)]
struct Loading {
    snapshot: SnapshotId,
    /// The comment that replaces the mark.
    comment: Option<String>,
    /// Set if a database is to be replaced.
    replaces: Option<Names>,
    /// Owners and grants were left out.
    without_owners: bool,
    /// Materialized views that are empty because they read from other servers, or could, which a drill does not reach.
    unfilled: u64,
    /// The role that has loaded it, until it is removed.
    role: Option<Arc<LoadRole>>,
}

impl PostgresLoader {
    /// Reads the configuration; connects to nothing. Fails if the URL or the password file is wrong.
    pub(crate) fn new(config: PostgresConfig) -> Result<Self> {
        Ok(Self::into_database(Connector::new(&config)?.quiet(), config.bin_dir, config.jobs))
    }

    /// Loads into the database that the connector names.
    pub(super) fn into_database(connector: Connector, bin_dir: Option<PathBuf>, jobs: usize) -> Self {
        Self {
            connector,
            bin_dir,
            jobs: jobs.max(1),
            drill: None,
            confinement: None,
            loading: Mutex::new(None),
        }
    }

    /// The same loader for a drill, whose tools run in this way.
    pub(super) fn in_drill(self, reach: Reach, confinement: Option<Arc<Confinement>>) -> Self {
        Self { drill: Some(reach), confinement, ..self }
    }

    /// The role that loads or has loaded, if it is still there.
    pub(super) fn load_role(&self) -> Option<Arc<LoadRole>> {
        self.loading().as_ref().and_then(|loading| loading.role.clone())
    }

    fn loading(&self) -> MutexGuard<'_, Option<Loading>> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database that is being loaded, or was.
    fn current(&self) -> Connector {
        match self.loading().as_ref().and_then(|loading| loading.replaces.as_ref()) {
            Some(names) => self.connector.with_database(&names.new),
            None => self.connector.clone(),
        }
    }

    /// Tools that can read the archive and talk to the server.
    async fn tools(&self, details: &Details, server: Version) -> Result<Tools> {
        let wrote = details.tool_version.split('.').next();
        let wrote = wrote.and_then(|major| major.parse().ok()).unwrap_or(0);
        let tools = Tools::find(self.bin_dir.as_deref(), server.major.max(wrote)).await?;
        Ok(tools.confined(self.confinement.clone()))
    }

    /// Makes an empty database with the mark: the destination, or one beside it that will replace it.
    async fn prepare(
        &self,
        contents: &Contents,
        details: &Details,
        overwrite: bool,
        report: &mut LoadReport,
        cancel: &CancellationToken,
    ) -> Result<Session> {
        let place = destination::connect(&self.connector, cancel).await?;
        destination::refuse(&place.server, details).await?;
        for session in place.database.iter().chain([&place.server]) {
            report.warnings.extend(destination::fired(&self.connector, session).await?);
        }
        let state = destination::state(place.database.as_ref()).await?;
        let name = self.connector.database();
        let source = &details.globals.database;
        let mut loading = Loading {
            snapshot: contents.snapshot.clone(),
            // A snapshot of an earlier release may be of a database with the mark.
            comment: source.comment.clone().filter(|comment| destination::marked(comment).is_none()),
            replaces: None,
            without_owners: false,
            unfilled: 0,
            role: None,
        };
        match state {
            Destination::Empty => {}
            Destination::Occupied(what) if !overwrite => {
                return Err(Error::preflight(format!(
                    "database {} is not empty: {what}",
                    name.escape_debug()
                ))
                .remedy("Name another database, or allow overwriting."));
            }
            Destination::Occupied(_) => {
                let names = Names::beside(name);
                replace::prepare(&self.connector, &place.server, &names, cancel).await?;
                loading.replaces = Some(names);
            }
            Destination::Absent | Destination::Incomplete(_) => {
                if let Some(database) = &place.database {
                    destination::drop_subscriptions(database, &mut report.warnings).await?;
                }
                drop(place.database);
                destination::drop_database(&place.server, name).await?;
            }
        }
        *self.loading() = Some(loading);
        let connector = self.current();
        let name = connector.database();
        if state != Destination::Empty {
            destination::create(&place.server, name, source, &mut report.warnings).await?;
        }
        let mark = destination::mark(&contents.snapshot);
        let sql = Database::comment_on(name, Some(&mark));
        place.server.batch(&sql, "mark the database as incomplete").await?;
        let session = connector.connect(cancel).await?;
        destination::strip(&session, details).await?;
        let rows = session
            .query("SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()", &[])
            .await?;
        let encoding: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
        if encoding != source.encoding {
            report.warnings.push(format!(
                "the database's encoding is {encoding}, the snapshot's was {}",
                source.encoding
            ));
        }
        Ok(session)
    }

    /// The role that loads in a superuser's stead. Whoever is no superuser has no more rights than they may give away.
    async fn make_load_role(
        &self,
        session: &Session,
        details: &Details,
        created: &BTreeSet<String>,
        report: &mut LoadReport,
        cancel: &CancellationToken,
    ) -> Result<Option<Arc<LoadRole>>> {
        if !is_superuser(session).await? {
            return Ok(None);
        }
        let role = LoadRole::create(session, &self.current(), &details.globals, cancel).await?;
        report.warnings.extend(role.warning());
        role.stand_in(session, &details.globals, created).await?;
        let role = Arc::new(role);
        if let Some(loading) = self.loading().as_mut() {
            loading.role = Some(role.clone());
        }
        Ok(Some(role))
    }

    /// Removes that role.
    async fn remove_load_role(&self) -> Result<Option<String>> {
        let Some(role) = self.load_role() else { return Ok(None) };
        let session = self.current().connect(&CancellationToken::new()).await?;
        let left = role.remove(&session).await;
        if let Some(loading) = self.loading().as_mut() {
            loading.role = None;
        }
        Ok(left)
    }

    /// What was loaded, without the role that did it: a drill needs that to the end, when the whole server or the database goes.
    /// With what people should know.
    async fn loaded(&self) -> Result<(Loading, Vec<String>)> {
        let left = match self.drill {
            Some(_) => None,
            None => self.remove_load_role().await?,
        };
        let loading = self.loading().clone();
        let loading = loading.ok_or_else(|| Error::internal("finish of a restore that did not load"))?;
        Ok((loading, left.into_iter().collect()))
    }

    /// Takes the mark from the database. Not from within it: its own code may not let anybody in.
    async fn unmark(&self, comment: Option<&str>) -> Result<()> {
        let session = destination::maintenance(&self.connector, &CancellationToken::new()).await?;
        let sql = Database::comment_on(self.connector.database(), comment);
        session.batch(&sql, "take the mark from the database").await
    }

    /// The details of a snapshot. Errors may name from now on what they name.
    fn details(&self, contents: &Contents) -> Result<Details> {
        let details = Details::of(contents)?;
        if details.in_bytes {
            self.connector.speak_bytes();
        }
        details.teach(self.connector.known(), contents);
        Ok(details)
    }

    async fn load_all(
        &self,
        contents: &Contents,
        streams: &dyn StreamSource,
        options: &LoadOptions,
        observer: &dyn LoadObserver,
        cancel: &CancellationToken,
    ) -> Result<LoadReport> {
        let details = self.details(contents)?;
        let mut report = LoadReport::default();
        // Before anything is changed: there may be no room for it.
        Archive::require_room(contents.streams.iter().filter(|s| s.name == SCHEMA).map(|s| s.length).sum())?;
        let schema = Archive::receive(streams.open(SCHEMA).await?, observer, cancel).await?;
        observer.stage(Stage::Roles);
        let session = self.prepare(contents, &details, options.overwrite, &mut report, cancel).await?;
        let tools = self.tools(&details, session.version).await?;
        let without_owners = matches!(options.roles, Roles::None { .. });
        if let Some(loading) = self.loading().as_mut() {
            loading.without_owners = without_owners;
        }
        let created = roles::create(&session, &details.globals, &options.roles, &mut report).await?;
        let connector = self.current();
        let role = self.make_load_role(&session, &details, &created, &mut report, cancel).await?;
        let archive = ArchiveLoad {
            connector: &connector,
            tools: &tools,
            server_major: session.version.major,
            loader: role.as_deref(),
            session: &session,
            owners: owners(&session, &details).await?,
            no_owners: without_owners,
            maker: match (&role, &options.roles) {
                (Some(role), Roles::None { owner: Some(_) }) => {
                    role.make_maker(&session).await?;
                    Some(role.maker())
                }
                _ => None,
            },
            no_tablespaces: lacks_tablespaces(&session, &details, &mut report.warnings).await?,
            settings: session_settings::to_pass_on(&details.session, &session).await?,
        };
        let load = Load {
            connector: &connector,
            session: &session,
            role: role.as_deref(),
            contents,
            details: &details,
            schema: &schema,
            streams,
            options,
            drill: self.drill,
            observer,
            cancel,
        };
        let unfilled = load.run(archive, &mut report).await?;
        if let Some(loading) = self.loading().as_mut() {
            loading.unfilled = unfilled;
        }
        report.bytes = contents.streams.iter().map(|stream| stream.length).sum();
        Ok(report)
    }
}

/// Whom the entries of an archive may belong to.
async fn owners(session: &Session, details: &Details) -> Result<Owners> {
    let roles = async |condition| -> Result<Vec<String>> {
        let sql = format!("SELECT rolname::text FROM pg_roles WHERE {condition}");
        Ok(session.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    };
    let of_snapshot = details.globals.roles.iter().map(|role| role.name.clone());
    let predefined = roles("rolname ~ '^pg_'").await?;
    Ok(Owners { all: of_snapshot.chain(predefined).collect(), superusers: roles("rolsuper").await? })
}

async fn is_superuser(session: &Session) -> Result<bool> {
    let rows = session.query("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", &[]).await?;
    Ok(rows.first().is_some_and(|row| row.get(0)))
}

/// Whether a tablespace of the source is not here.
async fn lacks_tablespaces(session: &Session, details: &Details, warnings: &mut Vec<String>) -> Result<bool> {
    let rows = session.query("SELECT spcname::text FROM pg_tablespace", &[]).await?;
    let here: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let missing: Vec<String> = details
        .tablespaces
        .iter()
        .filter(|name| !here.contains(name))
        .map(|name| name.escape_debug().to_string())
        .collect();
    if missing.is_empty() {
        return Ok(false);
    }
    warnings.push(format!(
        "everything lies in the default tablespace, because these are missing: {}",
        missing.join(", ")
    ));
    Ok(true)
}

#[async_trait]
impl Loader for PostgresLoader {
    fn describe(&self) -> String {
        self.connector.describe()
    }

    async fn inspect(&self, contents: &Contents, cancel: &CancellationToken) -> Result<Destination> {
        let details = self.details(contents)?;
        let place = destination::connect(&self.connector, cancel).await?;
        destination::refuse(&place.server, &details).await?;
        self.tools(&details, place.server.version).await?;
        destination::state(place.database.as_ref()).await
    }

    async fn load(
        &self,
        contents: &Contents,
        streams: &dyn StreamSource,
        options: &LoadOptions,
        observer: &dyn LoadObserver,
        cancel: &CancellationToken,
    ) -> Result<LoadReport> {
        let loading = self.load_all(contents, streams, options, observer, cancel);
        interruptible(cancel, loading).await
    }

    async fn compare(&self, contents: &Contents, cancel: &CancellationToken) -> Result<Comparison> {
        let details = self.details(contents)?;
        let connector = self.current();
        let session = connector.connect(cancel).await?;
        let (without_owners, unfilled) =
            self.loading().as_ref().map_or((false, 0), |loading| (loading.without_owners, loading.unfilled));
        let rights = is_superuser(&session).await? && !without_owners;
        let comparing = compare::compare(&connector, &session, contents, &details, rights, self.jobs, cancel);
        let mut comparison = interruptible(cancel, comparing).await?;
        // The load has named those.
        let are_unfilled = |(kind, expected, found): &(String, u64, u64)| {
            kind == POPULATED && unfilled > 0 && found + unfilled == *expected
        };
        comparison.inventory.retain(|counts| !are_unfilled(counts));
        Ok(comparison)
    }

    fn plan(&self, contents: &Contents, options: &LoadOptions) -> Result<Vec<String>> {
        Ok(roles::plan(&Details::of(contents)?.globals, &options.roles))
    }

    async fn finish(&self) -> Result<Vec<String>> {
        let (loading, mut warnings) = self.loaded().await?;
        let Some(names) = &loading.replaces else {
            self.unmark(loading.comment.as_deref()).await?;
            return Ok(warnings);
        };
        replace::swap(&self.connector, names, loading.comment.as_deref(), &loading.snapshot).await?;
        *self.loading() = None;
        warnings.extend(replace::drop_old(&self.connector, names).await);
        Ok(warnings)
    }

    async fn finish_with_exceptions(&self) -> Result<Vec<String>> {
        let (loading, mut warnings) = self.loaded().await?;
        let Some(names) = &loading.replaces else {
            self.unmark(loading.comment.as_deref()).await?;
            return Ok(warnings);
        };
        replace::swap(&self.connector, names, loading.comment.as_deref(), &loading.snapshot).await?;
        *self.loading() = None;
        warnings.extend(replace::keep_old(&self.connector, names, &loading.snapshot).await?);
        Ok(warnings)
    }

    async fn abandon(&self) -> Result<()> {
        if self.drill.is_none() {
            // What it owns goes with the database.
            let _left = self.remove_load_role().await;
        }
        let loading = self.loading().take();
        match loading.and_then(|loading| loading.replaces) {
            Some(names) => replace::drop_new(&self.connector, &names).await,
            None => Ok(()),
        }
    }
}
