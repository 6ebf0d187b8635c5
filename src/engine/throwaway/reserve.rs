//! Room on the disk that a throwaway server must leave to others.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::task::JoinHandle;

use crate::error::{Result, ResultExt};
use crate::model::human;
use crate::system::disk;

/// How often the disk is looked at. A fast disk takes some hundred megabytes in this time.
const PAUSE: Duration = Duration::from_millis(250);

/// The most that is left to others, in bytes, and the part of a small disk.
const MOST: u64 = 512 * 1024 * 1024;
const PART: u64 = 50;

/// Watches the disk, and kills the server when only the reserve is left: code in the database may fill it at will. Dropping it
/// ends the watch.
pub(crate) struct Reserve {
    watch: JoinHandle<()>,
    short: Arc<OnceLock<String>>,
}

impl Reserve {
    /// Watches the disk of this folder for the process group of a server.
    pub(crate) fn watch(folder: &Path, group: Option<Pid>) -> Result<Self> {
        let total = disk::total(folder).or_internal(format!("look at the space in {}", folder.display()))?;
        let reserve = MOST.min(total / PART);
        let short = Arc::new(OnceLock::new());
        let watch = tokio::spawn(look(folder.to_owned(), reserve, group, short.clone()));
        Ok(Self { watch, short })
    }

    /// That it has killed the server, and why.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.short.get().cloned()
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

async fn look(folder: PathBuf, reserve: u64, group: Option<Pid>, short: Arc<OnceLock<String>>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        if disk::free(&folder).is_ok_and(|free| free < reserve) {
            let left = human::bytes(reserve);
            let _first =
                short.set(format!("it was killed, because it left less than {left} of the disk to others"));
            if let Some(group) = group {
                let _gone = kill_process_group(group, Signal::KILL);
            }
            return;
        }
    }
}
