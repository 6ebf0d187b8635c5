//! `marbre status` at a glance: a line for each database, the worst first, soon, whatever hangs.

use std::fs;
use std::io::BufRead;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::support::marbre::{Marbre, Outcome, marbre};
use super::support::proxy::{FaultProxy, Mode};
use super::support::s3::{ADMIN, SeaweedFs};
use super::support::sqlite_setup::Setup;

const DATABASES: usize = 30;

/// A server that takes connections and never says a word, as the S3 endpoint of a target.
struct Silent(TcpListener);

impl Silent {
    fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn target(&self, setup: &Setup) -> String {
        let credentials = setup.path("provider/credentials");
        let keep = fs::Permissions::from_mode(0o600);
        fs::write(&credentials, "[default]\naws_access_key_id = A\naws_secret_access_key = B\n").unwrap();
        fs::set_permissions(&credentials, keep).unwrap();
        let port = self.0.local_addr().unwrap().port();
        format!(
            "url = \"s3://bucket/p?endpoint=http://127.0.0.1:{port}\"\ncredentials_file = {credentials:?}\n"
        )
    }
}

/// Thirty databases of two publishers at two directories, and one target more.
fn configure(setup: &Setup, more: &str) {
    let recipient = fs::read_to_string(setup.path("publisher/restore.pub")).unwrap();
    let recipient = recipient.lines().find(|line| line.starts_with("age1")).unwrap();
    let mut text = String::from(
        "state_dir = \"state\"\nsigning_key = \"agent_ed25519\"\ntime_zone = \"Europe/Paris\"\n",
    );
    for publisher in ["gazette", "tribune"] {
        text += &format!("[publisher.{publisher}]\nrecipients = [{recipient:?}]\n");
    }
    for target in ["a", "b"] {
        text += &format!("[target.{target}]\nurl = {:?}\n", setup.target(target));
    }
    let third = if more.is_empty() { "" } else { ", \"remote\"" };
    if !more.is_empty() {
        text += &format!("[target.remote]\n{more}");
    }
    for number in 1..=DATABASES {
        let publisher = if number <= 20 { "gazette" } else { "tribune" };
        text += &format!(
            "[database.base-{number:02}]\npublisher = \"{publisher}\"\nengine = \"sqlite\"\npath = {:?}\n\
             targets = [\"a\", \"b\"{third}]\ncopies = 1\nrpo = \"26h\"\n[database.base-{number:02}.schedule]\nsnapshot = \"30 2 * * *\"\n",
            setup.database()
        );
    }
    fs::write(setup.path("provider/marbre.toml"), text).unwrap();
}

fn people(setup: &Setup, args: &[&str]) -> Marbre {
    let run = marbre(["--config"]).arg(setup.path("provider/marbre.toml")).args(args);
    run.env("TZ", "Europe/Paris").env("COLUMNS", "80").env("TMPDIR", setup.path("tmp"))
}

#[track_caller]
fn fits(outcome: &Outcome) {
    let wide: Vec<&str> = outcome.stdout.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "wider than 80 columns: {wide:#?}\n{outcome}");
}

fn row<'a>(outcome: &'a Outcome, database: &str) -> &'a str {
    let mut rows = outcome.stdout.lines().filter(|line| line.starts_with(&format!("{database} ")));
    rows.next().unwrap_or_else(|| panic!("no line of {database}: {outcome}"))
}

#[test]
fn thirty_databases_are_thirty_lines_the_worst_first() {
    let setup = Setup::new(10, 10);
    configure(&setup, "");
    for number in 1..DATABASES {
        people(&setup, &["snapshot", &format!("base-{number:02}")]).success();
    }
    people(&setup, &["verify", "base-02"]).success();
    // Somebody deletes the newest snapshot of one at a target.
    fs::remove_dir_all(setup.path("b/gazette/base-03")).unwrap();

    let status = people(&setup, &["status"]).success();
    println!("{status}");
    fits(&status);
    let lines: Vec<&str> = status.stdout.lines().collect();
    assert!(lines[0].starts_with("DATABASE"), "{status}");
    assert!(lines[1].starts_with("tribune/base-30") && lines[1].contains("late    none"), "{status}");
    assert_eq!(lines.iter().filter(|line| line.contains("/base-")).count(), DATABASES, "{status}");
    assert!(row(&status, "gazette/base-02").contains("intact   intact"), "{status}");
    assert!(row(&status, "gazette/base-03").contains("lacks 1"), "{status}");
    assert!(row(&status, "gazette/base-01").contains(" 02:30"), "{status}");
    assert!(status.stdout.contains("30 databases: 1 late, "), "{status}");
    assert!(status.stdout.contains("times are of Europe/Paris (CE"), "{status}");
    assert!(status.stdout.contains("daemon: never ran here"), "{status}");
    assert!(!status.stdout.contains('\u{1b}'), "no colour where nobody looks: {status}");
    let coloured = people(&setup, &["status", "--color", "always"]).success();
    assert!(coloured.stdout.contains("\u{1b}[1;31mlate"), "{coloured}");

    let late = people(&setup, &["status", "--state", "late"]).success();
    assert_eq!(late.stdout.lines().filter(|line| line.contains("/base-")).count(), 1, "{late}");
    assert!(late.stdout.contains("1 shown"), "{late}");
    let tribune = setup.provider(&["status", "--publisher", "tribune"]).success().json();
    assert_eq!(tribune["databases"].as_array().unwrap().len(), 10);
    assert_eq!(tribune["databases"][0]["state"], "late");
    assert_eq!(tribune["databases"][0]["incidents"][0]["kind"], "snapshot-late");
    assert_eq!(tribune["summary"]["late"], 1);
    people(&setup, &["status", "--publisher", "nobody"]).fails_with(5).expect_stderr("gazette, tribune");
    people(&setup, &["status", "--state", "fine"]).fails_with(2).expect_stderr("late, failing");
    let one = people(&setup, &["status", "base-01"]).success();
    fits(&one);
    assert!(one.stdout.contains("3-2-1-1-0") && one.stdout.contains(" CE"), "{one}");
}

/// The seconds that a look takes when nothing hangs.
fn usual(setup: &Setup) -> f64 {
    people(setup, &["status"]).success().seconds.max(people(setup, &["doctor"]).run().seconds)
}

/// What a status and a doctor say that have to do without one target.
#[track_caller]
fn goes_without(setup: &Setup, target: &str, usual: f64) {
    for args in [&["status"][..], &["status", "base-01"]] {
        let status = people(setup, args).success();
        println!("{status}");
        assert!(status.seconds < usual + 5.0, "too late, usually {usual} s: {status}");
        let said: Vec<&str> = status.stdout.split_whitespace().collect();
        assert!(said.join(" ").contains(": no answer within 4 s"), "{status}");
        assert!(status.stdout.contains(target), "{status}");
    }
    let doctor = people(setup, &["doctor"]).fails_with(4);
    println!("{doctor}");
    assert!(doctor.seconds < usual + 6.0, "too late, usually {usual} s: {doctor}");
    assert!(doctor.stderr.contains(&format!("target {target}: list")), "{doctor}");
    let document = setup.provider(&["status"]).success().json();
    assert_eq!(document["unreachable"][0]["target"], target, "{document:#}");
    let targets =
        document["databases"].as_array().unwrap().iter().flat_map(|db| db["targets"].as_array().unwrap());
    let (away, there): (Vec<&Value>, Vec<&Value>) = targets.partition(|t| t["name"] == target);
    assert!(away.iter().all(|t| t["error"].is_string()), "{document:#}");
    assert!(there.iter().all(|t| t["error"].is_null()), "{document:#}");
    assert!(there.iter().any(|t| t["snapshot"].is_string()), "{document:#}");
}

/// What lies at the other targets is counted without one that hangs, and that is said.
#[track_caller]
fn counts_without(setup: &Setup, target: &str) {
    let stats = people(setup, &["stats", "--wait", "2s"]).fails_with(8);
    assert!(stats.seconds < 10.0, "too late: {stats}");
    assert!(stats.stdout.contains("INCOMPLETE: "), "{stats}");
    assert!(stats.stderr.contains(&format!("{target}: ")) && stats.stderr.contains("within 2 s"), "{stats}");
    assert!(stats.stdout.contains("gazette/base-01"), "{stats}");
    fits(&stats);
}

#[test]
fn a_server_that_says_nothing_does_not_hide_what_the_others_say() {
    let setup = Setup::new(10, 10);
    configure(&setup, "");
    people(&setup, &["snapshot", "base-01"]).success();
    let usual = usual(&setup);
    let silent = Silent::start();
    configure(&setup, &silent.target(&setup));
    fits(&people(&setup, &["status"]).success());
    goes_without(&setup, "remote", usual);
    counts_without(&setup, "remote");
}

/// A file system over a folder whose server never answers, as a network disk whose server is off: every look at it blocks.
struct HungMount {
    folder: PathBuf,
    server: Child,
}

impl HungMount {
    fn over(folder: PathBuf) -> Self {
        let script = "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none \"$0\" && echo up && exec sleep 1000";
        let mut server =
            Command::new("bash").args(["-c", script]).arg(&folder).stdout(Stdio::piped()).spawn().unwrap();
        let mut up = String::new();
        std::io::BufReader::new(server.stdout.take().unwrap()).read_line(&mut up).unwrap();
        assert_eq!(up, "up\n", "a file system could be mounted");
        Self { folder, server }
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        // Without its server every look fails, so that the folder can be removed again.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

#[test]
fn a_directory_that_hangs_does_not_hide_what_the_others_hold() {
    let setup = Setup::new(10, 10);
    configure(&setup, "");
    people(&setup, &["snapshot", "base-01"]).success();
    let usual = usual(&setup);
    let _hung = HungMount::over(setup.path("a"));
    goes_without(&setup, "a", usual);
    counts_without(&setup, "a");
}

#[test]
fn it_is_said_whether_the_daemon_runs() {
    let setup = Setup::new(10, 10);
    configure(&setup, "");
    let daemon = setup.provider(&["daemon"]).start();
    let deadline = Instant::now() + Duration::from_secs(60);
    let running = loop {
        let status = people(&setup, &["status"]).success();
        if status.stdout.contains("daemon: running since 2") {
            break status;
        }
        assert!(Instant::now() < deadline, "{status}");
    };
    println!("{running}");
    daemon.signal(Signal::TERM);
    daemon.wait();
    let gone = people(&setup, &["status"]).success();
    assert!(gone.stdout.contains("daemon: NOT RUNNING, last seen 2"), "{gone}");
    let document = setup.provider(&["status"]).success().json();
    assert_eq!(document["daemon"]["running"], false, "{document:#}");
    assert!(document["daemon"]["last_seen"].as_str().unwrap().ends_with('Z'), "{document:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_recovery_of_a_drill_does_not_wait_for_another_target() {
    let (setup, server) = (Setup::new(10, 10), SeaweedFs::shared().await);
    let bucket = server.bucket(false).await;
    let proxy = FaultProxy::start(server.address(), Mode::Pass).await;
    let url = server.url(&bucket, ADMIN).replace(&server.endpoint(), &proxy.endpoint());
    setup.configure(&[("a", &setup.target("a")), ("slow", &url)], "", "");
    setup.snapshot().success();
    let usual = setup.provider(&["drill", "abonnes", "--target", "a"]).success().json();
    // Every question to the other target takes this long now: which drills there were, and which decisions.
    proxy.set(Mode::Delay(Duration::from_secs(5)));
    let drill = setup.provider(&["drill", "abonnes", "--target", "a"]).success().json();
    let seconds = |drill: &Value, key: &str| drill[key].as_f64().unwrap();
    assert!(seconds(&drill, "seconds") > 10.0, "{drill:#}");
    let recovery = seconds(&drill, "rto_seconds");
    assert!(recovery > 0.0 && recovery < seconds(&usual, "rto_seconds") + 4.0, "{drill:#}");
}
