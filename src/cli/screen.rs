//! What is drawn on the terminal, so that nothing else is written into it.

use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

/// The bar that is drawn now.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Does something that writes to the terminal, or asks a person, while no bar is drawn.
pub(super) fn suspended<T>(work: impl FnOnce() -> T) -> T {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match drawn {
        Some(bar) => bar.suspend(work),
        None => work(),
    }
}

/// Makes this the bar that is drawn; whether there was none.
pub(super) fn take(bar: &ProgressBar) -> bool {
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_free = drawn.is_none();
    drawn.get_or_insert_with(|| bar.clone());
    is_free
}

/// Nothing is drawn any more.
pub(super) fn leave() {
    *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = None;
}
