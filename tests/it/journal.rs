//! What `journalctl` shows of the daemon: each line with its priority, the time of the journal only, and whose database it is.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::sqlite_setup::Setup;

/// Starts the program with a file as the journal.
fn under_a_journal(setup: &Setup, args: &[&str], log: &str) -> Child {
    let file = File::create(setup.path(log)).unwrap();
    let journal = file.metadata().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_marbre"));
    command.arg("--config").arg(setup.path("provider/marbre.toml")).args(args);
    command.env("JOURNAL_STREAM", format!("{}:{}", journal.dev(), journal.ino())).stdout(Stdio::null());
    command.stderr(file).spawn().unwrap()
}

#[test]
fn each_line_has_its_priority_and_no_time() {
    let setup = Setup::new(20, 20);
    let more = "[database.abonnes.schedule]\nsnapshot = \"* * * * * *\"\n[web]\nlisten = \"none\"\n";
    setup.configure(&[("a", &setup.target("a"))], "look_every = \"1s\"\n", more);
    let mut daemon = under_a_journal(&setup, &["daemon"], "log");
    let log = || fs::read_to_string(setup.path("log")).unwrap();
    let until = |text: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !log().lines().any(|line| line.starts_with(text)) {
            assert!(Instant::now() < deadline, "no {text}: {}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    until("<6>snapshot of gazette/abonnes: done: ");
    fs::rename(setup.database(), setup.path("away")).unwrap();
    until("<3>snapshot of gazette/abonnes: failed: ");
    until("<3>incident opened: snapshot-failed gazette/abonnes: ");
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let (log, year) = (log(), jiff::Zoned::now().strftime("%Y-").to_string());
    for line in log.lines() {
        let text = line.strip_prefix('<').and_then(|line| line.split_once('>'));
        let (priority, text) = text.unwrap_or_else(|| panic!("no priority: {line}"));
        assert!(["3", "4", "6"].contains(&priority), "{line}");
        assert!(!text.starts_with(&year), "{line}");
    }

    // Why a command of a unit failed is found by its priority too.
    assert!(!under_a_journal(&setup, &["snapshot", "nobody"], "why").wait().unwrap().success());
    let why = fs::read_to_string(setup.path("why")).unwrap();
    assert!(why.starts_with("<3>marbre: ") && why.contains("\n<3>  remedy: "), "{why}");
}
