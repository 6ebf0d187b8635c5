//! Dependencies flow one way: this reads the paths that the source names and holds them against the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders from the bottom up. What a folder may use besides itself: those named with it, and nothing else.
const PLAN: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("model", &[]),
    ("demo", &[]),
    ("system", &["model"]),
    ("config", &["model"]),
    ("keys", &["model"]),
    ("pack", &["model"]),
    ("targets", &["model"]),
    ("state", &["model", "system"]),
    ("engine", &["model", "system"]),
    ("alert", &["model", "state", "system"]),
    ("repository", &["keys", "model", "pack", "state", "targets"]),
    ("job", &["engine", "keys", "model", "pack", "repository", "state", "system", "targets"]),
    (
        "health",
        &["alert", "config", "engine", "job", "keys", "model", "repository", "state", "system", "targets"],
    ),
    ("report", &["health", "job", "keys", "model"]),
    ("web", &["health", "model", "state"]),
    ("daemon", &["alert", "config", "health", "job", "model", "state", "web"]),
    (
        "cli",
        &[
            "alert",
            "config",
            "daemon",
            "demo",
            "engine",
            "health",
            "job",
            "keys",
            "model",
            "report",
            "repository",
            "state",
            "system",
            "targets",
            "web",
        ],
    ),
];

/// Adapters of one contract: none of them names another, and only the registry named with them may name them.
const ADAPTERS: &[(&str, &[&str], &[&str])] = &[
    ("engine", &["mysql", "postgres", "sqlite"], &["engine::registry"]),
    ("targets", &["directory", "memory", "s3"], &["targets::registry"]),
    (
        "alert::channels",
        &["command", "email", "ntfy", "pagerduty", "ping", "unopened", "webhook"],
        &["cli::compose::channels"],
    ),
];

/// One file of the source, without its tests.
struct Source {
    /// Its module: `job::drill::checks`; of a `mod.rs`, that of its folder.
    module: String,
    is_folder: bool,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    let mut found = Vec::new();
    for path in paths {
        let inside = path.strip_prefix(&root).unwrap().with_extension("");
        let mut parts: Vec<&str> = inside.iter().map(|part| part.to_str().unwrap()).collect();
        if parts.iter().any(|part| ["tests", "testing"].contains(part)) || ["main", "lib"].contains(&parts[0])
        {
            continue;
        }
        let is_folder = parts.last() == Some(&"mod");
        if is_folder {
            parts.pop();
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        found.push(Source { module: parts.join("::"), is_folder, text: code.join("\n") });
    }
    assert!(found.len() > 200, "only {} files were read", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

impl Source {
    /// Every path of this crate that the file names, from the root of the crate: `crate::a::{b, c::d}` is `a::b`, `a::c::d`.
    fn paths(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        for start in ["crate::", "super::"] {
            for (at, _) in self.text.match_indices(start) {
                let before = self.text[..at].chars().next_back();
                if before.is_some_and(|c| is_name(c) || c == ':') {
                    continue;
                }
                for path in expand(&self.text[at..]) {
                    found.extend(self.absolute(&path));
                }
            }
        }
        // A folder uses its own files without a prefix.
        for line in self.text.lines().filter(|_| self.is_folder) {
            let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            if let Some(rest) = line.strip_prefix("use ")
                && !["crate::", "super::", "std::"].iter().any(|prefix| rest.starts_with(prefix))
            {
                found.insert(format!("{}::{}", self.module, rest.trim_end_matches(';')));
            }
        }
        found
    }

    fn absolute(&self, path: &str) -> Option<String> {
        let mut at: Vec<&str> = self.module.split("::").collect();
        let mut rest = path;
        if let Some(below) = rest.strip_prefix("crate::") {
            return Some(below.to_owned());
        }
        while let Some(below) = rest.strip_prefix("super::") {
            at.pop()?;
            rest = below;
        }
        at.push(rest);
        Some(at.join("::"))
    }

    fn folder(&self) -> &str {
        self.module.split("::").next().unwrap()
    }
}

/// The paths of one tree that begins here.
fn expand(text: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let head: String = text.chars().take_while(|c| is_path(*c)).collect();
    let rest = &text[head.len()..];
    if !(head.ends_with("::") && rest.starts_with('{')) {
        return vec![head.trim_end_matches(':').to_owned()];
    }
    let (mut depth, mut item, mut items) = (0, String::new(), Vec::new());
    for c in rest.chars().filter(|c| !c.is_whitespace()) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            items.push(std::mem::take(&mut item));
            if depth == 0 {
                break;
            }
        } else if !(depth == 1 && c == '{') {
            item.push(c);
        }
    }
    items.iter().filter(|i| !i.is_empty()).flat_map(|i| expand(&format!("{head}{i}"))).collect()
}

#[test]
fn trees_are_taken_apart() {
    let text = "crate::a::{self, b::{C, d},\n e::F};";
    assert_eq!(expand(text), ["crate::a::self", "crate::a::b::C", "crate::a::b::d", "crate::a::e::F"]);
    assert_eq!(expand("crate::x::y(1)"), ["crate::x::y"]);
}

#[test]
fn folders_use_what_lies_below_them() {
    let plan: BTreeMap<&str, &[&str]> = PLAN.iter().copied().collect();
    let heights: BTreeMap<&str, usize> = PLAN.iter().enumerate().map(|(i, (name, _))| (*name, i)).collect();
    for (name, allowed) in PLAN {
        for below in *allowed {
            assert!(heights[below] < heights[name], "the plan lets {name} use {below}, which lies above it");
        }
    }
    let mut wrong = Vec::new();
    for source in sources() {
        let folder = source.folder();
        let allowed = plan.get(folder).unwrap_or_else(|| panic!("folder {folder} is not in the plan"));
        for used in source.paths() {
            let first = used.split("::").next().unwrap();
            let known = plan.contains_key(first) && first != "error" && first != folder;
            if known && !allowed.contains(&first) {
                wrong.push(format!("{} uses {used}", source.module));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Folders beside adapters that are none.
const NO_ADAPTERS: &[&str] = &["engine::throwaway", "targets::ext", "targets::wrapper"];

#[test]
fn adapters_of_one_contract_do_not_know_each_other() {
    let mut wrong = Vec::new();
    for (parent, adapters, _) in ADAPTERS {
        for source in sources() {
            let Some(name) = source.module.strip_prefix(&format!("{parent}::")) else { continue };
            let adapter = source.is_folder || *parent == "alert::channels";
            let listed = adapters.contains(&name) || NO_ADAPTERS.contains(&source.module.as_str());
            if adapter && !name.contains("::") && !listed {
                wrong.push(format!("{} is in no list of this test", source.module));
            }
        }
    }
    for source in sources() {
        for (parent, adapters, registries) in ADAPTERS {
            let own = source.module.strip_prefix(&format!("{parent}::"));
            let own = own.and_then(|rest| rest.split("::").next()).filter(|name| adapters.contains(name));
            for used in source.paths() {
                let Some(rest) = used.strip_prefix(&format!("{parent}::")) else { continue };
                let name = rest.split("::").next().unwrap();
                let registry = registries.contains(&source.module.as_str());
                if adapters.contains(&name) && own != Some(name) && !registry {
                    wrong.push(format!("{} names the adapter {used}", source.module));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The longest module that is a file and that this path leads to.
fn file_of<'a>(files: &BTreeSet<&'a str>, path: &str) -> Option<&'a str> {
    let mut path = path;
    loop {
        if let Some(file) = files.get(path) {
            return Some(*file);
        }
        path = path.rsplit_once("::")?.0;
    }
}

/// In every folder, what is in it (files, and folders as a whole) uses each other one way. A folder's own `mod.rs` and
/// the files beside it belong together.
#[test]
fn nothing_is_used_by_what_it_uses() {
    let sources = sources();
    let files: BTreeSet<&str> = sources.iter().map(|s| s.module.as_str()).collect();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        for used in source.paths().iter().filter_map(|path| file_of(&files, path)) {
            let (from, to): (Vec<&str>, Vec<&str>) =
                (source.module.split("::").collect(), used.split("::").collect());
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            // One of them is the folder of the other.
            if shared < from.len() && shared < to.len() {
                let place = |parts: &[&str]| parts[..=shared].join("::");
                uses.entry(place(&from)).or_default().insert(place(&to));
            }
        }
    }
    let mut wrong = Vec::new();
    for name in uses.keys() {
        let (mut next, mut seen) = (vec![name], BTreeSet::new());
        while let Some(at) = next.pop() {
            for used in uses.get(at).into_iter().flatten() {
                if used == name {
                    wrong.push(format!("{name} and {at}"));
                } else if seen.insert(used) {
                    next.push(used);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these use each other, directly or not:\n{}", wrong.join("\n"));
}

/// What a terminal must not get is taken out in one place, so nothing writes to one elsewhere. Plugins of age are spoken
/// for by the keys themselves, which make it harmless too.
#[test]
fn only_one_file_writes_to_the_terminal() {
    // The last one answers the process that asked it, and no terminal.
    const ALLOWED: [&str; 3] = ["cli::output", "keys::terminal", "engine::sqlite::confined"];
    for source in sources().iter().filter(|s| !ALLOWED.contains(&s.module.as_str())) {
        let text =
            source.text.replace("io::stderr().is_terminal()", "").replace("io::stdout().is_terminal()", "");
        for write in
            ["println!", "print!(", "dbg!(", "io::stdout()", "io::stderr()", " stdout()", " stderr()"]
        {
            assert!(!text.contains(write), "{} writes to the terminal: {write}", source.module);
        }
    }
}

#[test]
fn the_model_is_pure() {
    for source in sources().iter().filter(|s| s.folder() == "model") {
        for impure in ["tokio", "std::fs", "std::net", "std::env", "::now()", "std::thread", "rand::"] {
            assert!(!source.text.contains(impure), "{} uses {impure}", source.module);
        }
    }
}

#[test]
fn nothing_lets_a_worker_thread_go() {
    // Children die with the thread that started them; see `main.rs`.
    for source in sources() {
        assert!(!source.text.contains("block_in_place"), "{}", source.module);
    }
}
