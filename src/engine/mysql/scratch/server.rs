//! A throwaway server: made for one drill, in a sandbox, on a socket in a private folder, and removed after it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::connect::{Connector, MysqlConfig};
use super::super::version::Version;
use super::LOCK_TIMEOUT;
use super::arguments::{self, Size};
use super::layout::{Layout, refuse_long};
use super::log::{last_message, trouble};
use super::programs::{self, Programs};
use crate::engine::interruptible;
use crate::engine::throwaway::folder::{create, make_private, remove_folder, tail, text, word};
use crate::engine::throwaway::processes::{self, Signs};
use crate::engine::throwaway::reserve::Reserve;
use crate::engine::throwaway::running::Running;
use crate::engine::throwaway::{not_made, random_name, random_password};
use crate::error::{Error, Result, ResultExt};
use crate::model::engine_kind::EngineKind;
use crate::system::programs::shell_word;
use crate::system::runner::{Confinement, Runner};

/// How the processes of a server are known.
fn signs() -> Signs {
    Signs { programs: programs::NAMES, title: None }
}

/// How long the server may take to start, and to end by itself.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(25);

/// A running server.
pub(super) struct Server {
    layout: Layout,
    programs: Programs,
    confinement: Confinement,
    size: Size,
    running: Running,
    reserve: Reserve,
    connector: Connector,
    version: Version,
}

impl Server {
    /// Makes the server in `folder`, which does not exist yet, and waits until it answers. `database` will be made by the loader.
    pub(super) async fn start(
        programs: Programs,
        runner: Runner,
        folder: &Path,
        size: Size,
        database: &str,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        refuse_long(folder)?;
        let parent = folder.parent().ok_or_else(|| Error::internal("a drill without a folder"))?;
        runner.open_way(parent).await?;
        let layout = Layout { folder: folder.to_owned() };
        let login = Login { user: random_name("marbre"), password: random_password() };
        let connector = login.connector(programs.kind, &layout, database)?;
        let log = lay_out(&layout, &runner)?;
        let confinement = Confinement { runner, room: layout.room(&programs).await };
        initialise(&layout, &programs, &confinement, size, &log, cancel).await?;
        let file = layout.statements();
        create(&file, &statements(programs.kind, &login), &confinement.runner)?;
        let mut confined = confinement.command(&programs.server)?;
        confined.command.args(arguments::server(&programs, &layout, size)?);
        confined.command.arg(arguments::option("init-file", &file)?);
        let mut running = Running::start(confined, &log).await?;
        let reserve = Reserve::watch(folder, running.group())?;
        let answered = ready(&mut running, &connector, &layout, cancel).await;
        fs::remove_file(&file).or_internal("remove the file of a password")?;
        let version = answered?;
        refuse_open(programs.kind, &layout, database, cancel).await?;
        Ok(Self { layout, programs, confinement, size, running, reserve, connector, version })
    }

    /// The server's version.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// The database to restore into, as a user who may do everything.
    pub(super) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The same database, as this user.
    pub(super) fn connector_of(&self, login: &Login) -> Result<Connector> {
        login.connector(self.programs.kind, &self.layout, self.connector.database())
    }

    /// A serious problem of the server, if its log reports one.
    pub(super) fn trouble(&self) -> Option<String> {
        self.reserve.trouble().or_else(|| trouble(&tail(&self.layout.log())))
    }

    /// Ends the server immediately, and removes everything it made.
    pub(super) async fn remove(mut self) -> Result<()> {
        self.running.kill().await?;
        sweep(&self.layout.folder).await
    }

    /// Ends the server, keeps its files, and says how to look at them.
    pub(super) async fn keep(mut self) -> Result<String> {
        // The next start has nothing to recover then. A server that does not answer any more recovers something.
        let go = CancellationToken::new();
        if let Ok(mut session) = self.connector.connect_to_server(&go).await {
            let _not_answering = session.execute("SHUTDOWN").await;
            let _too_long = tokio::time::timeout(STOP, self.running.wait()).await;
        }
        self.running.kill().await?;
        processes::end(&self.layout.folder, &signs()).await?;
        let start = self.layout.folder.join("start");
        let mut args = arguments::server(&self.programs, &self.layout, self.size)?;
        // Nobody else can enter the folder of the socket.
        args.push("--skip-grant-tables".into());
        let Confinement { runner, room } = &self.confinement;
        let script = runner.script(&self.programs.server, &args, room, &self.layout.folder)?;
        fs::write(&start, script).or_internal(format!("write {}", start.display()))?;
        let socket = format!("--socket={}", text(&self.layout.socket())?);
        Ok(format!(
            "The restored database is in {}, unencrypted. Start its server with `sh {}`, where the statement SHUTDOWN ends it. It \
             asks for no password: look at it with `{}{} --no-defaults {} {}`.",
            self.layout.folder.display(),
            word(&start),
            runner.prefix(),
            word(&self.programs.client()),
            shell_word(&socket),
            shell_word(self.connector.database()),
        ))
    }
}

/// Removes what a server left in this folder, and the folder itself.
pub(super) async fn sweep(folder: &Path) -> Result<()> {
    processes::end(folder, &signs()).await?;
    remove_folder(folder).await
}

/// A user of the server.
pub(super) struct Login {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

impl Login {
    fn connector(&self, kind: EngineKind, layout: &Layout, database: &str) -> Result<Connector> {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let url = format!(
            "mysql:///{}?socket={}&user={}",
            encoded(database),
            encoded(text(&layout.socket())?),
            encoded(&self.user)
        );
        let config = MysqlConfig::destination(kind, url, 1, LOCK_TIMEOUT);
        Connector::new(&MysqlConfig { password: Some(self.password.clone()), ..config })
    }
}

/// Makes folders and files. The folder itself stays ours, so that the server cannot change anything that people run later.
fn lay_out(layout: &Layout, runner: &Runner) -> Result<File> {
    let what = format!("make the folder {}", layout.folder.display());
    DirBuilder::new().mode(0o700).create(&layout.folder).or_internal(&what)?;
    for folder in [layout.data(), layout.sockets(), layout.temporary()] {
        make_private(&folder, runner)?;
    }
    DirBuilder::new().mode(0o755).create(layout.empty()).or_internal(&what)?;
    create(&layout.passwd(), &runner.passwd(), runner)?;
    let log = create(&layout.log(), "", runner)?;
    if runner.user.is_some() {
        let (passable, readable) = (Permissions::from_mode(0o711), Permissions::from_mode(0o755));
        fs::set_permissions(&layout.folder, passable).or_internal(&what)?;
        fs::set_permissions(layout.empty(), readable).or_internal(&what)?;
    }
    Ok(log)
}

/// What the server runs before it lets anybody in: one statement per line. Names and passwords are letters and digits.
fn statements(kind: EngineKind, login: &Login) -> String {
    let (user, password) = (&login.user, login.password.expose_secret());
    let others = match kind {
        // The host's name is in some of theirs.
        EngineKind::MariaDb => format!(
            "DELETE FROM mysql.global_priv WHERE User NOT IN ('{user}', 'mariadb.sys', 'PUBLIC');\n\
             DELETE FROM mysql.proxies_priv;\n\
             FLUSH PRIVILEGES;\n"
        ),
        _ => "DROP USER 'root'@'localhost';\n".to_owned(),
    };
    format!(
        "CREATE USER '{user}'@'localhost' IDENTIFIED BY '{password}';\n\
         GRANT ALL PRIVILEGES ON *.* TO '{user}'@'localhost' WITH GRANT OPTION;\n{others}"
    )
}

/// Fails if somebody gets in without a password.
async fn refuse_open(
    kind: EngineKind,
    layout: &Layout,
    database: &str,
    cancel: &CancellationToken,
) -> Result<()> {
    for user in ["root".to_owned(), random_name("anybody")] {
        let login = Login { user, password: String::new().into() };
        let connected = login.connector(kind, layout, database)?.connect_to_server(cancel).await;
        match connected {
            Ok(_) => return Err(Error::internal("the throwaway server lets people in without a password")),
            Err(e) if cancel.is_cancelled() => return Err(e),
            Err(_) => {}
        }
    }
    Ok(())
}

async fn initialise(
    layout: &Layout,
    programs: &Programs,
    confinement: &Confinement,
    size: Size,
    log: &File,
    cancel: &CancellationToken,
) -> Result<()> {
    let program = programs.installer.as_ref().unwrap_or(&programs.server);
    let mut confined = confinement.command(program)?;
    confined.command.args(arguments::initial(programs, layout, size)?);
    let mut running = Running::start(confined, log).await?;
    let status = interruptible(cancel, running.wait()).await?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(&format!("its data could not be made ({status})"), layout)),
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
            return Err(failed(&format!("it ended ({status})"), layout));
        }
        match connector.connect_to_server(cancel).await {
            Ok(session) => return Ok(session.version()),
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
