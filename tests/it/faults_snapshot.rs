//! Snapshots that are killed, interrupted, or robbed of their state.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::marbre::Outcome;
use crate::support::postgres::{Cluster, Database, Version, run};
use crate::support::setup::Tmpfs;
use crate::support::short_or_long;
use crate::support::sqlite_setup::{SECRET, Setup, files, objects, sound};

/// Processes other than marbre itself that have this text in their arguments or environment.
fn children_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let command = read("cmdline");
        let is_tool = memchr::memmem::find(&command, b"pg_dump").is_some();
        if is_tool
            && [&command, &read("environ")].iter().any(|b| memchr::memmem::find(b, text.as_bytes()).is_some())
        {
            found.push(String::from_utf8_lossy(&command).replace('\0', " "));
        }
    }
    found
}

#[track_caller]
fn no_orphans(text: &str) {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let orphans = children_with(text);
        if orphans.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {orphans:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn postgres(setup: &Setup, database: &Database<'_>) {
    let bin = database.cluster.version().bin();
    let source =
        format!("engine = \"postgres\"\nurl = \"{}\"\nbin_dir = \"{}\"", database.url(), bin.display());
    let (a, b) = (setup.target("a"), setup.target("b"));
    setup.configure_source(&source, &[("a", &a), ("b", &b)], "", "");
}

/// The subscribers of a database, as one hash.
fn content(database: &Database<'_>) -> String {
    database.sql("SELECT count(*), md5(string_agg(s::text, '' ORDER BY id)) FROM subscribers s")
}

#[track_caller]
fn restores_postgres(setup: &Setup, cluster: &Cluster, name: &str, from: &str) -> String {
    let to = cluster.create_db(name);
    setup
        .restore("latest", &[&setup.target(from)], &to.url())
        .arg("--bin-dir")
        .arg(cluster.version().bin())
        .success();
    content(&to)
}

const DAY: &str = "UPDATE subscribers SET phone = (random() * 1e9)::bigint::text";

/// Runs until `wanted` runs were killed, at moments spread over a run of about `normal` seconds. A run that is
/// over before its moment shows that runs are shorter than that: machines are not equally fast all the time.
fn kill_spread(wanted: u32, mut normal: f64, mut run: impl FnMut(u32, Duration) -> Outcome) {
    let mut killed = 0;
    for attempt in 0..wanted * 5 {
        let share = (f64::from(attempt % wanted) + 0.5) / f64::from(wanted);
        let outcome = run(attempt, Duration::from_secs_f64(normal * share));
        match outcome.code() {
            None => killed += 1,
            Some(_) => normal = normal.min(outcome.seconds),
        }
        if killed == wanted {
            return;
        }
    }
    panic!("only {killed} runs were killed: {normal} s is too short to measure");
}

/// At 25 moments in a long run.
#[test]
fn kill_9_at_25_moments_of_a_postgres_snapshot() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.load_subscriptions(12_000);
    let setup = Setup::with_keys();
    postgres(&setup, &database);
    setup.snapshot().success();
    database.sql(DAY);
    let normal = setup.snapshot().success().seconds;
    let socket = cluster.socket_dir().display().to_string();
    kill_spread(short_or_long(6, 25), normal, |moment, after| {
        database.sql(DAY);
        let outcome = setup.snapshot().kill_after(after).run();
        no_orphans(&socket);
        setup.no_plaintext(&["@courriel.example", "exemple.fr", "AGE-SECRET-KEY-"]);
        sound(&setup);
        if moment % 8 == 4 {
            let target = if moment % 16 == 4 { "a" } else { "b" };
            restores_postgres(&setup, &cluster, &format!("r{moment}"), target);
        }
        outcome
    });
    let last = setup.snapshot().success().json();
    assert_eq!(last["verdict"], "complete");
    assert!(setup.spooled().is_empty(), "{:?}", setup.spooled());
    let receipts = sound(&setup);
    assert!(receipts.len() >= 3);
    for target in ["a", "b"] {
        assert_eq!(
            restores_postgres(&setup, &cluster, &format!("last_{target}"), target),
            content(&database)
        );
    }
}

/// At 20 moments in a long run.
#[test]
fn kill_9_at_20_moments_of_a_sqlite_snapshot() {
    let setup = Setup::new(4_000, 3_000);
    setup.configure_directories("");
    setup.snapshot().success();
    setup.change(1);
    let normal = setup.snapshot().success().seconds;
    kill_spread(short_or_long(6, 20), normal, |_, after| {
        setup.change(2);
        let outcome = setup.snapshot().kill_after(after).run();
        setup.no_plaintext(&[SECRET, "AGE-SECRET-KEY-"]);
        sound(&setup);
        outcome
    });
    assert_eq!(setup.snapshot().success().json()["verdict"], "complete");
    assert!(setup.spooled().is_empty(), "{:?}", setup.spooled());
    sound(&setup);
    setup.restores_equal(&[&setup.target("a")]);
    setup.restores_equal(&[&setup.target("b")]);
}

fn packs(target: &Path) -> BTreeSet<String> {
    objects(target).into_keys().filter(|key| key.contains("/packs/")).collect()
}

/// A first snapshot over a slow line: each run is killed after some packs, and the next goes on from there.
#[test]
fn a_first_snapshot_that_is_cut_off_goes_on() {
    // Some 240 MB that do not compress: 8 packs.
    let setup = Setup::new(2_400, 100_000);
    setup.configure_directories("");
    let target = PathBuf::from(setup.target("a"));
    for cut in 1..=5 {
        let before = packs(&target).len();
        let run = setup.snapshot().start();
        let deadline = Instant::now() + Duration::from_secs(60);
        while packs(&target).len() <= before {
            assert!(Instant::now() < deadline, "no pack arrives: {}", run.stderr());
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(rand::random_range(0..50)));
        run.signal(Signal::KILL);
        assert_eq!(run.wait().code(), None, "cut {cut}");
    }
    assert!(sound(&setup).is_empty());
    let arrived = packs(&target);
    let report = setup.snapshot().success().json();
    assert_eq!((&report["verdict"], &report["full"]), (&"complete".into(), &true.into()));
    let receipt = sound(&setup).into_values().next_back().unwrap();
    let receipt: serde_json::Value = serde_json::from_slice(&receipt).unwrap();
    let named = receipt["objects"].as_array().unwrap().iter().map(|o| o["key"].as_str().unwrap());
    let named: BTreeSet<String> = named.filter(|key| key.contains("/packs/")).map(str::to_owned).collect();
    assert_eq!(packs(&target), named, "each pack is sent once");
    assert!(arrived.is_subset(&named) && arrived.len() >= 5, "{arrived:?}");
    setup.restores_equal(&[&setup.target("a")]);
    setup.restores_equal(&[&setup.target("b")]);
}

/// The state is a cache: when its disk is full, snapshots go on, and say that the next one may cost more.
#[test]
fn a_full_state_disk_costs_reuse_and_not_the_snapshot() {
    let setup = Setup::new(2_000, 3_000);
    let state = setup.path("provider/state");
    let _disk = Tmpfs::mount(&state, "24m");
    let spool = format!("spool_dir = \"{}\"", setup.path("spool").display());
    setup.configure(&[("a", &setup.target("a")), ("b", &setup.target("b"))], &spool, "");
    assert_eq!(setup.snapshot().success().json()["warnings"], serde_json::json!([]));
    let filler = state.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    setup.change(3);
    let report = setup.snapshot().success().json();
    assert_eq!(report["verdict"], "complete");
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("could not be saved"), "{warnings}");
    setup.restores_equal(&[&setup.target("a")]);
    drop(file);
    fs::remove_file(filler).unwrap();
    setup.change(5);
    assert_eq!(setup.snapshot().success().json()["warnings"], serde_json::json!([]));
    assert_eq!(sound(&setup).len(), 3);
    setup.restores_equal(&[&setup.target("b")]);
}

/// Whoever looks or restores needs no state; what could not be noted is said.
#[test]
fn a_state_disk_that_is_read_only_keeps_nobody_from_looking_and_restoring() {
    let setup = Setup::new(200, 300);
    let state = setup.path("provider/state");
    let _disk = Tmpfs::mount(&state, "24m");
    setup.configure(&[("a", &setup.target("a"))], "", "");
    setup.snapshot().success();
    // A daemon that was killed leaves the files beside the database. With them, SQLite opens it also where it cannot write.
    let beside = ["state.sqlite-wal", "state.sqlite-shm"];
    let open = rusqlite::Connection::open(state.join("state.sqlite")).unwrap();
    open.query_row("SELECT count(*) FROM receipt", [], |row| row.get::<_, i64>(0)).unwrap();
    let kept = beside.map(|name| fs::read(state.join(name)).unwrap());
    drop(open);
    for left in [false, true] {
        for (name, bytes) in beside.iter().zip(&kept).filter(|_| left) {
            fs::write(state.join(name), bytes).unwrap();
        }
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(&state));
        let restored = setup.path(&format!("restored-{left}.db"));
        let (key, to) = (setup.key(), restored.to_str().unwrap());
        for args in [
            &["status"][..],
            &["list"],
            &["verify"],
            &["restore", "--key", key.to_str().unwrap(), "--to", to],
        ] {
            let outcome = setup.provider(args).success();
            outcome.expect_stderr("cannot be written, so nothing is noted");
        }
        run(Command::new("mount").args(["-o", "remount,rw"]).arg(&state));
    }
}

#[test]
fn ctrl_c_and_sigterm_end_a_snapshot_with_130_and_no_record() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.load_subscriptions(6_000);
    let setup = Setup::with_keys();
    postgres(&setup, &database);
    setup.snapshot().success();
    let socket = cluster.socket_dir().display().to_string();
    let mut interrupted = 0;
    for (n, stage) in ["targets", "open", "read", "read", "close", "commit"].iter().enumerate() {
        database.sql(DAY);
        let before = sound(&setup).len();
        let run = setup.snapshot().start();
        let wanted = format!("\"stage\":\"{stage}\"");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !run.stderr().contains(&wanted) {
            assert!(Instant::now() < deadline, "never came to {stage}: {}", run.stderr());
            std::thread::sleep(Duration::from_millis(1));
        }
        if n == 3 {
            std::thread::sleep(Duration::from_millis(40));
        }
        run.signal(if n % 2 == 0 { Signal::INT } else { Signal::TERM });
        let outcome = run.wait();
        assert!(outcome.seconds < 20.0, "{outcome}");
        let after = sound(&setup).len();
        match outcome.code() {
            Some(130) => {
                assert_eq!(after, before, "{outcome}");
                assert_eq!(outcome.json()["exit_code"], 130);
                interrupted += 1;
            }
            // It was too late to stop: then what it says is what there is.
            Some(0 | 8 | 10) if n == 3 || ["close", "commit"].contains(stage) => {
                assert_eq!(after, before + 1, "{outcome}")
            }
            other => panic!("{other:?} after a signal at {stage}: {outcome}"),
        }
        no_orphans(&socket);
        assert!(setup.spooled().is_empty());
    }
    assert!(interrupted >= 3);
    setup.snapshot().success();
    sound(&setup);
    assert_eq!(restores_postgres(&setup, &cluster, "last", "b"), content(&database));
}

#[test]
fn of_two_snapshots_at_once_the_second_is_told_who_is_at_work() {
    let setup = Setup::new(20_000, 3_000);
    setup.configure_directories("");
    let first = setup.snapshot().start();
    while !first.stderr().contains("\"stage\":\"read\"") {
        std::thread::sleep(Duration::from_millis(1));
    }
    let second = setup.snapshot().fails_with(7).json();
    assert!(second["cause"].as_str().unwrap().contains(&format!("process {} ", first.pid())), "{second}");
    first.wait().expect_code(0);
    setup.snapshot().success();
    assert_eq!(sound(&setup).len(), 2);
}

#[test]
fn a_lost_state_costs_a_full_snapshot_and_continues_the_chain() {
    let setup = Setup::new(1_000, 2_000);
    setup.configure_directories("");
    let first = setup.snapshot().success().json();
    setup.change(10);
    let second = setup.snapshot().success().json();
    assert_eq!((&second["epoch"], &second["full"]), (&first["epoch"], &false.into()));
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    setup.change(10);
    let third = setup.snapshot().success().json();
    assert_ne!(third["epoch"], first["epoch"]);
    assert_eq!(third["full"], true);
    assert_eq!(sound(&setup).len(), 3);
    setup.restores_equal(&[&setup.target("a")]);
    setup.restores_equal(&[&setup.target("b")]);
}

#[test]
fn a_state_rolled_back_to_an_older_copy_does_not_fork_the_chain() {
    let setup = Setup::new(1_000, 2_000);
    setup.configure_directories("");
    setup.snapshot().success();
    let (state, old) = (setup.path("provider/state"), setup.path("old-state"));
    assert!(Command::new("cp").arg("-a").args([&state, &old]).status().unwrap().success());
    for _ in 0..2 {
        setup.change(3);
        setup.snapshot().success();
    }
    fs::remove_dir_all(&state).unwrap();
    fs::rename(&old, &state).unwrap();
    setup.change(5);
    setup.snapshot().success();
    assert_eq!(sound(&setup).len(), 4);
    setup.restores_equal(&[&setup.target("a")]);
}

#[test]
fn damage_to_what_is_remembered_of_a_snapshot_never_reaches_the_next_one() {
    let setup = Setup::new(1_000, 2_000);
    setup.configure_directories("");
    setup.snapshot().success();
    let folder = setup.path("provider/state/streams");
    let mut damaged = 0;
    for round in 0..12_usize {
        setup.change(7);
        let remembered = files(&folder);
        assert!(!remembered.is_empty());
        for file in &remembered {
            let mut bytes = fs::read(file).unwrap();
            if bytes.is_empty() {
                continue;
            }
            match round % 4 {
                // The first bytes, a length in the middle, the last; and a file cut short.
                0 => bytes[round] ^= 1,
                // The length of a unit (records are 20 bytes, their last four the length): all that follow
                // would be looked for in the wrong place.
                1 => {
                    let length = bytes.len() / 40 * 20 + 16;
                    bytes[length] ^= 0x10;
                }
                2 => *bytes.last_mut().unwrap() ^= 0x80,
                _ => bytes.truncate(bytes.len() - 20),
            }
            // Index and units in turn: an index that is refused would hide the units.
            let is_index = file.extension().is_some_and(|e| e == "json");
            if is_index == (round >= 8) {
                fs::write(file, bytes).unwrap();
                damaged += 1;
            }
        }
        assert_eq!(setup.snapshot().success().json()["verdict"], "complete");
        setup.restores_equal(&[&setup.target("a")]);
    }
    assert!(damaged >= 12);
    sound(&setup);
}

#[test]
fn a_state_that_is_no_database_is_an_error_with_a_remedy() {
    let setup = Setup::new(100, 100);
    setup.configure_directories("");
    setup.snapshot().success();
    for entry in files(&setup.path("provider/state")) {
        if entry.file_name().unwrap().to_str().unwrap().starts_with("state.sqlite") {
            fs::write(&entry, vec![0x5a; 10_000]).unwrap();
        }
    }
    let error = setup.snapshot().run();
    assert_ne!(error.code(), Some(0), "{error}");
    let error = error.json();
    assert!(error["remedy"].as_str().unwrap_or_default().contains("state"), "{error}");
    assert!(sound(&setup).len() == 1);
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    setup.snapshot().success();
    assert_eq!(sound(&setup).len(), 2);
    assert!(!objects(&setup.path("a")).is_empty());
}
