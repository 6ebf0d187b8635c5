//! marbre: backup and disaster recovery for subscription databases.
//!
//! The map of the modules; data and dependencies flow one way:
//!
//! ```text
//! main → cli → daemon → web → {health, report} → job → {repository, alert}
//!      → {engine, pack, targets, keys, state} → {config, system} → model
//! ```
//!
//! `tests/architecture.rs` holds every file to it. Only registries (`engine::registry`, `targets::registry`) and the
//! composition root (`cli::compose`) name concrete adapters.

pub mod alert;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod engine;
pub mod error;
pub mod health;
pub mod job;
pub mod keys;
pub mod model;
pub mod pack;
pub(crate) mod report;
pub(crate) mod repository;
pub mod state;
pub mod system;
pub mod targets;
pub mod web;

pub use error::{Error, ErrorKind, Result, ResultExt};
