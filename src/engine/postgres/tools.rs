//! PostgreSQL's own client tools: finding them, running them, and never leaving one behind.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::complaints::Complaints;
use super::known::Known;
use super::version::Version;
use crate::error::{Error, Result, ResultExt};
use crate::system::programs::SETPRIV;
use crate::system::runner::{Confined, Confinement};

/// `pg_dump` and `pg_restore` of one version.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    directory: PathBuf,
    /// Their version.
    pub version: Version,
    /// How they run where they touch the data of a drill.
    confinement: Option<Arc<Confinement>>,
}

/// What a tool reads from and writes to; by default pipes to us.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Its input.
    pub stdin: Option<OwnedFd>,
    /// Its output.
    pub stdout: Option<OwnedFd>,
}

/// What a tool is told of its surroundings.
pub(crate) struct Environment {
    /// Variables: the connection, which no list of processes may show.
    pub variables: Vec<(String, String)>,
    /// What its complaints may name.
    pub known: Arc<Known>,
}

impl Environment {
    /// Adds settings of the tool's sessions.
    pub(super) fn add_options(&mut self, settings: &BTreeMap<String, String>) {
        const OPTIONS: &str = "PGOPTIONS";
        let mut options: Vec<String> = settings
            .iter()
            .map(|(name, value)| {
                let value = value.replace('\\', "\\\\").replace(' ', "\\ ");
                format!("-c {name}={value}")
            })
            .collect();
        if let Some(at) = self.variables.iter().position(|(name, _)| name == OPTIONS) {
            // What the connection's own options say comes last, and counts.
            options.push(self.variables.remove(at).1);
        }
        if !options.is_empty() {
            self.variables.push((OPTIONS.to_owned(), options.join(" ")));
        }
    }
}

impl Tools {
    /// The tools to use with a server of this major version: those in `bin_dir`; else those closest to the
    /// server's version in `$PATH` and the folders of distributions. An archive can only be loaded by tools
    /// that are at least as new as those that wrote it, and these can be too new for the server.
    pub(super) async fn find(bin_dir: Option<&Path>, server_major: u32) -> Result<Self> {
        let mut found: Vec<Self> = Vec::new();
        let mut refused: Vec<String> = Vec::new();
        for directory in candidates(bin_dir) {
            let Some(tools) = Self::look(&directory).await else {
                continue;
            };
            match tools.version.tool_refusal(server_major) {
                None => found.push(tools),
                Some(reason) => {
                    let at = directory.display();
                    refused.push(format!("{} in {at}: {reason}", tools.version));
                }
            }
        }
        found.sort_by_key(|tools| (tools.version.major, Reverse(tools.version.minor)));
        found.into_iter().next().ok_or_else(|| {
            let cause = match (refused.is_empty(), bin_dir) {
                (false, _) => refused.join("; "),
                (true, Some(dir)) => format!("none in {}", dir.display()),
                (true, None) => "none in PATH and /usr/lib/postgresql".to_owned(),
            };
            Error::preflight(format!(
                "no pg_dump and pg_restore can be used with server {server_major}"
            ))
            .cause(cause)
            .remedy(format!(
                "Install the client tools of PostgreSQL {server_major} or newer in their latest minor release (on Debian `sudo \
                 apt-get install postgresql-client-{server_major}`), or set bin_dir."
            ))
        })
    }

    /// Where they are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Both tools in this directory, if they are of one version.
    async fn look(directory: &Path) -> Option<Self> {
        let dump = tool_version(&directory.join("pg_dump")).await?;
        let restore = tool_version(&directory.join("pg_restore")).await?;
        (dump == restore).then(|| Self { directory: directory.to_owned(), version: dump, confinement: None })
    }

    /// The same tools, run in this way.
    pub(super) fn confined(self, confinement: Option<Arc<Confinement>>) -> Self {
        Self { confinement, ..self }
    }

    /// Starts one of the tools in its own process group. The kernel kills it when this process
    /// dies, and dropping the [`Tool`] kills it with its group.
    pub(super) async fn start(
        &self,
        name: &'static str,
        args: Vec<String>,
        environment: Environment,
        streams: Streams,
    ) -> Result<Tool> {
        let program = self.directory.join(name);
        let mut confined = match &self.confinement {
            Some(confinement) => confinement.command(&program)?,
            None => bare(&program),
        };
        confined
            .command
            .args(args)
            .envs(environment.variables)
            .stdin(streams.stdin.map_or_else(Stdio::piped, Stdio::from))
            .stdout(streams.stdout.map_or_else(Stdio::piped, Stdio::from))
            .stderr(Stdio::piped());
        let mut child = confined.spawn().await?.or_internal(format!("start {}", program.display()))?;
        let stderr = child.stderr.take();
        Ok(Tool {
            name,
            group: child.id().and_then(|id| Pid::from_raw(id.cast_signed())),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: tokio::spawn(async move {
                match stderr {
                    Some(stderr) => Complaints::read(stderr, &environment.known).await,
                    None => Complaints::default(),
                }
            }),
            child,
        })
    }
}

/// The program as it is, but for variables that are not of our making.
fn bare(program: &Path) -> Confined {
    let mut confined = match &*SETPRIV {
        Some(setpriv) => {
            let mut confined = Confined::bare(setpriv);
            confined.command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            confined
        }
        None => Confined::bare(program),
    };
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("PG") {
            confined.command.env_remove(key);
        }
    }
    confined
}

fn candidates(bin_dir: Option<&Path>) -> Vec<PathBuf> {
    if let Some(dir) = bin_dir {
        return vec![dir.to_owned()];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path)
        // Debian's wrapper chooses a version by its own rules.
        .filter(|dir| {
            dir.join("pg_dump")
                .canonicalize()
                .is_ok_and(|real| real.file_name().is_some_and(|name| name == "pg_dump"))
        })
        .collect();
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    directories.extend(packaged.flatten().map(|entry| entry.path().join("bin")));
    directories.sort();
    directories.dedup();
    directories
}

/// The version that a program of PostgreSQL reports.
pub(crate) async fn tool_version(path: &Path) -> Option<Version> {
    if !path.is_file() {
        return None;
    }
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(10), output).await.ok()?.ok()?;
    Version::from_tool(&String::from_utf8_lossy(&output.stdout))
}

/// A running tool.
pub(crate) struct Tool {
    name: &'static str,
    child: tokio::process::Child,
    group: Option<Pid>,
    /// Its input, unless it was given one.
    pub stdin: Option<ChildStdin>,
    /// Its output.
    pub stdout: Option<ChildStdout>,
    stderr: JoinHandle<Complaints>,
}

impl Tool {
    /// Waits for the end. Exit status 0 is success; its complaints are returned in any case.
    pub(super) async fn wait(mut self, cancel: &CancellationToken) -> Result<(bool, String, Complaints)> {
        drop(self.stdin.take());
        let status = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::interrupted()),
            status = self.child.wait() => status.or_internal(format!("wait for {}", self.name))?,
        };
        self.group = None;
        let complaints = (&mut self.stderr).await.unwrap_or_default();
        Ok((status.success(), status.to_string(), complaints))
    }

    /// Waits for the end, which must be a success.
    pub(super) async fn succeed(self, cancel: &CancellationToken) -> Result<()> {
        let name = self.name;
        match self.wait(cancel).await? {
            (true, _, _) => Ok(()),
            (false, status, complaints) => Err(complaints.error(name, &status)),
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            // It may have ended already.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_refused_directory_says_what_was_found() {
        let empty = tempfile::tempdir().unwrap();
        let error = Tools::find(Some(empty.path()), 15).await.unwrap_err();
        assert!(error.to_string().contains("none in"), "{error}");
        assert!(error.remedy_text().is_some());
    }

    #[tokio::test]
    async fn a_dropped_tool_dies_with_its_children() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("pg_dump");
        std::fs::write(&script, "#!/bin/sh\nsleep 1000 & echo $!\nwait\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let tools = Tools {
            directory: dir.path().to_owned(),
            version: Version::from_number(150_020),
            confinement: None,
        };
        let environment = Environment { variables: vec![], known: Arc::default() };
        let mut tool = tools.start("pg_dump", vec![], environment, Streams::default()).await.unwrap();
        let mut buffer = [0; 64];
        let n = tool.stdout.as_mut().unwrap().read(&mut buffer).await.unwrap();
        let grandchild: u32 = std::str::from_utf8(&buffer[..n]).unwrap().trim().parse().unwrap();
        drop(tool);
        let gone = || {
            std::fs::read_to_string(format!("/proc/{grandchild}/stat"))
                .map_or(true, |stat| stat.contains(") Z "))
        };
        for _ in 0..100 {
            if gone() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("process {grandchild} is still there");
    }
}
