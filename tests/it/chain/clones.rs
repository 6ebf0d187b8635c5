//! Two hosts with one key, and runs that were cut off between claim and receipt.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Host, all_is_well, numbers};
use crate::support::short_or_long;
use crate::support::sqlite_setup::{Setup, objects, sound};

fn one_night() -> Setup {
    let setup = Setup::new(200, 200);
    setup.configure_directories("");
    setup.snapshot().success();
    setup
}

/// Where a claim lies at a target.
fn claim(setup: &Setup, target: &str, succession: u64, sequence: u64) -> PathBuf {
    setup.path(target).join(format!("gazette/abonnes/claims/{succession}/{sequence}.json"))
}

fn put_claim(setup: &Setup, target: &str, signer: &str) {
    let claim = claim(setup, target, 0, 2);
    let text = json!({
        "format": 1, "kind": "claim", "publisher": "gazette", "database": "abonnes", "succession": 0, "sequence": 2,
        "signer": signer, "snapshot": "20260101T000000Z-0badc0de",
    });
    fs::write(claim, text.to_string()).unwrap();
}

#[test]
fn a_cloned_host_that_writes_at_the_same_time_is_stopped_by_the_store() {
    let setup = one_night();
    let host = Host::first(&setup);
    let clone = Host::clone_of(&setup, "clone");
    let mut lost = 0;
    for _ in 0..short_or_long(4, 20) {
        setup.change(9);
        let runs = [host.snapshot().start(), clone.snapshot().start()].map(|run| run.wait());
        for run in &runs {
            assert!([Some(0), Some(7)].contains(&run.code()), "{run}");
            lost += usize::from(run.code() == Some(7));
        }
        assert!(runs.iter().any(|run| run.code() == Some(0)), "{runs:?}");
        sound(&setup);
    }
    assert!(lost > 0, "the two never met");
    // One after the other, both go on with the one chain that is there.
    for host in [&host, &clone, &host] {
        setup.change(9);
        host.snapshot().success();
        all_is_well(host);
    }
    sound(&setup);
}

#[test]
fn a_claim_of_somebody_else_stops_the_run_and_adopting_goes_on() {
    for own_key in [false, true] {
        let setup = one_night();
        let host = Host::first(&setup);
        let signer = if own_key { host.fingerprint() } else { format!("SHA256:{}", "A".repeat(43)) };
        put_claim(&setup, "b", &signer);
        setup.change(9);
        for _ in 0..2 {
            let error = host.snapshot().fails_with(7).json();
            assert!(error["error"].as_str().unwrap().contains("receipt number 2"), "{error}");
            let cause = error["cause"].as_str().unwrap();
            assert!(cause.contains("20260101T000000Z-0badc0de"), "{error}");
            assert_eq!(cause.contains("own key"), own_key, "{error}");
            assert!(error["remedy"].as_str().unwrap().contains("marbre adopt abonnes"), "{error}");
        }
        assert_eq!(numbers(&setup.path("a")).len(), 1, "the loser has written a receipt");
        host.adopt(&host.fingerprint(), &[]).success();
        host.snapshot().success();
        let newest = numbers(&setup.path("b")).pop().unwrap();
        assert_eq!((newest.0, newest.1), (2, 1));
        all_is_well(&host);
    }
}

#[test]
fn a_run_that_is_killed_between_claim_and_receipt_goes_on() {
    let setup = one_night();
    let host = Host::first(&setup);
    let mut cut = 0;
    for round in 0..short_or_long(12, 60) {
        setup.change(9);
        let known = numbers(&setup.path("b")).len() as u64;
        let watched = claim(&setup, if round % 2 == 0 { "a" } else { "b" }, 0, known + 1);
        let mut run = host.snapshot().start();
        while run.is_running() && !watched.exists() {
            std::thread::yield_now();
        }
        run.signal(Signal::KILL);
        cut += usize::from(run.wait().code().is_none());
        // The next run knows its own claim, and uses that number or goes on after the receipt that did arrive.
        host.snapshot().success();
        sound(&setup);
    }
    assert!(cut > 0, "it was always faster");
    setup.change(9);
    host.snapshot().success();
    host.run(&["sync", "abonnes"]).success();
    all_is_well(&host);
    let claims = objects(&setup.path("a")).into_iter().filter(|(key, _)| key.starts_with("claims/"));
    for (_, path) in claims {
        let claim: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert_eq!(claim["signer"], host.fingerprint());
    }
}
