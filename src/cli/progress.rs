//! Progress for people (bars on a terminal) and programs (JSON lines on stderr).

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{output, screen};
use crate::model::observer::LoadObserver;
use crate::model::observer::Observer;
use crate::model::stage::Stage;

/// The observer for people or programs.
pub(crate) fn observer(json: bool) -> Arc<dyn Observer> {
    if json { Arc::new(Lines::default()) } else { Arc::new(Bar::new(std::io::stderr().is_terminal())) }
}

/// A bar with stage, bytes, rate and time left, in 80 columns or what there is; without a terminal, only warnings.
struct Bar {
    bar: ProgressBar,
    /// There is a terminal to draw on.
    visible: bool,
    /// It is the one that is drawn.
    drawn: AtomicBool,
}

/// Where the end of a stage is not known.
const OPEN_ENDED: &str = "{spinner} {msg:<8} {bytes:>11} {bytes_per_sec:>13}  {elapsed}";
/// Where it is. The bar takes what the rest leaves.
const TO_AN_END: &str = "{spinner} {msg:<8} {wide_bar} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";

impl Bar {
    fn new(visible: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self { bar, visible, drawn: AtomicBool::new(false) }
    }

    /// Begins to draw: not before there is something to show, since people may be asked for a passphrase first.
    fn draw(&self) {
        if !self.visible || !screen::take(&self.bar) {
            return;
        }
        self.drawn.store(true, Ordering::Relaxed);
        self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        self.bar.enable_steady_tick(Duration::from_millis(125));
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
        self.style(OPEN_ENDED);
        self.bar.set_message(stage.word());
        self.draw();
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
            self.style(TO_AN_END);
        }
    }

    fn warn(&self, message: &str) {
        output::note(&format!("marbre: warning: {message}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if *self.drawn.get_mut() {
            screen::leave();
        }
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
    fn current(&self) -> Option<Stage> {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoadObserver for Lines {
    fn stage(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = Some(stage);
        self.bytes.store(0, Ordering::Relaxed);
        self.expected.store(0, Ordering::Relaxed);
        output::event("stage", &json!({"stage": stage}));
    }

    fn bytes(&self, n: u64) {
        let bytes = self.bytes.fetch_add(n, Ordering::Relaxed) + n;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            let expected = self.expected.load(Ordering::Relaxed);
            let total = (expected > 0).then_some(expected);
            let content = json!({"stage": self.current(), "bytes": bytes, "expected_bytes": total});
            output::event("progress", &content);
        }
    }
}

impl Observer for Lines {
    fn moves(&self) {}

    fn expect(&self, bytes: u64) {
        self.expected.store(bytes, Ordering::Relaxed);
    }

    fn warn(&self, message: &str) {
        output::event("warning", &json!({"message": message}));
    }
}
