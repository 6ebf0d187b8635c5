//! Engines of configured databases, and the places where drills restore them.

use std::sync::Arc;

use crate::config::{Database, Source};
use crate::engine::Engine;
use crate::engine::registry::{self, MysqlConfig, PostgresConfig, ScratchOptions};
use crate::engine::scratch::ScratchHost;
use crate::error::Result;

/// The engine of a configured database.
pub(crate) fn engine(database: &Database) -> Result<Arc<dyn Engine>> {
    registry::engine(match &database.source {
        Source::Postgres {
            url,
            password,
            bin_dir,
            lock_timeout,
            give_way_after,
            extension_rows,
            leave_out_too_long,
            prefer,
        } => {
            let password = password.as_ref().map(crate::config::Secret::read).transpose()?;
            let config = PostgresConfig {
                url: url.clone(),
                password,
                bin_dir: bin_dir.clone(),
                lock_timeout: *lock_timeout,
                jobs: database.jobs,
                extension_rows: *extension_rows,
                leave_out_too_long: *leave_out_too_long,
                prefer: *prefer,
            };
            registry::EngineSettings::Postgres(config, *give_way_after)
        }
        Source::Mysql {
            kind, url, password, lock_timeout, give_way_after, refuse_non_transactional, ..
        } => {
            let password = password.as_ref().map(crate::config::Secret::read).transpose()?;
            let config = MysqlConfig {
                kind: *kind,
                url: url.clone(),
                password,
                lock_timeout: *lock_timeout,
                jobs: database.jobs,
                refuse_non_transactional: *refuse_non_transactional,
            };
            registry::EngineSettings::Mysql(config, *give_way_after)
        }
        Source::Sqlite { path, give_way_after } => {
            registry::EngineSettings::Sqlite { path: path.clone(), give_way_after: *give_way_after }
        }
    })
}

pub(crate) fn scratch_options(database: &Database) -> Result<ScratchOptions> {
    let drills = &database.drills;
    let password = drills.scratch.as_ref().and_then(|s| s.password.as_ref());
    let source_bin_dir = match &database.source {
        Source::Postgres { bin_dir, .. } | Source::Mysql { bin_dir, .. } => bin_dir.clone(),
        Source::Sqlite { .. } => None,
    };
    Ok(ScratchOptions {
        scratch: drills.scratch.as_ref().map(|s| s.url.clone()),
        password: password.map(crate::config::Secret::read).transpose()?,
        bin_dir: drills.bin_dir.clone().or(source_bin_dir),
        user: drills.user.clone(),
        isolation: drills.isolation,
        jobs: database.jobs,
    })
}

/// The host of a configured database.
pub(crate) fn drill_host(database: &Database) -> Result<Arc<dyn ScratchHost>> {
    registry::scratch_host(database.source.engine().name(), &scratch_options(database)?)
}
