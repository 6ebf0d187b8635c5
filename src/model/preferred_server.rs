//! Which of several servers of one database is read.

/// Which of several servers of one database is read where there is a choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PreferredServer {
    /// The first that answers.
    #[default]
    Any,
    /// The primary, and a standby if no primary answers.
    Primary,
    /// A standby, and the primary if no standby answers.
    Standby,
}

impl PreferredServer {
    const ALL: [Self; 3] = [Self::Any, Self::Primary, Self::Standby];

    /// The one that a configuration means by this word.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preferred| preferred.word() == word)
    }

    /// Its word in a configuration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Primary => "primary",
            Self::Standby => "standby",
        }
    }
}
