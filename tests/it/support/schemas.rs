//! The schemas of what marbre prints for programs: `docs/schemas`.

use std::path::{Path, PathBuf};

use boon::{Compiler, Schemas};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas")
}

fn check(name: &str, value: &Value) -> Result<(), String> {
    let file = folder().join(format!("{name}.schema.json"));
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.enable_format_assertions();
    let schema = compiler.compile(file.to_str().unwrap(), &mut schemas).map_err(|e| format!("{e:#}"))?;
    schemas.validate(value, schema).map_err(|e| format!("{} does not hold: {e:#}", file.display()))
}

/// Whether a document, and the lines of JSON on standard error beside it, are as their schemas say.
pub fn holds(document: &Value, stderr: &str) -> Result<(), String> {
    let name = document["document"].as_str().ok_or("the document has no name")?;
    check(name, document)?;
    let lines = stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line.get("event").is_some()).try_for_each(|line| check("event", &line))
}

#[test]
fn every_schema_is_one_and_is_listed() {
    let list = std::fs::read_to_string(folder().join("README.md")).unwrap();
    for entry in std::fs::read_dir(folder()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".schema.json") else { continue };
        assert!(list.contains(&format!("({name}.schema.json)")), "{name} is not in docs/schemas/README.md");
        let refused = check(name, &serde_json::json!({"document": name, "surplus": 1}));
        assert!(refused.is_err(), "{name} takes anything");
    }
}
