//! Progress for people (bars on a terminal) and programs (JSON lines on stderr).

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::output;
use crate::model::observer::LoadObserver;
use crate::model::observer::Observer;
use crate::model::stage::Stage;

/// The observer for people or programs.
pub(crate) fn observer(json: bool) -> Arc<dyn Observer> {
    if json { Arc::new(Lines::default()) } else { Arc::new(Bar::new(std::io::stderr().is_terminal())) }
}

/// A bar with stage, bytes, rate and time left; without a terminal, only warnings.
struct Bar {
    bar: ProgressBar,
}

impl Bar {
    fn new(visible: bool) -> Self {
        let target =
            if visible { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if visible {
            bar.enable_steady_tick(Duration::from_millis(125));
        }
        Self { bar }
    }

    fn style(&self, template: &str) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
    }
}

impl LoadObserver for Bar {
    fn stage(&self, stage: Stage) {
        self.bar.unset_length();
        self.bar.reset();
        self.style("{spinner} {msg:<10} {bytes:>11} {bytes_per_sec:>13}  {elapsed}");
        self.bar.set_message(stage.word());
    }

    fn bytes(&self, n: u64) {
        self.bar.inc(n);
        // Sizes are estimates of the source; a bar must not go past its end.
        if self.bar.length().is_some_and(|length| self.bar.position() > length) {
            self.bar.set_length(self.bar.position());
        }
    }
}

impl Observer for Bar {
    fn moves(&self) {}

    fn expect(&self, bytes: u64) {
        if bytes > 0 {
            self.bar.set_length(bytes);
            self.style("{spinner} {msg:<10} {bar:30} {bytes:>11} of about {total_bytes}  {bytes_per_sec}  {eta} left");
        }
    }

    fn warn(&self, message: &str) {
        self.bar.suspend(|| output::note(&format!("marbre: warning: {message}")));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// One JSON object per line: `stage`, `progress` (at most once a second), `warning`.
#[derive(Default)]
struct Lines {
    stage: Mutex<Option<Stage>>,
    bytes: AtomicU64,
    expected: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl Lines {
    fn write(&self, line: &serde_json::Value) {
        output::note(&line.to_string());
    }

    fn current(&self) -> Option<Stage> {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoadObserver for Lines {
    fn stage(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage);
        self.bytes.store(0, Ordering::Relaxed);
        self.expected.store(0, Ordering::Relaxed);
        self.write(&json!({"event": "stage", "stage": stage}));
    }

    fn bytes(&self, n: u64) {
        let bytes = self.bytes.fetch_add(n, Ordering::Relaxed) + n;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            let expected = self.expected.load(Ordering::Relaxed);
            let total = (expected > 0).then_some(expected);
            self.write(&json!({"event": "progress", "stage": self.current(), "bytes": bytes, "expected_bytes": total}));
        }
    }
}

impl Observer for Lines {
    fn moves(&self) {}

    fn expect(&self, bytes: u64) {
        self.expected.store(bytes, Ordering::Relaxed);
    }

    fn warn(&self, message: &str) {
        self.write(&json!({"event": "warning", "message": message}));
    }
}
