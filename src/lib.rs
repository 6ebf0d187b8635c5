//! marbre: backup and disaster recovery for subscription databases.
//!
//! The map of the modules; data and dependencies flow one way:
//!
//! ```text
//! main → cli → daemon → {web, job} → {engine, pack, repository, target, keys, alert, state, server} → model
//! ```
//!
//! `config` and the composition root (`cli`) are the only places that name concrete adapters.

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
pub mod report;
pub mod repository;
pub mod state;
pub mod system;
pub mod targets;
pub mod web;

pub use error::{Error, ErrorKind, Result, ResultExt};
