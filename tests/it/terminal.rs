//! What could steer a terminal, or turn the text around it, is made visible wherever it comes from: names of databases,
//! signed records, and what programs say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::support::marbre::{Marbre, Outcome, marbre};
use super::support::postgres::run;
use super::support::sqlite_setup::{Setup, objects};

/// A title for the window, red from here on (as C0 and as C1), text from right to left, no width, and a line that is not ours.
const HOSTILE: &str = "v\u{1b}]0;owned\u{7}\u{1b}[31m\u{9b}31m\u{202e}\u{2066}\u{200b}\u{7f}";

/// Nothing of it is in the output, which shows that it was there.
#[track_caller]
fn harmless(outcome: &Outcome, shows: &str) {
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    let found = said.chars().find(|c| {
        (c.is_control() && *c != '\n' && *c != '\t')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    });
    assert_eq!(found, None, "{outcome}");
    assert!(said.contains(shows), "no {shows:?} in {outcome}");
}

/// The same command, for people and for programs.
fn both(setup: &Setup, args: &[&str]) -> [Marbre; 2] {
    let people = marbre(["--config"]).arg(setup.path("provider/marbre.toml")).args(args);
    [people, setup.provider(args)].map(|run| run.env("MARBRE_LOG", "trace"))
}

#[test]
fn a_path_is_shown_and_stays_the_same_for_programs() {
    let setup = Setup::new(3, 10);
    let path = setup.path(&format!("provider/{HOSTILE}"));
    let source = format!("engine = \"sqlite\"\npath = {}", toml(&path));
    setup.configure_source(&source, &[("a", &setup.target("a"))], "", "");
    for run in both(&setup, &["snapshot", "abonnes"]) {
        harmless(
            &run.fails_with(5),
            "\\u001b]0;owned\\u0007\\u001b[31m\\u009b31m\\u202e\\u2066\\u200b\\u007f",
        );
    }
    let error = setup.snapshot().fails_with(5).json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains(HOSTILE), "a program gets what is there: {error}");
    for run in both(&setup, &["doctor"]) {
        harmless(&run.run(), "\\u001b]0;owned");
    }
}

/// A text of TOML, in which every character may be written by its number.
fn toml(path: &std::path::Path) -> String {
    let escaped =
        path.to_str().unwrap().chars().map(|c| match c.is_ascii_alphanumeric() || "/.-_".contains(c) {
            true => c.to_string(),
            false => format!("\\u{:04x}", u32::from(c)),
        });
    format!("\"{}\"", escaped.collect::<String>())
}

#[test]
fn a_signed_receipt_is_shown() {
    let setup = Setup::new(3, 10);
    setup.configure_directories("");
    setup.snapshot().success();
    fs::remove_dir_all(setup.path("provider/state")).unwrap();
    let hostile = format!("{HOSTILE}\nCHAIN       all is well");
    for target in ["a", "b"] {
        for (_, path) in objects(&setup.path(target))
            .iter()
            .filter(|(key, _)| key.starts_with("receipts/") && key.ends_with(".json"))
        {
            let mut receipt: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            for field in ["agent", "engine_version", "tool_version"] {
                receipt[field] = hostile.clone().into();
            }
            fs::write(path, serde_json::to_vec(&receipt).unwrap()).unwrap();
            fs::remove_file(path.with_extension("json.sig")).unwrap();
            let key = setup.path("provider/agent_ed25519");
            let sign = ["-Y", "sign", "-n", "snapshot-receipt@marbre", "-f"];
            run(Command::new("ssh-keygen").args(sign).arg(key).arg(path));
        }
    }
    for run in both(&setup, &["show", "latest"]) {
        let outcome = run.success();
        harmless(&outcome, "v\\u001b]0;owned");
        assert!(!outcome.stdout.contains("\nCHAIN"), "a line of somebody else's: {outcome}");
    }
    for args in [&["status"][..], &["list"], &["verify"], &["drill", "abonnes"]] {
        both(&setup, args).into_iter().for_each(|run| harmless(&run.run(), ""));
    }
}

#[test]
fn what_programs_say_is_shown() {
    let setup = Setup::new(3, 10);
    let siren = setup.path("provider/siren");
    fs::write(&siren, format!("#!/bin/sh\nprintf '%s\\n' '{HOSTILE} broken' >&2\nexit 1\n")).unwrap();
    fs::set_permissions(&siren, fs::Permissions::from_mode(0o700)).unwrap();
    setup.configure_directories(&format!("[alert.siren]\ntype = \"command\"\ncommand = [{siren:?}]"));
    for run in both(&setup, &["alert", "test"]) {
        harmless(&run.fails_with(8), "broken");
    }
    let wrong = marbre(["list", &format!("--{HOSTILE}")]).fails_with(2);
    // What clap itself takes for styles is gone before.
    harmless(&wrong, "\\u009b31m\\u202e");
}
