//! Restores archives into one destination, through `pg_restore`. What fails does not keep the rest from being restored.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _};
use std::os::fd::OwnedFd;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::archive::{Archive, in_memory, next};
use super::complaints::{Complaints, FailedStatement, subject};
use super::connect::{Connector, Session};
use super::contents_list::{Owners, Rights, Run};
use super::load_role::LoadRole;
use super::rights_only::{changes_owner, is_about_rights};
use super::tools::{Environment, Streams, Tools};
use crate::engine::StreamReceiver;
use crate::error::{Error, Result, ResultExt};
use crate::model::observer::LoadObserver;

/// How archives are restored into one destination.
pub(crate) struct ArchiveLoad<'a> {
    /// The destination.
    pub connector: &'a Connector,
    /// The client tools.
    pub tools: &'a Tools,
    /// The destination's major version.
    pub server_major: u32,
    /// Set if the user is a superuser: what may run the database's own code is left to this role. Otherwise, missing rights of
    /// the user excuse what they keep from being set.
    pub loader: Option<&'a LoadRole>,
    /// A session of the user.
    pub session: &'a Session,
    /// Who owns what.
    pub owners: Owners,
    /// Everything belongs to the user of the destination, and grants are left out.
    pub no_owners: bool,
    /// The role that makes what the user would, where that is to belong to another role.
    pub maker: Option<String>,
    /// Everything goes into the default tablespace.
    pub no_tablespaces: bool,
    /// Settings of the source's own sessions.
    pub settings: BTreeMap<String, String>,
}

/// An entry that was not restored, or not wholly.
#[derive(Debug, Clone)]
pub(crate) struct Unrestored {
    /// Its line in the archive's list, as `--use-list` takes it.
    pub line: String,
    /// With which rights it was tried.
    pub rights: Rights,
    /// Why, in words that hold no data.
    pub reason: String,
    /// The object is there, though not as it was.
    pub made: bool,
    /// It could not be made because another server could not be reached.
    pub elsewhere: bool,
}

impl Unrestored {
    /// An entry that was not tried yet.
    pub(super) fn new(line: String, rights: Rights) -> Self {
        Self { line, rights, reason: String::new(), made: false, elsewhere: false }
    }
}

/// What came of restoring entries.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What could not be set for lack of rights.
    pub warnings: Vec<String>,
    /// What was not restored.
    pub failed: Vec<Unrestored>,
}

impl Outcome {
    /// An entry that was not restored, or not wholly.
    pub(super) fn failed(entry: Unrestored) -> Self {
        Self { warnings: Vec::new(), failed: vec![entry] }
    }

    /// Adds what came of other entries.
    pub(super) fn extend(&mut self, other: Self) {
        self.warnings.extend(other.warnings);
        self.failed.extend(other.failed);
    }
}

impl ArchiveLoad<'_> {
    /// Restores some entries of the archive.
    pub(super) async fn run(
        &self,
        archive: &Archive,
        run: Run,
        jobs: usize,
        cancel: &CancellationToken,
    ) -> Result<Outcome> {
        let (connector, switch) = match (run.rights, self.loader) {
            (Rights::Loader, Some(loader)) => loader.connector(),
            (Rights::User, _) => (self.connector, self.maker.as_deref()),
            _ => (self.connector, None),
        };
        let mut args = self.arguments();
        args.push(format!("--dbname={}", self.connector.keepalives()));
        args.extend(switch.map(|role| format!("--role={role}")));
        if run.rights == Rights::Unowned {
            args.push("--no-owner".to_owned());
        }
        if jobs > 1 {
            args.push(format!("--jobs={jobs}"));
        }
        // Loading into a database it writes nothing to its output, so that is free to hand it the list: which is not on
        // disk either, and can be opened in another process namespace.
        args.push("--use-list=/dev/stdout".to_owned());
        let list = in_memory("marbre-list", (run.lines.join("\n") + "\n").as_bytes())?;
        args.push("/dev/stdin".to_owned());
        let streams = Streams { stdin: Some(archive.stdin()?), stdout: Some(OwnedFd::from(list)) };
        let tool = self.tools.start("pg_restore", args, self.environment(connector)?, streams).await?;
        let (success, status, mut complaints) = tool.wait(cancel).await?;
        if success {
            return Ok(Outcome::default());
        }
        if complaints.statements.iter().any(|failed| failed.entry.is_none()) {
            // Several jobs do not say which entry it was.
            let lines: Vec<&str> = run.lines.iter().map(String::as_str).collect();
            let script = self.script_of(archive, &lines, &["--verbose"], cancel).await?;
            complaints.attribute(&String::from_utf8_lossy(&script));
        }
        self.judge(&status, &complaints, &run)
    }

    /// Restores a stream without storing it. Returns why not all of it was restored, if so.
    pub(super) async fn stream(
        &self,
        mut stream: StreamReceiver,
        observer: &dyn LoadObserver,
        cancel: &CancellationToken,
    ) -> Result<Option<String>> {
        let mut args = self.arguments();
        args.push(format!("--dbname={}", self.connector.keepalives()));
        let environment = self.environment(self.connector)?;
        let mut tool = self.tools.start("pg_restore", args, environment, Streams::default()).await?;
        let Some(mut stdin) = tool.stdin.take() else {
            return Err(Error::internal("pg_restore has no input"));
        };
        let mut broken = false;
        while let Some(bytes) = next(&mut stream, cancel).await? {
            observer.bytes(bytes.len() as u64);
            // It stops reading when it has failed; its exit status then says why. The stream is read to its
            // end in any case, because only then it is fully verified.
            if !broken {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Err(Error::interrupted()),
                    written = stdin.write_all(&bytes) => broken = written.is_err(),
                }
            }
        }
        drop(stdin);
        let (success, status, complaints) = tool.wait(cancel).await?;
        if success || (self.only_unknown_timeout(&complaints) && !broken) {
            return Ok(None);
        }
        match (&complaints.first, complaints.fatal) {
            (Some(reason), false) => Ok(Some(reason.clone())),
            _ => Err(complaints.error("pg_restore", &status)),
        }
    }

    /// The list of contents of a section, as `--use-list` takes it.
    pub(super) async fn list(
        &self,
        archive: &Archive,
        section: &str,
        cancel: &CancellationToken,
    ) -> Result<String> {
        let args = vec!["--list".to_owned(), format!("--section={section}"), "/dev/stdin".to_owned()];
        let list = self.output(archive, args, cancel).await?;
        Ok(String::from_utf8_lossy(&list).into_owned())
    }

    /// The script of some entries.
    pub(super) async fn script(
        &self,
        archive: &Archive,
        lines: &[&str],
        cancel: &CancellationToken,
    ) -> Result<Vec<u8>> {
        self.script_of(archive, lines, &[], cancel).await
    }

    async fn script_of(
        &self,
        archive: &Archive,
        lines: &[&str],
        more: &[&str],
        cancel: &CancellationToken,
    ) -> Result<Vec<u8>> {
        // It reads the list before it opens its output, so one file in memory serves for both.
        let list = in_memory("marbre-list", (lines.join("\n") + "\n").as_bytes())?;
        let mut script = list.try_clone().or_internal("share a file in memory")?;
        let mut args = self.arguments();
        let files = ["--use-list=/dev/stdout", "--file=/dev/stdout", "/dev/stdin"];
        args.extend(more.iter().chain(&files).map(|arg| (*arg).to_owned()));
        let streams = Streams { stdin: Some(archive.stdin()?), stdout: Some(OwnedFd::from(list)) };
        let environment = self.environment(self.connector)?;
        self.tools.start("pg_restore", args, environment, streams).await?.succeed(cancel).await?;
        let mut text = Vec::new();
        script.rewind().or_internal("read from memory")?;
        script.read_to_end(&mut text).or_internal("read from memory")?;
        Ok(text)
    }

    pub(super) async fn output(
        &self,
        archive: &Archive,
        args: Vec<String>,
        cancel: &CancellationToken,
    ) -> Result<Vec<u8>> {
        let streams = Streams { stdin: Some(archive.stdin()?), stdout: None };
        let environment = self.environment(self.connector)?;
        let mut tool = self.tools.start("pg_restore", args, environment, streams).await?;
        let mut output = Vec::new();
        if let Some(mut stdout) = tool.stdout.take() {
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Error::interrupted()),
                read = stdout.read_to_end(&mut output) => read.or_internal("read from pg_restore")?,
            };
        }
        tool.succeed(cancel).await?;
        Ok(output)
    }

    fn environment(&self, connector: &Connector) -> Result<Environment> {
        let mut environment = connector.environment("marbre pg_restore", self.tools.version.major)?;
        environment.add_options(&self.settings);
        Ok(environment)
    }

    /// Since 17, `pg_restore` sets `transaction_timeout` on every server; older servers do not know it, nor need it.
    fn sets_unknown_timeout(&self, failed: &FailedStatement) -> bool {
        self.tools.version.major >= 17
            && self.server_major < 17
            && failed.statement.starts_with("SET transaction_timeout")
    }

    fn only_unknown_timeout(&self, complaints: &Complaints) -> bool {
        complaints.are_all_statements()
            && complaints.statements.iter().all(|failed| self.sets_unknown_timeout(failed))
    }

    fn arguments(&self) -> Vec<String> {
        // The database's name is in the environment.
        let mut args = vec!["--no-password".to_owned()];
        if self.no_owners {
            args.extend(["--no-owner".to_owned(), "--no-privileges".to_owned()]);
        }
        if self.no_tablespaces {
            args.push("--no-tablespaces".to_owned());
        }
        args
    }

    /// What has failed, entry by entry; an error if it is not known what, or if nothing can go on.
    fn judge(&self, status: &str, complaints: &Complaints, run: &Run) -> Result<Outcome> {
        if !complaints.are_all_statements() {
            return Err(complaints.error("pg_restore", status));
        }
        let mut outcome = Outcome::default();
        let mut excused = BTreeSet::new();
        let mut failed: BTreeMap<u32, Unrestored> = BTreeMap::new();
        for statement in &complaints.statements {
            if self.sets_unknown_timeout(statement) {
                continue;
            }
            let line = statement.entry.and_then(|entry| Some((entry, run.line(entry)?)));
            let Some((entry, line)) = line else {
                return Err(complaints.error("pg_restore", status));
            };
            if self.loader.is_none() && is_about_rights(&statement.statement) {
                let what = subject(&statement.statement);
                outcome.warnings.push(format!("{what}: {}", statement.reason));
                excused.insert(entry);
                continue;
            }
            failed.entry(entry).or_insert_with(|| Unrestored {
                reason: statement.reason.clone(),
                made: changes_owner(&statement.statement),
                ..Unrestored::new(line.to_owned(), run.rights)
            });
        }
        // Whatever the tool named has failed, even if the lines of two jobs came mixed.
        for entry in complaints.entries.iter().filter(|entry| !excused.contains(*entry)) {
            let Some(line) = run.line(*entry) else { continue };
            failed.entry(*entry).or_insert_with(|| Unrestored {
                reason: complaints.first.clone().unwrap_or_default(),
                ..Unrestored::new(line.to_owned(), run.rights)
            });
        }
        outcome.failed = failed.into_values().collect();
        Ok(outcome)
    }
}
