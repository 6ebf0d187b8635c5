//! What every verb needs: where its configuration is, and how it reports progress.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::progress;
use crate::config::Config;
use crate::error::Result;
use crate::model::observer::Observer;

/// What every verb needs.
pub(crate) struct Context {
    config: Option<PathBuf>,
    loaded: OnceLock<Config>,
    /// Whether output is JSON.
    pub json: bool,
}

impl Context {
    /// The context of these global arguments.
    pub(super) fn new(config: Option<PathBuf>, json: bool) -> Self {
        Self { config, loaded: OnceLock::new(), json }
    }

    /// The configuration, as it was when it was first asked for.
    pub(super) fn config(&self) -> Result<Config> {
        if let Some(config) = self.loaded.get() {
            return Ok(config.clone());
        }
        let config = Config::load(self.config.as_deref())?;
        Ok(self.loaded.get_or_init(|| config).clone())
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
