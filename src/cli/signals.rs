//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::{Result, ResultExt};

/// A token that fires on the first Ctrl-C or SIGTERM. The second one ends the process at once.
pub fn cancellation() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt()).or_internal("listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).or_internal("listen for SIGTERM")?;
    let cancel = token.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if again {
                std::process::exit(130);
            }
            cancel.cancel();
        }
    });
    Ok(token)
}
