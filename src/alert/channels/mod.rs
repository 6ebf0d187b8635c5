//! The services that messages go to: one file each.

pub mod command;
pub mod email;
pub mod ntfy;
pub mod pagerduty;
pub mod ping;
pub mod unopened;
pub mod webhook;
