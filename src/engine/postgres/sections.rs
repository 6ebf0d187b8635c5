//! Restores the sections of an archive, cut into runs: most through `pg_restore`, some entries one by one.

use super::archive_load::{Outcome, Unrestored};
use super::contents_list::{self, Rights, Run};
use super::single_entries::{Attempt, SingleEntries};
use crate::error::Result;

/// Restores everything before the data.
pub(super) async fn pre_data(entries: &SingleEntries<'_>) -> Result<Outcome> {
    let load = entries.load;
    let list = load.list(entries.archive, "pre-data", entries.cancel).await?;
    let lines: Vec<&str> = list.lines().collect();
    let first_values = load.loader.is_some()
        && contents_list::has_aggregates_and_domains(&lines)
        && has_first_values(entries).await?;
    let mut outcome = Outcome::default();
    let runs = runs(entries, &lines, first_values);
    let last = runs.iter().rposition(|run| run.rights == Rights::Loader);
    for (at, run) in runs.into_iter().enumerate() {
        if let (Rights::Loader, Some(loader)) = (run.rights, load.loader) {
            loader.open_schemas(load.session).await?;
        }
        outcome.extend(restore(entries, run, 1).await?);
        if let (true, Some(loader)) = (Some(at) == last, load.loader) {
            loader.close(load.session).await?;
        }
    }
    Ok(outcome)
}

/// The list of everything after the data.
pub(super) async fn post_data_list(entries: &SingleEntries<'_>) -> Result<String> {
    entries.load.list(entries.archive, "post-data", entries.cancel).await
}

/// Restores everything of this list but event triggers. If tables have partitions, there is only one job: keys and indexes of
/// partitions lock their parents and each other, of which `pg_restore` knows nothing, so that its workers now and then run
/// into a deadlock.
pub(super) async fn post_data(entries: &SingleEntries<'_>, list: &str, jobs: usize) -> Result<Outcome> {
    let lines = list.lines().filter(|line| !contents_list::is_event_trigger(line)).collect();
    let jobs = if contents_list::has_partitions(list) { 1 } else { jobs };
    after_data(entries, lines, jobs).await
}

/// Restores the event triggers of this list. They come after everything else, which would fire them.
pub(super) async fn event_triggers(entries: &SingleEntries<'_>, list: &str) -> Result<Outcome> {
    let lines = list.lines().filter(|line| contents_list::is_event_trigger(line)).collect();
    after_data(entries, lines, 1).await
}

async fn after_data(entries: &SingleEntries<'_>, lines: Vec<&str>, jobs: usize) -> Result<Outcome> {
    let load = entries.load;
    let mut outcome = Outcome::default();
    let runs = runs(entries, &lines, false);
    let loader = load.loader.filter(|_| runs.iter().any(|run| run.rights == Rights::Loader));
    if let Some(loader) = loader {
        loader.open_tables(load.session).await?;
    }
    for run in runs {
        outcome.extend(restore(entries, run, jobs).await?);
    }
    if let Some(loader) = loader {
        loader.close(load.session).await?;
    }
    Ok(outcome)
}

/// Without a superuser's rights, everything is restored with those that there are.
fn runs(entries: &SingleEntries<'_>, lines: &[&str], first_values: bool) -> Vec<Run> {
    let by_path = &entries.details.by_path;
    match entries.load.loader {
        Some(_) => contents_list::runs(lines, &entries.load.owners, first_values, by_path),
        None => contents_list::runs_of_user(lines, by_path),
    }
}

async fn restore(entries: &SingleEntries<'_>, run: Run, jobs: usize) -> Result<Outcome> {
    if !run.one_by_one {
        return entries.load.run(entries.archive, run, jobs, entries.cancel).await;
    }
    let mut outcome = Outcome::default();
    for line in run.lines {
        let entry = Unrestored::new(line, run.rights);
        outcome.extend(entries.make(entry, Attempt::AsItWas).await?);
    }
    Ok(outcome)
}

/// Whether the script of everything before the data speaks of first values of aggregates.
async fn has_first_values(entries: &SingleEntries<'_>) -> Result<bool> {
    let args = ["--section=pre-data", "--file=-", "/dev/stdin"].map(str::to_owned).to_vec();
    let script = entries.load.output(entries.archive, args, entries.cancel).await?;
    Ok(memchr::memmem::find(&script, b"INITCOND").is_some())
}
