//! Ctrl-C and SIGTERM.

use std::io::IsTerminal;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::{Result, ResultExt};

/// When people are told why nothing seems to happen after a signal.
const SOON: Duration = Duration::from_secs(2);

/// A token that fires on the first Ctrl-C or SIGTERM. The second one ends the process at once.
pub(crate) fn cancellation() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt()).or_internal("listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).or_internal("listen for SIGTERM")?;
    let cancel = token.clone();
    tokio::spawn(async move {
        let mut signalled = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        signalled().await;
        cancel.cancel();
        if timeout(SOON, signalled()).await.is_err() {
            // A program that reads what is written here sent the signal itself.
            if std::io::stderr().is_terminal() {
                super::output::note("marbre: ending in order; Ctrl-C once more ends it at once");
            }
            signalled().await;
        }
        std::process::exit(130);
    });
    Ok(token)
}
