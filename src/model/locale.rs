//! How people read a page: in which language, and by which clock.

use std::str::FromStr;

use jiff::tz::TimeZone;
use strum::VariantArray;

/// A language that pages are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, VariantArray)]
pub(crate) enum Language {
    /// English.
    #[default]
    English,
    /// French.
    French,
}

impl Language {
    /// All of them.
    pub(crate) const ALL: &[Self] = Self::VARIANTS;

    /// Its tag: ISO 639-1, as in HTML and in configurations.
    pub(crate) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::French => "fr",
        }
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tags: Vec<&str> = Self::ALL.iter().map(|language| language.tag()).collect();
        let found = Self::ALL.iter().copied().find(|language| language.tag() == text);
        found.ok_or_else(|| format!("say {}", tags.join(" or ")))
    }
}

/// How the readers of a page read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locale {
    /// Their language.
    pub language: Language,
    /// The zone whose clocks they look at.
    pub time_zone: TimeZone,
}
