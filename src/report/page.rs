//! What a page says, whatever it is written as.

use jiff::Timestamp;

use super::words::Words;

/// What a page says.
pub(super) struct Page<'a> {
    /// The words of its language, and the clock of its readers.
    pub words: Words<'a>,
    pub title: String,
    pub tone: Tone,
    /// The verdict: a word or two in capitals.
    pub verdict: String,
    /// What that is more exactly, such as the level that was proven.
    pub detail: Option<String>,
    /// What everybody should read, in sentences.
    pub lead: Vec<String>,
    pub sections: Vec<Section>,
    pub footer: String,
}

/// Colour and sign of a result. Never the only carrier of its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    /// Neither: not proven, not run, or irrelevant.
    Open,
}

impl Tone {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Bad => "✗",
            Self::Open => "–",
        }
    }
}

pub(super) struct Section {
    pub heading: String,
    pub blocks: Vec<Block>,
}

impl Section {
    pub(super) fn new(heading: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self { heading: heading.into(), blocks }
    }
}

pub(super) enum Block {
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

pub(super) struct Table {
    /// What it shows, for those who do not see it.
    pub caption: &'static str,
    pub columns: Vec<Column>,
    /// The first cell of a row is its header.
    pub rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Left(&'static str),
    Right(&'static str),
    /// Of bars: only where there are pictures.
    Bars(&'static str),
}

impl Column {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Left(name) | Self::Right(name) | Self::Bars(name) => name,
        }
    }
}

#[derive(Clone)]
pub(super) enum Cell {
    Text(String),
    /// A name or an identifier, to the letter.
    Name(String),
    Time(Timestamp),
    Mark(Tone, String),
    Bar(Bar),
}

/// A bar of a chart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bar {
    /// Its length: 0 to 1.
    pub share: f64,
    /// A mark to hold it against, likewise.
    pub limit: Option<f64>,
    /// Hollow, where it does not count.
    pub hollow: bool,
}
