//! marbre: backup and disaster recovery for subscription databases.
//!
//! The map of the modules; data and dependencies flow one way:
//!
//! ```text
//! main → cli → daemon → {web, report} → health → job → {repository, alert}
//!      → {engine, pack, targets, keys, state} → {config, system} → model
//! ```
//!
//! `tests/architecture.rs` holds every file to it. Only registries (`engine::registry`, `targets::registry`) and the
//! composition root (`cli::compose`) name concrete adapters.

#![warn(unreachable_pub)]

mod alert;
mod cli;
mod config;
mod daemon;
mod demo;
mod engine;
mod error;
mod health;
mod job;
mod keys;
mod model;
mod pack;
mod report;
mod repository;
mod state;
mod system;
mod targets;
mod web;

pub use cli::run;
pub use error::{Error, ErrorKind, Origin, Result};

/// What this crate's own integration tests and benchmarks use. It is no interface for anybody else: anything in it may
/// change at any time.
#[doc(hidden)]
pub mod internal {
    pub use crate::alert::Channel;
    pub use crate::alert::channels::email::{Email, EmailSettings, Encryption};
    pub use crate::alert::channels::webhook::Webhook;
    pub use crate::alert::dispatcher::{Dispatcher, DispatcherSettings, RoutedChannel};
    pub use crate::alert::http::HttpSettings;
    pub use crate::alert::payload::PayloadFormat;
    pub use crate::engine::sqlite::{SqliteEngine, SqliteLoader};
    pub use crate::engine::{
        Engine, LoadOptions, Loader, Neighbours, OpenOptions, Place, Roles, StreamPlan, StreamSender, View,
        ViewFacts,
    };
    pub use crate::health::status::{
        DatabaseStatus, DrillProof, DrillSummary, SnapshotFigures, TargetStatus,
    };
    pub use crate::job::key_policy::KeyPolicy;
    pub use crate::job::restore::RestoreJob;
    pub use crate::job::restore::open::Wanted;
    pub use crate::job::snapshot::SnapshotJob;
    pub use crate::keys::{Recipients, RestoreKey, SigningKey, TrustStore};
    pub use crate::model::check::Check;
    pub use crate::model::condition::{Affected, Condition, ConditionKind, Severity};
    pub use crate::model::engine_kind::EngineKind;
    pub use crate::model::id::{Sha256, SnapshotId};
    pub use crate::model::incident::Policy;
    pub use crate::model::job::{JobKind, SlotState};
    pub use crate::model::level::{By, Level, Levels};
    pub use crate::model::object::ObjectKey;
    pub use crate::model::observer::{LoadObserver, Observer};
    pub use crate::model::route::{Audience, Role, Route};
    pub use crate::model::row_hash::row_hash;
    pub use crate::model::stage::Stage;
    pub use crate::model::standing::Standing;
    pub use crate::model::stream::SourceFacts;
    pub use crate::state::{SlotRecord, State};
    pub use crate::system::certificate::{Protocol, Server, Shown};
    pub use crate::targets::directory::DirectoryTarget;
    pub use crate::targets::memory::MemoryTarget;
    pub use crate::targets::registry::open;
    pub use crate::targets::s3::{S3Target, S3Timeouts};
    pub use crate::targets::wrapper::retry::{Retry, RetryPolicy};
    pub use crate::targets::{
        Expected, Fetched, NamedTarget, PutOutcome, S3Location, Target, TargetError, TargetErrorKind,
        TargetExt, TargetUrl, Upload,
    };
    pub use crate::web::{
        ConfigLoad, JobFigures, Look, OpenIncident, Published, PublishedDatabase, bind, metrics, serve,
    };
}
