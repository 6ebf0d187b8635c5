//! What a drill leaves behind: nothing, whatever happens to it, at the latest after the next start. And a drill that
//! could not run has failed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::failed_at;
use crate::support::marbre::{Outcome, Running};
use crate::support::postgres::{Cluster, Database, Version};
use crate::support::setup::{Provider, Tmpfs};
use crate::support::sqlite_setup::{SECRET, Setup};

/// Stages in which drills of PostgreSQL are stopped.
const STAGES: [&str; 7] = ["receipts", "fetch", "server", "rows", "indexes", "compare", "checks"];

/// Enough that each stage takes its time.
fn subscriptions(database: &Database<'_>) {
    database.load_subscriptions(6_000);
}

/// Waits until the run says that it is in this stage.
pub(super) fn reaches(running: &mut Running, stage: &str) {
    let wanted = format!("\"stage\":\"{stage}\"");
    let deadline = Instant::now() + Duration::from_secs(300);
    while !running.stderr().contains(&wanted) && running.is_running() {
        assert!(Instant::now() < deadline, "never came to {stage}: {}", running.stderr());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The process of the server in this place, as this host numbers it: in its sandbox it has another number.
fn process_of(place: &Path) -> Option<i32> {
    let data = place.join("data");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.into_iter().find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words[0].ends_with(b"/postgres") && words.contains(&data.as_os_str().as_encoded_bytes())
    })
}

/// The server of the drill that is running, once it says that it is ready.
fn server_of(provider: &Provider) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        let places = fs::read_dir(provider.scratch()).into_iter().flatten().flatten();
        let pid = places.map(|entry| entry.path()).find_map(|place| {
            let text = fs::read_to_string(place.join("data/postmaster.pid")).ok()?;
            text.lines().any(|line| line.trim() == "ready").then(|| process_of(&place))?
        });
        if let Some(pid) = pid {
            return pid;
        }
        assert!(Instant::now() < deadline, "no server came to be");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Shared memory that a process made and nobody uses.
fn shared_memory_of(pid: i32) -> Vec<String> {
    let text = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let made_by = |line: &&str| line.split_whitespace().nth(4) == Some(&pid.to_string());
    text.lines().filter(made_by).map(str::to_owned).collect()
}

/// Whether a process runs. One that nobody has waited for yet has ended all the same.
fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

#[track_caller]
fn nothing_is_left(provider: &Provider) {
    assert_eq!(provider.traces(), Vec::<String>::new());
}

#[test]
fn after_a_signal_in_every_stage_nothing_is_left_and_nothing_is_recorded() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    subscriptions(&database);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    for (n, stage) in STAGES.iter().enumerate() {
        let mut running = provider.drill().start();
        reaches(&mut running, stage);
        running.signal(if n % 2 == 0 { Signal::INT } else { Signal::TERM });
        let outcome = running.wait();
        // It may have been faster.
        assert!(matches!(outcome.code(), Some(130 | 0)), "{stage}: {outcome}");
        nothing_is_left(&provider);
    }
    let report = provider.drill().success().json();
    assert_eq!(report["level"], "restored");
}

#[test]
fn after_kill_9_the_next_start_takes_everything_away() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    subscriptions(&database);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    for (n, stage) in ["fetch", "server", "rows", "compare", "remove"].iter().enumerate() {
        let mut running = provider.drill().start();
        reaches(&mut running, stage);
        let server = (n >= 2 && *stage != "remove").then(|| server_of(&provider));
        running.signal(Signal::KILL);
        running.wait();
        // Whatever the agent does next begins with this.
        let next = if n % 2 == 0 { provider.snapshot() } else { provider.drill() };
        next.success();
        nothing_is_left(&provider);
        if let Some(server) = server {
            assert!(!is_alive(server));
            assert_eq!(shared_memory_of(server), Vec::<String>::new());
        }
    }
}

#[test]
fn after_kill_9_a_server_elsewhere_is_clean_again_too() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    subscriptions(&database);
    // A role that only the source knows: it is made for the drill, and must go with it.
    database.sql("CREATE ROLE redacteur; GRANT SELECT ON subscribers TO redacteur");
    let elsewhere = Cluster::start(Version::V15);
    let mut provider = Provider::of(&database);
    provider.set_drills(&format!("scratch = {:?}", elsewhere.database("postgres").url()));
    provider.snapshot().success();
    let look = || {
        let sql = "SELECT (SELECT count(*) FROM pg_database), (SELECT string_agg(rolname, ',' ORDER BY 1) FROM pg_roles WHERE rolname !~ '^pg_')";
        elsewhere.database("postgres").sql(sql)
    };
    let before = look();
    provider.drill().success();
    assert_eq!(look(), before);
    for stage in ["server", "rows", "checks"] {
        let mut running = provider.drill().start();
        reaches(&mut running, stage);
        running.signal(Signal::KILL);
        running.wait();
        provider.snapshot().success();
        assert_eq!(look(), before, "after kill -9 at {stage}");
        nothing_is_left(&provider);
    }
    let mut running = provider.drill().start();
    reaches(&mut running, "rows");
    running.signal(Signal::INT);
    assert!(matches!(running.wait().code(), Some(130 | 0)));
    assert_eq!(look(), before, "after Ctrl-C");
}

#[test]
fn after_kill_9_of_a_sqlite_drill_no_readable_copy_stays() {
    let setup = Setup::new(3_000, 2_000);
    setup.configure_directories("");
    setup.snapshot().success();
    for stage in ["fetch", "pages", "compare", "checks"] {
        let mut running = setup.provider(&["drill", "abonnes"]).start();
        reaches(&mut running, stage);
        running.signal(Signal::KILL);
        running.wait();
        setup.snapshot().success();
        setup.no_plaintext(&[SECRET]);
        let left = crate::support::sqlite_setup::files(&setup.path("provider/state/scratch"));
        assert_eq!(left, Vec::<PathBuf>::new(), "after kill -9 at {stage}");
    }
}

#[test]
fn a_server_that_is_killed_in_the_middle_is_a_failure() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.load_subscriptions(20_000);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let mut running = provider.drill().start();
    let server = server_of(&provider);
    reaches(&mut running, "rows");
    kill_process(Pid::from_raw(server).unwrap(), Signal::KILL).unwrap();
    let outcome = running.wait().expect_code(6);
    let report = outcome.json();
    assert!(["load", "index"].contains(&report["failed_stage"].as_str().unwrap()), "{report:#}");
    nothing_is_left(&provider);
    assert_eq!(shared_memory_of(server), Vec::<String>::new());
    recorded_as_failed(&provider, &report);
}

#[test]
fn a_full_disk_in_the_middle_is_a_failure() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    // 200 MB of text that compress well: fetched and opened in no time, and too big for the disk.
    database.sql("CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 500) AS t FROM generate_series(1, 12500) g; ALTER TABLE big ALTER t SET STORAGE EXTERNAL; ALTER TABLE big ADD PRIMARY KEY (id)");
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let disk = Tmpfs::mount(&provider.scratch(), "120m");
    let outcome = provider.drill().run();
    assert!(matches!(outcome.code(), Some(4 | 6)), "{outcome}");
    let (stage, words) = super::failure(&outcome);
    assert!(["server", "load"].contains(&stage.as_str()), "{outcome}");
    assert!(words.contains("no space is left") || words.contains("of the disk to others"), "{outcome}");
    nothing_is_left(&provider);
    recorded_as_failed(&provider, &outcome.json());
    drop(disk);
    provider.drill().success();
}

#[test]
fn the_wrong_major_version_is_no_place_for_a_proof() {
    let (old, new) = (Cluster::start(Version::V15), Cluster::start(Version::V18));
    let database = old.create_db("abonnes");
    database.load_subscriptions(50);
    let mut provider = Provider::of(&database);
    provider.snapshot().success();
    provider.set_drills(&format!("scratch = {:?}", new.database("postgres").url()));
    let outcome = provider.drill().fails_with(4);
    failed_at(&outcome, "server", &["18", "15"]);
    assert_eq!(new.database("postgres").sql("SELECT count(*) FROM pg_database"), "3");
    provider.set_drills(&format!("bin_dir = {:?}", Version::V18.bin()));
    let outcome = provider.drill().fails_with(4);
    failed_at(&outcome, "server", &["18", "15"]);
    recorded_as_failed(&provider, &outcome.json());
    nothing_is_left(&provider);
}

#[test]
fn a_failed_copy_is_kept_only_where_it_is_asked_for() {
    let setup = Setup::new(50, 50);
    let check = "[database.abonnes.checks.never]\nsql = \"SELECT 1\"\nequals = 2";
    setup.configure_directories(check);
    setup.snapshot().success();
    setup.provider(&["drill", "abonnes"]).fails_with(9);
    let scratch = setup.path("provider/state/scratch");
    assert_eq!(crate::support::sqlite_setup::files(&scratch), Vec::<PathBuf>::new());
    let outcome = setup.provider(&["drill", "abonnes", "--keep-on-failure"]).fails_with(9);
    let kept = outcome.json()["kept"].as_str().unwrap().to_owned();
    assert!(kept.contains("sqlite3"), "{kept}");
    let copies = crate::support::sqlite_setup::files(&scratch);
    let copy = copies.iter().find(|path| path.extension().is_some_and(|e| e == "sqlite")).unwrap();
    let rows: i64 = rusqlite::Connection::open(copy)
        .unwrap()
        .query_row("SELECT count(*) FROM subscriber", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 50);
    // Nobody forgets it: every later drill says that it is there.
    let next: Outcome = setup.provider(&["drill", "abonnes"]).fails_with(9);
    next.expect_stderr("rm -rf");
    assert!(copy.exists());
    // One that passes is never kept.
    setup.configure_directories("");
    let passed = setup.provider(&["drill", "abonnes", "--keep-on-failure"]).success();
    assert_eq!(passed.json()["kept"], Value::Null);
}

#[test]
fn one_drill_of_a_database_at_a_time() {
    let setup = Setup::new(4_000, 2_000);
    setup.configure_directories("");
    setup.snapshot().success();
    let mut first = setup.provider(&["drill", "abonnes"]).start();
    reaches(&mut first, "fetch");
    first.signal(Signal::STOP);
    setup.provider(&["drill", "abonnes"]).fails_with(7);
    // A snapshot need not wait for it, nor does it take anything away.
    setup.snapshot().success();
    first.signal(Signal::CONT);
    first.wait().expect_code(0);
}

/// Failures are on record like proofs: at the target, signed, with stage and kind.
#[track_caller]
fn recorded_as_failed(provider: &Provider, report: &Value) {
    let drill = report["drill"].as_str().unwrap();
    let path = provider.objects().join(format!("drills/{drill}.json"));
    let receipt: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(receipt["level"], Value::Null);
    assert_eq!(receipt["failure"]["stage"], report["failed_stage"]);
    assert_eq!(receipt["failure"]["exit_code"], report["error"]["exit_code"]);
    let incidents = provider.marbre(&["status"]).success().json()["databases"][0]["incidents"].to_string();
    assert!(incidents.contains("FAILED at stage"), "{incidents}");
}
