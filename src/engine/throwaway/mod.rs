//! What throwaway servers have in common, whichever engine's they are: a private folder, a user and a sandbox, processes that end
//! with a drill, and a disk that they must not fill.

pub(crate) mod folder;
pub(crate) mod installation;
pub(crate) mod prerequisites;
pub(crate) mod processes;
pub(crate) mod reserve;
pub(crate) mod running;

use secrecy::SecretString;

use crate::error::Error;

/// A name that nobody else has: this start, and random digits.
pub(crate) fn random_name(start: &str) -> String {
    format!("{start}_{}", hex::encode(rand::random::<[u8; 6]>()))
}

/// A password that nobody can guess.
pub(crate) fn random_password() -> SecretString {
    hex::encode(rand::random::<[u8; 32]>()).into()
}

/// A server could not be made: what failed, and the last words of its program.
pub(crate) fn not_made(what: &str, said: Option<String>) -> Error {
    let failed = Error::database(format!("failed to make a throwaway server: {what}"))
        .remedy("Fix what the cause names, and run the command again.");
    match said {
        Some(words) => failed.cause(words),
        None => failed,
    }
}
