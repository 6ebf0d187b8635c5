//! `marbre restore`

use std::path::PathBuf;

use super::context::Context;
use super::{output, screen, signals, usage_error};
use crate::cli::compose::source::{Source, SourceArgs};
use crate::engine::registry;
use crate::engine::{LoadOptions, Roles};
use crate::error::{Error, Result};
use crate::job::restore::open::Wanted;
use crate::job::restore::{RestoreJob, RestoreReport, RestoreVerdict};
use crate::keys::{RestoreKey, TrustStore};
use crate::model::human::{bytes, count, duration};

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot
    #[arg(default_value = "latest", value_name = "SNAPSHOT")]
    snapshot: String,

    /// With `latest`: the newest by the agent with this key, where two agents claim to have written it
    #[arg(long, value_name = "SHA256:…")]
    of_agent: Option<String>,

    #[command(flatten)]
    source: SourceArgs,

    /// The publisher's restore key: an age identity file
    #[arg(long, short = 'i', value_name = "FILE")]
    key: PathBuf,

    /// Where to: postgres://user@host/newdatabase, or the path of a new SQLite file
    #[arg(long, value_name = "DESTINATION")]
    to: String,

    /// Say what would be done, with sizes and an estimate; change nothing
    #[arg(long)]
    dry_run: bool,

    /// Replace what is at the destination, at the very end
    #[arg(long)]
    overwrite: bool,

    /// Afterwards, hold every table against the snapshot, row for row
    #[arg(long)]
    prove: bool,

    /// Connections and index builds at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,

    /// The file for statements that could not be run, to be mended by hand [default: DATABASE.SNAPSHOT.exceptions.sql here]
    #[arg(long, value_name = "FILE")]
    exceptions: Option<PathBuf>,

    /// A folder with room for encrypted packs on their way [default: the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,

    /// Folder of `pg_restore` [default: the newest that fits]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,

    #[command(flatten)]
    roles: RoleArgs,
}

/// Roles of the snapshot at the destination's server.
#[derive(Debug, clap::Args)]
struct RoleArgs {
    /// `plain`: missing roles are made without SUPERUSER, CREATEROLE, REPLICATION, BYPASSRLS, memberships in the server's own roles,
    /// and passwords; `all`: exactly as they were
    #[arg(long, value_name = "WHICH", default_value = "plain", value_parser = ["plain", "all"])]
    roles: String,

    /// Make no roles: everything belongs to the user of the destination, and grants are left out
    #[arg(long, conflicts_with = "roles")]
    no_roles: bool,

    /// Make no roles: everything belongs to this role, which exists, and grants are left out
    #[arg(long, value_name = "ROLE", conflicts_with = "roles")]
    owner: Option<String>,
}

impl RoleArgs {
    fn rule(&self) -> Roles {
        match (&self.owner, self.no_roles, self.roles.as_str()) {
            (Some(_), _, _) | (None, true, _) => Roles::None { owner: self.owner.clone() },
            (None, false, "all") => Roles::AsTheyWere,
            (None, false, _) => Roles::Plain,
        }
    }
}

/// `latest`, or a snapshot's name.
pub(crate) fn wanted(text: &str) -> Result<Wanted> {
    match text {
        "latest" => Ok(Wanted::Latest),
        id => id.parse().map(Wanted::Snapshot).map_err(|e| usage_error(e.to_string())),
    }
}

/// The same, with `--of-agent`.
pub(super) fn wanted_of(text: &str, of_agent: Option<&String>) -> Result<Wanted> {
    match (wanted(text)?, of_agent) {
        (wanted, None) => Ok(wanted),
        (Wanted::Latest, Some(agent)) => {
            TrustStore::fingerprint(agent)?;
            Ok(Wanted::LatestOf(agent.trim().to_owned()))
        }
        (_, Some(_)) => Err(usage_error("--of-agent says whose newest snapshot is meant; this names one")),
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<Option<Error>> {
    let wanted = wanted_of(&args.snapshot, args.of_agent.as_ref())?;
    let cancel = signals::cancellation()?;
    let key = RestoreKey::load(&args.key, ask_passphrase)?;
    let observer = context.observer();
    for warning in key.warnings() {
        observer.warn(warning);
    }
    let source = Source::one(&args.source, Some(&args.key), context, &cancel).await?;
    let jobs = usize::from(args.jobs);
    let job = RestoreJob {
        database: source.database,
        targets: source.targets,
        trust: source.trust,
        state: source.state,
        key,
        wanted,
        spool: args.spool,
        options: LoadOptions { overwrite: args.overwrite, jobs, roles: args.roles.rule() },
        dry_run: args.dry_run,
        prove: args.prove,
        exceptions: args.exceptions,
    };
    let (to, bin_dir) = (args.to, args.bin_dir);
    let make_loader = move |engine: &str| registry::loader(engine, &to, jobs, bin_dir.as_deref());
    let report = job.run(&make_loader, observer, &cancel).await?;
    output::report(context.json, &report, print)?;
    Ok(report.error())
}

/// Asks for the passphrase of a restore key; `$MARBRE_PASSPHRASE_FILE` names a file for machines.
pub(crate) fn ask_passphrase() -> Result<secrecy::SecretString> {
    use crate::error::{Error, ResultExt};
    if let Some(path) = std::env::var_os("MARBRE_PASSPHRASE_FILE") {
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Error::key("failed to read the file that MARBRE_PASSPHRASE_FILE names").cause(e))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned().into());
    }
    let asked = screen::suspended(|| rpassword::prompt_password("Passphrase of the restore key: "));
    asked.map(Into::into).or_kind(
        crate::ErrorKind::Key,
        "ask for the passphrase (without a terminal, MARBRE_PASSPHRASE_FILE names a file)",
    )
}

/// What people see.
pub(crate) fn print(report: &RestoreReport) {
    let verdict = match report.verdict {
        RestoreVerdict::DryRun => "would restore",
        RestoreVerdict::Restored => "restored",
        RestoreVerdict::Proven => "restored, and proven equal",
        RestoreVerdict::RestoredExcept => "RESTORED, EXCEPT for what is listed below",
    };
    output::print(&format!("{verdict}: snapshot {} (state of {})", report.snapshot, report.consistent_at));
    output::print(&format!("  from      target {}, signed by {}", report.target, report.signer));
    output::print(&format!("  to        {} (was {})", report.destination, report.destination_was));
    output::print(&format!(
        "  data      {} rows, {}; {} fetched",
        count(report.rows),
        bytes(report.bytes),
        bytes(report.fetched_bytes)
    ));
    if let Some(seconds) = report.estimated_seconds {
        output::print(&format!(
            "  estimate  {} to fetch, at the rate of a sample taken now; loading comes on top",
            duration(seconds)
        ));
    }
    for table in &report.tables {
        let mark = if table.equal { "equal" } else { "DIFFERENT" };
        output::print(&format!("  table     {}: {} rows, {mark}", table.name, count(table.rows)));
    }
    let stages: Vec<String> =
        report.stages.iter().map(|s| format!("{} {}", s.name.word(), duration(s.seconds))).collect();
    output::print(&format!("  took      {} ({})", duration(report.seconds), stages.join(", ")));
    report.roles.iter().for_each(|line| output::print(&format!("  roles     {line}")));
    for what in &report.left_out {
        output::print(&format!("  left out  {what}"));
    }
    if !report.left_out.is_empty() {
        output::print("            `--roles all` makes roles exactly as they were");
    }
    for exception in &report.exceptions {
        output::print(&format!("  EXCEPT    {exception}"));
    }
    if let Some(file) = &report.exceptions_file {
        output::print(&format!("  to mend   {}", file.display()));
    }
    for warning in &report.warnings {
        output::print(&format!("  warning   {warning}"));
    }
}
