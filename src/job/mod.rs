//! The use cases: what marbre does, for the daemon and the command line.

pub(crate) mod drill;
pub mod key_policy;
pub(crate) mod list;
pub(crate) mod probe;
pub(crate) mod prune;
pub(crate) mod resend;
pub mod restore;
pub(crate) mod run_lock;
pub mod snapshot;
pub(crate) mod spool;
pub mod stopwatch;
pub(crate) mod sync;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod verify;
