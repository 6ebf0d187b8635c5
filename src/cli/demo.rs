//! `marbre demo`: the whole story with real snapshots, on this machine, and without anything else.

use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::compose::{jobs, targets};
use super::context::Context;
use super::{drill, output, restore, signals, snapshot};
use crate::config::Config;
use crate::demo::{self, PopulationOptions};
use crate::engine::{LoadOptions, Roles, registry};
use crate::error::{Error, Result, ResultExt};
use crate::job::drill::report::DrillReport;
use crate::job::restore::open::Wanted;
use crate::job::restore::{RestoreJob, RestoreReport, RestoreVerdict};
use crate::job::snapshot::SnapshotReport;
use crate::keys::{AllowedSigners, RestoreKey, TrustStore, keygen};
use crate::model::human::{bytes, count, duration};
use crate::model::id::DatabaseId;
use crate::model::isolation::Isolation;
use crate::model::sabotage::Sabotage;
use crate::system::runner::Runner;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder that does not exist yet, to play in [default: a new one in the temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// How many subscribers the newspaper has
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(100..=5_000_000))]
    subscribers: u64,
}

/// The files of the demo.
struct Demo {
    root: PathBuf,
    config: PathBuf,
    database: PathBuf,
    publisher: PathBuf,
    restored: PathBuf,
    targets: [PathBuf; 2],
    /// Whether to print the story, or JSON at the end.
    tell: bool,
}

impl Demo {
    fn build(root: PathBuf, tell: bool) -> Result<Self> {
        let demo = Self {
            config: root.join("provider/marbre.toml"),
            database: root.join("provider/abonnes.db"),
            publisher: root.join("publisher"),
            restored: root.join("publisher/abonnes-restored.db"),
            targets: [root.join("target-paris"), root.join("target-lyon")],
            root,
            tell,
        };
        for folder in [&demo.root.join("provider"), &demo.targets[0], &demo.targets[1]] {
            crate::state::make_private_folder(folder)?;
        }
        Ok(demo)
    }

    fn say(&self, line: &str) {
        if self.tell {
            output::print(line);
        }
    }

    fn heading(&self, title: &str) {
        self.say(&format!("\n== {title}"));
    }
}

/// What `demo --json` prints.
#[derive(Serialize)]
pub(super) struct Story {
    /// Where everything lies.
    directory: PathBuf,
    /// Both snapshots.
    snapshots: Vec<SnapshotReport>,
    /// The drills.
    drills: Vec<DrillReport>,
    /// The restore after the disaster.
    restore: RestoreReport,
    /// How long all of it took.
    seconds: f64,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let started = Instant::now();
    let cancel = signals::cancellation()?;
    let root = match args.dir {
        Some(dir) if dir.exists() => {
            return Err(Error::preflight(format!("{} exists already", dir.display()))
                .remedy("Name a folder that does not exist, or remove it."));
        }
        Some(dir) => dir,
        None => tempfile::Builder::new()
            .prefix("marbre-demo-")
            .tempdir()
            .or_internal("make a temporary folder")?
            .keep(),
    };
    let demo = Demo::build(root, !context.json)?;
    demo.say(&format!(
        "{} has {} subscribers. Their provider runs the database; only the newspaper holds the key to its backups.",
        demo::PUBLISHER_TITLE,
        count(args.subscribers)
    ));
    let signer = prepare(&demo, args.subscribers).await?;
    let first = evening(&demo, &cancel, context).await?;
    let second = night(&demo, &cancel, context, &first).await?;
    let drills = morning(&demo, &cancel, context).await?;
    disaster(&demo)?;
    let restored = recovery(&demo, &cancel, context).await?;
    if restored.verdict != RestoreVerdict::Proven {
        return Err(Error::verification("the restored database was not proven equal"));
    }
    epilogue(&demo, &second, &signer, started);
    if context.json {
        let seconds = started.elapsed().as_secs_f64();
        output::json(&Story {
            directory: demo.root.clone(),
            snapshots: vec![first, second],
            drills: drills.into(),
            restore: restored,
            seconds,
        })?;
    }
    Ok(())
}

/// The database, the keys, the configuration. Returns the fingerprint of the agent's key.
async fn prepare(demo: &Demo, subscribers: u64) -> Result<String> {
    demo.heading("The subscriber base, the keys, the configuration");
    let options = PopulationOptions { subscribers, ..PopulationOptions::default() };
    let made = demo::create(&demo.database, &options)?;
    demo.say(&format!(
        "{}: {} subscribers, {} subscriptions, {} payments ({})",
        demo.database.display(),
        count(made.subscribers),
        count(made.subscriptions),
        count(made.payments),
        bytes(made.bytes)
    ));
    let agent_key = demo.root.join("provider/agent_ed25519");
    let agent = keygen::agent(&agent_key, "marbre demo agent")?;
    let options =
        keygen::PublisherOptions { passphrase: None, agents: vec![(agent, "demo agent".to_owned())] };
    let keys = keygen::publisher(&demo.publisher, &options, Timestamp::now())?;
    demo.say(&format!("{}: the newspaper's key. The provider never sees it.", keys.restore_key.display()));
    let [paris, lyon] = &demo.targets;
    // The demo needs nothing but this program. A real drill refuses.
    let refused = Runner::new("nobody", Isolation::Sandbox).await.err();
    let isolation = if refused.is_some() { Isolation::None } else { Isolation::Sandbox };
    let config = format!(
        "state_dir = \"state\"\nsigning_key = \"agent_ed25519\"\n\n\
         [publisher.{publisher}]\nrecipients = [\"{recipient}\"]\n\n\
         [target.paris]\nurl = \"{paris}\"\n\n[target.lyon]\nurl = \"{lyon}\"\n\n\
         [database.{database}]\npublisher = \"{publisher}\"\nengine = \"sqlite\"\npath = \"abonnes.db\"\n\
         targets = [\"paris\", \"lyon\"]\ncopies = 2\ndrills.isolation = \"{isolation}\"\n",
        isolation = isolation.word(),
        publisher = demo::PUBLISHER,
        database = demo::DATABASE,
        recipient = keys.recipient,
        paris = paris.display(),
        lyon = lyon.display(),
    );
    std::fs::write(&demo.config, config).or_internal(format!("write {}", demo.config.display()))?;
    demo.say(&format!("{}: what the provider declares.", demo.config.display()));
    if let Some(refused) = refused {
        demo.say(&format!(
            "Its drills run without a sandbox here: {}",
            refused.cause_text().unwrap_or_default()
        ));
    }
    Ok(agent.fingerprint())
}

async fn take_snapshot(demo: &Demo, cancel: &CancellationToken, context: &Context) -> Result<SnapshotReport> {
    let config = Config::load(Some(&demo.config))?;
    let job = jobs::snapshot_job(&config, config.database(demo::DATABASE)?).await?;
    let report = job.run(Timestamp::now(), context.observer(), cancel).await?;
    if demo.tell {
        snapshot::print(&report);
    }
    match report.error() {
        Some(e) => Err(e),
        None => Ok(report),
    }
}

async fn evening(demo: &Demo, cancel: &CancellationToken, context: &Context) -> Result<SnapshotReport> {
    demo.heading("Evening: the first snapshot, a full one");
    take_snapshot(demo, cancel, context).await
}

async fn night(
    demo: &Demo,
    cancel: &CancellationToken,
    context: &Context,
    first: &SnapshotReport,
) -> Result<SnapshotReport> {
    demo.heading("A day passes, and the next night's snapshot uploads what changed");
    let changes = demo::night(&demo.database, 1)?;
    demo.say(&format!(
        "{} people moved, {} new subscribers, {} new subscriptions, {} cancelled",
        count(changes.moved),
        count(changes.new_subscribers),
        count(changes.new_subscriptions),
        count(changes.cancelled)
    ));
    let report = take_snapshot(demo, cancel, context).await?;
    demo.say(&format!(
        "uploaded: {} instead of {} ({:.0} % of a full snapshot), although everything is encrypted to a key that is not here",
        bytes(report.stored_bytes),
        bytes(first.stored_bytes),
        100.0 * report.stored_bytes as f64 / first.stored_bytes.max(1) as f64
    ));
    Ok(report)
}

/// Two drills: one that must pass, and one that damages its own copy and must fail.
async fn morning(demo: &Demo, cancel: &CancellationToken, context: &Context) -> Result<[DrillReport; 2]> {
    demo.heading(
        "Morning: a drill restores the snapshot into a throwaway place, and proves that it is equal",
    );
    let config = Config::load(Some(&demo.config))?;
    let passed = take_drill(demo, &config, None, cancel, context).await?;
    if !passed.passed {
        return Err(
            drill::verdict(&passed).unwrap_or_else(|| Error::verification("the drill has not passed"))
        );
    }
    demo.heading("And a drill that changes a row of its own copy: one that cannot fail would prove nothing");
    let sabotaged = take_drill(demo, &config, Some(Sabotage::Row), cancel, context).await?;
    if !sabotaged.sabotage.as_ref().is_some_and(|s| s.caught) {
        return Err(Error::verification("the changed row was not noticed"));
    }
    demo.say("It failed, as it had to. A director reads the report of each drill in a browser:");
    for page in passed.reports.iter().chain(&sabotaged.reports) {
        demo.say(&format!("   {page}"));
    }
    Ok([passed, sabotaged])
}

async fn take_drill(
    demo: &Demo,
    config: &Config,
    sabotage: Option<Sabotage>,
    cancel: &CancellationToken,
    context: &Context,
) -> Result<DrillReport> {
    let mut job = jobs::drill_job(config, config.database(demo::DATABASE)?).await?;
    job.sabotage = sabotage;
    let report = job.run(Timestamp::now(), context.observer(), cancel).await?;
    if demo.tell {
        drill::print(&report);
    }
    Ok(report)
}

fn disaster(demo: &Demo) -> Result<()> {
    demo.heading("The disaster: the database is gone, and so is the first target");
    demo::destroy(&demo.database)?;
    let lost = &demo.targets[0];
    std::fs::remove_dir_all(lost).or_internal(format!("remove {}", lost.display()))?;
    demo.say(&format!("{} is overwritten, {} is deleted.", demo.database.display(), lost.display()));
    Ok(())
}

/// What the newspaper does: a target, its key, a destination. No configuration, no state, no provider.
async fn recovery(demo: &Demo, cancel: &CancellationToken, context: &Context) -> Result<RestoreReport> {
    demo.heading("The newspaper restores by itself, from the second target, with its key alone");
    demo.say(&format!("$ {}\n", restore_command(demo)));
    let allowed = demo.publisher.join(keygen::ALLOWED_SIGNERS);
    let job = RestoreJob {
        database: DatabaseId {
            publisher: demo::PUBLISHER.parse().or_internal("name the demo's publisher")?,
            database: demo::DATABASE.parse().or_internal("name the demo's database")?,
        },
        targets: targets::named_targets(&[demo.targets[1].display().to_string()], None).await?,
        trust: TrustStore::AllowedSigners(AllowedSigners::load(&allowed)?),
        state: None,
        key: RestoreKey::load(&demo.publisher.join(keygen::RESTORE_KEY), || {
            Err(Error::key("the demo's key has no passphrase"))
        })?,
        wanted: Wanted::Latest,
        spool: None,
        options: LoadOptions { overwrite: false, jobs: 2, roles: Roles::Plain },
        dry_run: false,
        prove: true,
        exceptions: None,
    };
    let to = demo.restored.display().to_string();
    let make_loader = move |engine: &str| registry::loader(engine, &to, 2, None);
    let report = job.run(&make_loader, context.observer(), cancel).await?;
    if demo.tell {
        restore::print(&report);
    }
    Ok(report)
}

fn restore_command(demo: &Demo) -> String {
    format!(
        "marbre restore --from {} --key {} --to {} --prove",
        demo.targets[1].display(),
        demo.publisher.join(keygen::RESTORE_KEY).display(),
        demo.restored.display()
    )
}

fn epilogue(demo: &Demo, last: &SnapshotReport, signer: &str, started: Instant) {
    demo.heading("What happened");
    demo.say(&format!(
        "Every subscriber is back as of the last snapshot, table by table and row for row, in {} for the whole story.",
        duration(started.elapsed().as_secs_f64())
    ));
    demo.say(&format!("Everything is in {}; remove it when you are done.", demo.root.display()));
    demo.heading("Check it without marbre (age, zstd, sha256sum, ssh-keygen, sqlite3)");
    let base: &Path = &demo.targets[1].join(demo::PUBLISHER).join(demo::DATABASE);
    let receipt = base.join(format!("receipts/{}.json", last.snapshot));
    demo.say(&format!(
        "ssh-keygen -Y verify -f {}/allowed_signers -I agent -n snapshot-receipt@marbre -s {receipt}.sig < {receipt}",
        demo.publisher.display(),
        receipt = receipt.display()
    ));
    demo.say(&format!("   (the agent's key is {signer})"));
    demo.say(&format!(
        "cd {}/epochs/{} && sha256sum packs/*   # each name is its hash",
        base.display(),
        last.epoch
    ));
    demo.say(&format!(
        "age -d -i {}/restore.key {}/epochs/{}/epoch.age > /tmp/epoch.key",
        demo.publisher.display(),
        base.display(),
        last.epoch
    ));
    demo.say(&format!(
        "age -d -i /tmp/epoch.key {}/epochs/{}/manifests/{}.json.zst.age | zstd -d",
        base.display(),
        last.epoch,
        last.snapshot
    ));
    demo.say(&format!("sqlite3 {} 'SELECT count(*) FROM subscribers'", demo.restored.display()));
    demo.say("docs/RECOVERY.md has the whole way by hand, and a reader in Python.");
}
