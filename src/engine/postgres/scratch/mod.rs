//! Throwaway PostgreSQL databases for drills: on a throwaway server, or on a remote server.
//!
//! A throwaway server has in its folder:
//!
//! | path | what it is |
//! | --- | --- |
//! | `data` | its data |
//! | `s` | its socket: nothing listens on the network |
//! | `server.conf`, `hba.conf`, `passwd` | its settings, and the name of its user |
//! | `look.conf`, `look_hba.conf`, `start` | the settings and the script for people who look at a kept database |
//! | `log` | the output of `initdb` and the server |
//!
//! The server runs in a sandbox, where only `data` and `s` can be written.
//!
//! For a remote database there is `elsewhere.json`, which says what is to be dropped there.

mod cluster;
mod damage;

mod amcheck;
mod preload;
mod prerequisites;
mod processes;
mod programs;
mod read_role;
mod remote;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use self::programs::Programs;
use super::connect::Connector;
use super::details::Details;
use super::load_role::LoadRole;
use super::loader::PostgresLoader;
use super::loading::Reach;
use super::postgres_config::PostgresConfig;
use super::session_settings::SessionSettings;
use super::tools::Tools;
use crate::engine::Loader;
use crate::engine::postgres::scratch::cluster::{Server, Size};
use crate::engine::postgres::scratch::read_role::Reader;
use crate::engine::postgres::scratch::remote::RemoteDatabase;
use crate::engine::scratch::{Damage, Examination, Scratch, ScratchHost};
use crate::engine::throwaway::folder::real_path;
use crate::engine::throwaway::{random_name, random_password};
use crate::error::Result;
use crate::model::check::Check;
use crate::model::isolation::Isolation;
use crate::model::stream::Contents;
use crate::system::runner::Runner;

/// The database on a throwaway server.
const DATABASE: &str = "marbre_scratch";

/// How long to wait for a lock, in a place where nobody else should hold one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// The prefix of the databases that drills make on a remote server.
pub(super) const DATABASE_PREFIX: &str = "marbre_scratch";

/// Where throwaway places are made.
#[derive(Debug, Clone)]
pub(crate) struct PostgresScratchConfig {
    /// The URL of a remote server, on which a database with a random name is made; without it a throwaway server is used.
    pub scratch: Option<String>,
    /// The password for that server.
    pub password: Option<SecretString>,
    /// The folder of `initdb`, `postgres`, `pg_restore`; by default matching ones are searched.
    pub bin_dir: Option<PathBuf>,
    /// The user that a throwaway server runs as, if marbre is root.
    pub user: Option<String>,
    /// Whether drills run in a sandbox.
    pub isolation: Isolation,
    /// How many connections at the same time.
    pub jobs: usize,
}

impl PostgresScratchConfig {
    /// What will keep the code of a restored database apart.
    pub(crate) fn isolation(&self) -> Isolation {
        match self.scratch {
            Some(_) => Isolation::Server,
            None => self.isolation,
        }
    }

    fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("postgres")
    }
}

/// Makes throwaway places.
pub(crate) struct PostgresScratchHost {
    config: PostgresScratchConfig,
    /// The remote server.
    admin: Option<Connector>,
}

impl PostgresScratchHost {
    /// Reads the configuration; connects to nothing, starts nothing. Fails if the URL is wrong.
    pub(crate) fn new(config: PostgresScratchConfig) -> Result<Self> {
        let connector = |url: &String| {
            Connector::new(&PostgresConfig {
                password: config.password.clone(),
                bin_dir: config.bin_dir.clone(),
                jobs: config.jobs,
                ..PostgresConfig::destination(url.clone(), LOCK_TIMEOUT)
            })
        };
        let admin = config.scratch.as_ref().map(connector).transpose()?.map(Connector::quiet);
        Ok(Self { config, admin })
    }

    fn place(
        &self,
        location: Location,
        connector: Connector,
        reader: Reader,
        source: SessionSettings,
    ) -> Box<dyn Scratch> {
        let PostgresScratchConfig { bin_dir, jobs, .. } = self.config.clone();
        let confinement = match &location {
            Location::Local(server) => Some(server.confinement()),
            Location::Remote(_) => None,
        };
        let reach = match self.isolation() {
            Isolation::Sandbox => Reach::Cut,
            Isolation::Server | Isolation::None => Reach::Open,
        };
        let loader =
            PostgresLoader::into_database(connector.clone(), bin_dir, jobs).in_drill(reach, confinement);
        let loader = Arc::new(loader);
        Box::new(PostgresScratch { location, connector, reader, loader, source })
    }
}

#[async_trait]
impl ScratchHost for PostgresScratchHost {
    fn isolation(&self) -> Isolation {
        self.config.isolation()
    }

    async fn check(&self, folder: &Path, cancel: &CancellationToken) -> Vec<Check> {
        match &self.admin {
            Some(admin) => prerequisites::remote(admin, cancel).await,
            None => prerequisites::local(&self.config, &real_path(folder)).await,
        }
    }

    async fn start(
        &self,
        contents: &Contents,
        folder: &Path,
        cancel: &CancellationToken,
    ) -> Result<Box<dyn Scratch>> {
        let details = Details::of(contents)?;
        let folder = real_path(folder);
        let bin_dir = self.config.bin_dir.as_deref();
        if let Some(admin) = &self.admin {
            let database = RemoteDatabase::name();
            let connector = admin.with_database(&database);
            let reader = Reader::new(connector.clone());
            let own = [reader.name().to_owned(), LoadRole::name(&database)];
            let remote =
                RemoteDatabase::start(admin.clone(), &details, database, &own, &folder, cancel).await?;
            return Ok(self.place(Location::Remote(Box::new(remote)), connector, reader, details.session));
        }
        let programs = Programs::find(bin_dir, details.server_major).await?;
        // The loader needs them, and would only find out once the server runs.
        let tools = Tools::find(bin_dir, details.server_major).await?;
        let runner = Runner::new(self.config.user(), self.config.isolation).await?;
        let tables = contents.streams.iter().map(|stream| stream.tables.len()).sum();
        let size = Size {
            jobs: self.config.jobs.max(1),
            tables,
            major: details.server_major,
            preload: preload::libraries(&details, &programs.directory),
        };
        let server = Server::start(programs, tools.directory(), runner, &folder, size, cancel).await?;
        let connector = server.connector().clone();
        let reader = Reader::new(connector.clone());
        Ok(self.place(Location::Local(Box::new(server)), connector, reader, details.session))
    }

    async fn sweep(&self, folder: &Path) -> Result<()> {
        let folder = real_path(folder);
        match remote::is_remote(&folder)? {
            true => remote::sweep(self.admin.as_ref(), &folder).await,
            false => cluster::sweep(&folder).await,
        }
    }
}

/// Where the database is.
enum Location {
    Local(Box<Server>),
    Remote(Box<RemoteDatabase>),
}

/// A throwaway place.
struct PostgresScratch {
    location: Location,
    /// The database, as a user who may do everything with it.
    connector: Connector,
    reader: Reader,
    /// Shared by all users of the place, because it remembers what it has loaded.
    loader: Arc<PostgresLoader>,
    /// The settings of the source's sessions.
    source: SessionSettings,
}

#[async_trait]
impl Scratch for PostgresScratch {
    fn describe(&self) -> String {
        match &self.location {
            Location::Local(server) => format!("a throwaway server, PostgreSQL {}", server.version()),
            Location::Remote(remote) => {
                format!("{}, PostgreSQL {}", self.connector.describe(), remote.version())
            }
        }
    }

    fn version(&self) -> String {
        match &self.location {
            Location::Local(server) => server.version().to_string(),
            Location::Remote(remote) => remote.version().to_string(),
        }
    }

    fn trouble(&self) -> Option<String> {
        match &self.location {
            Location::Local(server) => server.trouble(),
            Location::Remote(_) => None,
        }
    }

    fn loader(&self) -> Arc<dyn Loader> {
        self.loader.clone()
    }

    async fn query(
        &self,
        sql: &str,
        timeout: Duration,
        cancel: &CancellationToken,
    ) -> Result<Option<String>> {
        self.reader.query(sql, timeout, cancel).await
    }

    async fn examine(&self, skip: &[String], cancel: &CancellationToken) -> Result<Vec<Examination>> {
        match skip.iter().any(|skipped| skipped == amcheck::AMCHECK) {
            true => Ok(Vec::new()),
            false => Ok(vec![amcheck::indexes(&self.connector, &self.source, cancel).await?]),
        }
    }

    async fn damage(
        &self,
        damage: Damage,
        contents: &Contents,
        cancel: &CancellationToken,
    ) -> Result<String> {
        let role = self.loader.load_role();
        damage::damage(&self.connector, role.as_deref(), damage, contents, cancel).await
    }

    async fn keep(self: Box<Self>) -> Result<String> {
        match self.location {
            Location::Local(server) => server.keep().await,
            Location::Remote(remote) => remote.keep(),
        }
    }

    async fn remove(self: Box<Self>) -> Result<()> {
        match self.location {
            Location::Local(server) => server.remove().await,
            Location::Remote(remote) => remote.remove().await,
        }
    }
}
