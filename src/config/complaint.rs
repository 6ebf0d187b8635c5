//! Collects everything that is wrong with a configuration, so that one run reports it all.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind};

/// What is wrong with one value, without where it stands: three texts that are shown on lines of
/// their own. They never repeat a value that can be a secret.
#[derive(Debug)]
pub(super) struct Complaint {
    what: String,
    accepted: Option<String>,
    remedy: Option<String>,
}

impl Complaint {
    /// A fragment that follows the key: "is not a whole number".
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), accepted: None, remedy: None }
    }

    /// The same complaint about a line of another file that the value names.
    pub(super) fn inside(mut self, place: &str) -> Self {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// The accepted form.
    pub(super) fn accepted(mut self, form: impl Into<String>) -> Self {
        self.accepted = Some(form.into());
        self
    }

    /// What to do, as a full sentence.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// One file of the configuration.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Its place in reading order: the main file is 0.
    pub(super) order: usize,
    /// Its path as people gave it.
    pub(super) path: PathBuf,
    /// Its text.
    pub(super) text: String,
}

impl SourceFile {
    /// Line and column of a byte offset, both counted from 1, the column in characters.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        (line, column)
    }

    /// `file:line` of a byte offset.
    pub(super) fn line(&self, offset: usize) -> String {
        format!("{}:{}", self.path.display(), self.position(offset).0)
    }
}

/// One problem, ready to be shown, with what it is sorted by.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    order: (usize, usize),
    text: String,
}

/// The problems and warnings found so far. Shared by everything that reads.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Report {
    /// Records a problem with the key at `path`, which stands at `offset` of `file`.
    pub(super) fn problem(&self, file: &SourceFile, offset: usize, path: &str, about: Complaint) {
        let mut text = format!("{}: {path}: {}", file.line(offset), about.what);
        for (label, line) in [("accepted", about.accepted), ("remedy", about.remedy)] {
            if let Some(line) = line {
                text.push_str(&format!("\n    {label}: {line}"));
            }
        }
        let order = (file.order, offset);
        push(&self.problems, Problem { order, text });
    }

    /// Records a syntax error: line and column, no key.
    pub(super) fn syntax(&self, file: &SourceFile, error: &toml::de::Error) {
        let offset = error.span().map_or(0, |span| span.start);
        let (line, column) = file.position(offset);
        // The parser's message can have several lines; the first says what is wrong.
        let message = error.message().lines().next().unwrap_or("invalid");
        let text = format!("{}:{line}:{column}: not valid TOML: {message}", file.path.display());
        let order = (file.order, offset);
        self.problems.borrow_mut().push(Problem { order, text });
    }

    /// Records something that works but should be better.
    pub(super) fn warning(&self, file: &SourceFile, offset: usize, path: &str, text: &str) {
        let text = format!("{}: {path}: {text}", file.line(offset));
        let order = (file.order, offset);
        push(&self.warnings, Problem { order, text });
    }

    /// Whether nothing is wrong.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// The warnings, in reading order.
    pub(super) fn warnings(&self) -> Vec<String> {
        in_reading_order(&self.warnings)
    }

    /// Everything that is wrong, in reading order, as one error.
    pub(super) fn error(&self, main: &Path) -> Error {
        let problems = in_reading_order(&self.problems);
        let number = match problems.len() {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        let mut message = format!("the configuration {} has {number}", main.display());
        for problem in problems {
            message.push_str("\n  ");
            message.push_str(&problem);
        }
        Error::new(ErrorKind::Config, message)
            .remedy("Correct the configuration, then check it with `marbre config check`.")
    }
}

/// Adds a problem, once: a default is read by each member of its family.
fn push(list: &RefCell<Vec<Problem>>, problem: Problem) {
    let mut list = list.borrow_mut();
    if !list.contains(&problem) {
        list.push(problem);
    }
}

fn in_reading_order(list: &RefCell<Vec<Problem>>) -> Vec<String> {
    let mut list = list.borrow_mut();
    list.sort_by_key(|problem| problem.order);
    list.iter().map(|problem| problem.text.clone()).collect()
}

/// The known name that `name` was probably meant to be.
pub(super) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // `last` is `keep_last`: whoever leaves out what the table's name says already has made no slip of the pen.
    let similarity = |candidate: &str| match candidate.split('_').any(|part| part == name) {
        true => 1.0,
        false => strsim::jaro_winkler(name, candidate),
    };
    known
        .into_iter()
        .map(|candidate| (similarity(candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}
