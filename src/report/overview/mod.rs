//! The page over all databases, or over those of one publisher: what is proven of each, what is not, and why. The worst comes
//! first.

mod database;
mod gaps;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::page::{Block, Cell, Column, Page, Section, Table, Tone};
use super::words::Words;
use super::{html, markdown};
use crate::health::status::{DatabaseStatus, DrillProof, StatusReport};
use crate::job::drill::kept::KeptReport;
use crate::model::id::{DatabaseId, PublisherName};
use crate::model::locale::Locale;
use crate::model::standing::Standing;

/// What the page is about.
pub(crate) struct Overview {
    /// How the databases stand, the worst first.
    pub status: StatusReport,
    /// Whose they are, where they are of one publisher only.
    pub publisher: Option<PublisherName>,
    /// What else is known of each.
    pub known: BTreeMap<DatabaseId, Known>,
}

/// What is known of a database besides its status.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The agent keeps no key for drills.
    pub no_key: bool,
    /// The report of its last drill, where it is kept here.
    pub last_drill: Option<KeptReport>,
    /// That of the drill which proved its newest proven snapshot.
    pub proof: Option<KeptReport>,
}

/// The page as one self-contained HTML document.
pub(crate) fn html(overview: &Overview, locale: &Locale) -> String {
    html::render(&page(overview, Words::of(locale)))
}

/// The same as Markdown.
pub(crate) fn markdown(overview: &Overview, locale: &Locale) -> String {
    markdown::render(&page(overview, Words::of(locale)))
}

/// The newest snapshot of a database that a drill has proven anywhere; of several proofs, the highest and newest.
pub(crate) fn last_proof(database: &DatabaseStatus) -> Option<&DrillProof> {
    let proofs =
        database.targets.iter().flat_map(|target| target.restored.iter().chain(&target.owner_restored));
    proofs.max_by_key(|proof| (proof.snapshot.time(), &proof.snapshot, proof.level, proof.at))
}

/// How old the state is that was proven, in seconds.
fn proven_age(proof: &DrillProof, now: Timestamp) -> f64 {
    now.duration_since(proof.snapshot.time()).as_secs_f64().max(0.0)
}

fn page<'a>(overview: &Overview, words: Words<'a>) -> Page<'a> {
    let (status, now) = (&overview.status, overview.status.at);
    let total = status.databases.len() as u64;
    let of = |wanted: &dyn Fn(&DatabaseStatus) -> bool| {
        status.databases.iter().filter(|database| wanted(database)).count() as u64
    };
    let at_risk = of(&|database| matches!(database.state, Standing::Late | Standing::Failing));
    let proven = of(&|database| database.state == Standing::Well && is_proven(database, now));
    let (tone, verdict, detail) = if at_risk > 0 {
        let detail = words.so_many_at_risk(words.count(at_risk), words.count(total));
        (Tone::Bad, words.act_in_capitals(), detail)
    } else if proven < total {
        let detail = words.so_many_proven(words.count(proven), words.count(total));
        (Tone::Open, words.not_all_proven_in_capitals(), detail)
    } else {
        (Tone::Good, words.all_well_in_capitals(), words.all_well_detail().to_owned())
    };
    let mut sections = vec![glance(overview, words)];
    let known = |database: &DatabaseStatus| overview.known.get(&database.id()).cloned().unwrap_or_default();
    sections.extend(status.databases.iter().map(|d| database::section(d, &known(d), now, words)));
    let footer = [
        words.as_of(env!("CARGO_PKG_VERSION"), words.moment(now)),
        words.times_of(words.zone(now)),
        words.quoted().to_owned(),
    ];
    Page {
        words,
        title: match &overview.publisher {
            Some(publisher) => words.databases_of(publisher),
            None => words.all_databases().to_owned(),
        },
        tone,
        verdict: verdict.to_owned(),
        detail: Some(detail),
        lead: lead(status, words),
        sections,
        footer: footer.join(" ").trim_end().to_owned(),
    }
}

/// Whether a drill has proven a snapshot, and that recently enough; and none has failed since.
fn is_proven(database: &DatabaseStatus, now: Timestamp) -> bool {
    last_proof(database).is_some_and(|proof| !gaps::is_too_old(database, proof, now))
        && database.last_drill.as_ref().is_none_or(|drill| drill.passed)
}

fn lead(status: &StatusReport, words: Words<'_>) -> Vec<String> {
    let total = status.databases.len() as u64;
    let states: Vec<String> = Standing::ALL
        .iter()
        .filter_map(|standing| Some((*standing, *status.summary.get(standing.word())?)))
        .filter(|(_, n)| *n > 0)
        .map(|(standing, n)| format!("{} {}", words.count(n), words.standing(standing)))
        .collect();
    let proofs: Vec<(&DatabaseStatus, &DrillProof)> =
        status.databases.iter().filter_map(|database| Some((database, last_proof(database)?))).collect();
    let mut lead = vec![
        words.how_many_stand_how(words.databases(total), states.join(", ")),
        words.proven_of_all(words.count(proofs.len() as u64), words.count(total)),
    ];
    let oldest = proofs.iter().min_by_key(|(_, proof)| proof.snapshot.time());
    lead.extend(oldest.map(|(database, proof)| {
        words.oldest_proof(database.id(), words.duration(proven_age(proof, status.at)))
    }));
    let away = status.unreachable.iter();
    lead.extend(away.map(|away| words.target_away(&away.target, words.sentence(&away.error))));
    lead.extend(status.daemon.as_ref().and_then(|daemon| match (daemon.running, daemon.hangs) {
        (false, _) => Some(words.daemon_away().to_owned()),
        (true, true) => Some(words.daemon_hangs().to_owned()),
        (true, false) => None,
    }));
    lead
}

/// The colour of how a database stands.
fn tone(standing: Standing) -> Tone {
    match standing {
        Standing::Late | Standing::Failing => Tone::Bad,
        Standing::Unknown | Standing::Warning | Standing::New => Tone::Open,
        Standing::Well => Tone::Good,
    }
}

/// A line for each database.
fn glance(overview: &Overview, words: Words<'_>) -> Section {
    let now = overview.status.at;
    let row = |database: &DatabaseStatus| {
        let (proven, age) = match last_proof(database) {
            Some(proof) => {
                (Cell::Time(proof.snapshot.time()), Cell::Text(words.duration(proven_age(proof, now))))
            }
            None => (Cell::Mark(Tone::Open, words.nothing_proven().to_owned()), Cell::Text(String::new())),
        };
        let known = overview.known.get(&database.id()).cloned().unwrap_or_default();
        let took = database::recovery(database, &known).map(|took| words.duration(took));
        let drill = match database.last_drill.as_ref().map(|drill| drill.passed) {
            Some(true) => Cell::Mark(Tone::Good, words.drill_passed().to_owned()),
            Some(false) => Cell::Mark(Tone::Bad, words.drill_failed_word().to_owned()),
            None => Cell::Mark(Tone::Open, words.no_drill().to_owned()),
        };
        vec![
            Cell::Name(database.id().to_string()),
            Cell::Mark(tone(database.state), words.standing(database.state).to_owned()),
            proven,
            age,
            Cell::Text(took.unwrap_or_default()),
            drill,
        ]
    };
    let table = Table {
        caption: words.glance_caption(),
        columns: vec![
            Column::Left(words.database()),
            Column::Left(words.state()),
            Column::Left(words.proven_state_of()),
            Column::Right(words.age()),
            Column::Right(words.recovery()),
            Column::Left(words.last_drill()),
        ],
        rows: overview.status.databases.iter().map(row).collect(),
    };
    let explained = Block::Text(words.glance_explained().to_owned());
    Section::new(words.at_a_glance(), vec![Block::Table(table), explained])
}
