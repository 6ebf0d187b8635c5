//! Looks for statements that wait for what a snapshot holds, and says when it has to give way.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::connect::Connector;
use super::quote::literal;
use crate::error::{Error, Result};
use crate::model::human;

/// How often.
const PAUSE: Duration = Duration::from_secs(1);

/// A look-out. Dropping it ends it.
pub(super) struct Watch {
    task: JoinHandle<()>,
    found: Arc<OnceLock<String>>,
    give_way: CancellationToken,
    limit: Duration,
}

impl Watch {
    /// Begins. Whoever may not see what others do sees nobody wait.
    pub(super) async fn start(
        connector: &Connector,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let mut session = connector.connect(cancel).await?;
        let (found, give_way) = (Arc::new(OnceLock::new()), CancellationToken::new());
        let sql = format!(
            "SELECT ID, USER, TIME FROM information_schema.PROCESSLIST WHERE DB = {} AND TIME >= {} \
             AND (STATE LIKE 'Waiting for table metadata lock%' OR STATE LIKE 'Waiting for table level lock%') \
             ORDER BY TIME DESC LIMIT 1",
            literal(connector.database()),
            limit.as_secs().max(1)
        );
        let (first, token) = (found.clone(), give_way.clone());
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(PAUSE).await;
                let Ok(rows) = session.rows(&sql).await else { return };
                let Some(row) = rows.first() else { continue };
                let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
                let who = format!(
                    "connection {} of {} has waited for {} s",
                    text(0),
                    text(1).escape_debug(),
                    text(2)
                );
                let _first = first.set(who);
                token.cancel();
                return;
            }
        });
        Ok(Self { task, found, give_way, limit })
    }

    /// Reads until it is done, or has to give way.
    pub(super) async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.give_way.cancelled() => Err(self.gave_way()),
        }
    }

    fn gave_way(&self) -> Error {
        let limit = human::duration(self.limit.as_secs_f64());
        Error::database(format!("the snapshot gave way: others waited for its locks for more than {limit}"))
            .cause(self.found.get().cloned().unwrap_or_default())
            .remedy("Alter tables when no snapshot is taken, or raise `give_way_after`.")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
