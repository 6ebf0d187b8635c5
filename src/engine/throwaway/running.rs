//! A running program.

use std::fs::File;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

use crate::error::{Result, ResultExt};
use crate::system::runner::Confined;

/// A running program. Dropping it kills it, with its process group.
pub(crate) struct Running {
    child: Child,
    process: Option<Pid>,
}

impl Running {
    /// Starts it. Its output goes to the log.
    pub(crate) async fn start(mut confined: Confined, log: &File) -> Result<Self> {
        let share = || log.try_clone().or_internal("share the log");
        confined.command.stdin(Stdio::null()).stdout(share()?).stderr(share()?);
        let child = confined.spawn().await?.or_internal("start a program")?;
        let process = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, process })
    }

    /// Its process group, while it runs.
    pub(crate) fn group(&self) -> Option<Pid> {
        self.process
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let ended = self.child.try_wait().or_internal("wait for a program")?;
        if ended.is_some() {
            self.process = None;
        }
        Ok(ended)
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().await.or_internal("wait for a program")?;
        self.process = None;
        Ok(status)
    }

    /// Kills it, and in a sandbox everything else there, and waits for its end.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        if let Some(group) = self.process {
            // It may have ended a moment ago.
            let _gone = kill_process_group(group, Signal::KILL);
        }
        self.wait().await.map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(group) = self.process.take() {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}
