//! The keys of epochs: kept while their drills are due, then gone. A stolen server opens no history.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::failed_at;
use crate::support::sqlite_setup::{Setup, files, objects};

const SHORT: &str = "epoch = \"1s\"";

/// A snapshot that begins a new epoch.
fn next_epoch(setup: &Setup) -> Value {
    std::thread::sleep(Duration::from_millis(1100));
    setup.change(7);
    let report = setup.snapshot().success().json();
    assert_eq!(report["full"], true);
    report
}

fn manifest(setup: &Setup, snapshot: &Value) -> PathBuf {
    let key = format!(
        "epochs/{}/manifests/{}.json.zst.age",
        snapshot["epoch"].as_str().unwrap(),
        snapshot["snapshot"].as_str().unwrap()
    );
    objects(&setup.path("a"))[&key].clone()
}

/// Whether anything in the agent's folders opens this object: every file is tried as a key, and so is
/// everything in it that looks like one.
fn opens(setup: &Setup, object: &Path) -> bool {
    let mut candidates: Vec<PathBuf> = files(&setup.path("provider"));
    let keys = setup.path("tmp/found.keys");
    let mut found = String::new();
    for file in &candidates {
        let bytes = fs::read(file).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for at in text.match_indices("AGE-SECRET-KEY-1").map(|(at, _)| at) {
            let key: String =
                text[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            found += &format!("{key}\n");
        }
    }
    if !found.is_empty() {
        fs::write(&keys, found).unwrap();
        candidates.push(keys.clone());
    }
    let opened = candidates.iter().any(|identity| {
        let mut age = Command::new("age");
        age.arg("-d").arg("-i").arg(identity).arg("-o").arg("/dev/null").arg(object);
        age.output().unwrap().status.success()
    });
    let _ = fs::remove_file(keys);
    opened
}

#[test]
fn a_key_goes_when_its_epoch_is_over_and_its_last_drill_is_done() {
    let setup = Setup::new(100, 100);
    setup.configure_directories(SHORT);
    let old = setup.snapshot().success().json();
    assert!(opens(&setup, &manifest(&setup, &old)), "while drills are due, the agent can open the epoch");
    let new = next_epoch(&setup);
    assert!(opens(&setup, &manifest(&setup, &old)), "its last drill is still due");
    let name = old["snapshot"].as_str().unwrap();
    setup.provider(&["drill", "abonnes", "--snapshot", name]).success();
    assert!(!opens(&setup, &manifest(&setup, &old)), "an old epoch is open to whoever steals this server");
    assert!(opens(&setup, &manifest(&setup, &new)));
    // From then on it is the owner's.
    let outcome = setup.provider(&["drill", "abonnes", "--snapshot", name]).fails_with(11);
    failed_at(&outcome, "receipts", &["does not hold the key of epoch", "--as-owner"]);
    setup.provider(&["drill", "abonnes"]).success();
    setup.restore(name, &[&setup.target("a")], setup.path("old.db").to_str().unwrap()).success();
}

#[test]
fn a_key_does_not_wait_for_ever() {
    let setup = Setup::new(50, 50);
    setup.configure_directories(&format!("{SHORT}\n[database.abonnes.drills]\nkeep_key = \"1s\""));
    let old = setup.snapshot().success().json();
    next_epoch(&setup);
    std::thread::sleep(Duration::from_millis(1100));
    next_epoch(&setup);
    assert!(!opens(&setup, &manifest(&setup, &old)), "never drilled, and too old");
}

#[test]
fn keys_that_nobody_may_keep_are_never_kept() {
    let setup = Setup::new(50, 50);
    setup.configure_directories("[database.abonnes.drills]\nkey = \"none\"");
    let snapshot = setup.snapshot().success().json();
    assert!(!opens(&setup, &manifest(&setup, &snapshot)));
    let outcome = setup.provider(&["drill", "abonnes"]).fails_with(11);
    failed_at(&outcome, "receipts", &["drills.key", "--as-owner"]);
    // Whoever changes their mind gets rid of those that are kept.
    setup.configure_directories(SHORT);
    let kept = next_epoch(&setup);
    assert!(opens(&setup, &manifest(&setup, &kept)));
    setup.configure_directories("[database.abonnes.drills]\nkey = \"none\"");
    setup.snapshot().success();
    assert!(!opens(&setup, &manifest(&setup, &kept)));
}

#[test]
fn other_recipients_and_a_lost_state_begin_another_epoch() {
    let setup = Setup::new(50, 50);
    setup.configure_directories("");
    let first = setup.snapshot().success().json();
    setup.snapshot().success();
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    let second = setup.snapshot().success().json();
    assert_eq!(second["full"], true, "the key is not here any more");
    assert_ne!(first["epoch"], second["epoch"]);
    setup.provider(&["drill", "abonnes"]).success();

    let other = run_age_keygen();
    let config = setup.path("provider/marbre.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("recipients = [", &format!("recipients = [\"{other}\", "))).unwrap();
    let third = setup.snapshot().success().json();
    assert_eq!(third["full"], true);
    assert_ne!(second["epoch"], third["epoch"]);
    setup.provider(&["drill", "abonnes"]).success();
    assert!(!opens(&setup, &manifest(&setup, &second)) || second["epoch"] == third["epoch"]);
}

/// The recipient of a new key.
fn run_age_keygen() -> String {
    let output = Command::new("age-keygen").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("# public key: "));
    line.unwrap().to_owned()
}

#[test]
fn kept_keys_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let setup = Setup::new(10, 10);
    setup.configure_directories("");
    setup.snapshot().success();
    let keys = files(&setup.path("provider/state/epoch-keys"));
    assert_eq!(keys.len(), 1);
    assert_eq!(fs::metadata(&keys[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(setup.path("provider/state")).unwrap().permissions().mode() & 0o777, 0o700);
}
