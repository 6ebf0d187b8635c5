//! Every word that pages say, in every language: each phrase beside its translations, in the files of this folder. What comes
//! from elsewhere (names, answers of servers, error messages) is quoted as it is.
//!
//! French has a narrow no-break space before `:`, `;`, `!`, `?` and inside `« »`. The phrases are written with it; a test
//! looks whether one was forgotten.

mod drill;
mod evidence;
mod lead;
mod overview;
mod results;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::human;
use crate::model::locale::{Language, Locale};
use crate::model::visible::visible;

/// Between thousands, and beside French punctuation.
const NARROW: char = '\u{202f}';
/// Between a number and its unit.
const NO_BREAK: char = '\u{a0}';

/// Characters of one text: whatever a server says, the page stays readable.
const LONG: usize = 2000;

/// The words of a language, and the clock of those who read it.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) language: Language,
    zone: &'a TimeZone,
}

/// Phrases, in English and French. Those with arguments are sentences in which these are put.
macro_rules! phrases {
    ($($name:ident $(($($value:ident),+))? = $english:literal, $french:literal;)*) => {
        impl Words<'_> { $(phrases!(@one $name $(($($value),+))? $english $french);)* }
    };
    (@one $name:ident $english:literal $french:literal) => {
        pub(in crate::report) fn $name(self) -> &'static str {
            match self.language {
                Language::English => $english,
                Language::French => $french,
            }
        }
    };
    (@one $name:ident ($($value:ident),+) $english:literal $french:literal) => {
        pub(in crate::report) fn $name(self, $($value: impl std::fmt::Display),+) -> String {
            match self.language {
                Language::English => format!($english),
                Language::French => format!($french),
            }
        }
    };
}

/// What is counted: one of it and several, in English and French.
macro_rules! counted {
    ($($name:ident = $one:literal $many:literal, $un:literal $plusieurs:literal;)*) => {
        impl Words<'_> {
            $(pub(in crate::report) fn $name(self, n: u64) -> String {
                let noun = match self.language {
                    Language::English => if n == 1 { $one } else { $many },
                    Language::French => if n < 2 { $un } else { $plusieurs },
                };
                format!("{} {noun}", self.count(n))
            })*
        }
    };
}

use {counted, phrases};

impl<'a> Words<'a> {
    /// For readers like this.
    pub(super) fn of(locale: &'a Locale) -> Self {
        Self { language: locale.language, zone: &locale.time_zone }
    }

    /// A whole number: `1,234,567`, in French `1 234 567`.
    pub(super) fn count(self, n: u64) -> String {
        match self.language {
            Language::English => human::count(n),
            Language::French => human::count(n).replace(',', &NARROW.to_string()),
        }
    }

    /// A size: `1.5 GiB`, in French `1,5 Gio`.
    pub(super) fn bytes(self, n: u64) -> String {
        match self.language {
            Language::English => human::bytes(n),
            Language::French => spaced(&human::bytes(n).replace('.', ",").replace('B', "o")),
        }
    }

    /// A time span: `3 d 4 h`, in French `3 j 4 h`.
    pub(super) fn duration(self, seconds: f64) -> String {
        match self.language {
            Language::English => human::duration(seconds),
            Language::French => spaced(&human::duration(seconds).replace('.', ",").replace(" d", " j")),
        }
    }

    /// A moment in a sentence: `2026-11-22 03:00:03 CET`, in French `22 novembre 2026 à 03:00:03 CET`.
    pub(super) fn moment(self, at: Timestamp) -> String {
        const MONTHS: [&str; 12] = [
            "janvier",
            "février",
            "mars",
            "avril",
            "mai",
            "juin",
            "juillet",
            "août",
            "septembre",
            "octobre",
            "novembre",
            "décembre",
        ];
        if self.language == Language::English {
            return self.time(at);
        }
        let there = at.to_zoned(self.zone.clone());
        let day = if there.day() == 1 { "1er".to_owned() } else { there.day().to_string() };
        // Months are numbered from 1.
        let month = MONTHS[usize::from(there.month().unsigned_abs() - 1)];
        format!("{day}{NO_BREAK}{month} {} à {}", there.year(), there.strftime("%H:%M:%S %Z"))
    }

    /// A moment in a table: `2026-11-22 03:00:03 CET`, in French `22/11/2026 03:00:03 CET`.
    pub(super) fn time(self, at: Timestamp) -> String {
        let form = match self.language {
            Language::English => "%Y-%m-%d %H:%M:%S %Z",
            Language::French => "%d/%m/%Y %H:%M:%S %Z",
        };
        at.to_zoned(self.zone.clone()).strftime(form).to_string()
    }

    /// What the zone is called: by its name where it has one, else as its clock is called at this moment.
    pub(super) fn zone(self, at: Timestamp) -> String {
        let named = self.zone.iana_name().map(str::to_owned);
        named.unwrap_or_else(|| at.to_zoned(self.zone.clone()).strftime("%Z").to_string())
    }

    /// At most so much of a text of somebody else as people will read.
    pub(super) fn shortened(self, text: &str) -> String {
        match text.char_indices().nth(LONG) {
            None => text.to_owned(),
            Some((end, _)) => {
                let left = text[end..].chars().count() as u64;
                format!("{}… ({})", &text[..end], self.more_characters(left))
            }
        }
    }

    /// With a full stop at its end.
    pub(super) fn sentence(self, text: &str) -> String {
        let text = self.shortened(text.trim_end());
        if text.ends_with(['.', '!', '?']) { text } else { text + "." }
    }
}

counted! {
    more_characters = "character more" "characters more", "caractère de plus" "caractères de plus";
}

phrases! {
    pair(a, b) = "{a}: {b}", "{a} : {b}";
}

/// Numbers with their units, which no line break parts.
fn spaced(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let pairs: Vec<String> = words.chunks(2).map(|pair| pair.join(&NO_BREAK.to_string())).collect();
    pairs.join(" ")
}

/// A text with its line breaks as spaces, for a page that breaks lines itself.
pub(super) fn on_one_line(text: &str) -> String {
    let breaks = |c: char| c.is_whitespace() && c != NARROW && c != NO_BREAK;
    let words: Vec<&str> = text.split(breaks).filter(|word| !word.is_empty()).collect();
    visible(&words.join(" ")).into_owned()
}
