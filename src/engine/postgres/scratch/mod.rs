//! Throwaway PostgreSQL places for drills: a server of its own, or a database on a server elsewhere.
//!
//! A throwaway server has in its folder, which is private to the user that it runs as:
//!
//! | path | what it is |
//! | --- | --- |
//! | `data` | its data |
//! | `s` | its socket: nothing listens on the network |
//! | `server.conf`, `hba.conf` | its settings |
//! | `look.conf`, `look_hba.conf` | the settings for people who look at what was kept |
//! | `log` | what `initdb` and the server say |
//!
//! For a database elsewhere there is `elsewhere.json`, which says what is to be dropped there.

mod cluster;
mod damage;
mod doctor;
mod examine;
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

use self::processes::real_path;
use self::programs::{Programs, Runner};
use super::connect::{Connector, PostgresConfig};
use super::details::Details;
use super::load::PostgresLoader;
use super::tools::Tools;
use crate::engine::Loader;
use crate::engine::postgres::scratch::cluster::{Server, Size};
use crate::engine::postgres::scratch::read_role::Reader;
use crate::engine::postgres::scratch::remote::Elsewhere;
use crate::engine::scratch::{Damage, Examination, Scratch, ScratchHost};
use crate::error::Result;
use crate::model::check::Check;
use crate::model::stream::Contents;

/// The database on a throwaway server.
const DATABASE: &str = "marbre_scratch";

/// How long to wait for a lock, in a place where nobody else should hold one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// How the names of databases begin that drills make on a server elsewhere.
pub(super) const DATABASE_PREFIX: &str = "marbre_scratch";

fn random_name(start: &str) -> String {
    format!("{start}_{}", hex::encode(rand::random::<[u8; 6]>()))
}

fn random_password() -> SecretString {
    hex::encode(rand::random::<[u8; 32]>()).into()
}

/// Where throwaway places are made.
#[derive(Debug, Clone)]
pub struct PostgresScratchConfig {
    /// A server elsewhere, by its URL, in which a database of a random name is made; else a throwaway server.
    pub scratch: Option<String>,
    /// The password for that server.
    pub password: Option<SecretString>,
    /// The folder of `initdb`, `postgres`, `pg_restore`; else those that fit are looked for.
    pub bin_dir: Option<PathBuf>,
    /// The user that a throwaway server runs as, where marbre is root.
    pub user: Option<String>,
    /// How many connections at a time.
    pub jobs: usize,
}

/// Makes throwaway places.
pub struct PostgresScratchHost {
    config: PostgresScratchConfig,
    /// The server elsewhere.
    admin: Option<Connector>,
}

impl PostgresScratchHost {
    /// Reads the configuration; connects to nothing, starts nothing. Fails where the URL is wrong.
    pub fn new(config: PostgresScratchConfig) -> Result<Self> {
        let connector = |url: &String| {
            Connector::new(&PostgresConfig {
                url: url.clone(),
                password: config.password.clone(),
                bin_dir: config.bin_dir.clone(),
                lock_timeout: LOCK_TIMEOUT,
                jobs: config.jobs,
            })
        };
        let admin = config.scratch.as_ref().map(connector).transpose()?;
        Ok(Self { config, admin })
    }

    fn place(&self, home: Home, connector: Connector, reader: Reader) -> Box<dyn Scratch> {
        let PostgresScratchConfig { bin_dir, jobs, .. } = self.config.clone();
        let loader = Arc::new(PostgresLoader::into_database(connector.clone(), bin_dir, jobs));
        Box::new(PostgresScratch { home, connector, reader, loader })
    }
}

#[async_trait]
impl ScratchHost for PostgresScratchHost {
    async fn check(&self, folder: &Path, cancel: &CancellationToken) -> Vec<Check> {
        match &self.admin {
            Some(admin) => doctor::elsewhere(admin, cancel).await,
            None => doctor::throwaway(&self.config, &real_path(folder)).await,
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
            let database = Elsewhere::name();
            let connector = admin.with_database(&database);
            let reader = Reader::new(connector.clone());
            let elsewhere =
                Elsewhere::start(admin.clone(), &details, database, reader.name(), &folder, cancel).await?;
            return Ok(self.place(Home::Elsewhere(Box::new(elsewhere)), connector, reader));
        }
        let programs = Programs::find(bin_dir, details.server_major).await?;
        // The loader will need them, and would say so only when the server runs.
        Tools::find(bin_dir, details.server_major).await?;
        let runner = Runner::new(self.config.user.as_deref()).await?;
        let tables = contents.streams.iter().map(|stream| stream.tables.len()).sum();
        let size = Size { jobs: self.config.jobs.max(1), tables };
        let server = Server::start(programs, runner, &folder, size, cancel).await?;
        let connector = server.connector().clone();
        let reader = Reader::new(connector.clone());
        Ok(self.place(Home::Server(Box::new(server)), connector, reader))
    }

    async fn sweep(&self, folder: &Path) -> Result<()> {
        let folder = real_path(folder);
        match remote::is_elsewhere(&folder)? {
            true => remote::sweep(self.admin.as_ref(), &folder).await,
            false => cluster::sweep(&folder).await,
        }
    }
}

/// Where the database is.
enum Home {
    Server(Box<Server>),
    Elsewhere(Box<Elsewhere>),
}

/// A throwaway place.
struct PostgresScratch {
    home: Home,
    /// The database, as somebody who may do everything with it.
    connector: Connector,
    reader: Reader,
    /// One for all: it knows what it has loaded.
    loader: Arc<PostgresLoader>,
}

#[async_trait]
impl Scratch for PostgresScratch {
    fn describe(&self) -> String {
        match &self.home {
            Home::Server(server) => format!("a throwaway server, PostgreSQL {}", server.version()),
            Home::Elsewhere(elsewhere) => {
                format!("{}, PostgreSQL {}", self.connector.describe(), elsewhere.version())
            }
        }
    }

    fn version(&self) -> String {
        match &self.home {
            Home::Server(server) => server.version().to_string(),
            Home::Elsewhere(elsewhere) => elsewhere.version().to_string(),
        }
    }

    fn trouble(&self) -> Option<String> {
        match &self.home {
            Home::Server(server) => server.trouble(),
            Home::Elsewhere(_) => None,
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
        match skip.iter().any(|skipped| skipped == examine::AMCHECK) {
            true => Ok(Vec::new()),
            false => Ok(vec![examine::indexes(&self.connector, cancel).await?]),
        }
    }

    async fn damage(
        &self,
        damage: Damage,
        contents: &Contents,
        cancel: &CancellationToken,
    ) -> Result<String> {
        damage::damage(&self.connector, damage, contents, cancel).await
    }

    async fn keep(self: Box<Self>) -> Result<String> {
        match self.home {
            Home::Server(server) => server.keep().await,
            Home::Elsewhere(elsewhere) => elsewhere.keep(),
        }
    }

    async fn remove(self: Box<Self>) -> Result<()> {
        match self.home {
            Home::Server(server) => server.remove().await,
            Home::Elsewhere(elsewhere) => elsewhere.remove().await,
        }
    }
}
