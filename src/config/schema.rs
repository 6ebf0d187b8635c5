//! What a configuration holds: every key, its form and its default.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;

use super::names::table_name;
use super::{
    Config, Database, DrillKey, Effective, Publisher, Source, TargetConfig, alerts, checks, drills,
    effective, engines, forms, recipients, retention, schedule, signers, targets, web,
};
use crate::config::complaint::{Complaint, Report};
use crate::config::section::{Document, Family, Section};
use crate::model::id::{DatabaseId, DatabaseName, TargetName};
use crate::model::locale::Locale;

const MIB: u64 = 1024 * 1024;

const DEFAULT_STATE_DIR: &str = "/var/lib/marbre";
const DEFAULT_SPOOL_LIMIT: u64 = 2048 * MIB;
/// A spool must hold at least one pack, whose size stays below this.
const MIN_SPOOL_LIMIT: u64 = 64 * MIB;
const DEFAULT_JOBS: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");
const MAX_JOBS: u64 = 64;
const DEFAULT_SPOOL_WAIT: Duration = Duration::from_secs(10 * 60);
const DEFAULT_LOOK_EVERY: Duration = Duration::from_secs(5 * 60);
const DEFAULT_PARALLEL_JOBS: NonZeroUsize = NonZeroUsize::new(2).expect("2 is not 0");
const DEFAULT_EPOCH: Duration = Duration::from_secs(30 * 86_400);

/// Reads all files together. `None`, or problems in the report, where they make no configuration.
pub(super) fn read(documents: &[Document<'_>], main: &Path, report: &Report) -> Option<Config> {
    let base = main.parent().unwrap_or(Path::new(""));
    let mut top = Section::merged(documents, report)?;

    let state_dir =
        top.optional("state_dir", forms::path(base)).unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR));
    let spool_dir = top.optional("spool_dir", forms::path(base)).unwrap_or_else(|| state_dir.join("spool"));
    let spool_limit =
        top.optional("spool_limit", forms::size(MIN_SPOOL_LIMIT)).unwrap_or(DEFAULT_SPOOL_LIMIT);
    let spool_wait = top.optional("spool_wait", forms::duration).unwrap_or(DEFAULT_SPOOL_WAIT);
    let scratch_dir =
        top.optional("scratch_dir", forms::path(base)).unwrap_or_else(|| state_dir.join("scratch"));
    let report_dir =
        top.optional("report_dir", forms::path(base)).unwrap_or_else(|| state_dir.join("reports"));
    let signing_key = top
        .optional("signing_key", forms::secret_path(base))
        .unwrap_or_else(|| state_dir.join("agent_ed25519"));

    let zone = schedule::zone(&mut top).unwrap_or_else(schedule::system_zone);
    let jitter = top.optional("jitter", forms::duration).unwrap_or(Duration::ZERO);
    let look_every = top.optional("look_every", forms::duration).unwrap_or(DEFAULT_LOOK_EVERY);
    let parallel_jobs =
        top.optional("parallel_jobs", forms::amount(MAX_JOBS)).unwrap_or(DEFAULT_PARALLEL_JOBS);
    let ignore_databases = ignored(&mut top);
    let web = web::read(&mut top);

    let (mut of_databases, mut of_targets) = (Vec::new(), Vec::new());
    top.table("defaults", |section| {
        of_databases = section.defaults("database", &["url", "path"]);
        of_targets = section.defaults("target", &["url"]);
    });
    let publishers = top.family("publisher", |name, section| publisher(name, section, base, &zone));
    let mut places = Vec::new();
    let mut effective = Effective::new();
    let targets = top.family_with("target", &of_targets, |name, section| {
        let target = targets::read(name, section, base, &mut places);
        effective.entry("target").or_default().insert(name.to_owned(), effective::of(section));
        target
    });
    let mut databases = top.family_with("database", &of_databases, |name, section| {
        let database = database(name, section, base, &zone, &publishers, &targets);
        effective.entry("database").or_default().insert(name.to_owned(), effective::of(section));
        database
    });
    if databases.names.is_empty() {
        top.refuse(
            "database",
            Complaint::new("there is no database")
                .remedy("Declare at least one in a table [database.NAME]; see config.example.toml."),
        );
    }
    let declared = names_of(&databases);
    let alerts = alerts::read(&mut top, base, &zone, &publishers, &declared);
    top.finish();

    databases.values.sort_by_key(|(order, _)| *order);
    Some(Config {
        state_dir,
        spool_dir,
        spool_limit,
        spool_wait,
        scratch_dir,
        report_dir,
        signing_key,
        jitter,
        parallel_jobs,
        look_every,
        ignore_databases,
        web,
        publishers: publishers
            .values
            .into_iter()
            .map(|publisher| (publisher.name.clone(), publisher))
            .collect(),
        targets: targets.values.into_iter().map(|target| (target.name.clone(), target)).collect(),
        effective,
        warnings: report.warnings().into_iter().chain(kept_for_ever(&databases.values)).collect(),
        databases: databases.values.into_iter().map(|(_, db)| db).collect(),
        alerts: alerts?,
        origin: main.to_owned(),
    })
}

/// Databases without retention beside others that have one: whoever wrote that may have forgotten them.
fn kept_for_ever(databases: &[Ordered<Database>]) -> Option<String> {
    let (with, without): (Vec<_>, Vec<_>) = databases.iter().partition(|(_, db)| db.retention.is_some());
    let names: Vec<&str> = without.iter().map(|(_, db)| db.id.database.as_str()).collect();
    (!with.is_empty() && !names.is_empty()).then(|| {
        format!(
            "no retention for {}: none of their snapshots is ever deleted. Add [database.NAME.retention], or [defaults.database.retention] \
             for all that have none",
            names.join(", ")
        )
    })
}

/// The database that every PostgreSQL server has from the start needs no snapshots, unless people say so.
fn ignored(top: &mut Section<'_>) -> Vec<String> {
    match top.has("ignore_databases") {
        true => top.list("ignore_databases", forms::filled_text),
        false => vec!["postgres".to_owned()],
    }
}

/// Every database that is declared, and, where it could be read, whose it is.
fn names_of(databases: &Family<Ordered<Database>>) -> Vec<(String, Option<DatabaseId>)> {
    let id = |name: &String| {
        let mut ids = databases.values.iter().map(|(_, db)| &db.id);
        ids.find(|id| id.database.as_str() == name).cloned()
    };
    databases.names.iter().map(|name| (name.clone(), id(name))).collect()
}

fn publisher(name: &str, section: &mut Section<'_>, base: &Path, zone: &TimeZone) -> Option<Publisher> {
    let name = table_name(name, section);
    let recipients = recipients::read(section, base);
    let signers = signers::read(section, base);
    let language = section.optional("language", forms::language).unwrap_or_default();
    let time_zone = schedule::zone(section).unwrap_or_else(|| zone.clone());
    let locale = Locale { language, time_zone };
    Some(Publisher { name: name?, recipients: recipients?, signers, locale })
}

type Ordered<T> = ((usize, usize), T);

fn database(
    name: &str,
    section: &mut Section<'_>,
    base: &Path,
    zone: &TimeZone,
    publishers: &Family<Publisher>,
    targets: &Family<TargetConfig>,
) -> Option<Ordered<Database>> {
    let name: Option<DatabaseName> = table_name(name, section);
    let publisher = section.required("publisher", "publisher = \"NAME\"", |value| {
        publishers.must_have("publisher", &forms::text(value)?)?;
        forms::id(value)
    });
    let engine = engines::engine(section);
    let source = engines::source(section, engine, base);
    let names = target_names(section, targets);
    let copies = section.optional("copies", forms::amount(u64::MAX));
    let copies = copies.unwrap_or(NonZeroUsize::MIN);
    if let Some(number) = names.as_ref().map(Vec::len).filter(|n| copies.get() > *n) {
        section.refuse(
            "copies",
            Complaint::new(format!("is {copies}, but the database has {number} target(s)"))
                .accepted(format!("a whole number from 1 to {number}"))
                .remedy("Add a target, or lower `copies`."),
        );
    }
    let jobs = section.optional("jobs", forms::amount(MAX_JOBS));
    let epoch = section.optional("epoch", forms::duration);
    let rpo = section.optional("rpo", forms::duration);
    let key_proof_every = section.optional("key_proof_every", forms::duration);
    let drills = drills::read(section, engine, base);
    let checks = checks::read(section);
    let retention = retention::read(section);
    let can = schedule::Abilities {
        drill: drills.key == DrillKey::Epoch,
        sync: names.as_ref().is_some_and(|names| names.len() > 1),
    };
    let schedules = schedule::read(section, zone, &can);
    let lock_timeout = match &source {
        Some(Source::Postgres { lock_timeout, .. } | Source::Mysql { lock_timeout, .. }) => {
            Some(*lock_timeout)
        }
        _ => None,
    };
    let deadlines = schedule::deadlines(section, lock_timeout);
    targets::check_locks(section, names.as_deref(), targets, retention.as_ref());
    let database = Database {
        id: DatabaseId { publisher: publisher?, database: name? },
        source: source?,
        targets: names?,
        copies,
        jobs: jobs.unwrap_or(DEFAULT_JOBS).get(),
        epoch: epoch.unwrap_or(DEFAULT_EPOCH),
        rpo,
        key_proof_every,
        drills,
        schedules,
        deadlines,
        checks,
        retention,
    };
    Some((section.order(), database))
}

fn target_names(section: &mut Section<'_>, targets: &Family<TargetConfig>) -> Option<Vec<TargetName>> {
    let Some(list) = section.node("targets") else {
        section.missing("targets", "targets = [\"NAME\", \"NAME\"]");
        return None;
    };
    let mut names: Vec<TargetName> = Vec::new();
    let mut good = true;
    for item in list.items()? {
        let name = item.read(|value| {
            targets.must_have("target", &forms::text(value)?)?;
            forms::id(value)
        });
        match name {
            Some(name) if names.contains(&name) => {
                item.refuse(
                    Complaint::new(format!("{:?} is listed twice", name.as_str()))
                        .remedy("Remove one: the same target twice is still one copy."),
                );
                good = false;
            }
            Some(name) => names.push(name),
            None => good = false,
        }
    }
    good.then_some(names)
}
