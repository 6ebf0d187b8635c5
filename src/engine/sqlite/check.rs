//! What `doctor` checks before a snapshot.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::OLDEST_LIBRARY;
use super::connection::{Reader, begin, failed, open_shared, side_file};
use super::facts::{Facts, inventory};
use crate::error::{Error, Result};
use crate::model::check::{Check, CheckState};
use crate::model::human;

/// A check should not wait for long: it is meant to detect locks.
const CHECK_LOCK_WAIT: Duration = Duration::from_secs(2);

pub(super) async fn check(path: PathBuf, cancel: &CancellationToken) -> Vec<Check> {
    let mut checks = vec![library()];
    match examine(path.clone(), cancel).await {
        Ok((facts, tables)) => {
            checks.push(ok("database file", size_of(&path)));
            checks.push(ok(
                "read access",
                format!(
                    "{} tables, {} pages of {} bytes",
                    human::count(tables),
                    human::count(facts.page_count),
                    facts.page_size
                ),
            ));
            checks.push(journal_mode(&facts));
            checks.push(owner(&path, &facts));
        }
        Err(error) => {
            checks.push(failure(&error));
            for name in ["read access", "journal mode", "file owner"] {
                checks.push(Check {
                    name: name.to_owned(),
                    state: CheckState::Skipped,
                    found: "the database could not be read".to_owned(),
                    remedy: None,
                });
            }
        }
    }
    checks
}

async fn examine(path: PathBuf, cancel: &CancellationToken) -> Result<(Facts, u64)> {
    let reader = Reader::new(open_shared(&path)?);
    reader
        .run(cancel, move |connection, cancel| {
            begin(connection, &path, CHECK_LOCK_WAIT, cancel)?;
            let facts = Facts::read(connection).map_err(|e| failed(&path, "read", e))?;
            let inventory = inventory(connection).map_err(|e| failed(&path, "read", e))?;
            Ok((facts, inventory.get("table").copied().unwrap_or(0)))
        })
        .await
}

fn ok(name: &str, found: String) -> Check {
    Check { name: name.to_owned(), state: CheckState::Ok, found, remedy: None }
}

/// The built-in SQLite library.
pub(super) fn library() -> Check {
    let found = rusqlite::version().to_owned();
    if rusqlite::version_number() >= OLDEST_LIBRARY {
        return ok("SQLite library", found);
    }
    Check {
        name: "SQLite library".to_owned(),
        state: CheckState::Fail,
        found,
        remedy: Some("Build marbre with its bundled SQLite, 3.51.3 or later.".to_owned()),
    }
}

fn failure(error: &Error) -> Check {
    Check {
        name: "database file".to_owned(),
        state: CheckState::Fail,
        found: error.to_string(),
        remedy: error.remedy_text().map(str::to_owned),
    }
}

fn size_of(path: &Path) -> String {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    let log = length(&side_file(path, "-wal"));
    let file = human::bytes(length(path));
    if log > 0 { format!("{file}, write-ahead log {}", human::bytes(log)) } else { file }
}

fn journal_mode(facts: &Facts) -> Check {
    let mut check = ok("journal mode", facts.journal_mode.clone());
    if facts.journal_mode != "wal" {
        check.state = CheckState::Warn;
        check.remedy = Some(
            "Set PRAGMA journal_mode = WAL: in other modes nobody can write while a snapshot copies the pages to the spool, or gives way (`give_way_after`)."
                .to_owned(),
        );
    }
    check
}

/// In WAL mode a reader may create `-wal` and `-shm`. SQLite gives them to the owner of the database only if the
/// reader is root; if another user creates them, they can lock the application out.
fn owner(path: &Path, facts: &Facts) -> Check {
    let user = rustix::process::geteuid().as_raw();
    let owner = std::fs::metadata(path).map_or(user, |m| m.uid());
    let mut check = ok("file owner", format!("uid {owner}, marbre runs as uid {user}"));
    if facts.journal_mode == "wal" && user != owner && user != 0 {
        check.state = CheckState::Warn;
        check.remedy = Some(
            "Run marbre as the owner of the database: files that SQLite makes beside it would belong to marbre's user."
                .to_owned(),
        );
    }
    check
}
