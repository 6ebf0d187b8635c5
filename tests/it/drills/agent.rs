//! A drill that passes: what it proves, where it says so, and that anybody can check it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::postgres::{Cluster, Version, output_with_input, run};
use crate::support::s3::SeaweedFs;
use crate::support::schemas;
use crate::support::setup::Provider;
use crate::support::sqlite_setup::{SECRET, Setup, files, objects};

/// The levels of the newest snapshot at a target, as `status` shows them.
fn levels(setup: &Setup, target: &str) -> Value {
    let status = setup.provider(&["status"]).success().json();
    let targets = status["databases"][0]["targets"].as_array().unwrap().clone();
    targets.into_iter().find(|t| t["name"] == target).unwrap()["levels"].clone()
}

#[test]
fn levels_are_proven_target_by_target_and_never_merged() {
    let setup = Setup::new(500, 300);
    setup.configure_directories("");
    let snapshot = setup.snapshot().success().json()["snapshot"].clone();
    assert_eq!(levels(&setup, "a")["restored"], Value::Null);

    let first = setup.provider(&["drill", "abonnes"]).success().json();
    assert_eq!(first["passed"], true);
    assert_eq!(first["level"], "restored");
    assert_eq!(first["snapshot"], snapshot);
    assert_eq!(first["target"], "a", "without any proof, the first");
    let table = first["tables"].as_array().unwrap().iter().find(|t| t["name"] == "subscriber").unwrap();
    assert_eq!((&table["rows"], &table["equal"]), (&500.into(), &true.into()));
    assert!(first["objects"].as_array().unwrap().iter().all(|o| o["expected"] == o["found"]));
    assert!(!first["objects"].as_array().unwrap().is_empty(), "objects that are equal are listed too");
    assert!(levels(&setup, "a")["restored"].is_string());
    assert_eq!(
        levels(&setup, "b")["restored"],
        Value::Null,
        "what is proven at one target says nothing of another"
    );
    assert_eq!(levels(&setup, "a")["intact"], Value::Null, "a drill is no verification of the levels below");

    // The target whose proof is oldest is next, again and again.
    let targets: Vec<Value> =
        (0..3).map(|_| setup.provider(&["drill", "abonnes"]).success().json()["target"].clone()).collect();
    assert_eq!(targets, ["b", "a", "b"]);
    let chosen = setup.provider(&["drill", "abonnes", "--target", "b"]).success().json();
    assert_eq!(chosen["target"], "b");

    let listed = setup.provider(&["list", "abonnes"]).success().json();
    assert!(
        listed["snapshots"][0]["targets"]
            .as_array()
            .unwrap()
            .iter()
            .all(|t| t["levels"]["restored"].is_string())
    );
    let shown = setup.provider(&["show", "latest"]).success().json();
    assert_eq!(shown["drills"].as_array().unwrap().len(), 5);
    assert_eq!(shown["drills"][0]["drill"], first["drill"]);
    let status = setup.provider(&["status"]).success().json();
    assert_eq!(status["databases"][0]["targets"][0]["restored"]["snapshot"], snapshot);
    assert_eq!(status["databases"][0]["last_drill"]["passed"], true);

    // Without the agent's memory, the receipts at the targets say the same.
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    assert!(levels(&setup, "a")["restored"].is_string());
    setup.no_plaintext(&[SECRET]);
}

#[test]
fn receipts_of_drills_are_signed_chained_and_checked_with_stock_tools() {
    let setup = Setup::new(50, 100);
    setup.configure_directories("");
    setup.snapshot().success();
    let drills: Vec<String> = (0..3)
        .map(|_| setup.provider(&["drill", "abonnes"]).success().json()["drill"].as_str().unwrap().to_owned())
        .collect();
    let mut previous = Value::Null;
    for (number, drill) in drills.iter().enumerate() {
        for target in ["a", "b"] {
            let files = objects(&setup.path(target));
            let receipt = &files[&format!("drills/{drill}.json")];
            verified(&setup.path("publisher/allowed_signers"), "agent", receipt);
            assert!(files.contains_key(&format!("drills/{drill}.html.age")), "the page, for the owner alone");
        }
        let receipt = objects(&setup.path("a"))[&format!("drills/{drill}.json")].clone();
        let bytes = fs::read(receipt).unwrap();
        let content: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(content["sequence"], number as u64 + 1);
        assert_eq!(content["previous"], previous);
        assert!(!String::from_utf8_lossy(&bytes).contains("subscriber"), "a receipt names no table");
        previous = sha256(&bytes).into();
    }
    // The owner reads the page with their key and stock tools.
    let sealed = objects(&setup.path("b"))[&format!("drills/{}.html.age", drills[2])].clone();
    let page = run(Command::new("age").arg("-d").arg("-i").arg(setup.key()).arg(sealed));
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("PASSED") && page.contains("subscriber") && page.contains(&drills[2]));
    let folder = setup.path("provider/state/reports/gazette/abonnes");
    assert_eq!(fs::read_to_string(folder.join(format!("{}.html", drills[2]))).unwrap(), page);
    assert!(fs::read_to_string(folder.join(format!("{}.md", drills[2]))).unwrap().contains("PASSED"));
    let json: Value =
        serde_json::from_slice(&fs::read(folder.join(format!("{}.report.json", drills[2]))).unwrap())
            .unwrap();
    schemas::holds(&json, "").unwrap();
    assert_eq!((json["document"].as_str(), json["version"].as_u64()), (Some("drill"), Some(1)));
    assert_eq!(json["drill"].as_str(), Some(drills[2].as_str()));
    assert_eq!(json["trend"].as_array().unwrap().len(), 2, "the drills before this one");
    for file in files(&folder) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_receipt_of_a_drill_that_somebody_edits_or_takes_away_is_noticed() {
    let setup = Setup::new(50, 100);
    setup.configure_directories("");
    setup.snapshot().success();
    let drills: Vec<String> = (0..3)
        .map(|_| setup.provider(&["drill", "abonnes"]).success().json()["drill"].as_str().unwrap().to_owned())
        .collect();
    let incidents = |state: bool| {
        if !state {
            fs::remove_dir_all(setup.path("provider/state")).unwrap();
        }
        setup.provider(&["status"]).success().json()["databases"][0]["incidents"].to_string()
    };
    assert_eq!(incidents(true), "[]");
    setup.provider(&["verify", "abonnes"]).success();
    for target in ["a", "b"] {
        let path = objects(&setup.path(target))[&format!("drills/{}.json", drills[1])].clone();
        let text = fs::read_to_string(&path).unwrap().replace("\"sequence\":2", "\"sequence\":4");
        fs::write(&path, text).unwrap();
    }
    setup.provider(&["verify", "abonnes"]).fails_with(9);
    let said = incidents(false);
    assert!(
        said.contains(&format!("drills/{}.json", drills[1])) && said.contains("cannot be trusted"),
        "{said}"
    );
    assert!(said.contains("receipt number 2 is missing"), "{said}");
}

/// A true put, get and list credential at a real S3 server, and PostgreSQL on both its versions.
#[tokio::test]
async fn drills_of_postgres_through_a_limited_s3_credential() {
    let weed = SeaweedFs::shared().await;
    for version in Version::ALL {
        let cluster = Cluster::start(version);
        let database = cluster.create_db("abonnes");
        database.load_subscriptions(2_000);
        let mut provider = Provider::of(&database).with_s3(&weed).await;
        provider.set_drills("rto = \"1h\"");
        provider.snapshot().success();
        let report = provider.drill().args(["--target", "s3"]).success().json();
        assert_eq!((&report["level"], &report["target"]), (&"restored".into(), &"s3".into()), "{report:#}");
        assert_eq!(report["rto_promised_seconds"], 3600);
        let names: Vec<&str> =
            report["stages"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
        let stages = ["receipts", "fetch", "open", "server", "load", "index", "compare", "checks", "remove"];
        for stage in stages {
            assert!(names.contains(&stage), "no stage {stage} in {names:?}");
        }
        let amcheck = report["checks"].as_array().unwrap().iter().find(|c| c["name"] == "amcheck").unwrap();
        assert_eq!(amcheck["result"], "passed", "{amcheck}");
        assert!(report["rto_seconds"].as_f64().unwrap() < report["seconds"].as_f64().unwrap());
        assert_eq!(report["source_version"], report["scratch_version"]);
        assert_eq!(provider.traces(), Vec::<String>::new());
        let again = provider.drill().success().json();
        assert_eq!(again["target"], "nas");
        let compared = |name: &str| {
            let checks = again["checks"].as_array().unwrap();
            checks.iter().find(|c| c["name"] == name).unwrap()["result"].clone()
        };
        assert_eq!(compared("row-count"), "passed", "there is an earlier drill to compare with");
    }
}

/// Everything that PostgreSQL has comes back as it was defined: nothing is a false alarm.
#[test]
fn the_torture_database_passes_on_every_version() {
    for version in Version::ALL {
        let cluster = Cluster::start(version);
        let database = cluster.create_db("abonnes");
        database.load_torture(version == Version::V18);
        let provider = Provider::of(&database);
        provider.snapshot().success();
        let report = provider.drill().success().json();
        assert_eq!(report["level"], "restored");
        assert_eq!(provider.traces(), Vec::<String>::new());
    }
}

#[track_caller]
pub fn verified(allowed: &Path, principal: &str, receipt: &Path) {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-Y", "verify", "-n", "drill-receipt@marbre", "-I", principal, "-f"])
        .arg(allowed)
        .arg("-s")
        .arg(format!("{}.sig", receipt.display()));
    let output = output_with_input(&mut command, &fs::read(receipt).unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_name_that_is_mistyped_is_no_failed_drill() {
    let setup = Setup::new(20, 20);
    setup.configure_directories("");
    setup.snapshot().success();
    let run = |args: &[&str]| setup.provider(&[&["drill", "abonnes"], args].concat()).fails_with(5);
    assert!(run(&["--target", "ovh"]).stdout.contains("Its targets are: a, b."));
    assert!(run(&["--snapshot", "20200101T000000Z-00000000"]).stdout.contains("there is no snapshot"));
    let status = setup.provider(&["status"]).success().json();
    assert_eq!(status["databases"][0]["last_drill"], Value::Null);
    assert_eq!(status["databases"][0]["incidents"], Value::Array(Vec::new()));
}
