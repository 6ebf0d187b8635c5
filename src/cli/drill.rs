//! `marbre drill`

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::compose::jobs;
use super::context::Context;
use super::restore::{ask_passphrase, wanted_of};
use super::{output, signals, usage_error};
use crate::cli::compose::source::{Source, SourceArgs};
use crate::engine::registry;
use crate::engine::registry::ScratchOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::health::findings;
use crate::job::drill;
use crate::job::drill::DrillJob;
use crate::job::drill::report::{CheckReport, CheckResult, DrillReport};
use crate::job::drill::verdict::Verdict;
use crate::job::recorded_at;
use crate::job::restore::open::Wanted;
use crate::keys::{RestoreKey, SigningKey, keygen};
use crate::model::drill_stage::DrillStage;
use crate::model::human::{bytes, count, duration};
use crate::model::id::TargetName;
use crate::model::isolation::Isolation;
use crate::model::job::JobKind;
use crate::model::locale::Language;
use crate::model::observer::Observer;

/// Arguments of `drill`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The database, by its name in the configuration (with --from: publisher/database)
    #[arg(value_name = "DB", conflicts_with = "database")]
    name: Option<String>,

    /// The snapshot
    #[arg(long, default_value = "latest", value_name = "SNAPSHOT")]
    snapshot: String,

    /// The newest snapshot by the agent with this key, where two agents claim to have written it
    #[arg(long, value_name = "SHA256:…")]
    of_agent: Option<String>,

    /// The target to read from [default: the one that was drilled longest ago]
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,

    /// Damage the drill's own copy, which must then be noticed: byte, row, missing-table, index, sequence or stale
    #[arg(long, value_name = "WHAT")]
    sabotage: Option<String>,

    /// Leave the restored copy of a failed drill for people to look at. It is readable
    #[arg(long)]
    keep_on_failure: bool,

    /// Use what is found as the new baseline for changes: for data that changed a lot, and for a good reason
    #[arg(long, conflicts_with = "as_owner")]
    new_baseline: bool,

    /// Write the report here too
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,

    /// Owner of the data: drill with the restore key, on a machine of your own
    #[arg(long, requires = "key")]
    as_owner: bool,

    /// With --as-owner: the restore key, an age identity file
    #[arg(long, short = 'i', value_name = "FILE", requires = "as_owner")]
    key: Option<PathBuf>,

    /// With --as-owner: the language of the report, `en` or `fr` [default: the publisher's in the configuration, else en]
    #[arg(long, value_name = "LANGUAGE", requires = "as_owner")]
    language: Option<Language>,

    /// With --as-owner: the key that signs the receipt [default: `publisher_ed25519` beside the restore key]
    #[arg(long, value_name = "FILE", requires = "as_owner")]
    sign: Option<PathBuf>,

    #[command(flatten)]
    source: SourceArgs,

    #[command(flatten)]
    place: PlaceArgs,
}

/// Where an owner's drill restores; the agent's is in the configuration.
#[derive(Debug, Clone, clap::Args)]
struct PlaceArgs {
    /// With --as-owner: a PostgreSQL server to restore into [default: a throwaway one]
    #[arg(long, value_name = "URL", requires = "as_owner")]
    scratch: Option<String>,

    /// With --as-owner: the local folder to restore in [default: ~/.cache/marbre/scratch]
    #[arg(long, value_name = "DIR", requires = "as_owner")]
    scratch_dir: Option<PathBuf>,

    /// With --as-owner: folder of `initdb`, `postgres` and `pg_restore` [default: those that fit]
    #[arg(long, value_name = "DIR", requires = "as_owner")]
    bin_dir: Option<PathBuf>,

    /// With --as-owner: `sandbox`, or `none`: code in the database may do what your user can, such as reading the restore key
    #[arg(long, value_name = "HOW", default_value = "sandbox", requires = "as_owner")]
    isolation: String,
}

impl PlaceArgs {
    fn isolation(&self) -> Result<Isolation> {
        let word = &self.isolation;
        Isolation::chosen(word)
            .ok_or_else(|| usage_error(format!("--isolation {word}: say `sandbox` or `none`")))
    }
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Option<Error>> {
    let cancel = signals::cancellation()?;
    let observer = context.observer();
    let job = match args.as_owner {
        true => owner_job(&args, context, &*observer, &cancel).await?,
        false => agent_job(&args, context, &*observer).await?,
    };
    let (started, database, state) = (Timestamp::now(), job.database.clone(), job.state.clone());
    let of_newest = job.wanted == Wanted::Latest;
    let report = job.run(started, observer, &cancel).await?;
    // A drill of an old snapshot says nothing of the newest.
    if let Some(state) = state.filter(|_| of_newest) {
        let kind = if report.sabotage.is_some() { JobKind::Sabotage } else { JobKind::Drill };
        let run = findings::of_drill(&database, &report);
        state.record_run(&database, kind, (started, Timestamp::now()), &run)?;
    }
    output::report(context.json, &report, print)?;
    Ok(verdict(&report))
}

async fn agent_job(args: &Args, context: &Context, observer: &dyn Observer) -> Result<DrillJob> {
    if !args.source.from.is_empty() {
        return Err(usage_error("--from is for drills of the owner: say --as-owner with it"));
    }
    let config = context.config()?;
    let name = args.name.as_deref().or(args.source.database.as_deref());
    let name = name.ok_or_else(|| usage_error("which database? `marbre drill DB`"))?;
    let database = config.database(name)?;
    jobs::sweep_scratch(&config, observer).await?;
    let mut job = jobs::drill_job(&config, database).await?;
    args.apply(&mut job)?;
    job.report_dirs.extend(args.report.clone());
    Ok(job)
}

async fn owner_job(
    args: &Args,
    context: &Context,
    observer: &dyn Observer,
    cancel: &tokio_util::sync::CancellationToken,
) -> Result<DrillJob> {
    let key_file =
        args.key.as_deref().ok_or_else(|| usage_error("--as-owner needs the restore key: -i FILE"))?;
    let scratch_dir = match &args.place.scratch_dir {
        Some(folder) => folder.clone(),
        None => default_scratch_dir()?,
    };
    let options = ScratchOptions {
        scratch: args.place.scratch.clone(),
        password: None,
        bin_dir: args.place.bin_dir.clone(),
        user: None,
        isolation: args.place.isolation()?,
        jobs: 4,
    };
    // First of all: readable data of a drill that was killed must go, also where this one comes to nothing.
    let swept = drill::site::sweep(&scratch_dir, &|_| registry::any_scratch_host(&options)).await?;
    swept.warnings.iter().for_each(|warning| observer.warn(warning));
    let key = RestoreKey::load(key_file, ask_passphrase)?;
    key.warnings().iter().for_each(|warning| observer.warn(warning));
    let mut source_args = args.source.clone();
    source_args.database = args.name.clone().or(source_args.database);
    let source = Source::one(&source_args, Some(key_file), context, cancel).await?;
    let mut job = jobs::owner_drill_job(source, key, signing_key(args, key_file)?, scratch_dir, options);
    args.apply(&mut job)?;
    if args.source.from.is_empty() {
        job.locale = jobs::locale(&context.config()?, &job.database.publisher);
    }
    job.locale.language = args.language.unwrap_or(job.locale.language);
    job.report_dirs = vec![args.report.clone().unwrap_or_else(|| PathBuf::from("drill-reports"))];
    Ok(job)
}

impl Args {
    /// What is asked of a drill, whoever makes it.
    fn apply(&self, job: &mut DrillJob) -> Result<()> {
        let sabotage = self.sabotage.as_deref().map(str::parse).transpose();
        job.target = self.target.as_deref().map(target_name).transpose()?;
        job.wanted = wanted_of(&self.snapshot, self.of_agent.as_ref())?;
        job.sabotage = sabotage.map_err(|e| usage_error(format!("--sabotage {e}")))?;
        job.keep_on_failure = self.keep_on_failure;
        job.new_baseline = self.new_baseline;
        Ok(())
    }
}

fn target_name(text: &str) -> Result<TargetName> {
    text.parse().map_err(|e: crate::model::id::InvalidId| usage_error(format!("--target: {e}")))
}

fn signing_key(args: &Args, key_file: &Path) -> Result<SigningKey> {
    let beside = key_file.with_file_name(keygen::PUBLISHER_KEY);
    let path = args.sign.as_deref().unwrap_or(&beside);
    SigningKey::load(path).map_err(|e| match path.exists() {
        true => e,
        false => e.remedy(
            "The receipt is signed with the publisher's key, which `marbre keygen` made beside the restore key: name it with --sign.",
        ),
    })
}

fn default_scratch_dir() -> Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    cache.map(|cache| cache.join("marbre").join("scratch")).ok_or_else(|| {
        Error::new(ErrorKind::Usage, "there is no home folder to restore in")
            .remedy("Name a folder with --scratch-dir.")
    })
}

/// What the command ends with.
pub(super) fn verdict(report: &DrillReport) -> Option<Error> {
    match (&report.sabotage, report.error.as_ref().map(Error::from)) {
        (Some(sabotage), Some(failure)) if sabotage.caught => {
            let what = sabotage.kind.word();
            let at = sabotage.expected_stage.word();
            Some(
                Error::verification(format!(
                    "the drill failed, as it had to: the sabotage `{what}` was noticed ({at})"
                ))
                .cause(failure)
                .remedy("There is nothing to do: drills that can fail mean something when they pass."),
            )
        }
        (_, Some(failure)) => {
            let stage = report.failed_stage.unwrap_or(DrillStage::Start).word();
            Some(failure.context(format!("the drill failed at stage {stage}")))
        }
        (_, None) => not_as_stored(report).or_else(|| not_everywhere(report)),
    }
}

/// The bytes can still be had, but somebody has deleted or overwritten them.
fn not_as_stored(report: &DrillReport) -> Option<Error> {
    (report.passed && report.older_versions > 0).then(|| {
        let target = report.target.as_ref().map(|t| format!(" at target {t}")).unwrap_or_default();
        let what = format!("the drill has passed, but {} objects{target} are damaged or deleted", report.older_versions);
        Error::new(ErrorKind::Degraded, what)
            .cause("older versions of them are good, and were restored")
            .remedy("Find out who deletes or overwrites there, and with which credentials; `marbre verify` names each object.")
    })
}

/// Others may not see a proof that is not at every target.
fn not_everywhere(report: &DrillReport) -> Option<Error> {
    recorded_at::lacking(&report.targets).map(|lacking| {
        Error::new(ErrorKind::Degraded, "the drill has passed, but not every target took its receipt")
            .cause(lacking)
            .remedy(format!(
                "The next drill puts it there. An owner without the right to write sends {}.json and .json.sig from the \
                 folder of the report to the provider.",
                report.drill
            ))
    })
}

/// What people see.
pub(super) fn print(report: &DrillReport) {
    let line = |name: &str, value: &str| output::print(&format!("  {name:<10}{value}"));
    let verdict = Verdict::of(report);
    let level = report.level.map(|level| format!(", {}", level.word())).unwrap_or_default();
    let word = format!("{}{level}", verdict.word());
    output::print(&format!("drill {} of {}/{}: {word}", report.drill, report.publisher, report.database));
    if let (Some(snapshot), Some(at)) = (&report.snapshot, &report.consistent_at) {
        line("snapshot", &format!("{snapshot} (state of {at})"));
    }
    if let Some(target) = &report.target {
        line("from", &format!("target {target}, {} fetched", bytes(report.fetched_bytes)));
    }
    if let Some(place) = &report.scratch {
        let how = report.isolation.map(|how| format!(", {}", how.meaning())).unwrap_or_default();
        line("into", &format!("{place}{how}"));
    }
    if let Some(done) = report.sabotage.as_ref().and_then(|s| s.done.as_deref()) {
        line("sabotage", done);
    }
    let equal = report.tables.iter().filter(|t| t.equal).count();
    if !report.tables.is_empty() {
        line("tables", &format!("{equal} of {} equal, {} rows", report.tables.len(), count(report.rows)));
    }
    for exception in &report.exceptions {
        line("EXCEPT", &exception.to_string());
    }
    for difference in &report.differences {
        line("DIFFERENT", difference);
    }
    report.checks.iter().for_each(|check| line("check", &checked(check)));
    if let Some(seconds) = report.rto_seconds {
        let promised = report.rto_promised_seconds.map(|rto| format!(", {} promised", duration(rto as f64)));
        line("recovery", &format!("{}{}", duration(seconds), promised.unwrap_or_default()));
    }
    let stages: Vec<String> =
        report.stages.iter().map(|s| format!("{} {}", s.name.word(), duration(s.seconds))).collect();
    line("took", &format!("{} ({})", duration(report.seconds), stages.join(", ")));
    for target in report.targets.iter().filter_map(|t| Some((&t.name, t.error.as_ref()?))) {
        line("receipt", &format!("NOT at target {}: {}", target.0, target.1));
    }
    report.reports.iter().for_each(|path| line("report", path));
    report.kept.iter().for_each(|how| line("KEPT", how));
    report.warnings.iter().for_each(|warning| line("warning", warning));
}

fn checked(check: &CheckReport) -> String {
    let word = match check.result {
        CheckResult::Passed => "passed",
        CheckResult::Failed => "FAILED",
        CheckResult::NoBaseline => "no earlier value yet",
        CheckResult::Unavailable => "cannot be made here",
        CheckResult::Off => "switched off",
    };
    let value = check.value.as_ref().map(|v| format!(" ({v})")).unwrap_or_default();
    let message = check.message.as_ref().map(|m| format!(": {m}")).unwrap_or_default();
    format!("{}: {word}{value}{message}", check.name)
}
