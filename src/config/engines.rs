//! Which engine a database has, and what it is told.

use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::secret::Secret;
use super::{Source, forms};
use crate::config::complaint::Complaint;
use crate::config::section::Section;
use crate::model::engine_kind::EngineKind;
use crate::model::preferred_server::PreferredServer;

const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_GIVE_WAY_AFTER: Duration = Duration::from_secs(600);

const POSTGRES_KEYS: [&str; 9] = [
    "url",
    "password_file",
    "password_env",
    "password_credential",
    "bin_dir",
    "lock_timeout",
    "extension_tables",
    "too_long_rows",
    "prefer",
];
const SQLITE_KEYS: [&str; 1] = ["path"];
/// What only PostgreSQL has among servers.
const POSTGRES_ONLY: [&str; 3] = ["extension_tables", "too_long_rows", "prefer"];
const MYSQL_ONLY: [&str; 1] = ["non_transactional"];

/// Writers wait for the beginning of a snapshot, and not for long.
const DEFAULT_MYSQL_LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// For writers of a SQLite database: most applications wait 5 seconds for a lock.
const DEFAULT_SQLITE_GIVE_WAY_AFTER: Duration = Duration::from_secs(2);

pub(super) fn engine(section: &mut Section<'_>) -> Option<EngineKind> {
    section.required("engine", "engine = \"postgres\"", |value| {
        let name = forms::text(value)?;
        EngineKind::from_name(&name).ok_or_else(|| {
            let accepted = EngineKind::ALL
                .iter()
                .map(|kind| format!("{:?}", kind.name()))
                .collect::<Vec<_>>()
                .join(" or ");
            Complaint::new(format!("there is no engine {name:?}")).accepted(accepted)
        })
    })
}

pub(super) fn source(section: &mut Section<'_>, engine: Option<EngineKind>, base: &Path) -> Option<Source> {
    match engine {
        Some(EngineKind::Postgres) => {
            foreign_keys(section, &SQLITE_KEYS, EngineKind::Sqlite, EngineKind::Postgres);
            foreign_keys(section, &MYSQL_ONLY, EngineKind::MariaDb, EngineKind::Postgres);
            postgres(section, base)
        }
        Some(kind @ (EngineKind::MariaDb | EngineKind::MySql)) => {
            foreign_keys(section, &SQLITE_KEYS, EngineKind::Sqlite, kind);
            foreign_keys(section, &POSTGRES_ONLY, EngineKind::Postgres, kind);
            mysql(section, kind, base)
        }
        Some(EngineKind::Sqlite) => {
            foreign_keys(section, &POSTGRES_KEYS, EngineKind::Postgres, EngineKind::Sqlite);
            foreign_keys(section, &MYSQL_ONLY, EngineKind::MariaDb, EngineKind::Sqlite);
            let path = section.required("path", "path = \"/srv/app.db\"", forms::path(base));
            let give_way_after = section.optional("give_way_after", forms::duration);
            Some(Source::Sqlite {
                path: path?,
                give_way_after: give_way_after.unwrap_or(DEFAULT_SQLITE_GIVE_WAY_AFTER),
            })
        }
        None => {
            // Without an engine nobody can say which of the other keys are right.
            section.tolerate();
            None
        }
    }
}

/// Refuses the keys of another engine.
pub(super) fn foreign_keys(
    section: &mut Section<'_>,
    keys: &[&'static str],
    theirs: EngineKind,
    engine: EngineKind,
) {
    let (theirs, engine) = (theirs.name(), engine.name());
    for key in keys {
        section.reject(key, || {
            Complaint::new(format!("belongs to {theirs} databases, and this one is {engine}"))
                .remedy("Remove the key, or correct `engine`.")
        });
    }
}

fn postgres(section: &mut Section<'_>, base: &Path) -> Option<Source> {
    let url = section.required("url", "url = \"postgres:///NAME\"", forms::postgres_url);
    let password = password(section, base);
    let bin_dir = section.optional("bin_dir", forms::path(base));
    let lock_timeout = section.optional("lock_timeout", forms::duration);
    let extension_rows = section.optional("extension_tables", extension_tables);
    let leave_out_too_long = section.optional("too_long_rows", too_long_rows);
    let prefer = section.optional("prefer", preferred_server);
    let give_way_after = section.optional("give_way_after", forms::duration);
    Some(Source::Postgres {
        prefer: prefer.unwrap_or_default(),
        leave_out_too_long: leave_out_too_long.unwrap_or(false),
        extension_rows: extension_rows.unwrap_or(false),
        url: url?,
        password,
        bin_dir,
        lock_timeout: lock_timeout.unwrap_or(DEFAULT_LOCK_TIMEOUT),
        give_way_after: give_way_after.unwrap_or(DEFAULT_GIVE_WAY_AFTER),
    })
}

fn mysql(section: &mut Section<'_>, kind: EngineKind, base: &Path) -> Option<Source> {
    let url = section.required("url", "url = \"mysql:///NAME\"", forms::mysql_url);
    let password = password(section, base);
    let bin_dir = section.optional("bin_dir", forms::path(base));
    let lock_timeout = section.optional("lock_timeout", forms::duration);
    let refuse = section.optional("non_transactional", non_transactional);
    let give_way_after = section.optional("give_way_after", forms::duration);
    Some(Source::Mysql {
        kind,
        url: url?,
        password,
        bin_dir,
        lock_timeout: lock_timeout.unwrap_or(DEFAULT_MYSQL_LOCK_TIMEOUT),
        refuse_non_transactional: refuse.unwrap_or(false),
        give_way_after: give_way_after.unwrap_or(DEFAULT_GIVE_WAY_AFTER),
    })
}

/// Whether tables that know no transactions are an error.
fn non_transactional(value: &DeValue<'_>) -> Result<bool, Complaint> {
    match forms::text(value)?.as_str() {
        "lock" => Ok(false),
        "refuse" => Ok(true),
        other => Err(Complaint::new(format!("is {other:?}")).accepted(
            "\"lock\": writers to tables that know no transactions (MyISAM, Aria, MEMORY, CSV) wait while those are read; \"refuse\": \
             there is no snapshot while there are such tables",
        )),
    }
}

/// Whether the rows of tables that an extension did not register are read.
fn extension_tables(value: &DeValue<'_>) -> Result<bool, Complaint> {
    match forms::text(value)?.as_str() {
        "named" => Ok(false),
        "rows" => Ok(true),
        other => Err(Complaint::new(format!("is {other:?}")).accepted(
            "\"named\": a snapshot names the tables of extensions whose rows it does not hold; \"rows\": it takes them",
        )),
    }
}

/// Whether rows that the server cannot write as text are left out.
fn too_long_rows(value: &DeValue<'_>) -> Result<bool, Complaint> {
    match forms::text(value)?.as_str() {
        "fail" => Ok(false),
        "leave_out" => Ok(true),
        other => Err(Complaint::new(format!("is {other:?}")).accepted(
            "\"fail\": there is no snapshot while a row is too long for the server to write it; \"leave_out\": a snapshot holds \
             everything else, and names such rows",
        )),
    }
}

/// Which of several servers is read.
fn preferred_server(value: &DeValue<'_>) -> Result<PreferredServer, Complaint> {
    let word = forms::text(value)?;
    PreferredServer::from_word(&word).ok_or_else(|| {
        Complaint::new(format!("is {word:?}")).accepted(
            "\"any\": the first server of the url that answers; \"standby\": a standby, else the primary; \"primary\": the primary, else \
             a standby",
        )
    })
}

/// Where a server's password can be.
pub(super) const PASSWORD_KEYS: [&str; 3] = ["password_file", "password_env", "password_credential"];

/// Reads where the password of a server is.
pub(super) fn password(section: &mut Section<'_>, base: &Path) -> Option<Secret> {
    let file = section.optional("password_file", forms::secret_path(base));
    let variable = section.optional("password_env", forms::variable_name);
    let credential = section.optional("password_credential", forms::credential_name);
    section.only_one(&PASSWORD_KEYS);
    section.reject("password", || {
        Complaint::new("a password must not stand in this file")
            .remedy("Put it in a file that only its owner can read, and name that file with `password_file`.")
    });
    file.map(Secret::File).or(variable.map(Secret::Env)).or(credential.map(Secret::Credential))
}
