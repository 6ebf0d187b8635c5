//! The report of a drill for people: for a publisher's director, who reads one in a disaster, and for an auditor.
//!
//! The content is assembled once, as a [`Page`], and rendered twice, so that HTML and Markdown say the same. Neither
//! renderer knows drills, and nothing of the content knows markup.

mod evidence;
mod html;
mod lead;
mod markdown;
mod results;
#[cfg(test)]
mod tests;
mod words;

use jiff::Timestamp;

use crate::job::drill::report::DrillReport;
use crate::job::drill::verdict::Verdict;

/// The report as one self-contained HTML page.
pub(crate) fn html(report: &DrillReport) -> String {
    html::render(&page(report))
}

/// The same as Markdown.
pub(crate) fn markdown(report: &DrillReport) -> String {
    markdown::render(&page(report))
}

fn page(report: &DrillReport) -> Page {
    let verdict = Verdict::of(report);
    let sections = [
        Some(results::tested(report)),
        results::sabotage(report),
        Some(results::came_back(report)),
        Some(results::recovery(report, verdict)),
        results::failure(report, verdict),
        Some(evidence::checks(report)),
        evidence::objects(report),
        Some(evidence::stages(report)),
        Some(evidence::versions(report)),
        Some(evidence::signatures(report)),
        Some(evidence::by_yourself(report)),
        evidence::kept(report),
        evidence::warnings(report),
    ];
    Page {
        title: format!("Drill of {}/{}", report.publisher, report.database),
        tone: Tone::of(verdict),
        verdict: verdict.word(),
        level: report.level.map(|level| level.word()),
        lead: lead::lead(report, verdict),
        sections: sections.into_iter().flatten().collect(),
        footer: format!(
            "Written by marbre {} at the end of drill {}. All times are UTC.",
            env!("CARGO_PKG_VERSION"),
            report.drill
        ),
    }
}

/// What a report says.
struct Page {
    title: String,
    tone: Tone,
    /// The one word in capitals.
    verdict: &'static str,
    /// The level that was proven.
    level: Option<&'static str>,
    /// What everybody should read, in sentences.
    lead: Vec<String>,
    sections: Vec<Section>,
    footer: String,
}

/// Colour and sign of a result. Never the only carrier of its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Good,
    Bad,
    /// Neither: not proven, not run, or irrelevant.
    Open,
}

impl Tone {
    /// The colour of a drill. A sabotage is never green: it proves nothing about the snapshot.
    fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed(_) => Self::Good,
            Verdict::Failed | Verdict::Untested | Verdict::NotNoticed => Self::Bad,
            Verdict::Noticed => Self::Open,
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Bad => "✗",
            Self::Open => "–",
        }
    }
}

struct Section {
    heading: &'static str,
    blocks: Vec<Block>,
}

enum Block {
    Text(String),
    /// Explains bars: only where there are pictures.
    Legend(String),
    List(Vec<String>),
    /// Names and what they are.
    Facts(Vec<(&'static str, Cell)>),
    Table(Table),
    /// Commands for a shell, line by line.
    Commands(String),
}

struct Table {
    /// What it shows, for those who do not see it.
    caption: &'static str,
    columns: Vec<Column>,
    /// The first cell of a row is its header.
    rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Left(&'static str),
    Right(&'static str),
    /// Of bars: only where there are pictures.
    Bars(&'static str),
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Left(name) | Self::Right(name) | Self::Bars(name) => name,
        }
    }
}

#[derive(Clone)]
enum Cell {
    Text(String),
    /// A name or an identifier, to the letter.
    Name(String),
    Time(Timestamp),
    Mark(Tone, String),
    Bar(Bar),
}

/// A bar of a chart.
#[derive(Debug, Clone, Copy)]
struct Bar {
    /// Its length: 0 to 1.
    share: f64,
    /// A mark to hold it against, likewise.
    limit: Option<f64>,
    /// Hollow, where it does not count.
    hollow: bool,
}
