//! The metrics, the alert rules and the dashboard belong together; Prometheus' own `promtool` is the judge.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use marbre::internal::metrics;
use serde_json::Value;

use super::published::{bad, good};
use crate::support::postgres::output_with_input;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn promtool(args: &[&str]) -> Command {
    let mut command = Command::new("promtool");
    command.args(args).current_dir(folder(""));
    command
}

fn exposition() -> String {
    metrics(&bad("2026-11-25T12:00:00Z".parse().unwrap()), "2026-11-25T12:00:00Z".parse().unwrap())
}

/// The metrics that exist, from the text itself.
fn exposed() -> BTreeSet<String> {
    let text = exposition();
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("marbre_")).map(str::to_owned).collect()
}

#[track_caller]
fn run(mut command: Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}: run tests/install first"));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{said}");
}

#[test]
fn prometheus_reads_every_metric() {
    for text in [exposition(), metrics(&good(Timestamp::now()), Timestamp::now())] {
        let output = output_with_input(&mut promtool(&["check", "metrics"]), text.as_bytes());
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}\n{text}", String::from_utf8_lossy(&said));
    }
    let text = exposition();
    for line in [
        "marbre_snapshot_last_success_timestamp_seconds{publisher=\"gazette\",database=\"abonnes\"} 1795510800",
        "marbre_snapshot_last_attempt_timestamp_seconds{publisher=\"gazette\",database=\"abonnes\"} 1795600800",
        "marbre_snapshot_bytes{publisher=\"gazette\",database=\"abonnes\",kind=\"new\"} 30000000",
        "marbre_target_up{publisher=\"gazette\",database=\"abonnes\",target=\"s3\"} 0",
        "marbre_target_unneeded_bytes{publisher=\"gazette\",database=\"abonnes\",target=\"nas\"} 4096",
        "marbre_proof_age_seconds{publisher=\"gazette\",database=\"abonnes\",target=\"nas\",level=\"restored\"} 32400",
        "marbre_rto_met{publisher=\"gazette\",database=\"abonnes\"} 0",
        "marbre_job_last_state{publisher=\"gazette\",database=\"abonnes\",job=\"snapshot\",state=\"failed\"} 1",
        "marbre_incidents_open{publisher=\"gazette\",database=\"abonnes\",severity=\"critical\"} 1",
        "marbre_incidents_open{publisher=\"gazette\",database=\"boutique\",severity=\"critical\"} 0",
        "marbre_incidents_open{publisher=\"\",database=\"\",severity=\"warning\"} 1",
        "marbre_config_last_reload_successful 0",
        "key=\"target-failing gazette/abonnes n\\\"a\\\\s\",kind=\"target-failing\"",
    ] {
        assert!(text.contains(line), "no {line}\n{text}");
    }
    assert!(!text.contains(
        "marbre_target_behind_snapshots{publisher=\"gazette\",database=\"abonnes\",target=\"s3\"}"
    ));
    assert!(!text.contains("connection refused"), "errors are no metrics");
}

#[test]
fn the_alert_rules_alert() {
    run(promtool(&["check", "rules", "docs/monitoring/alert-rules.yml"]));
    run(promtool(&["test", "rules", "tests/monitoring/alert-rules.test.yml"]));
    let rules = std::fs::read_to_string(folder("docs/monitoring/alert-rules.yml")).unwrap();
    let unknown: Vec<String> = named(&rules).difference(&exposed()).cloned().collect();
    assert_eq!(unknown, Vec::<String>::new());
    assert_eq!(rules.matches("- alert: ").count(), rules.matches("runbook: ").count());
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let text = std::fs::read_to_string(folder("docs/monitoring/grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let unknown: Vec<String> = named(&text).difference(&exposed()).cloned().collect();
    assert_eq!(unknown, Vec::<String>::new());
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has a number of its own");
    let mut rules = Vec::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{}", panel["title"]);
        rules.extend(targets.iter().enumerate().map(|(n, target)| {
            serde_json::json!({"record": format!("panel{}:{n}", panel["id"]), "expr": target["expr"]})
        }));
    }
    // Every expression, as a rule: JSON is YAML too.
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules.to_string()).unwrap();
    run(promtool(&["check", "rules", file.path().to_str().unwrap()]));
    assert_eq!(dashboard["id"], Value::Null, "the one who imports it gives it a number");
}

#[test]
fn the_documents_name_every_metric() {
    let page = std::fs::read_to_string(folder("docs/monitoring/README.md")).unwrap();
    assert_eq!(named(&page), exposed(), "left: docs/monitoring/README.md, right: /metrics");
}
