//! The page as Markdown, in the tables of GitHub.

use super::page::{Block, Cell, Column, Page, Section, Table};
use super::words::{Words, on_one_line};
use crate::model::visible::visible;

/// The whole document.
pub(super) fn render(page: &Page<'_>) -> String {
    let verdict = match &page.detail {
        Some(detail) => page.words.pair(&page.verdict, detail),
        None => page.verdict.clone(),
    };
    let mut out = format!("# {}\n\n## {} {}\n\n", escape(&page.title), page.tone.sign(), escape(&verdict));
    for sentence in &page.lead {
        out += &format!("{}\n\n", paragraph(sentence));
    }
    for part in &page.sections {
        section(&mut out, part, page.words);
    }
    out += &format!("---\n\n{}\n", paragraph(&page.footer));
    out
}

fn section(out: &mut String, section: &Section, words: Words<'_>) {
    *out += &format!("## {}\n\n", escape(&section.heading));
    for block in &section.blocks {
        match block {
            Block::Legend(_) => continue,
            Block::Text(text) => *out += &format!("{}\n", paragraph(text)),
            Block::List(lines) => lines.iter().for_each(|line| *out += &format!("- {}\n", paragraph(line))),
            Block::Facts(facts) => {
                *out += "| | |\n| --- | --- |\n";
                facts
                    .iter()
                    .for_each(|(name, value)| *out += &format!("| {name} | {} |\n", cell(value, words)));
            }
            Block::Table(of) => table(out, of, words),
            // Nothing in them comes from elsewhere than this program, and no line of them is a fence.
            Block::Commands(lines) => *out += &format!("```sh\n{lines}```\n"),
        }
        out.push('\n');
    }
}

fn table(out: &mut String, table: &Table, words: Words<'_>) {
    let mut head = String::from("|");
    let mut rule = String::from("|");
    for column in table.columns.iter().filter(|c| !matches!(c, Column::Bars(_))) {
        head += &format!(" {} |", column.name());
        rule += if matches!(column, Column::Right(_)) { " ---: |" } else { " --- |" };
    }
    *out += &format!("{head}\n{rule}\n");
    for row in &table.rows {
        out.push('|');
        for value in row.iter().filter(|value| !matches!(value, Cell::Bar(_))) {
            *out += &format!(" {} |", cell(value, words));
        }
        out.push('\n');
    }
}

fn cell(cell: &Cell, words: Words<'_>) -> String {
    match cell {
        Cell::Text(text) => escape(text),
        Cell::Name(name) => code(name),
        Cell::Time(at) => words.time(*at),
        Cell::Mark(tone, text) => format!("{} {}", tone.sign(), escape(text)),
        Cell::Bar(_) => String::new(),
    }
}

/// A name as code, if nothing in it could end the code or the cell.
fn code(name: &str) -> String {
    let name = visible(name);
    let plain = !name.contains(['`', '|', '\\']) && name.trim() == name && !name.is_empty();
    if plain { format!("`{name}`") } else { escape(&name) }
}

/// A text that may begin a line.
fn paragraph(text: &str) -> String {
    let text = escape(text);
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let starts_block = match text[digits..].chars().next() {
        Some('.' | ')') => digits > 0,
        Some('-' | '+' | '=') => digits == 0,
        _ => false,
    };
    if starts_block { format!("{}\\{}", &text[..digits], &text[digits..]) } else { text }
}

/// A text of which nothing is Markdown, nor HTML.
fn escape(text: &str) -> String {
    let text = on_one_line(text);
    let mut out = String::with_capacity(text.len());
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let special = match c {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&' | '$' => true,
            // Within a word it is only itself.
            '_' => {
                let in_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
                !(in_word(before) && in_word(chars.peek().copied()))
            }
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(c);
        before = Some(c);
    }
    out
}
