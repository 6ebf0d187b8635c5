//! One line for each database, the worst first, and a summary.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::layout::{self, columns, fit};
use crate::cli::output;
use crate::cli::paint::{Line, Paint};
use crate::health::presence::Presence;
use crate::health::status::{DatabaseStatus, StatusReport, TargetStatus};
use crate::model::condition::{ConditionKind, Severity};
use crate::model::human;
use crate::model::id::TargetName;
use crate::model::level::Level;
use crate::model::standing::Standing;

/// The columns that what is wrong gets at least.
const WRONG: usize = 18;
/// The columns of a word for a level, and of the name of a target above letters, at most.
const WORD: usize = 8;
const NAME: usize = 6;
const LEGEND: &str = "O owner-restored  R restored  I intact  S stored  -N lacks N  ! damaged  ? away";

/// Prints the report in lines of at most `width` columns.
pub(super) fn print(report: &StatusReport, width: usize, zone: &TimeZone) {
    lines(report, width, zone).iter().for_each(|line| output::print_line(line));
}

fn lines(report: &StatusReport, width: usize, zone: &TimeZone) -> Vec<Line> {
    let mut lines = Vec::new();
    if !report.databases.is_empty() {
        let table = Table::of(report, width);
        lines.push(table.header());
        lines.extend(report.databases.iter().map(|database| table.row(database, report.at, zone)));
        if !table.in_words {
            lines.push(vec![(Paint::Faint, fit(LEGEND, width))]);
        }
        lines.push(Line::new());
    }
    lines.push(summary(report));
    for away in &report.unreachable {
        let what = format!("target {} cannot be reached: {}", away.target, away.error);
        let wrapped = layout::wrap(&what, width, 2);
        lines.extend(wrapped.lines().map(|line| vec![(Paint::Bad, line.to_owned())]));
        let note = "  what is shown of it is what was known before".to_owned();
        lines.push(vec![(Paint::Faint, note)]);
    }
    for left in &report.left {
        let wrapped = layout::wrap(&left.text(), width, 2);
        lines.extend(wrapped.lines().map(|line| vec![(Paint::Plain, line.to_owned())]));
    }
    lines.extend(report.daemon.as_ref().map(|daemon| presence(daemon, zone)));
    let now = layout::moment(report.at, zone);
    lines.push(vec![(
        Paint::Faint,
        format!("times are of {}; now {now}", layout::zone_name(report.at, zone)),
    )]);
    lines
}

/// How wide what is.
struct Table<'a> {
    targets: Vec<(&'a TargetName, usize)>,
    /// Levels are words, where there is room for them, and else letters.
    in_words: bool,
    database: usize,
    wrong: usize,
}

const STATE: usize = 7;
const AGE: usize = 4;
const NEXT: usize = 9;

impl<'a> Table<'a> {
    fn of(report: &'a StatusReport, width: usize) -> Self {
        let of_all = report.databases.iter().flat_map(|database| &database.targets);
        let names: BTreeSet<&TargetName> = of_all.map(|target| &target.name).collect();
        let longest = report.databases.iter().map(|database| columns(&database.id().to_string())).max();
        let database = longest.unwrap_or(0).clamp(8, 24);
        let fixed = database + 1 + STATE + 1 + AGE + 1 + NEXT + 1;
        let with = |at_least: usize, at_most: usize| -> Vec<(&'a TargetName, usize)> {
            names.iter().map(|name| (*name, columns(name.as_str()).clamp(at_least, at_most))).collect()
        };
        let room = |targets: &[(&TargetName, usize)]| {
            width.checked_sub(fixed + targets.iter().map(|(_, width)| width + 1).sum::<usize>())
        };
        let words = with(WORD, WORD);
        let (in_words, targets) = match room(&words) {
            Some(room) if room >= WRONG => (true, words),
            _ => (false, with(2, NAME)),
        };
        let wrong = room(&targets).unwrap_or(0);
        Self { targets, in_words, database, wrong }
    }

    fn header(&self) -> Line {
        let mut text =
            format!("{} {} {} ", fit("DATABASE", self.database), fit("STATE", STATE), fit("AGE", AGE));
        for (name, width) in &self.targets {
            text += &format!("{} ", fit(&name.as_str().to_uppercase(), *width));
        }
        vec![(Paint::Strong, format!("{text}{} WHAT IS WRONG", fit("NEXT", NEXT)))]
    }

    fn row(&self, database: &DatabaseStatus, now: Timestamp, zone: &TimeZone) -> Line {
        let cell = |paint, text: &str, width| (paint, format!("{} ", fit(text, width)));
        let state = database.state;
        let mut line = vec![
            cell(Paint::Plain, &database.id().to_string(), self.database),
            cell(of_standing(state), state.word(), STATE),
            cell(if state == Standing::Late { Paint::Bad } else { Paint::Plain }, &age(database), AGE),
        ];
        for (name, width) in &self.targets {
            let (paint, words) =
                database.target(name.as_str()).map_or((Paint::Plain, ["", ""].map(str::to_owned)), level);
            line.push(cell(paint, &words[usize::from(!self.in_words)], *width));
        }
        let next = database.next_run.map_or("-".to_owned(), |at| layout::soon(at, now, zone));
        line.push(cell(Paint::Plain, &next, NEXT));
        line.push((of_standing(state), wrong(database, self.wrong)));
        line
    }
}

fn of_standing(standing: Standing) -> Paint {
    match standing {
        Standing::Late | Standing::Failing => Paint::Bad,
        Standing::Unknown | Standing::Warning => Paint::Warning,
        Standing::New => Paint::Plain,
        Standing::Well => Paint::Good,
    }
}

fn age(database: &DatabaseStatus) -> String {
    match (database.age_seconds, database.ahead_seconds) {
        (Some(age), _) => human::short(age.unsigned_abs()),
        (None, Some(_)) => "?".to_owned(),
        (None, None) => "none".to_owned(),
    }
}

/// What is proven of the newest snapshot that a target holds, or what keeps it from holding one: as a word and as a letter.
fn level(target: &TargetStatus) -> (Paint, [String; 2]) {
    let (paint, word, letter) = match (&target.error, target.levels.damaged, target.behind) {
        (Some(_), ..) => (Paint::Bad, "away", "?"),
        (None, Some(_), _) => (Paint::Bad, "damaged", "!"),
        (None, None, Some(n)) if n > 0 => return (Paint::Warning, [format!("lacks {n}"), format!("-{n}")]),
        _ => match target.levels.highest() {
            Some((Level::OwnerRestored, _)) => (Paint::Good, "owner", "O"),
            Some((Level::Restored, _)) => (Paint::Good, "restored", "R"),
            Some((Level::Intact, _)) => (Paint::Plain, "intact", "I"),
            Some((Level::Stored, _)) => (Paint::Plain, "stored", "S"),
            None => (Paint::Plain, "none", "-"),
        },
    };
    (paint, [word, letter].map(str::to_owned))
}

/// What is wrong in a few words, the worst first; how much more there is, where there is no room for it.
fn wrong(database: &DatabaseStatus, width: usize) -> String {
    // That it is late is its state.
    let told = |kind| kind == ConditionKind::SnapshotLate && database.ahead_seconds.is_none();
    let mut found: Vec<_> = database.conditions.iter().filter(|found| !told(found.kind)).collect();
    found.sort_by_key(|found| found.severity != Severity::Critical);
    let mut words: Vec<String> = Vec::new();
    for condition in found {
        let object = condition.object.as_ref().map(|object| format!(" {object}")).unwrap_or_default();
        let word = match condition.kind {
            ConditionKind::SnapshotLate => "dated in the future".to_owned(),
            kind => format!("{}{object}", kind.word().replace('-', " ")),
        };
        words.push(word);
    }
    for shown in (1..=words.len()).rev() {
        let more = words.len() - shown;
        let text = words[..shown].join(", ") + &if more > 0 { format!(", +{more}") } else { String::new() };
        if columns(&text) <= width {
            return text;
        }
    }
    match words.len() {
        0 => String::new(),
        1 => fit(&words[0], width),
        n => {
            let more = format!(", +{}", n - 1);
            fit(&words[0], width.saturating_sub(columns(&more))) + &more
        }
    }
}

fn summary(report: &StatusReport) -> Line {
    let total: u64 = report.summary.values().sum();
    let noun = if total == 1 { "database" } else { "databases" };
    let mut line = vec![(Paint::Strong, format!("{total} {noun}: "))];
    for standing in Standing::ALL {
        let n = report.summary.get(standing.word()).copied().unwrap_or(0);
        if n > 0 || *standing == Standing::Well {
            let comma = if line.len() > 1 { ", " } else { "" };
            line.push((Paint::Plain, comma.to_owned()));
            line.push((of_standing(*standing), format!("{n} {}", standing.word())));
        }
    }
    let shown = report.databases.len() as u64;
    if shown < total {
        line.push((Paint::Faint, format!("; {shown} shown")));
    }
    line
}

fn presence(daemon: &Presence, zone: &TimeZone) -> Line {
    let moment = |at: Option<Timestamp>| at.map(|at| layout::moment(at, zone));
    let (paint, text) = match (daemon.running, moment(daemon.since), moment(daemon.last_seen)) {
        (true, _, Some(seen)) if daemon.hangs => (Paint::Bad, format!("HANGS: no sign of life since {seen}")),
        (true, Some(since), _) => (Paint::Good, format!("running since {since}")),
        (true, None, _) => (Paint::Good, "running".to_owned()),
        (false, _, Some(seen)) => (Paint::Bad, format!("NOT RUNNING, last seen {seen}")),
        (false, _, None) => (Paint::Warning, "never ran here: nothing happens by itself".to_owned()),
    };
    vec![(Paint::Plain, "daemon: ".to_owned()), (paint, text)]
}
