//! The steps that a restore and a drill share: a drill is a restore plus proof.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::engine::{Comparison, LoadOptions, LoadReport, Loader};
use crate::error::Result;
use crate::job::restore::open::OpenSnapshot;
use crate::job::restore::streams::Streams;
use crate::job::stopwatch::Stopwatch;
use crate::model::human;
use crate::model::observer::{LoadObserver, Observer as _};
use crate::model::stage::Stage;

/// An open snapshot that is restored into a destination.
pub(crate) struct Recovery<'a> {
    /// The snapshot.
    pub opened: &'a OpenSnapshot,
    /// The destination.
    pub loader: &'a dyn Loader,
    /// The snapshot's streams.
    pub streams: &'a Streams,
    /// Times the stages.
    pub watch: &'a Stopwatch,
}

impl Recovery<'_> {
    /// Loads everything; every byte is verified on its way in. The destination stays marked as incomplete.
    pub(crate) async fn load(&self, options: &LoadOptions, cancel: &CancellationToken) -> Result<LoadReport> {
        let contents = &self.opened.contents;
        let left = AtomicU64::new(contents.streams.iter().map(|s| s.length).sum());
        let loading = Loading { watch: self.watch, left };
        self.loader.load(contents, self.streams, options, &loading, cancel).await
    }

    /// Compares what was loaded with the manifest. A difference is part of the result, not an error.
    pub(crate) async fn compare(&self, cancel: &CancellationToken) -> Result<Comparison> {
        self.watch.stage(Stage::Compare);
        self.loader.compare(&self.opened.contents, cancel).await
    }
}

/// Says, of each stage that loads, how much is left to be loaded.
struct Loading<'a> {
    watch: &'a Stopwatch,
    left: AtomicU64,
}

impl LoadObserver for Loading<'_> {
    fn stage(&self, stage: Stage) {
        self.watch.stage(stage);
        if matches!(stage, Stage::Data | Stage::Rows | Stage::Pages) {
            self.watch.expect(self.left.load(Ordering::Relaxed));
        }
    }

    fn bytes(&self, n: u64) {
        // An estimate that was too low leaves nothing.
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(n), Ordering::Relaxed);
        self.watch.bytes(n);
    }
}

/// Describes everything that differs; empty if the comparison is a proof.
pub(crate) fn differences(comparison: &Comparison) -> Vec<String> {
    let tables = comparison.tables.iter().filter(|t| !t.equal()).map(|t| {
        if t.rows == t.expected_rows {
            format!("the rows of {} differ", t.table)
        } else {
            format!("{} has {} rows, not {}", t.table, t.rows, t.expected_rows)
        }
    });
    let counts = comparison.inventory.iter().filter(|(_, expected, found)| expected != found);
    let counts =
        counts.map(|(kind, expected, found)| format!("{found} objects of type {kind}, not {expected}"));
    let mut what: Vec<String> = tables.chain(counts).chain(comparison.differences.iter().cloned()).collect();
    what.extend(comparison.definitions.iter().cloned());
    if comparison.tables.is_empty() && comparison.inventory.is_empty() {
        what.push("nothing could be compared".to_owned());
    }
    what
}

/// The first few differences, for a message.
pub(crate) fn first_few(differences: &[String]) -> String {
    human::first_few(differences, 10)
}
