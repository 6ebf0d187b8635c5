//! Behaviour that is put around any target.

pub mod faulty;
pub mod limit;
pub mod lock;
pub mod retry;
pub mod shared;
pub mod unopened;
pub mod watch;
