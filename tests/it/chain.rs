//! The chain goes on after a disaster: a burned server, a rotated key, a clone, a state that is lost or old, two hosts at once.
//! Each ends in one chain or in a refusal with a way out, and `latest` is right in each.

mod agents;
mod clones;
mod forks;
mod put_only;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::marbre::{Marbre, marbre};
use crate::support::sqlite_setup::{Setup, objects};

/// One host of the provider: its folder has configuration, key and state.
pub struct Host<'a> {
    setup: &'a Setup,
    folder: PathBuf,
}

impl<'a> Host<'a> {
    /// The host that `Setup` made.
    pub fn first(setup: &'a Setup) -> Self {
        Self { setup, folder: setup.path("provider") }
    }

    /// Another host with the same configuration and database, and everything else that the first one has now.
    pub fn clone_of(setup: &'a Setup, name: &str) -> Self {
        let folder = setup.path(name);
        copy(&setup.path("provider"), &folder);
        Self { setup, folder }
    }

    /// marbre on this host.
    pub fn run(&self, args: &[&str]) -> Marbre {
        marbre(["--json", "--config"])
            .arg(self.folder.join("marbre.toml"))
            .args(args)
            .env("TMPDIR", self.setup.path("tmp"))
    }

    /// `snapshot`, not yet run.
    pub fn snapshot(&self) -> Marbre {
        self.run(&["snapshot", "abonnes"])
    }

    /// `adopt` of the chain of this agent, confirmed.
    pub fn adopt(&self, from: &str, more: &[&str]) -> Marbre {
        self.run(&["adopt", "abonnes", "--accept-signer", from]).args(more)
    }

    /// Where its key lies.
    pub fn key(&self) -> PathBuf {
        self.folder.join("agent_ed25519")
    }

    /// The fingerprint of its key, by OpenSSH.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.key())
    }

    /// Loses its state.
    pub fn lose_state(&self) {
        fs::remove_dir_all(self.folder.join("state")).unwrap();
    }

    /// Loses its key, and makes a new one. Returns the line for `allowed_signers`.
    pub fn new_key(&self) -> String {
        fs::remove_file(self.key()).unwrap();
        fs::remove_file(self.key().with_extension("pub")).unwrap();
        let made = marbre(["--json", "keygen", "--agent"]).arg(self.key()).success().json();
        made["allowed_signers"].as_str().unwrap().to_owned()
    }
}

/// The fingerprint of a key, by OpenSSH.
pub fn fingerprint(key: &Path) -> String {
    let output = Command::new("ssh-keygen").arg("-lf").arg(key).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').find(|word| word.starts_with("SHA256:")).unwrap().to_owned()
}

/// Copies a folder, with the modes of its files.
pub fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// The publisher trusts one more agent.
pub fn trust(setup: &Setup, line: &str) {
    let path = setup.path("publisher/allowed_signers");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{text}{line}\n")).unwrap();
}

/// The publisher trusts these agents, and no other.
pub fn trust_only(setup: &Setup, lines: &[&str]) {
    let path = setup.path("publisher/allowed_signers");
    let text = fs::read_to_string(&path).unwrap();
    let others: Vec<&str> = text.lines().filter(|line| !line.starts_with("agent ")).collect();
    fs::write(path, format!("{}\n{}\n", others.join("\n"), lines.join("\n"))).unwrap();
}

/// The lines of the publisher's file for agents.
pub fn trusted(setup: &Setup) -> Vec<String> {
    let text = fs::read_to_string(setup.path("publisher/allowed_signers")).unwrap();
    text.lines().filter(|line| line.starts_with("agent ")).map(str::to_owned).collect()
}

/// Every receipt at a directory target: number, succession, name; in order.
pub fn numbers(target: &Path) -> Vec<(u64, u64, String)> {
    let receipts =
        objects(target).into_iter().filter(|(k, _)| k.starts_with("receipts/") && k.ends_with(".json"));
    let mut found: Vec<(u64, u64, String)> = receipts
        .map(|(_, path)| {
            let receipt: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            let number = |name: &str| receipt[name].as_u64().unwrap();
            (number("sequence"), number("succession"), receipt["snapshot"].as_str().unwrap().to_owned())
        })
        .collect();
    found.sort();
    found
}

/// Both targets, as the publisher names them.
pub fn both(setup: &Setup) -> [String; 2] {
    [setup.target("a"), setup.target("b")]
}

/// Everything is well: status, verify, a prune and a drill of the agent say so, and the publisher's own look does; `latest` is the
/// database as it is.
#[track_caller]
pub fn all_is_well(host: &Host<'_>) {
    let setup = host.setup;
    host.run(&["drill", "abonnes"]).success();
    host.run(&["verify", "abonnes"]).success();
    host.run(&["prune", "abonnes"]).success();
    let status = host.run(&["status"]).success().json();
    assert_eq!(status["databases"][0]["incidents"], serde_json::json!([]), "{status:#}");
    let list = host.run(&["list", "abonnes"]).success().json();
    assert_eq!(list["problems"], serde_json::json!([]), "{list:#}");
    let signers = setup.path("publisher/allowed_signers");
    for target in both(setup) {
        for verb in ["verify", "status"] {
            let look =
                marbre(["--json", verb, "--from", &target, "--allowed-signers"]).arg(&signers).success();
            assert!(!look.stdout.contains("cannot be trusted"), "{look}");
        }
        setup.restores_equal(&[&target]);
    }
}
