//! A program of the user's own, which gets the message as JSON on its standard input.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, Command};
use tokio_util::sync::CancellationToken;

use crate::alert::line::clean;
use crate::alert::payload::PayloadFormat;
use crate::alert::{Channel, ChannelError, Message, Sent, bounded};

/// The environment variables that it inherits. Secrets that were given to marbre in variables are not for it.
const INHERITED: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];
/// How many bytes of its standard error are kept.
const STDERR_LIMIT: usize = 4096;
/// How long the rest of its standard error is waited for once it has ended.
const STDERR_GRACE: Duration = Duration::from_millis(200);

/// The channel.
#[derive(Debug)]
pub(crate) struct Program {
    program: PathBuf,
    args: Vec<String>,
    timeout: Duration,
}

/// Kills everything that the program started, unless it has ended.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // It may just have ended: then there is nothing to kill.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Program {
    /// The program and its arguments, which no shell interprets.
    pub(crate) fn new(program: impl Into<PathBuf>, args: Vec<String>, timeout: Duration) -> Self {
        Self { program: program.into(), args, timeout }
    }

    fn start(&self) -> std::io::Result<Child> {
        let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .envs(inherited)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    async fn run(&self, body: String) -> Result<(), ChannelError> {
        let name = self.program.display();
        let mut child = self.start().map_err(|e| {
            let remedy = "Give the absolute path of a program that the user of marbre may run.";
            ChannelError::refused(format!("{name} cannot be started: {e}"), remedy)
        })?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program that does not want to read all of it need not.
                let _unread = stdin.write_all(body.as_bytes()).await;
            }
        };
        let stderr_head = Arc::new(Mutex::new(Vec::new()));
        let reading = stderr.map(|stderr| tokio::spawn(read(stderr, Arc::clone(&stderr_head))));
        let (_, ended) = tokio::join!(write, child.wait());
        let status = ended.map_err(|e| {
            ChannelError::unavailable(format!("{name}: {e}"), "Check this host: its log may say more.")
        })?;
        group.0 = None;
        // A child that it leaves running may hold its standard error open, and is not waited for.
        if let Some(mut reading) = reading {
            let _read = tokio::time::timeout(STDERR_GRACE, &mut reading).await;
            reading.abort();
        }
        if status.success() {
            return Ok(());
        }
        let stderr_head = std::mem::take(&mut *stderr_head.lock().unwrap_or_else(PoisonError::into_inner));
        let said = String::from_utf8_lossy(&stderr_head);
        let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let cause = format!("{name} ended with {status}: {}", clean(said, 200));
        Err(ChannelError::unavailable(
            cause,
            "Run the program by hand, with a JSON document on its standard input.",
        ))
    }
}

/// Keeps the beginning of what a program writes. The rest is read too, so that the program is not held up.
async fn read(mut stderr: ChildStderr, stderr_head: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
        let mut stderr_head = stderr_head.lock().unwrap_or_else(PoisonError::into_inner);
        let room = STDERR_LIMIT.saturating_sub(stderr_head.len());
        stderr_head.extend_from_slice(&buffer[..n.min(room)]);
    }
}

#[async_trait]
impl Channel for Program {
    /// The arguments are left out: they may hold secrets.
    fn describe(&self) -> String {
        format!("command {}", self.program.display())
    }

    async fn send(&self, message: &Message, cancel: &CancellationToken) -> Result<Sent, ChannelError> {
        let body = PayloadFormat::Fields.document(message).to_string() + "\n";
        let name = self.program.display().to_string();
        bounded(self.timeout, cancel, &name, self.run(body)).await.map(|()| Sent::All)
    }

    async fn check(&self, _cancel: &CancellationToken) -> Result<String, ChannelError> {
        use std::os::unix::fs::PermissionsExt;
        let runs = |path: &Path| {
            path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = match self.program.components().count() {
            1 => std::env::split_paths(&path).any(|folder| runs(&folder.join(&self.program))),
            _ => runs(&self.program),
        };
        let name = self.program.display();
        if found {
            return Ok(format!("{name} is there"));
        }
        Err(ChannelError::refused(
            format!("{name} is not a program that can be run"),
            "Give the absolute path of a program that the user of marbre may run.",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::ChannelErrorKind;
    use jiff::Timestamp;

    async fn send(script: &str, timeout: Duration) -> Result<Sent, ChannelError> {
        let program = Program::new("/bin/sh", vec!["-c".to_owned(), script.to_owned()], timeout);
        program.send(&Message::test("db1", Timestamp::UNIX_EPOCH), &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn a_program_gets_the_message_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("got");
        let file = file.display();
        let sent = send(&format!("cat >{file}; env >>{file}"), Duration::from_secs(20)).await;
        assert_eq!(sent, Ok(Sent::All));
        let got = std::fs::read_to_string(folder.path().join("got")).unwrap();
        let (json, environment) = got.split_once('\n').unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["event"], "test");
        assert!(!environment.contains("CARGO"), "{environment}");
    }

    #[tokio::test]
    async fn what_it_complains_is_told_and_what_it_leaves_running_holds_nobody_up() {
        let failed =
            send("sleep 600 & printf 'no such pager\\033[2J\\n' >&2; exit 3", Duration::from_secs(20)).await;
        let failed = failed.unwrap_err();
        assert_eq!(failed.kind, ChannelErrorKind::Unavailable);
        assert!(failed.cause.ends_with("exit status: 3: no such pager [2J"), "{failed}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let hung =
            send(&format!("sleep 600 & echo $! >{}; wait", file.display()), Duration::from_secs(1)).await;
        assert_eq!(hung.unwrap_err().kind, ChannelErrorKind::Unavailable);
        let pid = std::fs::read_to_string(&file).unwrap();
        for _ in 0..100 {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the child still runs");
    }

    #[tokio::test]
    async fn a_missing_program_is_a_permanent_failure() {
        let program = Program::new("/nowhere/pager", Vec::new(), Duration::from_secs(1));
        let cancel = CancellationToken::new();
        let message = Message::test("db1", Timestamp::UNIX_EPOCH);
        assert!(program.send(&message, &cancel).await.unwrap_err().is_permanent());
        assert!(program.check(&cancel).await.unwrap_err().is_permanent());
    }
}
