//! What keeps the code of a restored database apart from the rest of a host.

use serde::{Deserialize, Serialize};

/// What keeps the code of a restored database apart, in a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A sandbox: namespaces, a system call filter, and nothing to be seen but programs and the throwaway copy.
    Sandbox,
    /// A server that the operator names, and answers for.
    Server,
    /// Nothing, as the operator decided.
    None,
}

impl Isolation {
    /// What an operator chooses by this word. A server that is named brings its own.
    pub(crate) fn chosen(word: &str) -> Option<Self> {
        [Self::Sandbox, Self::None].into_iter().find(|isolation| isolation.word() == word)
    }

    /// Its word in configurations and records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Server => "server",
            Self::None => "none",
        }
    }

    /// What it means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Sandbox => "in a sandbox",
            Self::Server => "on a server of the operator's",
            Self::None => "WITHOUT a sandbox: code in the database could do what marbre's user can",
        }
    }
}
