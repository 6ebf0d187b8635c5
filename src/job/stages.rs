//! How long each stage of a job took.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::engine::LoadObserver;
use crate::job::Observer;

/// A stage that is over.
#[derive(Debug, Clone, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// How long it took.
    pub seconds: f64,
}

#[derive(Default)]
struct Stages {
    over: Vec<Stage>,
    running: Option<(&'static str, Instant)>,
}

/// Passes everything on to the observer, and times the stages.
pub struct Stopwatch {
    observer: Arc<dyn Observer>,
    started: Instant,
    stages: Mutex<Stages>,
}

impl Stopwatch {
    /// Starts the watch.
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self { observer, started: Instant::now(), stages: Mutex::default() }
    }

    /// The stages so far, the running one included, and the time since the start in seconds.
    pub fn read(&self) -> (Vec<Stage>, f64) {
        let guard = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stages = guard.over.clone();
        if let Some((name, since)) = guard.running {
            stages.push(Stage { name, seconds: seconds(since) });
        }
        (stages, seconds(self.started))
    }
}

impl Stopwatch {
    /// The running stage.
    pub fn current(&self) -> Option<&'static str> {
        let guard = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        guard.running.map(|(name, _)| name)
    }
}

fn seconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

impl LoadObserver for Stopwatch {
    fn stage(&self, name: &'static str) {
        let mut guard = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, since)) = guard.running.take() {
            guard.over.push(Stage { name: before, seconds: seconds(since) });
        }
        guard.running = Some((name, Instant::now()));
        drop(guard);
        self.observer.stage(name);
    }

    fn bytes(&self, n: u64) {
        self.observer.bytes(n);
    }
}

impl Observer for Stopwatch {
    fn expect(&self, bytes: u64) {
        self.observer.expect(bytes);
    }

    fn warn(&self, message: &str) {
        self.observer.warn(message);
    }
}
