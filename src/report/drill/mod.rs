//! The report of a drill for people: for a publisher's director, who reads one in a disaster, and for an auditor.

mod cells;
mod evidence;
mod lead;
mod results;
#[cfg(test)]
mod tests;

use super::page::{Page, Tone};
use super::words::Words;
use super::{html, markdown};
use crate::job::drill::report::DrillReport;
use crate::job::drill::verdict::Verdict;
use crate::model::locale::Locale;

/// The report as one self-contained HTML page.
pub(crate) fn html(report: &DrillReport, locale: &Locale) -> String {
    html::render(&page(report, Words::of(locale)))
}

/// The same as Markdown.
pub(crate) fn markdown(report: &DrillReport, locale: &Locale) -> String {
    markdown::render(&page(report, Words::of(locale)))
}

fn page<'a>(report: &DrillReport, words: Words<'a>) -> Page<'a> {
    let verdict = Verdict::of(report);
    let sections = [
        Some(results::tested(report, words)),
        results::sabotage(report, words),
        Some(results::came_back(report, words)),
        Some(results::recovery(report, verdict, words)),
        results::failure(report, verdict, words),
        Some(evidence::checks(report, words)),
        evidence::objects(report, words),
        Some(evidence::stages(report, words)),
        Some(evidence::versions(report, words)),
        Some(evidence::signatures(report, words)),
        Some(evidence::by_yourself(report, words)),
        evidence::kept(report, words),
        evidence::warnings(report, words),
    ];
    let footer = [
        words.written_by(env!("CARGO_PKG_VERSION"), &report.drill),
        words.times_of(words.zone(report.finished_at)),
        words.quoted().to_owned(),
    ];
    Page {
        words,
        title: words.drill_of(format!("{}/{}", report.publisher, report.database)),
        tone: tone(verdict),
        verdict: words.verdict(verdict).to_owned(),
        detail: report.level.map(|level| words.level(level).to_owned()),
        lead: lead::lead(report, verdict, words),
        sections: sections.into_iter().flatten().collect(),
        footer: footer.join(" ").trim_end().to_owned(),
    }
}

/// The colour of a drill. A sabotage is never green: it proves nothing about the snapshot.
fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Passed(_) => Tone::Good,
        Verdict::Failed | Verdict::Untested | Verdict::NotNoticed => Tone::Bad,
        Verdict::Noticed => Tone::Open,
    }
}
