//! The units of `systemd/`: what systemd says about them, and that what they start can work under them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::marbre::marbre;
use crate::support::postgres::{Cluster, Version, run};
use crate::support::setup::Provider;
use crate::support::sqlite_setup::Setup;

/// The highest exposure that `systemd-analyze security` may see, in tenths: of the agent, whose drills make sandboxes, and of
/// others.
fn highest_exposure(service: &Path) -> &'static str {
    match service.file_name().is_some_and(|name| name == "marbre.service") {
        true => "20",
        false => "15",
    }
}

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn unit(name: &str) -> String {
    fs::read_to_string(units().join(name)).unwrap()
}

/// The units in a folder, as they are, but for the program: it is the one under test, where it was built, because
/// systemd wants to see that what a unit starts is there.
fn installed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(units()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "service" || e == "timer") {
            let text = fs::read_to_string(&path).unwrap();
            assert!(
                path.extension().unwrap() == "timer" || text.contains("ExecStart=/usr/local/bin/marbre ")
            );
            let text = text.replace("/usr/local/bin/marbre", env!("CARGO_BIN_EXE_marbre"));
            fs::write(folder.path().join(path.file_name().unwrap()), text).unwrap();
        }
    }
    folder
}

fn analyze(args: &[&str], files: &[PathBuf]) -> Output {
    let mut command = Command::new("systemd-analyze");
    command.args(args).args(files);
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}: run tests/install first"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|p| extensions.iter().any(|e| p.extension().is_some_and(|x| x == *e))).collect();
    files.sort();
    files
}

#[test]
fn systemd_has_nothing_to_say() {
    let folder = installed();
    let all = files(folder.path(), &["service", "timer"]);
    assert_eq!(all.len(), 3);
    let output = analyze(&["verify", "--man=no"], &all);
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));

    // What would be said about a key that nobody knows: the silence above means something.
    let text = fs::read_to_string(folder.path().join("marbre.service")).unwrap();
    let text = text.replace("WatchdogSec=", "WatchdogSecs=");
    fs::write(folder.path().join("wrong.service"), text).unwrap();
    let output = analyze(&["verify", "--man=no"], &[folder.path().join("wrong.service")]);
    assert!(said(&output).contains("WatchdogSecs"), "{}", said(&output));
}

#[test]
fn the_services_are_hardened() {
    let folder = installed();
    for service in files(folder.path(), &["service"]) {
        let output = analyze(
            &["security", "--offline=true", "--no-pager", "--threshold", highest_exposure(&service)],
            std::slice::from_ref(&service),
        );
        assert!(output.status.success(), "{}\n{}", service.display(), said(&output));
        let weak = fs::read_to_string(&service)
            .unwrap()
            .replace("CapabilityBoundingSet=\n", "")
            .replace("\nSystemCall", "\n#");
        fs::write(folder.path().join("weak.service"), weak).unwrap();
        let output = analyze(
            &["security", "--offline=true", "--no-pager", "--threshold", highest_exposure(&service)],
            &[folder.path().join("weak.service")],
        );
        assert!(!output.status.success(), "{}", said(&output));
        fs::remove_file(folder.path().join("weak.service")).unwrap();
    }
}

/// A snapshot and a drill of PostgreSQL, with everything that they start, under the restrictions of the service.
#[test]
fn snapshots_and_drills_work_under_the_service() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("confined");
    database.sql(
        "CREATE TABLE subscriber (id int PRIMARY KEY, name text);
         INSERT INTO subscriber SELECT i, 'name ' || i FROM generate_series(1, 5000) i;
         CREATE TABLE log (line text); INSERT INTO log VALUES ('a'), ('b');",
    );
    let provider = Provider::of(&database);
    let program = provider.path("program");
    fs::copy(env!("CARGO_BIN_EXE_marbre"), &program).unwrap();
    let folder = provider.path("");
    let scratch = provider.scratch().parent().unwrap().to_owned();
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").args(["-R", "postgres:postgres"]).args([&folder, &scratch]));
    }
    let confined = |verb: &str| {
        let writable = format!("{}:{}", folder.display(), scratch.display());
        let mut command = Command::new("python3");
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/systemd/confine.py"))
            .arg(units().join("marbre.service"))
            .args(["postgres", &writable])
            .arg(&program)
            .args(["--json", "--config"])
            .arg(provider.path("marbre.toml"))
            .args([verb, "abonnes"])
            .env("PATH", format!("{}:{}", Version::V15.bin().display(), std::env::var("PATH").unwrap()));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{verb}: {}\n{}", output.status, said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(confined("snapshot")["verdict"], "complete");
    let drill = confined("drill");
    assert_eq!((&drill["passed"], &drill["level"]), (&true.into(), &"restored".into()), "{drill:#}");
    assert_eq!(provider.traces(), Vec::<String>::new());
}

/// The arguments that the watch starts marbre with, as systemd would put them together.
fn watch(target: &Path, database: &str, rpo: &str, credentials: &Path) -> Vec<String> {
    let text = unit("marbre-watch.service").replace("\\\n", " ");
    let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/marbre ")).unwrap();
    let filled = |word: &str| {
        word.replace("${MARBRE_WATCH_FROM}", target.to_str().unwrap())
            .replace("${MARBRE_WATCH_DATABASE}", database)
            .replace("${MARBRE_WATCH_RPO}", rpo)
            .replace("%d", credentials.to_str().unwrap())
    };
    line.split_whitespace().map(filled).collect()
}

#[test]
fn a_publisher_watches_without_any_key() {
    let setup = Setup::new(200, 100);
    setup.configure_directories("");
    setup.snapshot().success();
    let credentials = tempfile::tempdir().unwrap();
    fs::copy(setup.path("publisher/allowed_signers"), credentials.path().join("allowed_signers")).unwrap();
    let look = |target: &str, database: &str, rpo: &str| {
        marbre(watch(&setup.path(target), database, rpo, credentials.path()))
    };
    let fresh = look("a", "gazette/abonnes", "26h").success();
    assert!(fresh.stdout.starts_with("gazette/abonnes: "), "{fresh}");

    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let late = look("a", "gazette/abonnes", "1s").fails_with(9);
    assert!(late.stderr.contains("the newest snapshot of gazette/abonnes is too old"), "{late}");
    assert!(late.stdout.contains("LATE"), "{late}");

    let none = look("a", "gazette/nothing", "26h").fails_with(9);
    assert!(none.stderr.contains("There is no snapshot yet."), "{none}");
    look("a", "gazette/abonnes", "0h").fails_with(2);

    // Signed by somebody else.
    fs::write(credentials.path().join("allowed_signers"), other_signer(&setup)).unwrap();
    let untrusted = look("a", "gazette/abonnes", "26h").fails_with(9);
    assert!(untrusted.stderr.contains("cannot be trusted"), "{untrusted}");
}

#[test]
fn what_is_wrong_decides_the_exit_code_only_where_it_is_asked_for() {
    let setup = Setup::new(200, 100);
    setup.configure_directories("");
    setup.snapshot().success();
    setup.provider(&["status", "--rpo", "26h"]).success();
    // A snapshot that one target lacks.
    let away = setup.path("away");
    fs::rename(setup.path("b"), &away).unwrap();
    setup.change(5);
    setup.snapshot().fails_with(10);
    setup.provider(&["status", "abonnes"]).success();
    setup.provider(&["status", "--rpo", "26h"]).fails_with(8);
    fs::rename(&away, setup.path("b")).unwrap();
    let lacking = setup.provider(&["status", "--rpo", "26h"]).fails_with(10);
    let figures = &lacking.json()["databases"][0]["figures"];
    assert!(
        figures["rows"].is_u64() && figures["seconds"].is_number() && figures["new_bytes"].is_u64(),
        "{lacking}"
    );
    setup.provider(&["sync", "abonnes"]).success();
    setup.provider(&["status", "--rpo", "26h"]).success();
}

fn other_signer(setup: &Setup) -> String {
    marbre(["keygen", "--agent"]).arg(setup.path("other")).success();
    let key = fs::read_to_string(setup.path("other.pub")).unwrap();
    let ours = fs::read_to_string(setup.path("publisher/allowed_signers")).unwrap();
    let line = ours.lines().find(|line| line.starts_with("agent")).unwrap();
    let (head, _) = line.split_once("ssh-ed25519").unwrap();
    format!("{head}{}", key.trim())
}
