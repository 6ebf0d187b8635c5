//! `marbre daemon`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::compose::channels;
use super::compose::jobs;
use super::context::Context;
use crate::cli::compose::launcher::Launcher;
use crate::config::Config;
use crate::daemon::plan::Plan;
use crate::daemon::publish::nothing_yet;
use crate::daemon::work::HostClock;
use crate::daemon::{Daemon, Exit, Parts, Request, ServiceNotifier, Setup};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::health::presence;
use crate::job::run_lock::Lock;
use crate::model::job::JobKind;
use crate::state::State;
use crate::web::{self, Published};

/// How often the loop reports that it is alive, unless systemd asks for a shorter interval.
const HEARTBEAT: Duration = Duration::from_secs(30);

pub(crate) async fn run(context: &Context) -> Result<Option<Error>> {
    // First of all: from here on a signal ends the daemon gracefully.
    let requests = requests()?;
    let config = context.config()?;
    let folder = config.state_dir.clone();
    let state = State::open(&folder)?;
    let _lock = alone(&folder).await?;
    jobs::sweep_scratch(&config, &*context.observer()).await?;
    let file = context.config_file();
    let now = Timestamp::now();
    let databases: Vec<_> = config.databases.iter().map(|db| db.id.clone()).collect();
    let web = config.web.clone();
    let (status_sender, published) = watch::channel(Arc::new(nothing_yet(&databases, now)));
    let shown = CancellationToken::new();
    let startup_error = show(&config, published, &shown).await;
    let notifier = Arc::new(Systemd::new(&folder));
    let parts = Parts {
        setup: setup(config, &folder, &state)?,
        reload: Box::new({
            let state = state.clone();
            move || {
                let config = Config::load(file.as_deref())?;
                if config.web != web {
                    return Err(Error::new(ErrorKind::Config, "[web] has changed")
                        .remedy("It cannot be changed under a daemon: restart it instead of reloading."));
                }
                setup(config, &folder, &state)
            }
        }),
        state,
        clock: Arc::new(HostClock),
        requests,
        notifier,
        status_sender,
        startup_error,
    };
    let ended = Daemon::new(parts)?.run().await;
    shown.cancel();
    match ended {
        Exit::InOrder => Ok(None),
        Exit::Dropped(n) => {
            let what = format!("{n} runs did not stop in time, and were dropped");
            Ok(Some(
                Error::interrupted()
                    .cause(what)
                    .remedy("Nothing is half-recorded. The next start makes up for what was dropped."),
            ))
        }
    }
}

/// One daemon for each state: two would do everything twice, and notify everybody twice.
async fn alone(folder: &Path) -> Result<[Option<Lock>; 2]> {
    let file = presence::lock_file(folder);
    let take = || Lock::take_folder(folder, &file, "another daemon runs on this state");
    let mut taken = take();
    // Somebody who looks whether a daemon is there holds the lock for a moment.
    for _ in 0..3 {
        if taken.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        taken = take();
    }
    taken.map_err(|e| {
        let remedy = "One daemon serves all databases of a configuration: stop the other one, or give this one another `state_dir`.";
        if e.kind() == ErrorKind::Conflict { e.remedy(remedy) } else { e }
    })
}

/// What the daemon does with this configuration.
fn setup(config: Config, folder: &Path, state: &State) -> Result<Setup> {
    if config.state_dir != folder {
        let what = format!("`state_dir` was {}, and is {} now", folder.display(), config.state_dir.display());
        return Err(Error::new(ErrorKind::Config, what)
            .remedy("The state cannot be changed under a daemon: restart it instead of reloading."));
    }
    let plan = Plan::of(&config);
    if plan.jobs.is_empty() {
        let what = format!("nothing is scheduled in {}", config.origin.display());
        return Err(Error::new(ErrorKind::Config, what).remedy(
            "Give each database a table [database.NAME.schedule], with `snapshot = \"0 2 * * *\"` at least; see \
             config.example.toml.",
        ));
    }
    for database in config.databases.iter().filter(|db| db.schedules.of(JobKind::Snapshot).is_none()) {
        tracing::warn!("{} has no `schedule.snapshot`: the daemon takes no snapshot of it", database.id);
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let databases = config.databases.iter().map(|db| db.id.clone()).collect();
    let dispatcher = Arc::new(channels::dispatcher(&config)?);
    Ok(Setup { plan, work: Arc::new(Launcher::new(config, state.clone())), dispatcher, databases })
}

/// Serves the status over HTTP. A failure is returned, not fatal: backups do not depend on it.
async fn show(
    config: &Config,
    published: watch::Receiver<Arc<Published>>,
    until: &CancellationToken,
) -> Option<Error> {
    let web = config.web.as_ref()?;
    match web::bind(web.listen).await {
        Ok(listener) => {
            let (hosts, until) = (web.hosts.clone(), until.clone());
            tokio::spawn(async move {
                if let Err(e) = web::serve(listener, published, hosts, until).await {
                    tracing::error!("{e}");
                }
            });
            None
        }
        Err(e) => {
            tracing::error!("{e}");
            Some(e)
        }
    }
}

/// SIGHUP reloads, SIGTERM and Ctrl-C shut down gracefully; a second one of these ends at once.
fn requests() -> Result<mpsc::Receiver<Request>> {
    let listen = |kind| -> Result<Signal> { signal(kind).or_internal("listen for signals") };
    let mut hangup = listen(SignalKind::hangup())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut again = false;
        loop {
            let request = tokio::select! {
                _ = hangup.recv() => Request::Reload,
                _ = interrupt.recv() => Request::Stop,
                _ = terminate.recv() => Request::Stop,
            };
            if request == Request::Stop && std::mem::replace(&mut again, true) {
                std::process::exit(130);
            }
            // If the queue is full, the requests in it will do.
            let _ = sender.try_send(request);
        }
    });
    Ok(receiver)
}

/// Tells systemd, if it listens, and whoever looks at the state.
struct Systemd {
    heartbeat: Duration,
    state_dir: PathBuf,
}

impl Systemd {
    fn new(state_dir: &Path) -> Self {
        let heartbeat = sd_notify::watchdog_enabled().map_or(HEARTBEAT, |within| (within / 3).min(HEARTBEAT));
        Self { heartbeat, state_dir: state_dir.to_owned() }
    }

    fn notify(states: &[NotifyState<'_>]) {
        // Without systemd there is nobody to notify.
        let _ = sd_notify::notify(states);
    }
}

impl ServiceNotifier for Systemd {
    fn ready(&self, _now: Timestamp) {
        Self::notify(&[NotifyState::Ready]);
    }

    fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => Self::notify(&[NotifyState::Reloading, now]),
            Err(_) => Self::notify(&[NotifyState::Reloading]),
        }
    }

    fn alive(&self, status: &str) {
        presence::give_sign(&self.state_dir);
        Self::notify(&[NotifyState::Watchdog, NotifyState::Status(status)]);
    }

    fn stopping(&self) {
        Self::notify(&[NotifyState::Stopping]);
    }

    fn heartbeat(&self) -> Duration {
        self.heartbeat
    }
}
