//! The command line: one file per verb. It reads arguments, opens adapters, and prints; it never decides.

mod accept;
mod adopt;
mod alert;
mod because;
mod completions;
mod compose;
mod config;
mod confirm;
mod context;
mod daemon;
mod delete_archive;
mod demo;
mod doctor;
mod documents;
mod drill;
mod journal;
mod keygen;
mod layout;
mod list;
mod man;
mod mark;
mod output;
mod paint;
mod progress;
mod prune;
mod report;
mod restore;
mod rotate;
mod screen;
mod show;
mod signals;
mod snapshot;
mod stats;
mod status;
mod sync;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ColorChoice, CommandFactory, Parser, Subcommand};

use crate::engine::registry;
use crate::error::{Error, ErrorKind, Result};
use crate::job::mark::Choice;
use crate::keys;
use context::Context;

/// How long threads may take to end once everything else is done.
const LAST_GRACE: Duration = Duration::from_secs(15);

/// Backups of subscription databases, encrypted to keys that only their owners hold, and proven.
#[derive(Debug, Parser)]
#[command(
    name = "marbre",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 2 usage, 3 config, 4 preflight (nothing changed), 5 not found, 6 database, \
                  7 conflict, 8 target, 9 verification failed, 10 degraded, 11 key or signature, 12 restored with exceptions, 130 interrupted."
)]
struct Cli {
    /// The configuration [default: $MARBRE_CONFIG, else /etc/marbre/marbre.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print one JSON document on stdout, and progress as JSON lines on stderr
    #[arg(long, global = true)]
    json: bool,

    /// Colour what people read: auto is on a terminal, unless $NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Tell the whole story on this machine: snapshot, disaster, restore, proof. Needs nothing
    Demo(demo::Args),
    /// Make a publisher's keys, or an agent's
    Keygen(keygen::Args),
    /// Look whether everything is ready: configuration, keys, targets, databases
    Doctor(doctor::Args),
    /// Check the configuration, or show what counts in it
    Config(config::Args),
    /// Do everything that is scheduled, and tell people what is wrong, until stopped
    Daemon,
    /// Take a snapshot now
    Snapshot(snapshot::Args),
    /// Restore a snapshot into a throwaway place, and prove that it is equal to its source
    Drill(drill::Args),
    /// Show the state of every database at a glance
    Status(status::Args),
    /// Show how much lies where
    Stats(stats::Args),
    /// Write a page over all databases, or the report of a database's newest drill again
    Report(report::Args),
    /// List snapshots
    List(list::Args),
    /// Show one snapshot
    Show(show::Args),
    /// Read every object back from every target, and check it
    Verify(verify::Args),
    /// Copy what targets lack from those that have it
    Sync(sync::Args),
    /// Delete the snapshots that no rule of the configuration keeps
    Prune(prune::Args),
    /// Keep a snapshot, whatever the rules of the configuration say
    Pin(mark::Args),
    /// Let the rules of the configuration decide about a snapshot again
    Unpin(mark::Args),
    /// Have the next prune delete a snapshot, whatever the rules of the configuration say
    Forget(mark::Args),
    /// Record that something odd or damaged is known, so that what comes next is seen
    Accept(accept::Args),
    /// Delete the whole archive of a database that left the configuration, by a signed record
    DeleteArchive(delete_archive::Args),
    /// Go on with the chain of an agent whose host or key is lost, or after one of two branches
    Adopt(adopt::Args),
    /// Hand the chain over from the agent's old key to its new one
    Rotate(rotate::Args),
    /// Look whether alerts arrive, and what is wrong
    Alert(alert::Args),
    /// Restore a snapshot: needs only a target, a key and a destination
    Restore(restore::Args),
    /// Print what makes a shell complete marbre's verbs and options
    Completions(completions::Args),
    /// Print the manual page, or write the pages of all verbs
    Man(man::Args),
}

/// Runs the command that the process was started with. Returns its exit code, and how long threads may take to end once
/// everything else is done: one that hangs on a dead network mount never ends.
pub async fn run() -> (u8, Duration) {
    if let Some(answered) = registry::answer_in_sandbox().await {
        return (u8::from(answered.is_err()), LAST_GRACE);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return (usage(&e), LAST_GRACE),
    };
    paint::choose(cli.color);
    keys::terminal::keep_still_by(|work| screen::suspended(work));
    // Whoever only looks leaves nothing behind that a thread would have to finish.
    let looks = matches!(cli.verb, Verb::Status(_) | Verb::Stats(_) | Verb::Report(_) | Verb::Doctor(_));
    let grace = if looks { Duration::ZERO } else { LAST_GRACE };
    let json = cli.json;
    let code = match dispatch(cli).await {
        Ok(None) => 0,
        Ok(Some(e)) => {
            output::verdict(&e, json);
            e.kind().exit_code()
        }
        Err(e) => {
            output::error(&e, json);
            e.kind().exit_code()
        }
    };
    (code, grace)
}

/// Wrong arguments, or a request for help. With `--json` this error is JSON too.
fn usage(e: &clap::Error) -> u8 {
    let wanted_json = std::env::args().any(|a| a == "--json");
    if e.use_stderr() && wanted_json {
        let rendered = e.render().to_string();
        // Up to the usage: missing arguments may be on separate lines.
        let lines: Vec<&str> = rendered.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        let text = lines.join(" ").trim_start_matches("error: ").to_owned();
        let error = Error::new(ErrorKind::Usage, text).remedy("Run `marbre help` to see the accepted form.");
        output::error(&error, true);
    } else if e.use_stderr() {
        // It quotes the arguments, which need not be of the person who sees this.
        output::note(e.render().to_string().trim_end());
    } else {
        // If nobody reads the output any more, there is nobody to tell.
        let _ = e.print();
    }
    u8::try_from(e.exit_code()).unwrap_or(ErrorKind::Usage.exit_code())
}

/// Runs the verb. `Ok(Some(error))` means that its report was printed, and that not everything is as requested.
async fn dispatch(cli: Cli) -> Result<Option<Error>> {
    // Nobody sees a daemon's exit code, so it logs what it does.
    output::start_tracing(if matches!(cli.verb, Verb::Daemon) { "marbre=info" } else { "off" });
    let context = Context::new(cli.config, cli.json);
    match cli.verb {
        Verb::Doctor(args) => return doctor::run(&args, &context).await,
        Verb::Daemon => return daemon::run(&context).await,
        Verb::Snapshot(args) => return snapshot::run(&args, &context).await,
        Verb::Drill(args) => return drill::run(args, &context).await,
        Verb::Verify(args) => return verify::run(&args, &context).await,
        Verb::Sync(args) => return sync::run(&args, &context).await,
        Verb::Status(args) => return status::run(&args, &context).await,
        Verb::Prune(args) => return prune::run(&args, &context).await,
        Verb::Pin(args) => return mark::run(&args, Choice::Pin, &context).await,
        Verb::Unpin(args) => return mark::run(&args, Choice::Unpin, &context).await,
        Verb::Forget(args) => return mark::run(&args, Choice::Forget, &context).await,
        Verb::Accept(args) => return accept::run(&args, &context).await,
        Verb::DeleteArchive(args) => return delete_archive::run(&args, &context).await,
        Verb::Stats(args) => return stats::run(&args, &context).await,
        Verb::Adopt(args) => return adopt::run(&args, &context).await,
        Verb::Rotate(args) => return rotate::run(&args, &context).await,
        Verb::Restore(args) => return restore::run(args, &context).await,
        Verb::Alert(args) => return alert::run(&args, &context).await,
        Verb::Config(args) => config::run(&args, &context),
        Verb::Demo(args) => demo::run(args, &context).await,
        Verb::Keygen(args) => keygen::run(&args, &context).await,
        Verb::Report(args) => report::run(&args, &context).await,
        Verb::List(args) => list::run(&args, &context).await,
        Verb::Show(args) => show::run(&args, &context).await,
        Verb::Completions(args) => completions::run(&args, &context),
        Verb::Man(args) => man::run(&args, &context),
    }
    .map(|()| None)
}

/// The error that a command for several databases ends with: one that stopped a database altogether matters more than one that
/// left something incomplete.
fn worst(errors: Vec<Error>) -> Option<Error> {
    let worst = errors.iter().position(|e| e.kind() != ErrorKind::Degraded).unwrap_or(0);
    errors.into_iter().nth(worst)
}

/// A usage error found after the arguments were parsed.
fn usage_error(message: impl Into<String>) -> Error {
    let usage = Cli::command().render_usage();
    Error::new(ErrorKind::Usage, message).remedy(format!("{usage}. `marbre help VERB` says more."))
}
