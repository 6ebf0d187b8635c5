//! Drills through the command line: what must be proven, what must be noticed, and that nothing is left behind.

mod agent;
mod checks;
mod hostile;
mod keys;
mod leftovers;
mod live;
mod owner;
mod planted;
mod reports;
mod sabotage;
mod tampered;

use serde_json::Value;

use crate::support::marbre::Outcome;

/// Where the drill failed, and everything that it says about why.
#[track_caller]
fn failure(outcome: &Outcome) -> (String, String) {
    let report = outcome.json();
    assert_eq!(report["passed"], false, "{outcome}");
    assert_eq!(report["level"], Value::Null, "{outcome}");
    let words =
        [&report["error"], &report["differences"], &report["checks"]].map(Value::to_string).join("\n");
    (report["failed_stage"].as_str().unwrap_or_default().to_owned(), words)
}

/// The drill failed at this stage, and says this.
#[track_caller]
fn failed_at(outcome: &Outcome, stage: &str, words: &[&str]) {
    let (failed, said) = failure(outcome);
    assert_eq!(failed, stage, "{outcome}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in {outcome}");
    }
}
