//! The use cases: what marbre does, for the daemon and the command line.

pub(crate) mod accept;
pub(crate) mod anomaly;
pub(crate) mod decide;
pub(crate) mod delete_archive;
pub(crate) mod drill;
pub(crate) mod key_policy;
pub(crate) mod list;
pub(crate) mod mark;
pub(crate) mod probe;
pub(crate) mod prune;
pub(crate) mod recorded_at;
pub(crate) mod resend;
pub(crate) mod restore;
pub(crate) mod run_lock;
pub(crate) mod snapshot;
pub(crate) mod spool;
pub(crate) mod stats;
pub(crate) mod stopwatch;
pub(crate) mod succession;
pub(crate) mod sync;
pub(crate) mod tally;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod verify;
