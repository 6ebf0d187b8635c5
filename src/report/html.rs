//! The page as HTML: one file that loads nothing from elsewhere.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::page::{Bar, Block, Cell, Column, Page, Section, Table, Tone};
use super::words::{Words, on_one_line};
use crate::model::id::Sha256;
use crate::model::visible::visible;

const STYLE: &str = include_str!("style.css");

/// So many columns fit on any screen.
const WIDE: usize = 4;

/// The whole document.
pub(super) fn render(page: &Page<'_>) -> String {
    // Nothing may be loaded, sent or run; the one style is known by its hash.
    let style = BASE64_STANDARD.encode(Sha256::of(STYLE.as_bytes()).0);
    let policy =
        format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'");
    let words = page.words;
    let document = html! {
        (DOCTYPE) "\n"
        html lang=(words.language.tag()) {
            head { "\n"
                meta charset="utf-8"; "\n"
                meta http-equiv="Content-Security-Policy" content=(policy); "\n"
                meta name="viewport" content="width=device-width, initial-scale=1"; "\n"
                meta name="color-scheme" content="light dark"; "\n"
                meta name="referrer" content="no-referrer"; "\n"
                meta name="robots" content="noindex"; "\n"
                title { (words.pair(&page.title, &page.verdict)) } "\n"
                style { (PreEscaped(STYLE)) } "\n"
            } "\n"
            body { "\n"
                header class=(class(page.tone)) { "\n"
                    p class="title" { (page.title) } "\n"
                    h1 {
                        span aria-hidden="true" { (page.tone.sign()) } " "
                        @match &page.detail {
                            Some(detail) => { (words.pair(&page.verdict, "")) span class="level" { (detail) } }
                            None => { (page.verdict) }
                        }
                    } "\n"
                    @for sentence in &page.lead { p { (on_one_line(sentence)) } "\n" }
                } "\n"
                main { "\n" @for part in &page.sections { (section(part, words)) } } "\n"
                footer { p { (page.footer) } } "\n"
            } "\n"
        } "\n"
    };
    document.into_string()
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Open => "open",
    }
}

fn section(section: &Section, words: Words<'_>) -> Markup {
    html! {
        section { "\n"
            h2 { (section.heading) } "\n"
            @for part in &section.blocks { (block(part, words)) "\n" }
        } "\n"
    }
}

fn block(block: &Block, words: Words<'_>) -> Markup {
    html! {
        @match block {
            Block::Text(text) => { p { (on_one_line(text)) } }
            Block::Legend(text) => { p class="legend" { (on_one_line(text)) } }
            Block::List(lines) => { ul { "\n" @for line in lines { li { (on_one_line(line)) } "\n" } } }
            Block::Facts(facts) => {
                table class="facts" { tbody { "\n"
                    @for (name, value) in facts { tr { th scope="row" { (name) } td { (cell(value, words)) } } "\n" }
                } }
            }
            Block::Table(of) => { (table(of, words)) }
            Block::Commands(lines) => { pre { code { (lines) } } }
        }
    }
}

fn table(table: &Table, words: Words<'_>) -> Markup {
    // On a narrow screen each of its cells is a line, which names its column.
    let is_wide = table.columns.len() > WIDE;
    html! {
        table class=[is_wide.then_some("wide")] { "\n"
            caption { (table.caption) } "\n"
            thead { tr {
                @for column in &table.columns { th scope="col" class=[side(*column)] { (column.name()) } }
            } } "\n"
            tbody { "\n"
                @for row in &table.rows {
                    tr {
                        @for (i, (value, column)) in row.iter().zip(&table.columns).enumerate() {
                            @if i == 0 { th scope="row" { (cell(value, words)) } }
                            @else {
                                td class=[side(*column)] data-label=[is_wide.then_some(column.name())] {
                                    (cell(value, words))
                                }
                            }
                        }
                    } "\n"
                }
            }
        }
    }
}

fn side(column: Column) -> Option<&'static str> {
    match column {
        Column::Left(_) => None,
        Column::Right(_) => Some("right"),
        Column::Bars(_) => Some("bars"),
    }
}

fn cell(cell: &Cell, words: Words<'_>) -> Markup {
    html! {
        @match cell {
            Cell::Text(text) => { (on_one_line(text)) }
            Cell::Name(name) => { code { (visible(name)) } }
            Cell::Time(at) => { time datetime=(at.strftime("%Y-%m-%dT%H:%M:%SZ")) { (words.time(*at)) } }
            Cell::Mark(tone, text) => {
                span class={ "mark " (class(*tone)) } {
                    span aria-hidden="true" { (tone.sign()) } "\u{a0}" (on_one_line(text))
                }
            }
            Cell::Bar(of) => { (bar(of)) }
        }
    }
}

/// The numbers are in the cell beside it, so the picture is hidden from screen readers.
fn bar(bar: &Bar) -> Markup {
    let percent = |share: f64| format!("{:.1}%", share.clamp(0.0, 1.0) * 100.0);
    html! {
        svg aria-hidden="true" width="100%" height="12" {
            rect class=(if bar.hollow { "hollow" } else { "solid" }) x="0" y="1" width=(percent(bar.share)) height="10" {}
            @if let Some(limit) = bar.limit {
                line class="limit" x1=(percent(limit)) x2=(percent(limit)) y1="0" y2="12" {}
            }
        }
    }
}
