//! The use cases: what marbre does, whoever asks for it.

pub mod alerts;
pub mod catalog;
pub mod conditions;
pub mod damage;
pub mod deliver;
pub mod doctor;
pub mod drill;
pub mod drills;
pub mod epoch_keys;
pub mod expiry;
pub mod findings;
pub mod list;
pub mod lock;
pub mod locked;
pub mod neighbours;
pub mod probe;
pub mod prune;
pub mod prunes;
pub mod restore;
pub mod score;
mod signed;
pub mod snapshot;
pub mod stages;
pub mod status;
pub mod surroundings;
pub mod sync;
#[cfg(test)]
mod testing;
pub mod verify;
pub mod watched;

use std::sync::Arc;

use crate::engine::LoadObserver;
use crate::model::id::TargetName;
use crate::target::Target;

/// A target and its name in this run.
#[derive(Debug, Clone)]
pub struct NamedTarget {
    /// Its name in the configuration, or one made up for `--from`.
    pub name: TargetName,
    /// The target.
    pub target: Arc<dyn Target>,
}

/// Hears what a job is doing.
pub trait Observer: LoadObserver {
    /// The stage that just started will move about this many bytes.
    fn expect(&self, bytes: u64);
    /// Something was done that is neither a stage nor bytes of it: a question to a target was answered.
    fn moves(&self);
    /// Something that people should know, though the job goes on.
    fn warn(&self, message: &str);
}
