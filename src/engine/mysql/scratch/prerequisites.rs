//! What `doctor` checks before a drill.

use std::path::Path;

use super::MysqlScratchConfig;
use super::layout::refuse_long;
use super::programs::{Programs, list, places, wanted};
use crate::engine::throwaway::prerequisites::{SERVER, surroundings};
use crate::model::check::{Check, CheckState};

/// Checks what a throwaway server needs.
pub(super) async fn check(config: &MysqlScratchConfig, folder: &Path) -> Vec<Check> {
    let mut checks = vec![programs(config).await];
    checks.extend(surroundings(config.user(), config.isolation, folder, refuse_long).await);
    checks
}

async fn programs(config: &MysqlScratchConfig) -> Check {
    let (kind, bin_dir) = (config.kind, config.bin_dir.as_deref());
    let found = Programs::all(kind, bin_dir).await;
    let check = |state, found, remedy| Check { name: SERVER.to_owned(), state, found, remedy };
    if found.is_empty() {
        let remedy = format!(
            "Install the server of {} in the source's version, or name its folder with bin_dir.",
            kind.title()
        );
        let missing = format!("{}: not found in {}", wanted(kind), places(bin_dir));
        return check(CheckState::Fail, missing, Some(remedy));
    }
    check(CheckState::Ok, format!("can be started: {} {}", kind.title(), list(&found)), None)
}
