//! Loads archives into a database through `pg_restore`.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::complaints::{Complaints, subject};
use super::connect::{Connector, Session};
use super::contents_list::{self, Owners, Rights, Run};
use super::load_role::LoadRole;
use super::tools::{Environment, Streams, Tools};
use crate::engine::StreamReceiver;
use crate::error::{Error, Result, ResultExt};
use crate::model::human;
use crate::model::observer::LoadObserver;

/// The largest schema archive that is loaded: it is held in memory, because `pg_restore` seeks in it, and nothing
/// in plaintext may touch the disk.
const LARGEST_SCHEMA: u64 = 256 * 1024 * 1024;

/// How archives are restored into one destination.
pub(crate) struct Restore<'a> {
    /// The destination.
    pub connector: &'a Connector,
    /// The client tools.
    pub tools: &'a Tools,
    /// The destination's major version.
    pub server_major: u32,
    /// The user is a superuser, so every complaint is an error; what may run the database's own code is left to this role.
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
}

/// What is restored by one call.
enum Entries<'a> {
    /// All of a section.
    Section(&'a str),
    /// Some.
    Run(Run),
}

/// An archive in memory.
pub(crate) struct Archive(File);

impl Archive {
    /// Reads a whole stream.
    pub(super) async fn receive(
        mut stream: StreamReceiver,
        observer: &dyn LoadObserver,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let mut file = memory("marbre-schema")?;
        let mut length = 0;
        while let Some(bytes) = next(&mut stream, cancel).await? {
            length += bytes.len() as u64;
            if length > LARGEST_SCHEMA {
                return Err(Error::preflight(format!(
                    "the schema archive is larger than {}",
                    human::bytes(LARGEST_SCHEMA)
                ))
                .remedy("Restore it by hand as docs/RECOVERY.md says."));
            }
            file.write_all(&bytes).or_internal("write to memory")?;
            observer.bytes(bytes.len() as u64);
        }
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&file, seals).or_internal("seal a file in memory")?;
        Ok(Self(file))
    }

    fn stdin(&self) -> Result<OwnedFd> {
        Ok(self.0.try_clone().or_internal("share a file in memory")?.into())
    }
}

fn memory(name: &str) -> Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create(name, flags).or_internal("make a file in memory")?;
    Ok(File::from(fd))
}

fn in_memory(name: &str, bytes: &[u8]) -> Result<File> {
    let mut file = memory(name)?;
    file.write_all(bytes).or_internal("write to memory")?;
    Ok(file)
}

/// The next bytes of a stream, unless the run is cancelled.
pub(crate) async fn next(
    stream: &mut StreamReceiver,
    cancel: &CancellationToken,
) -> Result<Option<bytes::Bytes>> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::interrupted()),
        bytes = stream.next() => bytes,
    }
}

impl Restore<'_> {
    /// Restores everything before the data. Returns what could not be restored.
    pub(super) async fn pre_data(
        &self,
        archive: &Archive,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>> {
        let Some(loader) = self.loader else {
            return self.entries(archive, Entries::Section("pre-data"), 1, cancel).await;
        };
        let list = self.list(archive, "pre-data", cancel).await?;
        let lines: Vec<&str> = list.lines().collect();
        let first_values = contents_list::has_aggregates_and_domains(&lines)
            && self.has_first_values(archive, cancel).await?;
        let mut warnings = Vec::new();
        let runs = contents_list::runs(&lines, &self.owners, first_values);
        let last = runs.iter().rposition(|run| run.rights == Rights::Loader);
        for (at, run) in runs.into_iter().enumerate() {
            if run.rights == Rights::Loader {
                loader.open_schemas(self.session).await?;
            }
            warnings.extend(self.entries(archive, Entries::Run(run), 1, cancel).await?);
            if Some(at) == last {
                loader.close(self.session).await?;
            }
        }
        Ok(warnings)
    }

    /// Restores entries of the archive. Returns what could not be restored.
    async fn entries(
        &self,
        archive: &Archive,
        entries: Entries<'_>,
        jobs: usize,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>> {
        let rights = match &entries {
            Entries::Section(_) => Rights::User,
            Entries::Run(run) => run.rights,
        };
        let (connector, switch) = match (rights, self.loader) {
            (Rights::Loader, Some(loader)) => loader.connector(),
            (Rights::User, _) => (self.connector, self.maker.as_deref()),
            _ => (self.connector, None),
        };
        let mut args = self.arguments();
        args.extend(switch.map(|role| format!("--role={role}")));
        if rights == Rights::Unowned {
            args.push("--no-owner".to_owned());
        }
        if jobs > 1 {
            args.push(format!("--jobs={jobs}"));
        }
        let mut list = None;
        match entries {
            Entries::Section(name) => args.push(format!("--section={name}")),
            Entries::Run(run) => {
                // Loading into a database it writes nothing to its output, so that is free to hand it the list: which is not on
                // disk either, and can be opened in another process namespace.
                args.push("--use-list=/dev/stdout".to_owned());
                list = Some(in_memory("marbre-list", (run.lines.join("\n") + "\n").as_bytes())?);
            }
        }
        // By name, each job can open it again and seek in it.
        args.push("/dev/stdin".to_owned());
        let streams = Streams { stdin: Some(archive.stdin()?), stdout: list.map(OwnedFd::from) };
        let tool = self.tools.start("pg_restore", args, self.environment(connector)?, streams).await?;
        let (success, status, complaints) = tool.wait(cancel).await?;
        self.judge(success, &status, &complaints)
    }

    /// Whether the script of everything before the data speaks of first values of aggregates.
    async fn has_first_values(&self, archive: &Archive, cancel: &CancellationToken) -> Result<bool> {
        let args = ["--section=pre-data", "--file=-", "/dev/stdin"].map(str::to_owned).to_vec();
        let script = self.output(archive, args, cancel).await?;
        Ok(memchr::memmem::find(&script, b"INITCOND").is_some())
    }

    /// Restores a stream without storing it. Returns what could not be restored.
    pub(super) async fn stream(
        &self,
        mut stream: StreamReceiver,
        observer: &dyn LoadObserver,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>> {
        let mut tool = self
            .tools
            .start("pg_restore", self.arguments(), self.environment(self.connector)?, Streams::default())
            .await?;
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
        self.judge(success, &status, &complaints)
    }

    /// Restores everything after the data. Event triggers come last, on their own: `pg_restore` refreshes
    /// materialized views at the same time, which would fire them. If tables have partitions, there is only one job:
    /// keys and indexes of partitions lock their parents and each other, of which `pg_restore` knows nothing, so that
    /// its workers now and then run into a deadlock. Returns what could not be restored.
    pub(super) async fn post_data(
        &self,
        archive: &Archive,
        jobs: usize,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>> {
        let list = self.list(archive, "post-data", cancel).await?;
        let (triggers, others): (Vec<&str>, Vec<&str>) =
            list.lines().partition(|line| contents_list::is_event_trigger(line));
        let jobs = if contents_list::has_partitions(&list) { 1 } else { jobs };
        let mut warnings = Vec::new();
        for lines in [others, triggers] {
            let runs = match self.loader {
                Some(_) => contents_list::runs(&lines, &self.owners, false),
                None => vec![contents_list::all(&lines)],
            };
            if let Some(loader) = self.loader.filter(|_| runs.iter().any(|run| run.rights == Rights::Loader))
            {
                loader.open_tables(self.session).await?;
            }
            for run in runs.into_iter().filter(|run| !run.lines.is_empty()) {
                warnings.extend(self.entries(archive, Entries::Run(run), jobs, cancel).await?);
            }
            if let Some(loader) = self.loader {
                loader.close(self.session).await?;
            }
        }
        Ok(warnings)
    }

    /// The list of contents of a section, as `--use-list` takes it.
    async fn list(&self, archive: &Archive, section: &str, cancel: &CancellationToken) -> Result<String> {
        let args = vec!["--list".to_owned(), format!("--section={section}"), "/dev/stdin".to_owned()];
        let list = self.output(archive, args, cancel).await?;
        Ok(String::from_utf8_lossy(&list).into_owned())
    }

    async fn output(
        &self,
        archive: &Archive,
        args: Vec<String>,
        cancel: &CancellationToken,
    ) -> Result<Vec<u8>> {
        let streams = Streams { stdin: Some(archive.stdin()?), stdout: None };
        let environment = self.environment(self.connector)?;
        let mut tool = self.tools.start("pg_restore", args, environment, streams).await?;
        let mut output = Vec::new();
        if let Some(stdout) = tool.stdout.take() {
            let mut stdout = stdout.take(LARGEST_SCHEMA);
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
        connector.environment("marbre pg_restore", self.tools.version.major)
    }

    /// Since 17, `pg_restore` sets `transaction_timeout` on every server; older servers do not know it, nor need it.
    fn sets_unknown_timeout(&self) -> bool {
        self.tools.version.major >= 17 && self.server_major < 17
    }

    fn arguments(&self) -> Vec<String> {
        let mut args = vec![
            "--no-password".to_owned(),
            // The name itself is in the environment.
            format!("--dbname={}", Connector::keepalives()),
        ];
        if self.loader.is_some() && !self.sets_unknown_timeout() {
            args.push("--exit-on-error".to_owned());
        }
        if self.no_owners {
            args.extend(["--no-owner".to_owned(), "--no-privileges".to_owned()]);
        }
        if self.no_tablespaces {
            args.push("--no-tablespaces".to_owned());
        }
        args
    }

    fn judge(&self, success: bool, status: &str, complaints: &Complaints) -> Result<Vec<String>> {
        if success {
            return Ok(Vec::new());
        }
        let mut warnings = Vec::new();
        let statements = &complaints.statements;
        let excused = statements.len() as u64 == complaints.errors && !complaints.overflow;
        for (reason, statement) in statements {
            if self.sets_unknown_timeout() && statement.starts_with("SET transaction_timeout") {
                continue;
            }
            if self.loader.is_some() || !is_about_rights(statement) {
                return Err(complaints.error_of("pg_restore", reason, statement));
            }
            warnings.push(format!("{}: {reason}", subject(statement)));
        }
        match excused && !statements.is_empty() {
            true => Ok(warnings),
            false => Err(complaints.error("pg_restore", status)),
        }
    }
}

/// Statements about owners and rights, or about objects that only a superuser may create: without them the data
/// is still complete.
fn is_about_rights(statement: &str) -> bool {
    const ABOUT: [&str; 13] = [
        "GRANT ",
        "REVOKE ",
        "ALTER DEFAULT PRIVILEGES ",
        "COMMENT ON EXTENSION ",
        "COMMENT ON EVENT TRIGGER ",
        "COMMENT ON PUBLICATION ",
        "COMMENT ON SUBSCRIPTION ",
        "CREATE EVENT TRIGGER ",
        "CREATE PUBLICATION ",
        "CREATE SUBSCRIPTION ",
        "ALTER EVENT TRIGGER ",
        "ALTER PUBLICATION ",
        "ALTER SUBSCRIPTION ",
    ];
    ABOUT.iter().any(|start| statement.starts_with(start)) || changes_owner(statement)
}

/// `ALTER … OWNER TO name;` with nothing after the name.
fn changes_owner(statement: &str) -> bool {
    let Some(at) = statement.rfind(" OWNER TO ") else {
        return false;
    };
    let name = statement[at + " OWNER TO ".len()..].trim_end();
    let Some(name) = name.strip_suffix(';') else {
        return false;
    };
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let quoted = name.len() > 2
        && name.starts_with('"')
        && name.ends_with('"')
        && !name[1..name.len() - 1].replace("\"\"", "").contains('"');
    statement.starts_with("ALTER ") && (plain || quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rights_are_excused() {
        for statement in [
            "ALTER TABLE public.a OWNER TO b;",
            "ALTER TABLE \"new\nline\" OWNER TO \"a \"\"b\";\n\n",
            "GRANT SELECT ON TABLE a TO b;",
            "CREATE EVENT TRIGGER et ON ddl_command_end",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC;",
        ] {
            assert!(is_about_rights(statement), "{statement}");
        }
        for statement in [
            "CREATE TABLE public.a ();",
            "ALTER TABLE ONLY public.a ADD CONSTRAINT p PRIMARY KEY (i);",
            "ALTER TABLE a ADD CONSTRAINT c CHECK (t <> ' OWNER TO b');",
            "",
        ] {
            assert!(!is_about_rights(statement), "{statement}");
        }
    }
}
