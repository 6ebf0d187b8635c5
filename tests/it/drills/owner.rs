//! The owner's own drill: on a machine of theirs, from `epoch.age` and their key, signed by them.

use std::fs;

use serde_json::Value;

use rustix::process::Signal;

use super::agent::verified;
use super::failed_at;
use super::leftovers::reaches;
use crate::support::marbre::{Marbre, marbre};
use crate::support::postgres::{Cluster, Version};
use crate::support::setup::Provider;
use crate::support::sqlite_setup::{Setup, files, objects};

fn owner(setup: &Setup, from: &str) -> Marbre {
    marbre(["--json", "drill", "--as-owner", "--from", from, "--database", "gazette/abonnes", "-i"])
        .arg(setup.key())
        .arg("--scratch-dir")
        .arg(setup.path("tmp/scratch"))
        .arg("--report")
        .arg(setup.path("tmp/reports"))
        .env("TMPDIR", setup.path("tmp"))
}

fn with_signers(setup: &Setup) {
    let line = fs::read_to_string(setup.path("publisher/publisher_ed25519.pub")).unwrap();
    let config = setup.path("provider/marbre.toml");
    let text = fs::read_to_string(&config).unwrap();
    let signers = format!("signers = [\"{}\"]\nrecipients = [", line.trim());
    fs::write(&config, text.replacen("recipients = [", &signers, 1)).unwrap();
}

#[test]
fn the_owner_proves_it_without_the_provider() {
    let setup = Setup::new(200, 200);
    // Not even a key of the current epoch is at the provider.
    setup.configure_directories("[database.abonnes.drills]\nkey = \"none\"");
    with_signers(&setup);
    let snapshot = setup.snapshot().success().json();
    let report = owner(&setup, &setup.target("a")).success().json();
    assert_eq!((&report["by"], &report["level"]), (&"owner".into(), &"owner-restored".into()));
    assert_eq!(report["snapshot"], snapshot["snapshot"]);
    assert_eq!(crate::support::sqlite_setup::files(&setup.path("tmp/scratch")).len(), 0, "nothing is left");

    // Signed by the owner, and not by the agent, as ssh-keygen says.
    let drill = report["drill"].as_str().unwrap();
    let receipt = objects(&setup.path("a"))[&format!("drills/{drill}.json")].clone();
    verified(&setup.path("publisher/allowed_signers"), "owner", &receipt);
    let pages: Vec<String> = crate::support::sqlite_setup::files(&setup.path("tmp/reports"))
        .iter()
        .map(|p| p.extension().unwrap().to_str().unwrap().to_owned())
        .collect();
    for kind in ["html", "md", "json", "sig"] {
        assert!(pages.iter().any(|p| p == kind), "no {kind} in {pages:?}");
    }

    // The provider sees it, because it knows the owner's key.
    let targets = setup.provider(&["status"]).success().json()["databases"][0]["targets"].clone();
    // It is known by its place, whatever the owner calls it.
    assert_eq!(targets[0]["owner_restored"]["drill"], report["drill"], "{targets:#}");
    assert!(targets[0]["levels"]["owner_restored"].is_string() && targets[1]["owner_restored"].is_null());
    let named = owner(&setup, &format!("a={}", setup.target("a"))).success().json();
    assert_eq!(named["target"], "a");
    let targets = setup.provider(&["status"]).success().json()["databases"][0]["targets"].clone();
    assert!(targets[0]["levels"]["owner_restored"].is_string(), "{targets:#}");
    assert!(targets[1]["levels"]["owner_restored"].is_null() && targets[0]["levels"]["restored"].is_null());
    setup.provider(&["verify", "abonnes"]).success();
    let shown = setup.provider(&["show", "latest"]).success().json();
    assert_eq!(shown["drills"].as_array().unwrap().len(), 2);
    assert!(shown["drills"].as_array().unwrap().iter().all(|d| d["by"] == "owner" && d["passed"] == true));
}

#[test]
fn a_drill_that_claims_to_be_the_owners_and_is_not_signed_by_them_is_refused() {
    let setup = Setup::new(20, 20);
    setup.configure_directories("");
    with_signers(&setup);
    setup.snapshot().success();
    // Somebody else's signing key.
    marbre(["keygen"]).arg(setup.path("other")).success();
    owner(&setup, &setup.target("a")).arg("--sign").arg(setup.path("other/publisher_ed25519")).success();
    let status = setup.provider(&["status"]).success().json();
    let incidents = status["databases"][0]["incidents"].to_string();
    assert!(incidents.contains("cannot be trusted"), "{incidents}");
    let shown = setup.provider(&["show", "latest"]).success().json();
    assert_eq!(shown["drills"], Value::Array(Vec::new()));
}

#[test]
fn the_owners_drill_fails_loudly_too() {
    let setup = Setup::new(100, 100);
    setup.configure_directories("");
    setup.snapshot().success();
    let outcome = owner(&setup, &setup.target("a")).args(["--sabotage", "row"]).fails_with(9);
    assert_eq!(outcome.json()["sabotage"]["caught"], true);
    let (_, pack) = objects(&setup.path("a")).into_iter().find(|(key, _)| key.contains("/packs/")).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[100] ^= 4;
    fs::write(&pack, bytes).unwrap();
    failed_at(&owner(&setup, &setup.target("a")).fails_with(9), "fetch", &["/packs/"]);
    // Another publisher's key opens nothing.
    marbre(["keygen"]).arg(setup.path("other")).success();
    let outcome = marbre(["--json", "drill", "--as-owner", "--database", "gazette/abonnes", "--from"])
        .arg(setup.target("b"))
        .arg("-i")
        .arg(setup.path("other/restore.key"))
        .arg("--allowed-signers")
        .arg(setup.path("publisher/allowed_signers"))
        .arg("--scratch-dir")
        .arg(setup.path("tmp/scratch"))
        .arg("--report")
        .arg(setup.path("tmp/reports"))
        .fails_with(11);
    failed_at(&outcome, "open", &[]);
}

#[test]
fn what_a_killed_drill_left_in_the_cache_of_its_owner_goes_with_the_next_one() {
    let setup = Setup::new(3_000, 2_000);
    setup.configure_directories("");
    setup.snapshot().success();
    let cache = setup.path("tmp/cache");
    let drill = |from: &str| {
        marbre(["--json", "drill", "--as-owner", "--database", "gazette/abonnes", "--from", from, "-i"])
            .arg(setup.key())
            .arg("--report")
            .arg(setup.path("tmp/reports"))
            .env("XDG_CACHE_HOME", &cache)
    };
    let mut running = drill(&setup.target("a")).start();
    reaches(&mut running, "compare");
    running.signal(Signal::KILL);
    running.wait();
    assert_ne!(files(&cache), Vec::<std::path::PathBuf>::new(), "it left something");
    // Also where the next one comes to nothing.
    let nowhere = setup.path("nowhere");
    assert_ne!(drill(nowhere.to_str().unwrap()).run().code(), Some(0));
    assert_eq!(files(&cache), Vec::<std::path::PathBuf>::new());
    drill(&setup.target("a")).success();
}

#[test]
fn the_owner_drills_postgres_on_a_fresh_machine() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    database.load_subscriptions(500);
    let provider = Provider::of(&database);
    provider.snapshot().success();
    let report = provider.drill_as_owner("nas").success().json();
    assert_eq!(report["level"], "owner-restored", "{report:#}");
    assert_eq!(provider.traces(), Vec::<String>::new());
    let shown = provider.marbre(&["show", "latest"]).success().json();
    assert_eq!(shown["drills"][0]["by"], "owner");
}

#[test]
fn an_owner_who_may_only_read_keeps_the_chain_at_home() {
    let setup = Setup::new(30, 30);
    setup.configure_directories("");
    with_signers(&setup);
    setup.snapshot().success();
    // A folder that only shows what is there: what is written to it does not arrive.
    let shown = setup.path("shown");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        crate::support::postgres::run(std::process::Command::new("cp").arg("-a").arg(from).arg(to));
    };
    copy(&setup.path("a"), &shown);
    let blocked = shown.join("gazette/abonnes/drills");
    fs::write(&blocked, "not a folder").unwrap();
    let url = format!("a={}", shown.display());
    let first = owner(&setup, &url).fails_with(10).json();
    assert_eq!(first["level"], "owner-restored");
    let second = owner(&setup, &url).fails_with(10).json();
    // Now it may write: everything arrives, as one chain.
    let third = owner(&setup, &format!("a={}", setup.target("a"))).success().json();
    let sequences: Vec<Value> = [&first, &second, &third]
        .iter()
        .map(|drill| {
            let name = format!("drills/{}.json", drill["drill"].as_str().unwrap());
            let bytes = fs::read(&objects(&setup.path("a"))[&name]).unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap()["sequence"].clone()
        })
        .collect();
    assert_eq!(sequences, [1, 2, 3]);
    setup.provider(&["verify", "abonnes"]).success();
}
