//! A throwaway server: made for one drill, in a sandbox, on a socket in a private folder, and removed after it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::connect::Connector;
use super::super::postgres_config::PostgresConfig;
use super::super::version::Version;
use super::preload;
use super::processes::{self, LOG_PREFIX, Segment, cluster_name, last_message, trouble};
use super::programs::Programs;
use super::{DATABASE, LOCK_TIMEOUT};
use crate::engine::interruptible;
use crate::engine::throwaway::folder::{self, create, make_private, remove_folder, tail, text, word};
use crate::engine::throwaway::reserve::Reserve;
use crate::engine::throwaway::running::Running;
use crate::engine::throwaway::{not_made, random_name, random_password};
use crate::error::{Error, Result, ResultExt};
use crate::system::runner::{Confinement, Runner};
use crate::system::sandbox::Room;

/// The files in the folder of a throwaway server.
#[derive(Debug, Clone)]
struct Layout {
    folder: PathBuf,
}

impl Layout {
    fn data(&self) -> PathBuf {
        folder::data(&self.folder)
    }

    fn sockets(&self) -> PathBuf {
        self.folder.join("s")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The settings during a drill.
    fn settings(&self) -> PathBuf {
        self.folder.join("server.conf")
    }

    /// The settings for people who look at a kept database: they need no password.
    fn look(&self) -> PathBuf {
        self.folder.join("look.conf")
    }

    /// The user's name, for programs that look it up.
    fn passwd(&self) -> PathBuf {
        self.folder.join("passwd")
    }

    /// What the server and everything that loads into it see.
    async fn room(&self, directories: [&Path; 2]) -> Room {
        let mut read = vec![self.folder.clone()];
        for directory in BTreeSet::from(directories) {
            read.extend(Programs::installation(directory).await);
        }
        Room { read, write: vec![self.data(), self.sockets()], passwd: Some(self.passwd()) }
    }
}

/// Fails if the path of a socket below this folder would be too long.
pub(crate) fn refuse_long(folder: &Path) -> Result<()> {
    let socket = Layout { folder: folder.to_owned() }.sockets().join(".s.PGSQL.5432");
    folder::refuse_long(&socket, folder)
}

/// What the server must be like.
#[derive(Debug, Clone)]
pub(crate) struct Size {
    /// Connections at the same time that load data.
    pub jobs: usize,
    /// Tables of the snapshot.
    pub tables: usize,
    /// The server's major version.
    pub major: u32,
    /// The libraries that it preloads.
    pub preload: Vec<String>,
}

/// How long the server may take to start.
const START: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(25);

/// A running server.
pub(crate) struct Server {
    layout: Layout,
    programs: Programs,
    confinement: Arc<Confinement>,
    running: Running,
    reserve: Reserve,
    connector: Connector,
    version: Version,
}

impl Server {
    /// Makes the server in `folder`, which does not exist yet, and waits until it answers. Programs of `tools` will load into
    /// it.
    pub(super) async fn start(
        programs: Programs,
        tools: &Path,
        runner: Runner,
        folder: &Path,
        size: Size,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        refuse_long(folder)?;
        let parent = folder.parent().ok_or_else(|| Error::internal("a drill without a folder"))?;
        runner.open_way(parent).await?;
        let layout = Layout { folder: folder.to_owned() };
        let (user, password) = (random_name("marbre"), random_password());
        let connector = connector(&layout, &user, password.clone())?;
        let log = lay_out(&layout, &runner, size)?;
        let room = layout.room([&programs.directory, tools]).await;
        let confinement = Arc::new(Confinement { runner, room });
        initialise(&layout, &programs, &confinement, &user, &password, &log, cancel).await?;
        let mut confined = confinement.command(&programs.directory.join("postgres"))?;
        confined.command.args(arguments(&layout, &layout.settings())?);
        let mut running = Running::start(confined, &log).await?;
        let reserve = Reserve::watch(folder, running.group())?;
        let version = ready(&mut running, &connector, &layout, cancel).await?;
        let connector = connector.with_database(DATABASE);
        Ok(Self { layout, programs, confinement, running, reserve, connector, version })
    }

    /// How programs that load into it are to run.
    pub(super) fn confinement(&self) -> Arc<Confinement> {
        self.confinement.clone()
    }

    /// The server's version.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// A serious problem of the server, if its log reports one.
    pub(super) fn trouble(&self) -> Option<String> {
        self.reserve.trouble().or_else(|| trouble(&tail(&self.layout.log())))
    }

    /// The database to restore into, as the superuser.
    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Ends the server immediately, and removes everything it made.
    pub(super) async fn remove(mut self) -> Result<()> {
        let segment = Segment::of(&self.layout.folder);
        self.running.kill().await?;
        clear(&self.layout.folder, segment).await
    }

    /// Ends the server, keeps its files, and says how to look at them.
    pub(super) async fn keep(mut self) -> Result<String> {
        let segment = Segment::of(&self.layout.folder);
        // The next start has little to recover then. A server that does not answer any more recovers more.
        if let Ok(session) = self.connector.connect(&CancellationToken::new()).await {
            let _not_answering = session.client.batch_execute("CHECKPOINT").await;
        }
        self.running.kill().await?;
        processes::end(&self.layout.folder).await?;
        if let Some(segment) = segment {
            segment.remove().await?;
        }
        // It names a process that is gone, whose number another one may have by then.
        let _absent = fs::remove_file(self.layout.data().join("postmaster.pid"));
        let start = self.layout.folder.join("start");
        let args = arguments(&self.layout, &self.layout.look())?;
        let (runner, room) = (&self.confinement.runner, &self.confinement.room);
        let server = self.programs.directory.join("postgres");
        let script = runner.script(&server, &args, room, &self.layout.folder)?;
        fs::write(&start, script).or_internal(format!("write {}", start.display()))?;
        Ok(format!(
            "The restored database is in {}, unencrypted. Start its server with `sh {}`, where Ctrl-C ends it. It asks for no \
             password: look at it with `{}{} -h {} -U {} {DATABASE}`.",
            self.layout.folder.display(),
            word(&start),
            runner.prefix(),
            word(&self.programs.directory.join("psql")),
            word(&self.layout.sockets()),
            self.connector.user(),
        ))
    }
}

/// What the server is started with.
fn arguments(layout: &Layout, settings: &Path) -> Result<Vec<OsString>> {
    Ok(vec!["-D".into(), layout.data().into(), option("config_file", settings)?.into()])
}

/// Removes what a server left in this folder, and the folder itself.
pub(crate) async fn sweep(folder: &Path) -> Result<()> {
    let segment = Segment::of(folder);
    clear(folder, segment).await
}

async fn clear(folder: &Path, segment: Option<Segment>) -> Result<()> {
    processes::end(folder).await?;
    if let Some(segment) = segment {
        segment.remove().await?;
    }
    remove_folder(folder).await
}

/// Makes folders and settings. The folder itself stays ours, so that the server cannot change its own settings, nor anything that
/// people run later.
fn lay_out(layout: &Layout, runner: &Runner, size: Size) -> Result<File> {
    let what = format!("make the folder {}", layout.folder.display());
    DirBuilder::new().mode(0o700).create(&layout.folder).or_internal(&what)?;
    for folder in [layout.data(), layout.sockets()] {
        make_private(&folder, runner)?;
    }
    let settings = settings(layout, size)?;
    let trust = layout.folder.join("look_hba.conf");
    let look =
        format!("include {}\nhba_file = {}\n", quoted(text(&layout.settings())?), quoted(text(&trust)?));
    let hba = layout.folder.join("hba.conf");
    for (path, content) in [
        (&layout.settings(), settings.as_str()),
        (&layout.look(), look.as_str()),
        (&hba, "local all all scram-sha-256\n"),
        // Nobody else can enter the folder of the socket.
        (&trust, "local all all trust\n"),
        (&layout.passwd(), &runner.passwd()),
    ] {
        create(path, content, runner)?;
    }
    let log = create(&layout.log(), "", runner)?;
    if runner.user.is_some() {
        fs::set_permissions(&layout.folder, Permissions::from_mode(0o711)).or_internal(&what)?;
    }
    Ok(log)
}

/// The server's settings: fast rather than safe, because it need not survive a crash; small; and without data in its log.
fn settings(layout: &Layout, size: Size) -> Result<String> {
    let sockets = layout.sockets();
    let connections = (size.jobs * 2 + 12).max(24).to_string();
    let locks = (1024 + size.tables / 4).to_string();
    let cluster = cluster_name(&layout.folder);
    let listed = format!("\"{}\"", text(&sockets)?.replace('"', "\"\""));
    let hba = layout.folder.join("hba.conf");
    let all = [
        ("listen_addresses", ""),
        ("unix_socket_directories", &listed),
        ("unix_socket_permissions", "0700"),
        ("port", "5432"),
        ("hba_file", text(&hba)?),
        ("password_encryption", "scram-sha-256"),
        ("cluster_name", &cluster),
        ("max_connections", &connections),
        ("max_locks_per_transaction", &locks),
        ("shared_buffers", "128MB"),
        ("maintenance_work_mem", "128MB"),
        // A segment in /dev/shm would outlive a killed server.
        ("dynamic_shared_memory_type", "mmap"),
        ("huge_pages", "off"),
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("synchronous_commit", "off"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("autovacuum", "off"),
        // A restored subscription must not fetch anything.
        ("max_logical_replication_workers", "0"),
        ("jit", "off"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("logging_collector", "off"),
        // Warnings and errors can hold values.
        ("log_min_messages", "log"),
        ("log_min_error_statement", "panic"),
        ("log_error_verbosity", "terse"),
        ("log_line_prefix", LOG_PREFIX),
        ("log_statement", "none"),
        ("update_process_title", "off"),
    ];
    let mut all = all.to_vec();
    if size.major >= 17 {
        // One that fires when somebody logs in would run with our rights, and on others than tables none has anything to do here.
        all.push(("event_triggers", "off"));
    }
    let preload = preload::settings(&size.preload);
    all.extend(preload.iter().map(|(name, value)| (*name, value.as_str())));
    Ok(all.iter().map(|(name, value)| format!("{name} = {}\n", quoted(value))).collect())
}

/// A value in a file of settings.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n"))
}

fn option(name: &str, path: &Path) -> Result<String> {
    Ok(format!("--{name}={}", text(path)?))
}

fn connector(layout: &Layout, user: &str, password: SecretString) -> Result<Connector> {
    let sockets = layout.sockets();
    let host = text(&sockets)?.replace('\\', "\\\\").replace('\'', "\\'");
    let url = format!("host='{host}' port=5432 user={user} dbname=postgres");
    let config = PostgresConfig::destination(url, LOCK_TIMEOUT);
    Connector::new(&PostgresConfig { password: Some(password), ..config })
}

async fn initialise(
    layout: &Layout,
    programs: &Programs,
    confinement: &Confinement,
    user: &str,
    password: &SecretString,
    log: &File,
    cancel: &CancellationToken,
) -> Result<()> {
    let file = layout.folder.join("password");
    create(&file, &format!("{}\n", password.expose_secret()), &confinement.runner)?;
    let mut confined = confinement.command(&programs.directory.join("initdb"))?;
    confined
        .command
        .arg("-D")
        .arg(layout.data())
        .args(["-N", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
        .arg(format!("--username={user}"))
        .arg(option("pwfile", &file)?);
    let mut running = Running::start(confined, log).await?;
    let ended = interruptible(cancel, running.wait()).await;
    fs::remove_file(&file).or_internal("remove the file of a password")?;
    let status = ended?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(&format!("initdb failed ({status})"), layout)),
    }
}

/// A program's failure, with its last message: nothing of the database is there yet.
fn failed(what: &str, layout: &Layout) -> Error {
    not_made(what, last_message(&tail(&layout.log())))
}

/// Waits until the server answers.
async fn ready(
    running: &mut Running,
    connector: &Connector,
    layout: &Layout,
    cancel: &CancellationToken,
) -> Result<Version> {
    let deadline = Instant::now() + START;
    loop {
        if let Some(status) = running.ended()? {
            return Err(failed(&format!("postgres ended ({status})"), layout));
        }
        match connector.connect(cancel).await {
            Ok(session) => return Ok(session.version),
            Err(e) if cancel.is_cancelled() => return Err(e),
            Err(e) if Instant::now() > deadline => {
                return Err(failed(&format!("it did not answer within {START:?}: {e}"), layout));
            }
            Err(_) => {}
        }
        tokio::select! {
            () = cancel.cancelled() => return Err(Error::interrupted()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_grow_with_the_work_and_quote_paths() {
        let layout = Layout { folder: "/x/it's, \"so\"".into() };
        let text =
            settings(&layout, Size { jobs: 40, tables: 8000, major: 15, preload: Vec::new() }).unwrap();
        assert!(text.contains("max_connections = '92'\n"), "{text}");
        assert!(text.contains("max_locks_per_transaction = '3024'\n"), "{text}");
        assert!(text.contains("unix_socket_directories = '\"/x/it''s, \"\"so\"\"/s\"'\n"), "{text}");
        assert!(text.contains("listen_addresses = ''\n"), "{text}");
    }
}
