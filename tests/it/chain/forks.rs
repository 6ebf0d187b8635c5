//! A state that is old or lost while the target with the newest snapshot is away.

use std::fs;

use super::{Host, all_is_well, copy, numbers};
use crate::support::marbre::marbre;
use crate::support::sqlite_setup::{Setup, rows};

/// The target is away while this happens.
fn without(setup: &Setup, target: &str, act: impl FnOnce()) {
    let (here, away) = (setup.path(target), setup.path("away"));
    fs::rename(&here, &away).unwrap();
    act();
    fs::rename(&away, &here).unwrap();
}

#[test]
fn the_state_is_rolled_back_while_the_freshest_target_is_down() {
    let setup = Setup::new(200, 200);
    setup.configure_directories("copies = 1");
    setup.snapshot().success();
    let host = Host::first(&setup);
    let old_state = setup.path("old-state");
    copy(&setup.path("provider/state"), &old_state);
    setup.change(5);
    without(&setup, "b", || drop(host.snapshot().fails_with(10)));
    let first = rows(&setup.database());
    // The machine is set back to yesterday, and the target that knows better is away: nobody can notice.
    host.lose_state();
    copy(&old_state, &setup.path("provider/state"));
    setup.change(3);
    without(&setup, "a", || drop(host.snapshot().fails_with(10)));
    let (a, b) = (numbers(&setup.path("a")).pop().unwrap().2, numbers(&setup.path("b")).pop().unwrap().2);
    assert_ne!(a, b);

    // Whoever sees both chooses nothing, and names both.
    setup.change(2);
    let both = [setup.target("a"), setup.target("b")];
    let from = [both[0].as_str(), both[1].as_str()];
    for refused in [
        host.snapshot().fails_with(11),
        host.run(&["prune", "abonnes"]).run(),
        setup.restore("latest", &from, "/nonexistent/x").fails_with(11),
        host.run(&["adopt", "abonnes"]).fails_with(11),
    ]
    .iter()
    .filter(|run| run.code() == Some(11))
    {
        assert!(refused.stdout.contains(&a) && refused.stdout.contains(&b), "{refused}");
        assert!(refused.stdout.contains("marbre adopt abonnes --after SNAPSHOT"), "{refused}");
    }
    assert_ne!(host.run(&["drill", "abonnes"]).run().code(), Some(0));
    // Both are by one agent, so its name chooses none.
    let of_agent = setup.restore("latest", &from, "/nonexistent/x").args(["--of-agent", &host.fingerprint()]);
    of_agent.fails_with(11);
    for verb in ["list", "status"] {
        let seen = host.run(&[verb]).success().stdout;
        assert!(seen.contains("claim to be the newest") && seen.contains(&a) && seen.contains(&b), "{seen}");
    }
    // Each can be had by its name.
    let restored = setup.path("restored.db");
    setup.restore(&a, &from, restored.to_str().unwrap()).success();
    assert_eq!(rows(&restored), first);

    // A person decides; nothing is deleted.
    let adopted = host.adopt(&host.fingerprint(), &["--after", &b]).success().json();
    assert_eq!(adopted["set_aside"][0]["snapshot"], a.as_str(), "{adopted:#}");
    assert_eq!(adopted["allowed_signers"], serde_json::json!([]), "{adopted:#}");
    host.snapshot().success();
    host.run(&["sync", "abonnes"]).success();
    assert_eq!(numbers(&setup.path("b")).iter().map(|(n, ..)| *n).collect::<Vec<_>>(), [1, 2, 3]);
    all_is_well(&host);
    let list = host.run(&["list", "abonnes"]).success().json();
    assert_eq!(list["set_aside"][0]["snapshot"], a.as_str(), "{list:#}");
    fs::remove_file(&restored).unwrap();
    setup.restore(&a, &[&both[0]], restored.to_str().unwrap()).success();
    assert_eq!(rows(&restored), first);
}

#[test]
fn a_state_that_knows_less_than_a_target_goes_on_from_the_newest() {
    let setup = Setup::new(200, 200);
    setup.configure_directories("");
    setup.snapshot().success();
    let host = Host::first(&setup);
    let old_state = setup.path("old-state");
    copy(&setup.path("provider/state"), &old_state);
    for _ in 0..2 {
        setup.change(5);
        host.snapshot().success();
    }
    host.lose_state();
    copy(&old_state, &setup.path("provider/state"));
    setup.change(3);
    host.snapshot().success();
    assert_eq!(numbers(&setup.path("a")).len(), 4);
    all_is_well(&host);
}

#[test]
fn a_lost_state_does_not_go_on_while_a_target_is_away() {
    let setup = Setup::new(200, 200);
    setup.configure_directories("copies = 1");
    setup.snapshot().success();
    let host = Host::first(&setup);
    setup.change(5);
    without(&setup, "b", || drop(host.snapshot().fails_with(10)));
    host.lose_state();
    setup.change(3);
    // What it sees at the other target may not be the newest. That it has seen it once changes nothing.
    without(&setup, "a", || {
        for _ in 0..2 {
            let refused = host.snapshot().fails_with(8).json();
            assert!(refused["error"].as_str().unwrap().contains("target a cannot be read"), "{refused}");
            assert!(refused["remedy"].as_str().unwrap().contains("--after SNAPSHOT"), "{refused}");
        }
        host.adopt(&host.fingerprint(), &[]).fails_with(8);
    });
    host.snapshot().success();
    assert_eq!(numbers(&setup.path("a")).len(), 3);
    host.run(&["sync", "abonnes"]).success();
    all_is_well(&host);
    // Where the target is lost for good, a person says after which snapshot the chain goes on.
    host.lose_state();
    fs::rename(setup.path("a"), setup.path("lost")).unwrap();
    let newest = numbers(&setup.path("b")).pop().unwrap().2;
    host.adopt(&host.fingerprint(), &["--after", &newest]).fails_with(10);
    setup.change(3);
    host.snapshot().fails_with(10);
    setup.restores_equal(&[&setup.target("b")]);
    fs::rename(setup.path("lost"), setup.path("a")).unwrap();
    host.run(&["sync", "abonnes"]).success();
    all_is_well(&host);
}

#[test]
fn two_agents_that_both_claim_the_chain_are_told_apart_by_name() {
    let setup = Setup::new(200, 200);
    setup.configure_directories("copies = 1");
    setup.snapshot().success();
    let host = Host::first(&setup);
    let old = host.fingerprint();
    let other = Host::clone_of(&setup, "other");
    for host in [&host, &other] {
        host.lose_state();
        super::trust(&setup, &host.new_key());
    }
    // Each adopts the chain where it cannot see the other.
    let newest = numbers(&setup.path("a")).pop().unwrap().2;
    let mut states = Vec::new();
    for (host, hidden) in [(&host, "b"), (&other, "a")] {
        without(&setup, hidden, || {
            host.adopt(&old, &["--after", &newest]).fails_with(10);
            setup.change(4);
            host.snapshot().fails_with(10);
        });
        states.push(rows(&setup.database()));
    }
    let both = [setup.target("a"), setup.target("b")];
    let from = [both[0].as_str(), both[1].as_str()];
    let refused = setup.restore("latest", &from, "/nonexistent/x").fails_with(11);
    for host in [&host, &other] {
        assert!(refused.stdout.contains(&host.fingerprint()), "{refused}");
    }
    for (host, state) in [&host, &other].into_iter().zip(&states) {
        let to = setup.path("restored.db");
        let run =
            setup.restore("latest", &from, to.to_str().unwrap()).args(["--of-agent", &host.fingerprint()]);
        run.success();
        assert_eq!(rows(&to), *state);
        fs::remove_file(to).unwrap();
        host.snapshot().fails_with(11);
    }
    // A drill of the owner chooses in the same way.
    let drill = |more: &[&str]| {
        marbre(["--json", "drill", "--as-owner", "--key"])
            .arg(setup.key())
            .args(more)
            .args(["--from", from[0], "--from", from[1], "--database", "gazette/abonnes", "--scratch-dir"])
            .arg(setup.path("scratch"))
            .arg("--report")
            .arg(setup.path("reports"))
    };
    drill(&["--of-agent", &other.fingerprint(), "--target", "from-2"]).run();
    // A person decides for the second.
    let theirs = numbers(&setup.path("b")).pop().unwrap().2;
    other.adopt(&other.fingerprint(), &["--after", &theirs]).success();
    setup.change(4);
    other.snapshot().success();
    other.run(&["sync", "abonnes"]).success();
    all_is_well(&other);
    host.snapshot().fails_with(11);
}
