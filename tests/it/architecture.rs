//! Dependencies flow one way: this reads the `use` lines of the source and holds them against the plan.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may use of the crate, besides itself and `error`.
const PLAN: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("demo", &[]),
    ("target", &["model"]),
    ("disk", &[]),
    ("server", &[]),
    ("keys", &["model"]),
    ("alert", &["model"]),
    ("repository", &["model", "target"]),
    ("pack", &["model", "repository"]),
    ("state", &["disk", "model", "repository", "target"]),
    ("engine", &["disk", "model", "pack", "repository", "server"]),
    ("config", &["model"]),
    (
        "job",
        &[
            "alert",
            "config",
            "disk",
            "engine",
            "keys",
            "model",
            "pack",
            "repository",
            "server",
            "state",
            "target",
        ],
    ),
    ("web", &["job", "model", "state"]),
    ("daemon", &["config", "engine", "job", "model", "state", "web"]),
    (
        "cli",
        &[
            "alert",
            "config",
            "daemon",
            "demo",
            "engine",
            "job",
            "keys",
            "model",
            "repository",
            "server",
            "state",
            "target",
            "web",
        ],
    ),
];

/// Adapters, which only the composition root names.
const CONCRETE: &[&str] = &[
    "alert::command",
    "alert::email",
    "alert::ntfy",
    "alert::pagerduty",
    "alert::ping",
    "alert::webhook",
    "engine::postgres",
    "engine::sqlite",
    "target::s3",
    "target::directory",
    "target::memory",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The source without its tests, which may use anything.
fn production(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned()
}

/// The paths below `crate::` that a text uses, groups taken apart: `crate::a::{b, c::d}` is `a::b`, `a::c::d`.
fn uses(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in text.match_indices("crate::").map(|(at, m)| at + m.len()) {
        let rest = &text[start..];
        let name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let path: String = rest.chars().take_while(|c| name(*c)).collect();
        if path.is_empty() {
            let group: String =
                rest.chars().take_while(|c| *c != ';').filter(|c| !c.is_whitespace()).collect();
            found.extend(group.trim_matches(|c| c == '{' || c == '}').split(',').map(str::to_owned));
        } else {
            found.push(path.trim_end_matches(':').to_owned());
        }
    }
    found
}

#[test]
fn dependencies_flow_one_way() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let plan: BTreeMap<&str, &[&str]> = PLAN.iter().copied().collect();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in &files {
        let inside = file.strip_prefix(&root).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["main", "lib", "error"].contains(&module)
            || file.ends_with("tests.rs")
            || file.ends_with("testing.rs")
        {
            continue;
        }
        let allowed = plan.get(module).unwrap_or_else(|| panic!("module {module} is not in the plan"));
        for used in uses(&production(file)) {
            let first = used.split("::").next().unwrap();
            let is_module = plan.contains_key(first);
            if is_module && first != module && !allowed.contains(&first) {
                wrong.push(format!("{}: uses {used}", inside.display()));
            }
            let concrete = CONCRETE.iter().any(|c| used.starts_with(c));
            let root = ["cli/context.rs", "cli/channels.rs"].map(Path::new).contains(&inside);
            if concrete && module != first && !root {
                wrong.push(format!("{}: names the adapter {used}", inside.display()));
            }
        }
    }
    assert!(files.len() > 50, "only {} files were read", files.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_model_is_pure() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model"), &mut files);
    for file in files {
        let text = production(&file);
        for impure in ["tokio", "std::fs", "std::net", "std::env", "::now()", "std::thread", "rand::"] {
            assert!(!text.contains(impure), "{} uses {impure}", file.display());
        }
    }
}

#[test]
fn nothing_lets_a_worker_thread_go() {
    // Children die with the thread that started them; see `main.rs`.
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for file in files.iter().filter(|f| !f.ends_with("main.rs")) {
        assert!(!production(file).contains("block_in_place"), "{}", file.display());
    }
}
