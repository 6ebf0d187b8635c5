//! How long each stage of a job took.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::model::observer::LoadObserver;
use crate::model::observer::Observer;
use crate::model::stage::Stage;

/// A finished stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageTime<S = Stage> {
    /// The stage.
    pub name: S,
    /// How long it took.
    pub seconds: f64,
}

#[derive(Default)]
struct Stages {
    finished: Vec<StageTime>,
    running: Option<(Stage, Instant)>,
}

/// Forwards everything to the observer, and times the stages.
pub(crate) struct Stopwatch {
    observer: Arc<dyn Observer>,
    started: Instant,
    stages: Mutex<Stages>,
}

impl Stopwatch {
    /// Starts the watch.
    pub(crate) fn new(observer: Arc<dyn Observer>) -> Self {
        Self { observer, started: Instant::now(), stages: Mutex::default() }
    }

    /// The stages so far, the running one included, and the time since the start in seconds.
    pub(crate) fn read(&self) -> (Vec<StageTime>, f64) {
        let guard = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stages = guard.finished.clone();
        if let Some((stage, since)) = guard.running {
            stages.push(StageTime { name: stage, seconds: seconds(since) });
        }
        (stages, seconds(self.started))
    }

    /// How long the stages that count took so far, in seconds.
    pub(crate) fn spent(&self, counts: impl Fn(Stage) -> bool) -> f64 {
        let stages = self.read().0.into_iter();
        let spent: f64 = stages.filter(|stage| counts(stage.name)).map(|stage| stage.seconds).sum();
        (spent * 1000.0).round() / 1000.0
    }

    /// The running stage.
    pub(crate) fn current(&self) -> Option<Stage> {
        let guard = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        guard.running.map(|(stage, _)| stage)
    }
}

fn seconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

impl LoadObserver for Stopwatch {
    fn stage(&self, stage: Stage) {
        let mut guard = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((finished, since)) = guard.running.take() {
            guard.finished.push(StageTime { name: finished, seconds: seconds(since) });
        }
        guard.running = Some((stage, Instant::now()));
        drop(guard);
        self.observer.stage(stage);
    }

    fn bytes(&self, n: u64) {
        self.observer.bytes(n);
    }
}

impl Observer for Stopwatch {
    fn expect(&self, bytes: u64) {
        self.observer.expect(bytes);
    }

    fn moves(&self) {
        self.observer.moves();
    }

    fn warn(&self, message: &str) {
        self.observer.warn(message);
    }
}
