//! The use cases: what marbre does, whoever asks for it.

pub(crate) mod drill;
pub mod key_policy;
pub mod list;
pub mod probe;
pub mod prune;
pub(crate) mod resend;
pub mod restore;
pub mod run_lock;
pub mod snapshot;
pub(crate) mod spool;
pub mod stopwatch;
pub mod sync;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod verify;
