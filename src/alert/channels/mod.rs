//! The services that messages go to: one file each.

pub(crate) mod command;
pub(crate) mod email;
pub(crate) mod ntfy;
pub(crate) mod pagerduty;
pub(crate) mod ping;
pub(crate) mod unopened;
pub(crate) mod webhook;
