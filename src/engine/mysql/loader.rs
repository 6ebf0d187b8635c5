//! Loading a snapshot into a database.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::accounts;
use super::compare;
use super::connect::{Connector, MysqlConfig};
use super::definitions::{Definition, Kind, requalified};
use super::destination;
use super::details::Details;
use super::loading::{Load, Made};
use crate::engine::{
    Comparison, Destination, LoadOptions, LoadReport, Loader, Roles, StreamSource, interruptible,
};
use crate::error::{Error, Result};
use crate::model::observer::LoadObserver;
use crate::model::stream::Contents;

/// Loads snapshots of MariaDB or MySQL into the database that its URL names.
pub(crate) struct MysqlLoader {
    connector: Connector,
    jobs: usize,
    /// Nothing outlives a drill: its server runs no events.
    drill: bool,
    loaded: Mutex<Option<Loaded>>,
}

/// What was loaded.
#[derive(Debug, Clone)]
struct Loaded {
    /// Events that begin when the restore is complete: until then they would change what is compared.
    events: Vec<Definition>,
    /// Users and rights were left out.
    without_accounts: bool,
}

impl MysqlLoader {
    /// Reads the configuration; connects to nothing. Fails if the URL is wrong.
    pub(crate) fn new(config: &MysqlConfig) -> Result<Self> {
        let connector = Connector::new(config)?;
        Ok(Self { connector, jobs: config.jobs.max(1), drill: false, loaded: Mutex::default() })
    }

    /// Loads into the database of a drill.
    pub(super) fn into_database(connector: Connector, jobs: usize) -> Self {
        Self { connector, jobs: jobs.max(1), drill: true, loaded: Mutex::default() }
    }

    fn loaded(&self) -> Option<Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the events, and takes the mark away.
    async fn complete(&self) -> Result<Vec<String>> {
        let loaded = self.loaded().ok_or_else(|| Error::internal("finish of a restore that did not load"))?;
        let mut session = self.connector.connect(&CancellationToken::new()).await?;
        let mut warnings = Vec::new();
        for event in &loaded.events {
            if let Err(e) = super::loading::make(&mut session, event).await {
                warnings.push(format!("{} was not made: {}", event.what(), e.cause()));
            }
        }
        destination::unmark(&mut session, self.connector.database()).await?;
        Ok(warnings)
    }
}

#[async_trait]
impl Loader for MysqlLoader {
    fn describe(&self) -> String {
        self.connector.describe()
    }

    async fn inspect(&self, contents: &Contents, cancel: &CancellationToken) -> Result<Destination> {
        let details = Details::of(contents)?;
        let mut server = self.connector.connect_to_server(cancel).await?;
        destination::refuse(&mut server, contents, &details).await?;
        destination::state(&mut server, self.connector.database()).await
    }

    async fn load(
        &self,
        contents: &Contents,
        streams: &dyn StreamSource,
        options: &LoadOptions,
        observer: &dyn LoadObserver,
        cancel: &CancellationToken,
    ) -> Result<LoadReport> {
        let mut details = Details::of(contents)?;
        let database = self.connector.database();
        for definition in &mut details.definitions {
            definition.create = requalified(&definition.create, &details.database, database);
        }
        let load = Load {
            connector: &self.connector,
            contents,
            details: &details,
            streams,
            jobs: options.jobs.max(1),
            observer,
            cancel,
        };
        let loading = async {
            destination::prepare(&self.connector, contents, &details, options.overwrite, cancel).await?;
            load.run(&options.roles, if self.drill { Made::All } else { Made::WithoutEvents }).await
        };
        let report = interruptible(cancel, loading).await?;
        let events = details.definitions.into_iter().filter(|d| d.kind == Kind::Event && !self.drill);
        let without_accounts = matches!(options.roles, Roles::None { .. });
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Loaded { events: events.collect(), without_accounts });
        Ok(report)
    }

    fn plan(&self, contents: &Contents, options: &LoadOptions) -> Result<Vec<String>> {
        let details = Details::of(contents)?;
        let plan = |account: &accounts::Account| match options.roles {
            Roles::None { .. } => format!("user {} and its rights are left out", account.name()),
            Roles::Plain | Roles::AsTheyWere => {
                format!(
                    "user {} gets its rights in the database; where it is new, it is locked and has no password",
                    account.name()
                )
            }
        };
        Ok(details.accounts.iter().map(plan).collect())
    }

    async fn compare(&self, contents: &Contents, cancel: &CancellationToken) -> Result<Comparison> {
        let details = Details::of(contents)?;
        let loaded = self.loaded();
        let with = compare::With {
            events: self.drill || loaded.as_ref().is_none_or(|loaded| loaded.events.is_empty()),
            accounts: loaded.is_some_and(|loaded| !loaded.without_accounts),
        };
        interruptible(cancel, compare::compare(&self.connector, contents, &details, with, self.jobs, cancel))
            .await
    }

    async fn finish(&self) -> Result<Vec<String>> {
        self.complete().await
    }

    async fn finish_with_exceptions(&self) -> Result<Vec<String>> {
        self.complete().await
    }

    async fn abandon(&self) -> Result<()> {
        // Nothing was replaced: what was loaded stays, with its mark.
        Ok(())
    }
}
