//! A whole configuration, sound at first, in which one thing after the other is wrong.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::alert::channels::command::Program;
use crate::config::DrillKey;
use crate::engine::scratch::Scratch;
use crate::engine::sqlite::SqliteEngine;
use crate::error::ErrorKind;
use crate::health::surroundings::{PATIENCE, Surroundings};
use crate::job::testing::{Repository, Shared};
use crate::model::condition::Severity;
use crate::model::isolation::Isolation;
use crate::model::route::{Audience, Role, Route};
use crate::model::stream::Contents;
use crate::targets::memory::MemoryTarget;
use crate::targets::wrapper::faulty::{Fault, Faulty, Operation};
use crate::targets::{TargetErrorKind, TargetExt};

struct Patient {
    folder: tempfile::TempDir,
    job: DoctorJob,
}

fn private(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// A host whose one check is in this state.
struct Host(CheckState);

#[async_trait]
impl ScratchHost for Host {
    fn isolation(&self) -> Isolation {
        Isolation::Sandbox
    }

    async fn check(&self, folder: &Path, _: &CancellationToken) -> Vec<Check> {
        assert!(!folder.exists());
        vec![check("programs", self.0, "initdb", Some("Install it."))]
    }

    async fn start(&self, _: &Contents, _: &Path, _: &CancellationToken) -> Result<Box<dyn Scratch>> {
        Err(Error::internal("doctor starts nothing"))
    }

    async fn sweep(&self, _: &Path) -> Result<()> {
        Err(Error::internal("doctor removes nothing"))
    }
}

/// One database, with these targets in memory beside each other in the configuration.
fn patient(targets: Vec<(&str, Arc<dyn Target>)>) -> Patient {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    private(&root.join("state"));
    private(&root.join("spool"));
    SigningKey::generate("").unwrap().write(&root.join("agent")).unwrap();
    let db = rusqlite::Connection::open(root.join("source.db")).unwrap();
    db.execute_batch(
        "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1)",
    )
    .unwrap();
    let publisher = SigningKey::generate("").unwrap().signer().to_openssh();
    let recipient = || age::x25519::Identity::generate().to_public().to_string();
    let (one, two, here) = (recipient(), recipient(), root.display());
    let names: Vec<&str> = targets.iter().map(|(name, _)| *name).collect();
    let mut text = format!(
        "state_dir = '{here}/state'\nspool_dir = '{here}/spool'\nspool_limit = '64MiB'\nsigning_key = '{here}/agent'\n\
         [publisher.gazette]\nrecipients = ['{one}', '{two}']\nsigners = ['{publisher}']\n\
         [database.abonnes]\npublisher = 'gazette'\nengine = 'sqlite'\npath = '{here}/source.db'\ntargets = {names:?}\nrpo = '26h'\n\
         drills = {{ every = '7d', rto = '4h' }}\nschedule = {{ snapshot = '@daily' }}\nchecks.some = {{ sql = 'SELECT count(*) FROM t', min = 1 }}\n"
    );
    for name in &names {
        text.push_str(&format!("[target.{name}]\nurl = 's3://bucket-{name}/prefix'\n"));
    }
    let config = Config::parse(&text, &root.join("marbre.toml")).unwrap();
    let engine: Arc<dyn Engine> = Arc::new(SqliteEngine::new(root.join("source.db")));
    let engines = vec![("gazette/abonnes".parse().unwrap(), Ok(engine))];
    let targets = targets.into_iter().map(|(name, target)| (name.parse().unwrap(), Ok(target))).collect();
    let host: Arc<dyn ScratchHost> = Arc::new(Host(CheckState::Ok));
    let hosts = vec![("gazette/abonnes".parse().unwrap(), Ok(host))];
    // What surrounds the agent is looked at in its own tests.
    let surroundings = Surroundings {
        engines: Vec::new(),
        ignored: Vec::new(),
        servers: Vec::new(),
        credentials: Vec::new(),
    };
    let (attackable, channels) = (Vec::new(), channels());
    let job = DoctorJob {
        config,
        targets,
        attackable,
        engines,
        hosts,
        channels,
        surroundings,
        patience: PATIENCE,
        whole: true,
    };
    Patient { job, folder }
}

fn memory() -> Arc<dyn Target> {
    Arc::new(MemoryTarget::new())
}

fn two() -> Patient {
    patient(vec![("a", memory()), ("b", memory())])
}

async fn run(job: DoctorJob) -> DoctorReport {
    job.run(Timestamp::now(), &CancellationToken::new()).await.unwrap()
}

/// The one check of this name in a group.
fn found<'r>(report: &'r DoctorReport, group: &str, name: &str) -> &'r Check {
    let mut fitting = report.checks.iter().filter(|(g, c)| g == group && c.name == name);
    &fitting.next().unwrap_or_else(|| panic!("no {name} of {group}: {report:#?}")).1
}

/// The states of a target's checks: list, put, create-if-absent, get.
fn states(report: &DoctorReport, group: &str) -> Vec<&'static str> {
    ["list", "put", "create-if-absent", "get"].iter().map(|n| word(found(report, group, n).state)).collect()
}

#[tokio::test]
async fn a_sound_host_has_nothing_to_do() {
    let Patient { job, folder: _folder } = two();
    let a = match &job.targets[0].1 {
        Ok(target) => target.clone(),
        Err(e) => panic!("{e}"),
    };
    let report = run(job).await;
    assert!(report.error().is_none(), "{report:#?}");
    // Without a snapshot there is nothing to count.
    assert_eq!(found(&report, "database gazette/abonnes", "3-2-1-1-0").state, CheckState::Skipped);
    let rest = report.checks.iter().filter(|(_, c)| c.name != "3-2-1-1-0");
    let worse: Vec<_> = rest.filter(|(_, c)| c.state != CheckState::Ok).collect();
    assert!(worse.is_empty(), "{worse:#?}");
    // One object, and one only, also after the second time.
    super::round_trip::checks(&*a, &CancellationToken::new()).await;
    let objects = a.list_all(None, &CancellationToken::new()).await.unwrap();
    assert_eq!(objects.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), [super::round_trip::KEY]);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["checks"][0]["group"], "configuration");
    assert_eq!(json["checks"][0]["state"], "ok");
}

#[tokio::test(start_paused = true)]
async fn targets_that_cannot_be_relied_on() {
    let tampered = MemoryTarget::new();
    tampered.tamper(&super::round_trip::KEY.parse().unwrap(), Some(Bytes::from_static(b"other")));
    let faulty = |operation, kind| -> Arc<dyn Target> {
        Arc::new(Faulty::new(MemoryTarget::new()).with(operation, 1..=99, Fault::Fail(kind)))
    };
    let concealing = Faulty::new(MemoryTarget::new()).with(Operation::List, 1..=99, Fault::Conceal);
    let overwriting = Shared { target: Arc::new(MemoryTarget::new()), overwrites: true };
    let Patient { job, folder: _folder } = patient(vec![
        ("overwriting", Arc::new(overwriting)),
        ("concealing", Arc::new(concealing)),
        ("tampered", Arc::new(tampered)),
        ("down", faulty(Operation::List, TargetErrorKind::Unavailable)),
        ("full", faulty(Operation::Put, TargetErrorKind::Full)),
        ("put-only", faulty(Operation::Get, TargetErrorKind::Denied)),
        ("no-list", faulty(Operation::List, TargetErrorKind::Denied)),
    ]);
    let report = run(job).await;
    for (target, expected) in [
        ("overwriting", ["ok", "ok", "fail", "ok"]),
        ("concealing", ["fail", "ok", "ok", "ok"]),
        ("tampered", ["ok", "ok", "ok", "fail"]),
        ("down", ["fail", "skipped", "skipped", "skipped"]),
        ("full", ["ok", "fail", "skipped", "skipped"]),
        ("put-only", ["ok", "ok", "ok", "warn"]),
        ("no-list", ["warn", "ok", "ok", "ok"]),
    ] {
        assert_eq!(states(&report, &format!("target {target}")), expected, "{target}");
    }
    for (_, check) in &report.checks {
        assert!(
            !matches!(check.state, CheckState::Fail | CheckState::Warn) || check.remedy.is_some(),
            "{check:?}"
        );
    }
    let error = report.error().unwrap();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Preflight, "5 checks failed"));
}

#[tokio::test]
async fn the_next_five_runs_are_shown() {
    let mut patient = two();
    let report = run(two().job).await;
    let shown = found(&report, "database gazette/abonnes", "snapshot at");
    assert_eq!(shown.found.matches(" 00:00:00").count(), 5, "{}", shown.found);
    patient.job.config.databases[0].schedules.jobs.clear();
    let report = run(patient.job).await;
    assert_eq!(found(&report, "database gazette/abonnes", "snapshot at").state, CheckState::Warn);
}

#[tokio::test]
async fn what_cannot_be_opened_is_a_failed_check() {
    let Patient { mut job, folder: _folder } = two();
    job.targets[1].1 = Err(Error::new(ErrorKind::Target, "no such directory").remedy("Mount it."));
    job.engines[0].1 = Err(Error::database("no password"));
    let report = run(job).await;
    let target = found(&report, "target b", "open");
    assert_eq!((target.state, target.remedy.as_deref()), (CheckState::Fail, Some("Mount it.")));
    assert_eq!(found(&report, "database gazette/abonnes", "open").state, CheckState::Fail);
    assert_eq!(report.error().unwrap().kind(), ErrorKind::Preflight);
}

#[tokio::test]
async fn keys_that_do_not_serve() {
    let Patient { job, folder } = two();
    let key = folder.path().join("agent");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = run(job).await;
    let signing = found(&report, "keys", "signing key");
    assert_eq!(signing.state, CheckState::Fail);
    assert!(signing.remedy.as_ref().unwrap().contains("chmod 600"));

    let Patient { mut job, folder } = two();
    std::fs::remove_file(folder.path().join("agent")).unwrap();
    let plugin = crate::keys::testing::plugin_recipient("nowhere");
    job.config.publishers.values_mut().next().unwrap().recipients.push(plugin);
    let report = run(job).await;
    assert_eq!(found(&report, "keys", "signing key").state, CheckState::Fail);
    assert_eq!(found(&report, "keys", "recipients of gazette").state, CheckState::Fail);
}

#[tokio::test]
async fn folders_that_do_not_serve() {
    let Patient { mut job, folder } = two();
    std::fs::set_permissions(folder.path().join("state"), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Nobody can make files there, not even root.
    job.config.spool_dir = "/proc/marbre".into();
    let report = run(job).await;
    let state = found(&report, "host", "state folder");
    assert_eq!(state.state, CheckState::Warn);
    assert!(state.found.contains("mode 0755"), "{state:?}");
    assert_eq!(found(&report, "host", "spool folder").state, CheckState::Fail);
    assert_eq!(found(&report, "host", "spool space").state, CheckState::Fail);

    let Patient { mut job, folder } = two();
    job.config.spool_dir = folder.path().join("not/yet");
    job.config.spool_limit = 1 << 60;
    let report = run(job).await;
    assert_eq!(found(&report, "host", "spool folder").state, CheckState::Ok);
    assert_eq!(found(&report, "host", "spool space").state, CheckState::Warn);
    assert!(!folder.path().join("not").exists());

    // A path that is relative to the working directory, which nobody made private.
    let Patient { mut job, folder: _folder } = two();
    job.config.state_dir = "src".into();
    assert_eq!(found(&run(job).await, "host", "state folder").state, CheckState::Warn);
}

#[tokio::test]
async fn copies_that_share_their_fate() {
    const GROUP: &str = "database gazette/abonnes";
    let Patient { job, folder: _folder } = patient(vec![("a", memory())]);
    assert_eq!(found(&run(job).await, GROUP, "targets").state, CheckState::Warn);

    async fn place(job: &mut DoctorJob, folders: [&Path; 2]) {
        for ((settings, (_, target)), folder) in
            job.config.targets.values_mut().zip(&mut job.targets).zip(folders)
        {
            settings.url = folder.display().to_string();
            *target = registry::open(&settings.url.parse().unwrap()).await;
        }
    }
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let Patient { mut job, folder } = two();
    place(&mut job, [folder.path(), folder.path()]).await;
    let report = run(job).await;
    let check = found(&report, GROUP, "file systems");
    assert_eq!(check.state, CheckState::Warn);
    assert!(check.found.contains("of the database itself"), "{check:?}");

    let Patient { mut job, folder: _folder } = two();
    place(&mut job, [elsewhere.path(), elsewhere.path()]).await;
    let report = run(job).await;
    assert!(found(&report, GROUP, "file systems").found.contains("one file system"));

    let Patient { mut job, folder } = two();
    place(&mut job, [elsewhere.path(), folder.path()]).await;
    assert_eq!(found(&run(job).await, GROUP, "file systems").state, CheckState::Ok);
}

const DRILLS: &str = "drills of gazette/abonnes";

#[tokio::test]
async fn drills_that_cannot_be_made() {
    let Patient { mut job, folder: _folder } = two();
    job.hosts[0].1 = Ok(Arc::new(Host(CheckState::Fail)));
    let report = run(job).await;
    assert_eq!(found(&report, DRILLS, "programs").state, CheckState::Fail);
    assert!(report.error().unwrap().to_string().contains("drills of gazette/abonnes: programs"));

    let Patient { mut job, folder } = two();
    job.hosts[0].1 = Err(Error::database("no password"));
    job.config.scratch_dir = folder.path().join("scratch");
    private(&job.config.scratch_dir);
    std::fs::set_permissions(&job.config.scratch_dir, std::fs::Permissions::from_mode(0o750)).unwrap();
    job.config.report_dir = "/proc/marbre".into();
    let report = run(job).await;
    assert_eq!(found(&report, DRILLS, "place").state, CheckState::Fail);
    assert_eq!(found(&report, "host", "scratch folder").state, CheckState::Warn);
    assert_eq!(found(&report, "host", "report folder").state, CheckState::Fail);

    let Patient { mut job, folder: _folder } = two();
    job.hosts.clear();
    assert_eq!(found(&run(job).await, DRILLS, "place").state, CheckState::Skipped);
}

#[tokio::test]
async fn without_a_key_only_the_publisher_can_drill() {
    let Patient { mut job, folder: _folder } = two();
    job.config.databases[0].drills.key = DrillKey::None;
    job.hosts[0].1 = Err(Error::database("no password"));
    let report = run(job).await;
    assert_eq!(found(&report, DRILLS, "key").state, CheckState::Warn);
    assert_eq!(report.checks.iter().filter(|(group, _)| group == DRILLS).count(), 1);
    assert!(report.error().is_none());
}

#[tokio::test]
async fn drills_that_prove_less_than_they_could() {
    let Patient { mut job, folder } = two();
    job.config.databases[0].drills.rto = None;
    job.config.databases[0].checks.clear();
    job.config.publishers.values_mut().next().unwrap().signers.clear();
    let report = run(job).await;
    let goals = found(&report, DRILLS, "goals");
    assert_eq!(goals.state, CheckState::Warn);
    assert_eq!(goals.found, "there is no `rto`, no checks of the data");
    let remedy = goals.remedy.as_deref().unwrap();
    assert!(
        remedy.starts_with("Set `rto` in [database.NAME.drills], or in [defaults.database.drills] for all: how long a recovery may take. Define in")
    );
    assert_eq!(found(&report, "keys", "signers of gazette").state, CheckState::Warn);
    assert!(!folder.path().join("state/state.sqlite").exists(), "doctor makes nothing");

    let Patient { mut job, folder: _folder } = two();
    let agent = SigningKey::load(&job.config.signing_key).unwrap().signer().to_openssh();
    job.config.publishers.values_mut().next().unwrap().signers.push(agent);
    let report = run(job).await;
    assert!(found(&report, "keys", "signers of gazette").found.contains("the agent's own key"));
}

#[tokio::test]
async fn what_the_last_snapshot_says_about_the_next_drill() {
    let repository = Repository::of(1, MemoryTarget::new).await;
    let database = repository.database.clone();
    let epoch = repository.state.epoch(&database).unwrap().unwrap().epoch;
    if repository.state.kept_epochs(&database).unwrap().is_empty() {
        let key = secrecy::SecretString::from("a key");
        repository.state.keep_epoch_key(&database, &epoch, &key).unwrap();
    }
    let with_state = || {
        let Patient { mut job, folder } = two();
        job.config.state_dir = repository.folder.path().join("state");
        (job, folder)
    };
    let (job, _folder) = with_state();
    let report = run(job).await;
    assert_eq!(found(&report, DRILLS, "key").state, CheckState::Ok);
    let space = found(&report, DRILLS, "space");
    assert_eq!(space.state, CheckState::Ok);
    assert!(space.found.contains("the last snapshot holds"), "{space:?}");

    // A file system without any room.
    let (mut job, _folder) = with_state();
    job.config.scratch_dir = "/proc/scratch".into();
    assert_eq!(found(&run(job).await, DRILLS, "space").state, CheckState::Warn);

    repository.state.destroy_epoch_key(&database, &epoch).unwrap();
    let (job, _folder) = with_state();
    let report = run(job).await;
    let key = found(&report, DRILLS, "key");
    assert_eq!(key.state, CheckState::Warn);
    assert!(key.found.contains(epoch.as_str()), "{key:?}");
}

/// One for people, and one for a monitor elsewhere.
fn channels() -> Vec<RoutedChannel> {
    let routed = |name: &str, role| RoutedChannel {
        route: Route {
            name: name.parse().unwrap(),
            role,
            audience: Audience::Everything,
            floor: Severity::Warning,
            quiet: None,
            fallback: Vec::new(),
        },
        channel: Arc::new(Program::new("/bin/sh", Vec::new(), std::time::Duration::from_secs(1))),
    };
    vec![routed("ops", Role::Main), routed("alive", Role::Canary)]
}

#[tokio::test]
async fn nobody_would_be_told() {
    let Patient { mut job, folder: _folder } = two();
    job.channels.clear();
    let report = run(job).await;
    let alerts: Vec<_> = report.checks.iter().filter(|(group, _)| group == "alerts").collect();
    assert!(
        alerts.len() == 2 && alerts.iter().all(|(_, check)| check.state == CheckState::Warn),
        "{alerts:?}"
    );
}
