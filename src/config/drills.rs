//! How test restores of a database are made.

use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::engines::{PASSWORD_KEYS, foreign_keys, password};
use super::{BUILT_IN_CHECKS, DrillKey, Drills, ScratchServer, forms};
use crate::config::complaint::{Complaint, nearest};
use crate::config::section::Section;
use crate::model::drill_check::Percent;
use crate::model::engine_kind::EngineKind;
use crate::model::isolation::Isolation;

const DEFAULT_KEEP_KEY: Duration = Duration::from_secs(7 * 86_400);
const DEFAULT_KEEP_REPORTS: Duration = Duration::from_secs(400 * 86_400);
const DEFAULT_ROWS_CHANGE: Percent = Percent(25.0);

/// Keys about servers, which a database in a file has no use for.
const POSTGRES_KEYS: [&str; 6] =
    ["scratch", "password_file", "password_env", "password_credential", "bin_dir", "user"];

/// Keys about a server that drills restore into, which only PostgreSQL has.
const POSTGRES_ONLY: [&str; 4] = ["scratch", "password_file", "password_env", "password_credential"];

/// Reads `[database.NAME.drills]`, which may be absent. Where the engine is not known, nothing that depends on
/// it is refused.
pub(super) fn read(database: &mut Section<'_>, engine: Option<EngineKind>, base: &Path) -> Drills {
    let mut drills = Drills {
        key: DrillKey::Epoch,
        keep_key: DEFAULT_KEEP_KEY,
        every: None,
        rto: None,
        scratch: None,
        bin_dir: None,
        user: None,
        isolation: Isolation::Sandbox,
        rows_change: DEFAULT_ROWS_CHANGE,
        may_be_empty: Vec::new(),
        may_be_missing: Vec::new(),
        skip: Vec::new(),
        keep_reports: DEFAULT_KEEP_REPORTS,
    };
    database.table("drills", |section| {
        drills.key = section.optional("key", key).unwrap_or(drills.key);
        drills.keep_key = section.optional("keep_key", forms::duration).unwrap_or(drills.keep_key);
        drills.every = section.optional("every", forms::duration);
        drills.rto = section.optional("rto", forms::duration);
        drills.isolation = section.optional("isolation", isolation).unwrap_or(drills.isolation);
        match engine {
            Some(EngineKind::Sqlite) => {
                foreign_keys(section, &POSTGRES_KEYS, EngineKind::Postgres, EngineKind::Sqlite);
            }
            Some(kind @ (EngineKind::MariaDb | EngineKind::MySql)) => {
                foreign_keys(section, &POSTGRES_ONLY, EngineKind::Postgres, kind);
                drills.bin_dir = section.optional("bin_dir", forms::path(base));
                drills.user = section.optional("user", forms::server_user);
            }
            Some(EngineKind::Postgres) | None => {
                drills.scratch = scratch(section, base);
                drills.bin_dir = section.optional("bin_dir", forms::path(base));
                drills.user = section.optional("user", forms::server_user);
            }
        }
        drills.rows_change = section.optional("rows_change", forms::percent).unwrap_or(drills.rows_change);
        drills.may_be_empty = section.list("may_be_empty", forms::filled_text);
        drills.may_be_missing = section.list("may_be_missing", forms::filled_text);
        drills.skip = section.list("skip", built_in_check);
        drills.keep_reports =
            section.optional("keep_reports", forms::duration).unwrap_or(drills.keep_reports);
    });
    if engine == Some(EngineKind::Postgres) {
        // Reports have every table with its schema.
        let names = drills.may_be_empty.iter_mut().chain(&mut drills.may_be_missing);
        for name in names.filter(|name| !name.contains('.')) {
            *name = format!("public.{name}");
        }
    }
    drills
}

fn scratch(section: &mut Section<'_>, base: &Path) -> Option<ScratchServer> {
    let url = section.optional("scratch", forms::postgres_url);
    let password = password(section, base);
    if !section.has("scratch") {
        for key in PASSWORD_KEYS.into_iter().filter(|key| section.has(key)) {
            section.refuse(
                key,
                Complaint::new("is for the server that `scratch` names, and there is no `scratch`")
                    .remedy("Remove the key: a throwaway server needs no password of yours. Or name a server with `scratch`."),
            );
        }
    }
    Some(ScratchServer { url: url?, password })
}

fn isolation(value: &DeValue<'_>) -> Result<Isolation, Complaint> {
    let word = forms::text(value)?;
    Isolation::chosen(&word).ok_or_else(|| {
        Complaint::new(format!("there is no isolation {word:?}")).accepted(
            "\"sandbox\": code in the database sees nothing of this host; \"none\": it can do what marbre's user can, and every \
             record says so",
        )
    })
}

fn key(value: &DeValue<'_>) -> Result<DrillKey, Complaint> {
    match forms::text(value)?.as_str() {
        "epoch" => Ok(DrillKey::Epoch),
        "none" => Ok(DrillKey::None),
        // What else stands at a key can be one, and is not repeated.
        _ => Err(Complaint::new("is neither of the two")
            .accepted("\"epoch\": the agent keeps the key of the current epoch, and can drill; \"none\": only the publisher can")),
    }
}

fn built_in_check(value: &DeValue<'_>) -> Result<String, Complaint> {
    let name = forms::text(value)?;
    if BUILT_IN_CHECKS.contains(&name.as_str()) {
        return Ok(name);
    }
    let complaint =
        Complaint::new(format!("there is no built-in check {name:?}")).accepted(BUILT_IN_CHECKS.join(", "));
    Err(match nearest(&name, BUILT_IN_CHECKS) {
        Some(near) => complaint.remedy(format!("Did you mean {near:?}? Otherwise remove it.")),
        None => complaint.remedy("Remove it. A check of your own is switched off by removing its table."),
    })
}
