//! A Debian that runs a real systemd, in a container without a network.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a system may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// A started system. What is written in it is gone with it.
pub struct Machine {
    container: Child,
    /// The process of its systemd, as this machine numbers it.
    init: u32,
    /// Its terminal.
    log: PathBuf,
    _folder: tempfile::TempDir,
    /// Containers that nobody manages share the cgroup that they are started in, so there is one at a time.
    _alone: File,
}

/// A command that root runs.
fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

impl Machine {
    /// Starts this release of Debian; the folder is at `/shared` in it, to be read.
    pub fn start(release: &str, shared: &Path) -> Self {
        let roots = PathBuf::from(std::env::var_os("MARBRE_TEST_ROOTS").unwrap_or_default());
        let root = roots.join(release);
        assert!(
            roots.join(format!("{release}.complete")).exists(),
            "there is no Debian {release} in {roots:?}: run tests/run --long, or MARBRE_TEST_LONG=1 tests/install"
        );
        let alone = File::create(std::env::temp_dir().join("marbre-tests-machine.lock")).unwrap();
        rustix::fs::flock(&alone, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("terminal");
        let terminal = File::create(&log).unwrap();
        let mut nspawn = as_root("systemd-nspawn");
        nspawn.args([
            "--quiet",
            "--boot",
            "--volatile=overlay",
            "--private-network",
            "--register=no",
            "--keep-unit",
        ]);
        nspawn.args(["--machine=marbre-test", "--console=pipe", "--directory"]).arg(&root);
        nspawn.arg(format!("--bind-ro={}:/shared", shared.display()));
        nspawn.stdin(Stdio::null()).stdout(terminal.try_clone().unwrap()).stderr(terminal);
        let container = nspawn.spawn().unwrap_or_else(|e| panic!("{nspawn:?}: {e}: run tests/run --long"));
        let mut machine = Self { container, init: 0, log, _folder: folder, _alone: alone };
        machine.wait_for_systemd();
        machine
    }

    fn wait_for_systemd(&mut self) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.container.try_wait().unwrap() {
                panic!("the container ended: {status}\n{}", self.terminal());
            }
            if let Some(init) = descendant(self.container.id(), "systemd") {
                self.init = init;
                let state = self.run("systemctl is-system-running");
                if state.stdout == b"running\n" {
                    // sudo wants to know its host.
                    self.sh("echo 127.0.1.1 $(hostname) >>/etc/hosts");
                    return;
                }
                let state = String::from_utf8_lossy(&state.stdout).into_owned();
                assert!(started.elapsed() < PATIENCE, "systemd is {state:?}\n{}", self.terminal());
            }
            assert!(started.elapsed() < PATIENCE, "systemd did not start\n{}", self.terminal());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn terminal(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What root's shell makes of this script.
    pub fn run(&self, script: &str) -> Output {
        let mut shell = as_root("nsenter");
        shell.args([
            "--target",
            &self.init.to_string(),
            "--all",
            "/usr/bin/env",
            "-i",
            "HOME=/root",
            "LANG=C.UTF-8",
        ]);
        shell.args([
            "DEBIAN_FRONTEND=noninteractive",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "sh",
            "-euc",
            script,
        ]);
        shell.stdin(Stdio::null()).output().unwrap()
    }

    /// What the script says, on either stream; it must succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let output = self.run(script);
        let said = both(&output);
        assert!(
            output.status.success(),
            "{script}\n--- {}\n{said}\n--- the journal\n{}",
            output.status,
            self.journal()
        );
        said
    }

    /// What the script says; it must fail.
    #[track_caller]
    pub fn fails(&self, script: &str) -> String {
        let output = self.run(script);
        assert!(!output.status.success(), "{script}\n--- {}\n{}", output.status, both(&output));
        both(&output)
    }

    /// The end of its journal.
    pub fn journal(&self) -> String {
        both(&self.run("journalctl --no-pager --lines 40"))
    }

    /// Waits until the script succeeds, or fails the test.
    #[track_caller]
    pub fn wait_for(&self, what: &str, script: &str) {
        let started = Instant::now();
        while !self.run(script).status.success() {
            assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}\n{}", self.journal());
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.run("systemctl poweroff");
        let started = Instant::now();
        while self.container.try_wait().is_ok_and(|ended| ended.is_none()) {
            if started.elapsed() > PATIENCE {
                // Its end is that of everything in it.
                let _ = as_root("kill").args(["-KILL", &self.init.to_string()]).status();
                let _ = self.container.wait();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The first process of this name below another one.
fn descendant(of: u32, name: &str) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).ok()?;
    children.split_whitespace().filter_map(|child| child.parse().ok()).find_map(|child: u32| {
        match fs::read_to_string(format!("/proc/{child}/comm")).ok()?.trim() == name {
            true => Some(child),
            false => descendant(child, name),
        }
    })
}
