//! What `doctor` checks before a drill.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::super::check::{check, fail, ok, warn};
use super::super::connect::Connector;
use super::PostgresScratchConfig;
use super::programs::{Programs, list};
use crate::engine::postgres::scratch::cluster::refuse_long;
use crate::engine::postgres::scratch::remote::rights;
use crate::engine::scratch::isolation_check;
use crate::engine::throwaway::prerequisites::{SERVER, surroundings};
use crate::error::Error;
use crate::model::check::{Check, CheckState};
use crate::model::isolation::Isolation;

const RIGHTS: &str = "scratch rights";

/// Checks a remote server.
pub(crate) async fn remote(admin: &Connector, cancel: &CancellationToken) -> Vec<Check> {
    let look = async {
        let session = admin.connect(cancel).await?;
        rights(&session).await
    };
    let rights = match look.await {
        Ok(rights) => rights,
        Err(e) => {
            let remedy = Some("Fix the connection first.".to_owned());
            return vec![fail(SERVER, &e), check(RIGHTS, CheckState::Skipped, "no connection", remedy)];
        }
    };
    let server = ok(SERVER, format!("PostgreSQL {}, {}", rights.version, admin.describe()));
    let may = match (rights.refuse(admin), rights.roles, rights.superuser) {
        (Err(e), _, _) => fail(RIGHTS, &e),
        (Ok(()), false, _) => warn(
            RIGHTS,
            "the user may create databases, but no roles: checks by queries will fail",
            "Let the server's administrator run: ALTER ROLE … CREATEROLE.",
        ),
        (Ok(()), true, false) => warn(
            RIGHTS,
            "the user may create databases and roles, but is not a superuser: not everything may come back, and indexes are \
             not checked",
            "Use a throwaway server, or a superuser of a server that serves nothing else.",
        ),
        (Ok(()), true, true) => ok(RIGHTS, "the user may do everything"),
    };
    vec![server, may, isolation_check(Isolation::Server, None)]
}

/// Checks what a throwaway server needs.
pub(crate) async fn local(config: &PostgresScratchConfig, folder: &Path) -> Vec<Check> {
    let mut checks = vec![programs(config).await];
    checks.extend(surroundings(config.user(), config.isolation, folder, refuse_long).await);
    checks
}

async fn programs(config: &PostgresScratchConfig) -> Check {
    let found = Programs::all(config.bin_dir.as_deref()).await;
    if found.is_empty() {
        let place = config
            .bin_dir
            .as_ref()
            .map_or("PATH and /usr/lib/postgresql".to_owned(), |d| d.display().to_string());
        let error = Error::preflight(format!("initdb and postgres were not found in {place}"))
            .remedy("Install the server programs of PostgreSQL in the source's major version, or name their folder with bin_dir.");
        return fail(SERVER, &error);
    }
    ok(SERVER, format!("can be started: PostgreSQL {}", list(&found)))
}
