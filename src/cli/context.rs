//! What every verb needs: where its configuration is, and how it reports progress.

use std::path::PathBuf;
use std::sync::Arc;

use super::progress;
use crate::config::Config;
use crate::error::Result;
use crate::model::observer::Observer;

/// What every verb needs.
pub(crate) struct Context {
    config: Option<PathBuf>,
    /// Whether output is JSON.
    pub json: bool,
}

impl Context {
    /// The context of these global arguments.
    pub(super) fn new(config: Option<PathBuf>, json: bool) -> Self {
        Self { config, json }
    }

    /// Loads the configuration.
    pub(super) fn config(&self) -> Result<Config> {
        Config::load(self.config.as_deref())
    }

    /// The file that the command line names.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        self.config.clone()
    }

    /// An observer for one job.
    pub(super) fn observer(&self) -> Arc<dyn Observer> {
        progress::observer(self.json)
    }
}
