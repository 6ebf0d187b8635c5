//! Targets whose objects were changed, cut, swapped, removed or forged.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::chain::fingerprint;
use crate::support::marbre::{Marbre, marbre};
use crate::support::s3::{ADMIN, LIMITED, SeaweedFs};
use crate::support::sqlite_setup::{Setup, objects, rows};

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Flip,
    Truncate,
    Swap,
    Remove,
}

const HARMS: [Harm; 4] = [Harm::Flip, Harm::Truncate, Harm::Swap, Harm::Remove];

impl Harm {
    /// The bytes after it; `None` where nothing is left. `other` is another object.
    fn apply(self, bytes: &[u8], other: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        match self {
            Harm::Flip => bytes[middle] ^= 1,
            Harm::Truncate => bytes.truncate(bytes.len() * 3 / 4),
            Harm::Swap => bytes = other.to_vec(),
            Harm::Remove => return None,
        }
        Some(bytes)
    }
}

/// One object of each kind that the newest snapshot needs, each with another to be swapped with.
fn one_of_each(target: &Path, newest: &str) -> Vec<(String, String)> {
    let files = objects(target);
    let keys: Vec<&String> = files.keys().collect();
    let receipt = fs::read(&files[&format!("receipts/{newest}.json")]).unwrap();
    let receipt = String::from_utf8(receipt).unwrap();
    let of_newest = |key: &&String| key.contains(newest) || receipt.contains(key.as_str());
    ["epoch.age", "/packs/", "/manifests/", ".json", ".json.sig"]
        .into_iter()
        .map(|part| {
            let is_kind = |key: &&String| match part {
                ".json" | ".json.sig" => key.starts_with("receipts/") && key.ends_with(part),
                part => key.contains(part),
            };
            let kind: Vec<&String> = keys.iter().copied().filter(is_kind).collect();
            let object = kind.iter().copied().find(of_newest).unwrap();
            let other = kind.iter().copied().find(|k| *k != object);
            let other = other.or_else(|| keys.iter().copied().find(|k| *k != object)).unwrap();
            (object.clone(), other.clone())
        })
        .collect()
}

/// Two snapshots on the targets that are configured; the name of the newest.
fn two_snapshots(setup: &Setup) -> String {
    setup.snapshot().success();
    setup.change(3);
    let report = setup.snapshot().success().json();
    report["snapshot"].as_str().unwrap().to_owned()
}

/// `verify` as the publisher runs it.
fn publisher_verify(setup: &Setup, from: &str) -> Marbre {
    marbre(["--json", "verify", "--from", from, "--allowed-signers"])
        .arg(setup.path("publisher/allowed_signers"))
}

#[track_caller]
fn names_the_damage(report: &Value, target: &str, key: &str) {
    let damaged = report["damaged"].as_array().unwrap();
    // A damaged signature is damage of its receipt.
    let receipt = key.trim_end_matches(".sig");
    let hit = |d: &Value| d["target"] == target && d["object"].as_str().unwrap().contains(receipt);
    assert!(damaged.iter().any(hit), "{key} at {target}: {report:#}");
}

/// Exit codes with which a restore from this target alone refuses.
fn refusals(key: &str, harm: Harm) -> &'static [i32] {
    match (key.ends_with(".json"), key.ends_with(".sig"), harm) {
        // Without its receipt a snapshot does not exist.
        (true, _, Harm::Remove) => &[5],
        // Without its signature it proves nothing.
        (_, true, Harm::Remove) => &[11],
        _ => &[9],
    }
}

#[test]
fn every_harm_to_every_kind_of_object_is_found_refused_and_survived() {
    let setup = Setup::new(300, 600);
    setup.configure_directories("");
    let newest = two_snapshots(&setup);
    let (a, b) = (setup.target("a"), setup.target("b"));
    let files = objects(&setup.path("a"));
    let expected = rows(&setup.database());
    for (key, other) in one_of_each(&setup.path("a"), &newest) {
        let path = &files[&key];
        let good = fs::read(path).unwrap();
        for harm in HARMS {
            match harm.apply(&good, &fs::read(&files[&other]).unwrap()) {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
            println!("{harm:?} {key}");
            let found = setup.provider(&["verify", "abonnes"]).fails_with(9);
            names_the_damage(&found.json(), "a", &key);
            let code = publisher_verify(&setup, &a).run().code();
            // Only the agent remembers that there was a newer receipt.
            assert_eq!(code, Some(if harm == Harm::Remove && key.ends_with(".json") { 0 } else { 9 }));
            let to = setup.path("restored.db");
            let alone = setup.restore(&newest, &[&a], to.to_str().unwrap()).run();
            assert!(refusals(&key, harm).contains(&alone.code().unwrap_or(-1)), "{harm:?} {key}: {alone}");
            assert!(!to.exists(), "{harm:?} {key}");
            let both = setup.restore("latest", &[&a, &b], to.to_str().unwrap()).success();
            assert_eq!(rows(&to), expected, "{harm:?} {key}");
            let warned = both.stderr.contains("\"warning\"") && both.stderr.contains("from-1");
            assert!(warned || refusals(&key, harm) == [5], "{harm:?} {key}: {both}");
            fs::remove_file(to).unwrap();
            fs::write(path, &good).unwrap();
        }
    }
    setup.provider(&["verify", "abonnes"]).success();
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_at_an_s3_target_is_found_refused_and_survived() {
    let server = SeaweedFs::shared().await;
    let bucket = server.bucket(false).await;
    let credentials = server.location(&bucket, "p", ADMIN).credentials_file.unwrap();
    let url = format!(
        "s3://{bucket}/p?endpoint={}&profile={LIMITED}&credentials_file={}",
        server.endpoint(),
        credentials.display()
    );
    let setup = Setup::new(300, 600);
    let a = setup.target("a");
    setup.configure(&[("s3", &url), ("a", &a)], "", "");
    let newest = two_snapshots(&setup);
    let expected = rows(&setup.database());
    let admin = server.admin();
    let full = |key: &str| format!("p/gazette/abonnes/{key}");
    let get = async |key: &str| {
        let got = admin.get_object().bucket(&bucket).key(full(key)).send().await.unwrap();
        got.body.collect().await.unwrap().to_vec()
    };
    let put = async |key: &str, bytes: Vec<u8>| {
        admin.put_object().bucket(&bucket).key(full(key)).body(bytes.into()).send().await.unwrap();
    };
    for (n, (key, other)) in one_of_each(&setup.path("a"), &newest).into_iter().enumerate() {
        let (good, other) = (get(&key).await, get(&other).await);
        // Every harm to packs, and one to each other kind.
        for harm in HARMS.into_iter().enumerate().filter(|(h, _)| n == 1 || n % 4 == *h).map(|(_, harm)| harm)
        {
            match harm.apply(&good, &other) {
                Some(bytes) => put(&key, bytes).await,
                None => {
                    admin.delete_object().bucket(&bucket).key(full(&key)).send().await.unwrap();
                }
            }
            println!("{harm:?} {key}");
            let found = setup.provider(&["verify", "abonnes"]).fails_with(9);
            names_the_damage(&found.json(), "s3", &key);
            let to = setup.path("restored.db");
            let alone = setup.restore(&newest, &[&url], to.to_str().unwrap()).run();
            assert!(refusals(&key, harm).contains(&alone.code().unwrap_or(-1)), "{harm:?} {key}: {alone}");
            setup.restore("latest", &[&url, &a], to.to_str().unwrap()).success();
            assert_eq!(rows(&to), expected, "{harm:?} {key}");
            fs::remove_file(to).unwrap();
            put(&key, good.clone()).await;
        }
    }
    setup.provider(&["verify", "abonnes"]).success();
}

/// The data of a damaged pack, and an epoch whose key is damaged, are replaced by the next snapshot.
#[test]
fn after_verify_has_found_damage_the_next_snapshot_is_whole_again() {
    let setup = Setup::new(300, 600);
    setup.configure_directories("");
    let newest = two_snapshots(&setup);
    let keys: Vec<String> = objects(&setup.path("a")).keys().cloned().collect();
    for part in ["/packs/", "epoch.age"] {
        for target in ["a", "b"] {
            for (key, path) in objects(&setup.path(target)).iter().filter(|(k, _)| k.contains(part)) {
                let harmed = Harm::Flip.apply(&fs::read(path).unwrap(), &[]).unwrap();
                fs::write(path, harmed).unwrap();
                assert!(keys.contains(key) || part == "epoch.age");
            }
        }
        setup.provider(&["verify", "abonnes"]).fails_with(9);
        setup.restore(&newest, &[&setup.target("a")], setup.path("no.db").to_str().unwrap()).fails_with(9);
        setup.change(50);
        let report = setup.snapshot().success().json();
        assert_eq!(report["verdict"], "complete", "{part}");
        setup.restores_equal(&[&setup.target("a")]);
        setup.restores_equal(&[&setup.target("b")]);
        setup.provider(&["verify", "abonnes", "--snapshot", "latest"]).success();
        setup.provider(&["verify", "abonnes"]).fails_with(9);
    }
}

/// A snapshot of somebody who has the publisher's recipient and may write to the target, but lacks the
/// agent's key.
fn forge(setup: &Setup) -> String {
    let evil = Setup::new(50, 100);
    let recipient = fs::read_to_string(setup.path("publisher/restore.pub")).unwrap();
    let recipient = recipient.lines().find(|l| l.starts_with("age1")).unwrap();
    evil.configure_directories("");
    let config = evil.path("provider/marbre.toml");
    let text = fs::read_to_string(&config).unwrap();
    let own = text.lines().find(|l| l.starts_with("recipients")).unwrap();
    fs::write(&config, text.replace(own, &format!("recipients = [\"{recipient}\"]"))).unwrap();
    let report = evil.snapshot().success().json();
    let copied =
        Command::new("cp").arg("-a").arg(evil.path("a/gazette")).arg(setup.path("a")).status().unwrap();
    assert!(copied.success());
    report["snapshot"].as_str().unwrap().to_owned()
}

#[test]
fn a_forged_snapshot_is_refused_before_anything_of_it_is_opened() {
    let setup = Setup::new(300, 600);
    setup.configure_directories("");
    let newest = two_snapshots(&setup);
    let forged = forge(&setup);
    let a = setup.target("a");
    let to = setup.path("restored.db");
    for wanted in ["latest", &forged] {
        let trace = setup.path("trace");
        let output = Command::new("strace")
            .args(["-f", "-qq", "-s", "200", "-e", "trace=open,openat,openat2", "-o"])
            .arg(&trace)
            .arg(env!("CARGO_BIN_EXE_marbre"))
            .args(["--json", "restore", wanted, "--from", &a, "--key"])
            .arg(setup.key())
            .arg("--to")
            .arg(&to)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(11), "{}", String::from_utf8_lossy(&output.stderr));
        let error: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(error["error"].as_str().unwrap().contains("which is not trusted"), "{error}");
        let opened = fs::read_to_string(&trace).unwrap();
        assert!(opened.contains(&forged), "the trace does not see what marbre opens");
        assert!(!opened.contains(".age\""), "something encrypted was opened");
        assert!(!to.exists());
    }
    let found = setup.provider(&["verify", "abonnes"]).fails_with(9).json();
    names_the_damage(&found, "a", &format!("receipts/{forged}.json"));
    // The good ones are still there for whoever names them.
    setup.restore(&newest, &[&a], to.to_str().unwrap()).success();
    assert_eq!(rows(&to), rows(&setup.database()));
    // The agent does not write beside a chain that it cannot place, until a person has set it aside.
    setup.change(3);
    let refused = setup.snapshot().fails_with(11).json();
    assert!(refused["cause"].as_str().unwrap().contains(&forged), "{refused}");
    let own = fingerprint(&setup.path("provider/agent_ed25519"));
    let adopt = ["adopt", "abonnes", "--after", &newest, "--accept-signer", &own];
    let adopted = setup.provider(&adopt).success().json();
    assert_eq!(adopted["set_aside"][0]["snapshot"], forged.as_str(), "{adopted:#}");
    let report = setup.snapshot().success().json();
    assert_eq!((&report["verdict"], &report["full"]), (&"complete".into(), &false.into()));
}

fn copy_receipt(target: &Path, from: &str, to: &str, with_signature: bool) {
    let folder = target.join("gazette/abonnes/receipts");
    for extension in if with_signature { &["json", "json.sig"][..] } else { &["json"][..] } {
        let (from, to) =
            (folder.join(format!("{from}.{extension}")), folder.join(format!("{to}.{extension}")));
        fs::copy(from, to).unwrap();
    }
}

#[test]
fn a_receipt_in_the_place_of_another_and_one_without_a_signature_are_refused() {
    let setup = Setup::new(100, 100);
    setup.configure_directories("");
    let first = setup.snapshot().success().json();
    let oldest = first["snapshot"].as_str().unwrap();
    let newest = two_snapshots(&setup);
    let (a, to) = (setup.target("a"), setup.path("restored.db"));
    let to = to.to_str().unwrap();
    // An old receipt, with its good signature, shown as the newest one.
    copy_receipt(&setup.path("a"), oldest, &newest, true);
    let error = setup.restore("latest", &[&a], to).fails_with(9).json();
    assert!(error["error"].as_str().unwrap().contains("belongs to another place"), "{error}");
    let found = setup.provider(&["verify", "abonnes"]).fails_with(9).json();
    names_the_damage(&found, "a", &newest);
    // The same under a name that never was.
    let invented = "20991231T235959Z-00000000";
    for with_signature in [true, false] {
        let setup = Setup::new(100, 100);
        setup.configure_directories("");
        let newest = two_snapshots(&setup);
        copy_receipt(&setup.path("a"), &newest, invented, with_signature);
        let code = if with_signature { 9 } else { 11 };
        let error = setup.restore("latest", &[&setup.target("a")], to).fails_with(code).json();
        assert!(error["remedy"].as_str().unwrap().contains(&newest), "{error}");
        let found = setup.provider(&["verify", "abonnes"]).fails_with(9).json();
        names_the_damage(&found, "a", invented);
    }
}

#[test]
fn an_old_state_of_all_targets_is_noticed_by_the_agent() {
    let setup = Setup::new(100, 100);
    setup.configure_directories("");
    let newest = two_snapshots(&setup);
    for target in ["a", "b"] {
        for (key, path) in objects(&setup.path(target)) {
            if key.contains(&newest) {
                fs::remove_file(path).unwrap();
            }
        }
    }
    let found = setup.provider(&["verify", "abonnes"]).fails_with(9).json();
    let chain = found["chain"].to_string();
    assert!(chain.contains("number 2"), "{found:#}");
    // The chain goes on after the receipt that is gone, so that its absence shows for ever.
    setup.change(3);
    setup.snapshot().success();
    assert!(setup.provider(&["verify", "abonnes"]).fails_with(9).json()["chain"].to_string().contains("2"));
    setup.restores_equal(&[&setup.target("a")]);
}
