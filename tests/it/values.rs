//! Values of rows are nowhere: whatever a server, a program or a database says, in whatever language, none of it is in what
//! marbre says, logs, keeps, stores or sends.

mod alerts;
mod postgres;
mod sqlite;

use std::fs;
use std::path::Path;

use crate::support::sqlite_setup::files;

/// What stands in the rows: a surname, an address of a person, a telephone number, an account.
const SECRETS: [&str; 4] =
    ["Quesnel-Lavoisier", "amelie.quesnel@example.org", "33698765432", "FR7630006000011234567890189"];

/// None of the secrets is in this text.
#[track_caller]
fn holds_none(what: &str, text: &[u8]) {
    for secret in SECRETS {
        let found = memchr::memmem::find(text, secret.as_bytes());
        assert!(found.is_none(), "{secret} is in {what}:\n{}", String::from_utf8_lossy(text));
    }
}

/// None of the secrets is in a file below this folder.
#[track_caller]
fn folder_holds_none(folder: &Path) {
    for path in files(folder) {
        // A file may go away while it is looked for.
        let Ok(bytes) = fs::read(&path) else { continue };
        for secret in SECRETS {
            let found = memchr::memmem::find(&bytes, secret.as_bytes());
            assert!(found.is_none(), "{secret} is in {}", path.display());
        }
    }
}
