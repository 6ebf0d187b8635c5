//! One agent after another: after a fire, by rotation, and from a standby.

use std::fs;
use std::process::Command;

use super::{Host, all_is_well, both, copy, fingerprint, numbers, trust, trust_only, trusted};
use crate::support::marbre::marbre;
use crate::support::postgres::output_with_input;
use crate::support::sqlite_setup::{Setup, objects, one_chain, rows, sound_receipts};

/// Three nights at two targets.
fn three_nights() -> Setup {
    let setup = Setup::new(200, 200);
    setup.configure_directories("");
    for _ in 0..3 {
        setup.change(7);
        setup.snapshot().success();
    }
    setup
}

#[test]
fn the_server_burns() {
    let setup = three_nights();
    let host = Host::first(&setup);
    let (old, before) = (host.fingerprint(), rows(&setup.database()));
    host.lose_state();
    let line = host.new_key();
    trust(&setup, &line);
    setup.change(5);

    // It does not begin another chain, and says which of three things is meant.
    let content = objects(&setup.path("a"));
    let refused = host.snapshot().fails_with(11).json();
    assert!(refused["error"].as_str().unwrap().contains(&old), "{refused}");
    for way in ["marbre adopt abonnes", "marbre rotate abonnes --old-key FILE", "another prefix"] {
        assert!(refused["remedy"].as_str().unwrap().contains(way), "{refused}");
    }
    host.run(&["prune", "abonnes"]).run();
    // The publisher still gets the newest state of the chain that is there.
    let restored = setup.path("restored.db");
    setup.restore("latest", &[&setup.target("a")], restored.to_str().unwrap()).success();
    assert_eq!(rows(&restored), before);

    // Nobody confirms, or somebody confirms another key: nothing changes.
    let asked = host.run(&["adopt", "abonnes"]).fails_with(11).json();
    assert!(asked["remedy"].as_str().unwrap().contains(&format!("--accept-signer {old}")), "{asked}");
    assert!(asked["cause"].as_str().unwrap().contains("(number 3)"), "{asked}");
    host.adopt(&host.fingerprint(), &[]).fails_with(11);
    assert_eq!(objects(&setup.path("a")), content);

    let adopted = host.adopt(&old, &["--reason", "the old server burned"]).success().json();
    assert_eq!((&adopted["number"], &adopted["action"]), (&1.into(), &"adopt".into()), "{adopted:#}");
    assert_eq!(adopted["after"]["sequence"], 3, "{adopted:#}");
    assert_eq!(adopted["set_aside"], serde_json::json!([]), "{adopted:#}");
    host.run(&["verify", "abonnes"]).success();
    let report = host.snapshot().success().json();
    assert_eq!(report["verdict"], "complete");
    assert_eq!(numbers(&setup.path("a")).last().unwrap().0, 4);
    assert_eq!(numbers(&setup.path("a")).last().unwrap().1, 1);
    all_is_well(&host);
    assert_eq!(one_chain(sound_receipts(&setup, &setup.path("b"))), 4);

    // The lines that it printed tell the same story to OpenSSH.
    let lines: Vec<&str> =
        adopted["allowed_signers"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    assert!(lines[0].contains("valid-before="), "{lines:?}");
    trust_only(&setup, &lines);
    all_is_well(&host);
    assert!(stock_tools_verify(&setup, "a"));
    // Who trusts only the new agent trusts what it goes on after.
    trust_only(&setup, &lines[1..]);
    all_is_well(&host);
    let accepted = ["--accept-signer", &host.fingerprint()];
    let list = marbre(["--json", "list", "--from", &setup.target("a")]).args(accepted).success().json();
    assert_eq!((list["snapshots"].as_array().unwrap().len(), &list["problems"]), (4, &serde_json::json!([])));
    // Who trusts only the old one is told, and gets nothing silently.
    trust_only(&setup, &lines[..1]);
    let refused = setup.restore("latest", &[&setup.target("a")], "/nonexistent/x").fails_with(11).json();
    let remedy = refused["remedy"].as_str().unwrap();
    assert!(remedy.contains(&format!("--accept-signer {}", host.fingerprint())), "{refused}");
    // The state is lost once more: everything that matters is at the targets.
    trust_only(&setup, &lines);
    host.lose_state();
    setup.change(3);
    host.snapshot().success();
    assert_eq!(numbers(&setup.path("a")).len(), 5);
    all_is_well(&host);
}

/// `ssh-keygen -Y verify` of the first succession at a target.
fn stock_tools_verify(setup: &Setup, target: &str) -> bool {
    let mut records = objects(&setup.path(target)).into_iter();
    let (_, record) =
        records.find(|(key, _)| key.starts_with("agents/1-") && key.ends_with(".json")).unwrap();
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "verify", "-I", "agent", "-n", "succession@marbre", "-f"]);
    command.arg(setup.path("publisher/allowed_signers")).arg("-s").arg(format!("{}.sig", record.display()));
    output_with_input(&mut command, &fs::read(record).unwrap()).status.success()
}

#[test]
fn the_key_is_rotated() {
    let setup = three_nights();
    let host = Host::first(&setup);
    let (old_key, old) = (setup.path("old_key"), host.fingerprint());
    let old_host = Host::clone_of(&setup, "old-host");
    copy(&host.key(), &old_key);
    let old_lines = trusted(&setup);
    let line = host.new_key();
    setup.change(5);
    host.snapshot().fails_with(11);
    // A stranger's key hands nothing over.
    let other = setup.path("other_key");
    marbre(["keygen", "--agent"]).arg(&other).success();
    host.run(&["rotate", "abonnes", "--old-key"]).arg(&other).fails_with(11);
    assert!(!objects(&setup.path("a")).keys().any(|key| key.starts_with("agents/")));

    let rotated = host.run(&["rotate", "--all", "--old-key"]).arg(&old_key).success().json();
    let rotated = &rotated["databases"][0];
    assert_eq!((&rotated["from"], &rotated["to"]), (&old.into(), &host.fingerprint().into()), "{rotated:#}");
    host.snapshot().success();
    // The old key vouches for the new one: who trusts the old one needs no other word.
    assert!(stock_tools_verify(&setup, "a"));
    let look = |lines: &[&str]| {
        trust_only(&setup, lines);
        all_is_well(&host);
    };
    look(&[&old_lines[0]]);
    look(&[&line]);
    look(&[&old_lines[0], &line]);
    // Whoever still has the old key and this state writes no more.
    let refused = old_host.snapshot().fails_with(11).json();
    assert!(refused["error"].as_str().unwrap().contains(&host.fingerprint()), "{refused}");
    old_host.run(&["drill", "abonnes"]).fails_with(11);
    old_host.run(&["prune", "abonnes"]).run();
    all_is_well(&host);
}

#[test]
fn what_a_superseded_agent_writes_does_not_count() {
    let setup = three_nights();
    let host = Host::first(&setup);
    let old = host.fingerprint();
    let old_host = Host::clone_of(&setup, "old-host");
    // The old host writes to copies of the targets: it cannot see what happens to the real ones.
    for target in ["a", "b"] {
        copy(&setup.path(target), &setup.path(&format!("copy-{target}")));
    }
    let text = fs::read_to_string(old_host.folder.join("marbre.toml")).unwrap();
    let text = text.replace(&setup.target("a"), &setup.target("copy-a"));
    let text = text.replace(&setup.target("b"), &setup.target("copy-b"));
    fs::write(old_host.folder.join("marbre.toml"), text).unwrap();

    host.lose_state();
    trust(&setup, &host.new_key());
    host.adopt(&old, &[]).success();
    setup.change(5);
    host.snapshot().success();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let database = setup.path("kept.db");
    fs::copy(setup.database(), &database).unwrap();
    setup.change(2);
    old_host.snapshot().success();
    fs::copy(&database, setup.database()).unwrap();
    for (key, path) in objects(&setup.path("copy-a")) {
        let to = setup.path("a").join("gazette/abonnes").join(key);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        if !to.exists() {
            fs::copy(path, to).unwrap();
        }
    }
    // `latest` is that of the accepted history, although the other is newer and its signature is good.
    setup.restores_equal(&[&setup.target("a")]);
    let verify = host.run(&["verify", "abonnes"]).fails_with(9);
    assert!(verify.stdout.contains("was succeeded by"), "{verify}");
    let status = host.run(&["status"]).success().json();
    assert!(status["databases"][0]["incidents"].to_string().contains("was succeeded by"), "{status:#}");
    // A person looks at it, and says that it does not count.
    let again = host.adopt(&host.fingerprint(), &["--reason", "the old host had run on"]).success().json();
    assert_eq!(again["set_aside"].as_array().unwrap().len(), 1, "{again:#}");
    setup.change(4);
    host.snapshot().success();
    assert_eq!(numbers(&setup.path("b")).last().map(|(sequence, ..)| *sequence), Some(5));
    all_is_well(&host);
}

#[test]
fn a_standby_takes_over_while_the_agent_writes() {
    let setup = three_nights();
    let host = Host::first(&setup);
    let standby = Host::clone_of(&setup, "standby");
    standby.lose_state();
    trust(&setup, &standby.new_key());
    let second = Host::clone_of(&setup, "second-standby");
    second.lose_state();
    trust(&setup, &second.new_key());
    setup.change(5);
    // The agent writes, and two standbys want its place, all at once.
    let old = host.fingerprint();
    let runs = [host.snapshot().start(), standby.adopt(&old, &[]).start(), second.adopt(&old, &[]).start()];
    let [agent, one, two] = runs.map(|run| run.wait());
    assert!([Some(0), Some(11)].contains(&agent.code()), "{agent}");
    let runs = [(&one, &standby), (&two, &second)];
    let done: Vec<&Host<'_>> =
        runs.iter().filter(|(run, _)| run.code() == Some(0)).map(|(_, host)| *host).collect();
    let winner = *done.first().unwrap_or_else(|| panic!("{one}\n{two}"));
    let loser = if std::ptr::eq(winner, &standby) { &second } else { &standby };
    if done.len() == 2 && winner.snapshot().run().code() != Some(0) {
        // Neither has seen the other: a person decides.
        let of_agent = |(_, succession, _): &(u64, u64, String)| *succession == 0;
        let newest = numbers(&setup.path("a")).into_iter().rfind(of_agent).unwrap().2;
        winner.adopt(&winner.fingerprint(), &["--after", &newest]).success();
    }
    // The others see it, and write no more.
    for other in [&host, loser] {
        setup.change(3);
        let refused = other.snapshot().fails_with(11);
        assert!(refused.stdout.contains(&winner.fingerprint()), "{refused}");
    }
    setup.change(3);
    winner.snapshot().success();
    setup.restores_equal(&[&setup.target("a"), &setup.target("b")]);
    for target in both(&setup) {
        setup.restores_equal(&[&target]);
    }
    // What the agent may have finished just too late is set aside by a person.
    if winner.run(&["verify", "abonnes"]).run().code() != Some(0) {
        winner.adopt(&winner.fingerprint(), &[]).success();
        winner.snapshot().success();
    }
    all_is_well(winner);
}

#[test]
fn a_new_key_is_told_what_to_do_next() {
    let setup = three_nights();
    let host = Host::first(&setup);
    fs::remove_file(host.key()).unwrap();
    fs::remove_file(host.key().with_extension("pub")).unwrap();
    let keygen = |config: bool| {
        let _ = fs::remove_file(host.key());
        let _ = fs::remove_file(host.key().with_extension("pub"));
        let run = marbre(["keygen", "--agent"]).arg(host.key());
        match config {
            true => run.arg("--config").arg(setup.path("provider/marbre.toml")).success(),
            false => run.env("MARBRE_CONFIG", "/nonexistent").success(),
        }
    };
    let seen = keygen(true).stdout;
    assert!(seen.contains("The targets hold snapshots of abonnes already"), "{seen}");
    assert!(seen.contains("marbre rotate --all --old-key FILE"), "{seen}");
    assert!(keygen(false).stdout.contains("If the targets hold snapshots"));
    assert_ne!(fingerprint(&host.key()), "");
}

#[test]
fn a_key_in_the_state_folder_is_pointed_out() {
    let setup = three_nights();
    let host = Host::first(&setup);
    let found = |host: &Host<'_>| {
        let report = host.run(&["doctor"]).run().json();
        let mut checks = report["checks"].as_array().unwrap().iter();
        checks.find(|check| check["name"] == "signing key").unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(found(&host), "ok");
    copy(&host.key(), &host.folder.join("state/agent_ed25519"));
    let config = host.folder.join("marbre.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(config, text.replace("\"agent_ed25519\"", "\"state/agent_ed25519\"")).unwrap();
    assert_eq!(found(&host), "warn");
}
