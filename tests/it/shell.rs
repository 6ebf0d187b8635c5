//! What marbre has for a shell and for `man`.

use std::fs;
use std::process::{Command, Stdio};

use super::support::marbre::marbre;

/// What bash offers after this line, once it has read the completions.
fn offered(line: &str) -> Vec<String> {
    let script = marbre(["completions", "bash"]).success().stdout;
    let ask = r#"COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _marbre marbre "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"; printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &format!("{script}\n{ask}"), "bash", line]).stdin(Stdio::null());
    let output = bash.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{line}: {}\n{said}", output.status);
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_and_options() {
    assert_eq!(offered("marbre snap"), ["snapshot"]);
    assert_eq!(offered("marbre status --pub"), ["--publisher"]);
    assert_eq!(offered("marbre config sh"), ["show"]);
}

#[test]
fn every_verb_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("man/man1");
    let written = marbre(["--json", "man"]).arg(&into).success().json();
    let help = marbre(["help"]).success().stdout;
    let verbs =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A verb begins in the third column.
    let verbs =
        verbs.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|verb| !verb.is_empty()));
    let verbs: Vec<&str> = verbs.filter(|verb| *verb != "help").collect();
    assert!(verbs.len() > 15, "{verbs:?}");
    for verb in verbs.iter().copied().chain(["config check", "alert test"]) {
        let page = fs::read_to_string(into.join(format!("marbre-{}.1", verb.replace(' ', "-")))).unwrap();
        let command = format!("\\fBmarbre {}\\fR", verb.replace('-', "\\-"));
        assert!(page.contains(&command), "{command}: {page}");
    }
    let own = fs::read_to_string(into.join("marbre.1")).unwrap();
    assert_eq!(marbre(["--json", "man"]).success().json()["page"], own);
    let files = written["files"].as_array().unwrap();
    assert_eq!(files.len(), fs::read_dir(&into).unwrap().count());
}

#[test]
fn programs_get_the_script_too() {
    for shell in ["bash", "zsh", "fish"] {
        let document = marbre(["--json", "completions", shell]).success().json();
        let script = marbre(["completions", shell]).success().stdout;
        assert_eq!(document["shell"], shell);
        assert_eq!(document["script"].as_str().unwrap().trim_end(), script.trim_end());
    }
}
