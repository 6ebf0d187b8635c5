//! Runs the real program, as a person would, and shows everything it said when a test fails.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::schemas;
use rustix::process::{Pid, Signal, kill_process};

/// How long a run may take where the test does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// A run of marbre that is being put together.
#[derive(Debug)]
pub struct Marbre {
    command: Command,
    timeout: Duration,
    kill_after: Option<Duration>,
}

/// `marbre` with these arguments, and an environment that holds no configuration or credentials of ours.
pub fn marbre<I, A>(args: I) -> Marbre
where
    I: IntoIterator<Item = A>,
    A: AsRef<OsStr>,
{
    let mut command = Command::new(env!("CARGO_BIN_EXE_marbre"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if ["AWS_", "PG", "MARBRE_", "RUST_LOG"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&variable);
        }
    }
    // Without these, the AWS chain looks at the person's own files and asks the network.
    command
        // Where lines are broken is tested on its own.
        .env("COLUMNS", "1000")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    Marbre { command, timeout: DEFAULT_TIMEOUT, kill_after: None }
}

impl Marbre {
    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub fn args<I, A>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        self.command.args(args);
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Puts the client programs in this directory first on its PATH.
    pub fn tools_from(mut self, directory: &Path) -> Self {
        let mut path = OsString::from(directory);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        self.command.env("PATH", path);
        self
    }

    /// Its working directory.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// How long it may take before the test kills it and fails.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Kills it (SIGKILL) after this time, unless it has ended by then.
    pub fn kill_after(mut self, after: Duration) -> Self {
        self.kill_after = Some(after);
        self
    }

    /// Starts it, and lets the test go on beside it.
    pub fn start(mut self) -> Running {
        let mut child = self.command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", self.command));
        let stdout = Collected::from(child.stdout.take().unwrap());
        let stderr = Collected::from(child.stderr.take().unwrap());
        let peak = Arc::new(AtomicU64::new(0));
        watch_memory(child.id(), Arc::clone(&peak));
        Running {
            what: format!("{:?}", self.command),
            started: Instant::now(),
            timeout: self.timeout,
            kill_after: self.kill_after,
            child,
            stdout,
            stderr,
            peak,
        }
    }

    /// Runs it to its end, whatever that is.
    pub fn run(self) -> Outcome {
        self.start().wait()
    }

    /// Runs it to its end, which must be success.
    pub fn success(self) -> Outcome {
        self.run().expect_code(0)
    }

    /// Runs it to its end, which must be this exit code.
    pub fn fails_with(self, code: i32) -> Outcome {
        self.run().expect_code(code)
    }

    /// Runs it and asserts that it fails with this code; that error, cause and remedy hold these words; and that there is a remedy.
    #[track_caller]
    pub fn refuses(self, code: i32, words: &[&str]) -> Outcome {
        let outcome = self.fails_with(code);
        let document = outcome.json();
        let text = ["error", "cause", "remedy"]
            .map(|part| document[part].as_str().unwrap_or_default().to_owned())
            .join("\n");
        for word in words {
            assert!(text.contains(word), "no {word:?} in {outcome}");
        }
        assert!(document["remedy"].as_str().is_some_and(|r| r.len() > 10), "no remedy in {outcome}");
        outcome
    }
}

/// A started run. Killed on drop.
#[derive(Debug)]
pub struct Running {
    what: String,
    started: Instant,
    timeout: Duration,
    kill_after: Option<Duration>,
    child: Child,
    stdout: Collected,
    stderr: Collected,
    peak: Arc<AtomicU64>,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// How it ended and all that it wrote, if it has ended.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().unwrap()?;
        Some(format!("{}: {status}\n{}", self.what, self.stderr.finish()))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        // It may have ended in the meantime: then there is nothing to signal.
        let _ = kill_process(pid, signal);
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let elapsed = self.started.elapsed();
            if self.kill_after.is_some_and(|after| elapsed >= after) {
                self.kill_after = None;
                self.signal(Signal::KILL);
            }
            if elapsed >= self.timeout {
                self.signal(Signal::KILL);
                self.child.wait().unwrap();
                panic!(
                    "{} did not end within {:?}\n--- stdout\n{}\n--- stderr\n{}",
                    self.what,
                    self.timeout,
                    self.stdout.finish(),
                    self.stderr.finish()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Outcome {
            what: std::mem::take(&mut self.what),
            status,
            seconds: self.started.elapsed().as_secs_f64(),
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
            peak_memory: self.peak.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    what: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// Wall time in seconds.
    pub seconds: f64,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Highest resident memory of marbre itself, children not counted, in bytes; sampled by the kernel's
    /// own high-water mark, last read at most 10 ms before the end.
    pub peak_memory: u64,
}

impl Outcome {
    /// The exit code; `None` after a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self}");
        self
    }

    /// Asserts that standard error holds this text.
    #[track_caller]
    pub fn expect_stderr(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} on standard error of {self}");
        self
    }

    /// Standard output as one JSON document, held against its schema.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let document = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("no JSON document ({e}) from {self}"));
        schemas::holds(&document, &self.stderr).unwrap_or_else(|e| panic!("{e}\nof {self}"));
        document
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, status, seconds, stdout, stderr, .. } = self;
        write!(f, "{what}\n--- {status} after {seconds:.2} s\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// What a pipe delivers, read on a thread so that no pipe fills up.
#[derive(Debug)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Collected {
    fn from(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                shared.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    /// Everything, once the writer has ended. A child that the program left behind may keep the pipe
    /// open: that is for the test to find, not to hang on.
    fn finish(&self) -> String {
        let deadline = Instant::now() + Duration::from_secs(2);
        while !self.reader.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.text()
    }
}

/// Keeps the highest `VmHWM` of a process until it ends.
fn watch_memory(pid: u32, peak: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        while let Some(bytes) = high_water_mark(pid) {
            peak.fetch_max(bytes, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
}

/// The kernel's high-water mark of a process's resident memory in bytes; `None` once it has ended.
fn high_water_mark(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

mod tests {
    use super::*;

    fn shell(script: &str) -> Marbre {
        let mut run = marbre(["-c", script]);
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        run.command = command;
        run
    }

    #[test]
    fn what_a_program_says_and_how_it_ends_is_seen() {
        let document = r#"{"document": "error", "version": 1, "error": "a", "cause": null, "remedy": null, "exit_code": 9}"#;
        let script = format!("echo '{document}'; echo oh >&2; sleep 0.1; exit 9");
        let outcome = shell(&script).fails_with(9).expect_stderr("oh");
        assert_eq!(outcome.json()["error"], "a");
        assert!(outcome.peak_memory > 100_000, "{}", outcome.peak_memory);
    }

    #[test]
    fn a_program_is_killed_when_asked() {
        let outcome = shell("exec sleep 20").kill_after(Duration::from_millis(50)).run();
        assert_eq!(outcome.code(), None);
        assert!(outcome.seconds < 10.0);
    }

    #[test]
    #[should_panic(expected = "did not end within")]
    fn a_program_that_hangs_fails_its_test() {
        shell("exec sleep 20").timeout(Duration::from_millis(50)).run();
    }
}
