//! Looks at everything that snapshots and drills need, before they need it. Changes nothing, but for small objects of its
//! own at each target: one that it leaves, and those that it tries to break.

mod alerting;
mod claims;
mod drill_setup;
pub(crate) mod folders;
mod next_runs;
mod round_trip;
#[cfg(test)]
mod tests;
mod three_two_one;
mod unneeded;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use tokio_util::sync::CancellationToken;

use crate::alert::dispatcher::RoutedChannel;
use crate::config::{Config, Database, Source};
use crate::engine::Engine;
use crate::engine::scratch::ScratchHost;
use crate::error::{Error, Result};
use crate::health::left;
use crate::health::status::DatabaseStatus;
use crate::health::surroundings::{Known, PARALLEL, Surroundings};
use crate::keys::{Namespace, Recipients, SigningKey, signing};
use crate::model::check::{Check, CheckState};
use crate::model::id::{DatabaseId, TargetName};
use crate::state::State;
use crate::targets::NamedTarget;
use crate::targets::attack::Attack;
use crate::targets::{Target, TargetUrl, registry};

/// How long it may take to try to break a target: two dozen requests.
const CLAIMS: Duration = Duration::from_secs(30);

/// Everything that is to be looked at, as far as it could be opened.
pub(crate) struct DoctorJob {
    /// A configuration that is valid.
    pub config: Config,
    /// Every target of the configuration, or why it could not be opened.
    pub targets: Vec<(TargetName, Result<Arc<dyn Target>>)>,
    /// The same for the probes that try to break them. Targets that are not among them are not probed.
    pub attackable: Vec<(TargetName, Result<Arc<dyn Attack>>)>,
    /// The engine of every database, or why it could not be made.
    pub engines: Vec<(DatabaseId, Result<Arc<dyn Engine>>)>,
    /// The host of every database's throwaway places, or why it could not be made.
    pub hosts: Vec<(DatabaseId, Result<Arc<dyn ScratchHost>>)>,
    /// The alert channels.
    pub channels: Vec<RoutedChannel>,
    /// What surrounds the agent.
    pub surroundings: Surroundings,
    /// How long servers may take to show their certificates and clocks.
    pub patience: Duration,
    /// Every database of the configuration is looked at, not only one.
    pub whole: bool,
}

/// What was found.
#[derive(Debug, Clone)]
pub(crate) struct DoctorReport {
    /// (what it is about, the check), in the order in which people should read them.
    pub checks: Vec<(String, Check)>,
}

impl DoctorReport {
    /// How many checks have this result.
    pub(crate) fn number(&self, state: CheckState) -> usize {
        self.checks.iter().filter(|(_, check)| check.state == state).count()
    }

    /// The error that the command ends with where snapshots or drills would fail.
    pub(crate) fn error(&self) -> Option<Error> {
        let failed: Vec<String> = self
            .checks
            .iter()
            .filter(|(_, check)| check.state == CheckState::Fail)
            .map(|(group, check)| format!("{group}: {}", check.name))
            .collect();
        let what = match failed.len() {
            0 => return None,
            1 => "1 check failed".to_owned(),
            n => format!("{n} checks failed"),
        };
        Some(
            Error::preflight(what)
                .cause(failed.join("; "))
                .remedy("Do what each failed check says, and run `marbre doctor` again."),
        )
    }
}

/// As `doctor --json` prints it: `{summary: {ok, warn, fail, skipped}, checks: [{group, name, state, found, remedy}]}`.
impl Serialize for DoctorReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Row<'a> {
            group: &'a str,
            name: &'a str,
            state: &'static str,
            found: &'a str,
            remedy: Option<&'a str>,
        }
        let row = |(group, check): &'_ (String, Check)| {
            serde_json::to_value(Row {
                group,
                name: &check.name,
                state: word(check.state),
                found: &check.found,
                remedy: check.remedy.as_deref(),
            })
        };
        let rows: std::result::Result<Vec<_>, _> = self.checks.iter().map(row).collect();
        let states = [CheckState::Ok, CheckState::Warn, CheckState::Fail, CheckState::Skipped];
        let summary: BTreeMap<&str, usize> = states.map(|state| (word(state), self.number(state))).into();
        let mut report = serializer.serialize_struct("DoctorReport", 2)?;
        report.serialize_field("summary", &summary)?;
        report.serialize_field("checks", &rows.map_err(serde::ser::Error::custom)?)?;
        report.end()
    }
}

/// The word for the state of a check, as it is printed: `ok`, `warn`, `fail` or `skipped`.
pub(crate) fn word(state: CheckState) -> &'static str {
    match state {
        CheckState::Ok => "ok",
        CheckState::Warn => "warn",
        CheckState::Fail => "fail",
        CheckState::Skipped => "skipped",
    }
}

fn check(name: &str, state: CheckState, found: impl Into<String>, remedy: Option<&str>) -> Check {
    Check { name: name.to_owned(), state, found: found.into(), remedy: remedy.map(str::to_owned) }
}

fn ok(name: &str, found: impl Into<String>) -> Check {
    check(name, CheckState::Ok, found, None)
}

fn failed(name: &str, e: &Error) -> Check {
    check(name, CheckState::Fail, e.to_string(), e.remedy_text())
}

/// What was seen of one database.
struct Seen {
    reading: Vec<Check>,
    held: std::result::Result<DatabaseStatus, Check>,
    drills: Vec<Check>,
}

impl DoctorJob {
    /// Makes every check. What is wrong is in the report.
    pub(crate) async fn run(self, now: Timestamp, cancel: &CancellationToken) -> Result<DoctorReport> {
        let mut checks: Vec<(String, Check)> = Vec::new();
        let mut add = |group: &str, more: Vec<Check>| {
            checks.extend(more.into_iter().map(|c| (group.to_owned(), c)));
        };
        add("configuration", self.configuration());
        add("keys", self.keys().await?);
        add("host", folders::checks(&self.config));
        let mut known = Known::default();
        let databases: Vec<_> =
            self.config.databases.iter().map(|db| self.database(db, now, cancel)).collect();
        // At the same time: who waits for one that hangs has seen the others meanwhile.
        let (targets, databases, alerts, ()) = futures_util::join!(
            join_all(self.targets.iter().map(|(name, target)| self.target(name, target, now, cancel))),
            stream::iter(databases).buffered(PARALLEL).collect::<Vec<_>>(),
            alerting::checks(&self.channels, cancel),
            self.surroundings.ask(&mut known, self.patience, now, cancel),
        );
        let surroundings = self.surroundings.checks(&known, self.whole, now);
        let databases = self.config.databases.iter().zip(databases).flat_map(|(db, seen)| {
            // After the targets: what they withstand counts.
            let counted = three_two_one::checks(&self.config, db, &self.targets_of(db), seen.held, now);
            let reading = seen.reading.into_iter().chain(counted).collect();
            [(format!("database {}", db.id), reading), (format!("drills of {}", db.id), seen.drills)]
        });
        for (group, found) in targets.into_iter().chain(databases).chain(alerts).chain(surroundings) {
            add(&group, found);
        }
        if cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        Ok(DoctorReport { checks })
    }

    fn configuration(&self) -> Vec<Check> {
        let (databases, targets) = (self.config.databases.len(), self.config.targets.len());
        let origin = self.config.origin.display();
        let mut checks = vec![ok("file", format!("{origin}: databases {databases}, targets {targets}"))];
        checks.extend(self.config.warnings.iter().map(|w| {
            check(
                "warning",
                CheckState::Warn,
                w.as_str(),
                Some("Change the configuration as the warning says."),
            )
        }));
        if self.whole {
            checks.extend(self.left());
        }
        checks
    }

    /// Archives of databases that are not in the configuration are no fault of it.
    fn left(&self) -> Vec<Check> {
        let found = State::open_existing(&self.config.state_dir)
            .and_then(|state| state.map_or(Ok(Vec::new()), |state| left::archives(&self.config, &state)));
        match found {
            Ok(found) => found.iter().map(|archive| ok("archive", archive.text())).collect(),
            Err(e) => vec![failed("archive", &e)],
        }
    }

    async fn keys(&self) -> Result<Vec<Check>> {
        let mut checks = vec![signing_key(&self.config)];
        for publisher in self.config.publishers.values() {
            let name = format!("recipients of {}", publisher.name);
            let texts = publisher.recipients.clone();
            // The plugin of a hardware recipient is a child process, and may take its time.
            let sealed = tokio::task::spawn_blocking(move || {
                let recipients = Recipients::parse(&texts)?;
                // An epoch key is sealed just so; what fails here would fail every full snapshot.
                recipients.seal(b"doctor").map(|_| recipients.fingerprints().len())
            });
            checks.push(match sealed.await.map_err(|e| Error::internal("a check panicked").cause(e))? {
                // That one is too few is a warning of the configuration.
                Ok(1) => ok(&name, "1 recipient"),
                Ok(n) => ok(&name, format!("{n} recipients")),
                Err(e) => failed(&name, &e),
            });
            checks.push(drill_setup::signers(&self.config, publisher));
        }
        Ok(checks)
    }

    async fn target(
        &self,
        name: &TargetName,
        target: &Result<Arc<dyn Target>>,
        now: Timestamp,
        cancel: &CancellationToken,
    ) -> (String, Vec<Check>) {
        let mut checks: Vec<Check> = proxy(&self.config, name).into_iter().collect();
        let answers = match target {
            Ok(target) => {
                let found = round_trip::checks(&**target, cancel).await;
                let answers = found.first().is_some_and(|list| list.state != CheckState::Fail);
                checks.extend(found);
                answers
            }
            Err(e) => {
                checks.push(failed("open", e));
                false
            }
        };
        if answers {
            checks.extend(folders::modes(&self.config, name));
        }
        if let Some((_, target)) = self.attackable.iter().find(|(n, _)| n == name) {
            checks.extend(match answers {
                true => {
                    let claims = claims::checks(&self.config, name, target, now, cancel);
                    tokio::time::timeout(CLAIMS, claims)
                        .await
                        .unwrap_or_else(|_| vec![claims::skipped("the target stopped to answer")])
                }
                false => vec![claims::skipped("the target does not answer")],
            });
        }
        (format!("target {name}"), checks)
    }

    async fn database(&self, db: &Database, now: Timestamp, cancel: &CancellationToken) -> Seen {
        let host = self.hosts.iter().find(|(id, _)| *id == db.id).map(|(_, host)| host);
        let mut reading = self.reading(db, cancel).await;
        reading.extend(next_runs::checks(db, now));
        reading.extend(unneeded::check(&self.config, db));
        let held = three_two_one::look(&self.config, db, &self.targets_of(db), now, cancel).await;
        let drills = drill_setup::checks(&self.config, db, host, cancel).await;
        Seen { reading, held, drills }
    }

    /// The targets of a database that could be opened.
    fn targets_of(&self, db: &Database) -> Vec<NamedTarget> {
        let of = |(name, target): &(TargetName, Result<Arc<dyn Target>>)| {
            let target = target.as_ref().ok().filter(|_| db.targets.contains(name))?.clone();
            Some(NamedTarget { name: name.clone(), target })
        };
        self.targets.iter().filter_map(of).collect()
    }

    async fn reading(&self, db: &Database, cancel: &CancellationToken) -> Vec<Check> {
        let mut checks = match self.engines.iter().find(|(id, _)| *id == db.id) {
            Some((_, Ok(engine))) => engine.check(cancel).await,
            Some((_, Err(e))) => vec![failed("open", e)],
            None => vec![check("open", CheckState::Skipped, "it was not opened", None)],
        };
        checks.push(if db.targets.len() == 1 {
            check(
                "targets",
                CheckState::Warn,
                format!("only {}", db.targets[0]),
                Some("Add a second target in another place: one fire, theft or mistake must not destroy all copies."),
            )
        } else {
            let names: Vec<&str> = db.targets.iter().map(TargetName::as_str).collect();
            ok("targets", format!("{}; {} must hold a snapshot", names.join(", "), db.copies))
        });
        checks.extend(self.failure_domains(db));
        checks
    }

    /// Copies on the disk of the original, or all on one disk, are lost with it.
    fn failure_domains(&self, db: &Database) -> Option<Check> {
        let is_folder = |name: &&TargetName| {
            let url = self.config.targets.get(*name).and_then(|settings| settings.url.parse().ok());
            matches!(url, Some(TargetUrl::Directory(_)))
        };
        let folders = db.targets.iter().filter(is_folder).count();
        if folders < db.targets.len() {
            return Some(ok("file systems", "a target is on another machine or service"));
        }
        let opened = self.targets_of(db);
        let devices: Vec<u64> =
            opened.iter().filter_map(|t| t.target.root()).map(|root| root.device).collect();
        if devices.len() < folders {
            let found = "not every target could be looked at";
            return Some(check("file systems", CheckState::Skipped, found, None));
        }
        let source = match &db.source {
            Source::Sqlite { path, .. } => folders::device(path),
            Source::Postgres { .. } | Source::Mysql { .. } => None,
        };
        let remedy = "Put at least one target on another disk, better in another building.";
        let warn = |found: &str| Some(check("file systems", CheckState::Warn, found, Some(remedy)));
        if source.is_some_and(|source| devices.iter().all(|d| *d == source)) {
            return warn("every target is on the file system of the database itself");
        }
        if devices.len() > 1 && devices.iter().all(|d| *d == devices[0]) {
            return warn("all targets are on one file system");
        }
        match devices.len() {
            1 => Some(ok("file systems", "the target is not on the database's")),
            n => Some(ok("file systems", format!("{n} targets, not all on one"))),
        }
    }
}

/// By which proxy a target is reached, if by any.
fn proxy(config: &Config, target: &TargetName) -> Option<Check> {
    let (address, variable) = registry::proxy(&config.targets.get(target)?.url.parse().ok()?)?;
    let found = format!(
        "by way of {address}, as {variable} of the environment says; what the server shows of itself (certificate, clock) is not looked at"
    );
    Some(ok("proxy", found))
}

/// Loads the signing key, and has it sign something that nobody keeps.
fn signing_key(config: &Config) -> Check {
    const NAME: &str = "signing key";
    let tried = SigningKey::load(&config.signing_key).and_then(|key| {
        let message = b"marbre doctor";
        let signature = key.sign(Namespace::SnapshotReceipt, message)?;
        let signer = signing::verify(signature.as_bytes(), Namespace::SnapshotReceipt, message)?;
        if signer == key.signer() { Ok(signer) } else { Err(Error::key("the signing key signs as another")) }
    });
    match tried {
        Ok(signer) => {
            let found = format!("{}, {}", config.signing_key.display(), signer.fingerprint());
            match is_below(&config.signing_key, &config.state_dir) {
                false => ok(NAME, found),
                true => check(
                    NAME,
                    CheckState::Warn,
                    format!("{found}: it lies in the state folder"),
                    Some(
                        "Move it elsewhere, and name it as `signing_key`: who loses this folder loses both, and can only go on \
                     with `marbre adopt`.",
                    ),
                ),
            }
        }
        Err(e) => failed(NAME, &e),
    }
}

/// Whether a file lies below a folder, wherever links lead.
fn is_below(file: &Path, folder: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    matches!((real(file), real(folder)), (Some(file), Some(folder)) if file.starts_with(&folder))
}
