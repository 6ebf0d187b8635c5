//! `marbre sync --heal`: a copy that has rotted is replaced by a good one, and a signed record says so.

use std::fs;
use std::path::Path;
use std::process::Command;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use serde_json::Value;

use crate::support::postgres::output_with_input;
use crate::support::s3::{LIMITED, SeaweedFs};
use crate::support::sqlite_setup::{Setup, objects, sound};
use crate::sync::{content, of_target};

fn three(targets: impl FnOnce(&Setup)) -> Setup {
    let setup = Setup::new(500, 400);
    targets(&setup);
    for _ in 0..3 {
        setup.change(50);
        setup.snapshot().success();
    }
    setup
}

/// Inverts a bit in the middle of an object at a directory. Its size stays.
fn rot(setup: &Setup, target: &str, part: &str) -> String {
    let (key, path) = objects(&setup.path(target)).into_iter().find(|(key, _)| key.contains(part)).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    key
}

/// The decisions at a directory, each checked with stock tools.
pub fn decisions(setup: &Setup, target: &Path) -> Vec<Value> {
    let found = objects(target).into_iter();
    let records = found.filter(|(key, _)| key.starts_with("decisions/") && key.ends_with(".json"));
    let read = |(_, path): (String, std::path::PathBuf)| {
        let bytes = fs::read(&path).unwrap();
        let mut verify = Command::new("ssh-keygen");
        verify.args(["-Y", "verify", "-I", "agent", "-n", "decision@marbre", "-f"]);
        verify.arg(setup.path("publisher/allowed_signers"));
        verify.arg("-s").arg(format!("{}.sig", path.display()));
        let output = output_with_input(&mut verify, &bytes);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&bytes).unwrap()
    };
    records.map(read).collect()
}

#[test]
fn rotten_copies_are_replaced_from_the_other_target() {
    let setup = three(|setup| setup.configure_directories(""));
    let whole = content(&setup.path("a"));
    let rotten = [
        ("a", rot(&setup, "a", "/packs/")),
        ("a", rot(&setup, "a", "epoch.age")),
        ("b", rot(&setup, "b", "/manifests/")),
        ("b", rot(&setup, "b", "receipts/")),
    ];
    setup.provider(&["verify", "abonnes"]).fails_with(9);
    // Without being asked, nothing is replaced.
    setup.provider(&["sync", "abonnes"]).fails_with(9).expect_stderr("sync --heal");
    let healed = setup.provider(&["sync", "abonnes", "--heal"]).success().json();
    for target in ["a", "b"] {
        assert_eq!(of_target(&healed, target)["replaced"], 2, "{healed:#}");
        let mut now = content(&setup.path(target));
        now.retain(|key, _| !key.starts_with("decisions/"));
        assert!(now == whole, "{target} is as it was written");
        let said = decisions(&setup, &setup.path(target));
        let about: Vec<&Value> = said.iter().flat_map(|d| d["about"].as_array().unwrap()).collect();
        assert_eq!(about.len(), rotten.len(), "{about:?}");
        for (target, key) in &rotten {
            let named = |matter: &&&Value| matter["target"] == *target && matter["object"] == key.as_str();
            let matter = about.iter().find(named).unwrap_or_else(|| panic!("{key}: {about:?}"));
            assert_eq!(matter["matter"], "replaced");
            assert_eq!(matter["size"].as_u64(), Some(whole[key].len() as u64));
        }
    }
    let verified = setup.provider(&["verify", "abonnes"]).success().json();
    for target in verified["targets"].as_array().unwrap() {
        assert_eq!((&target["intact"], &target["snapshots"]), (&3.into(), &3.into()), "{verified:#}");
    }
    assert_eq!(sound(&setup).len(), 3);
    setup.restores_equal(&[&setup.target("a")]);
    setup.restores_equal(&[&setup.target("b")]);
    // The next snapshot goes on, and another run has nothing to do.
    setup.change(50);
    setup.snapshot().success();
    let again = setup.provider(&["sync", "abonnes", "--heal"]).success().json();
    for target in ["a", "b"] {
        assert_eq!(of_target(&again, target)["objects"], 0, "{again:#}");
    }
}

#[test]
fn a_receipt_that_somebody_else_signed_is_evidence_and_stays() {
    let setup = three(|setup| setup.configure_directories(""));
    let name = |target: &str| {
        let mut keys = objects(&setup.path(target)).into_keys();
        keys.rfind(|key| key.starts_with("receipts/") && key.ends_with(".json")).unwrap()
    };
    let (key, other) = (name("b"), name("b").replace(".json", ".json.sig"));
    let place = |key: &str| setup.path("b/gazette/abonnes").join(key);
    // A good signature over other bytes, by the very key.
    let mut receipt: Value = serde_json::from_slice(&fs::read(place(&key)).unwrap()).unwrap();
    receipt["rows"] = 1.into();
    let forged = serde_json::to_vec(&receipt).unwrap();
    fs::write(place(&key), &forged).unwrap();
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-Y", "sign", "-n", "snapshot-receipt@marbre", "-f"])
        .arg(setup.path("provider/agent_ed25519"));
    let signature = output_with_input(&mut sign, &forged);
    assert!(signature.status.success(), "{}", String::from_utf8_lossy(&signature.stderr));
    fs::write(place(&other), &signature.stdout).unwrap();
    let forgery = content(&setup.path("b"));
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    setup.provider(&["sync", "abonnes", "--heal"]).fails_with(9);
    assert!(content(&setup.path("b")) == forgery, "nothing was replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_gets_a_new_version_over_a_locked_one() {
    let server = SeaweedFs::shared().await;
    let bucket = server.locking_bucket().await;
    let s3 = server.url(&bucket, LIMITED);
    let setup = three(|setup| setup.configure(&[("a", &setup.target("a")), ("s3", &s3)], "", ""));
    let admin = server.admin();
    let (key, _) = objects(&setup.path("a")).into_iter().find(|(key, _)| key.contains("/packs/")).unwrap();
    let full = format!("marbre/gazette/abonnes/{key}");
    let rotten = ByteStream::from_static(b"rotten");
    admin.put_object().bucket(&bucket).key(&full).body(rotten).send().await.unwrap();
    let retention = ObjectLockRetention::builder()
        .mode(ObjectLockRetentionMode::Compliance)
        .retain_until_date(DateTime::from_secs(jiff::Timestamp::now().as_second() + 3600))
        .build();
    admin.put_object_retention().bucket(&bucket).key(&full).retention(retention).send().await.unwrap();
    setup.provider(&["verify", "abonnes"]).fails_with(9);
    let healed = setup.provider(&["sync", "abonnes", "--heal"]).success().json();
    assert_eq!(of_target(&healed, "s3")["replaced"], 1, "{healed:#}");
    setup.provider(&["verify", "abonnes"]).success();
    setup.restores_equal(&[&s3]);
}
