//! What throwaway servers have in common, whichever engine's they are: a private folder, a user and a sandbox, processes that end
//! with a drill, and a disk that they must not fill.

pub(crate) mod folder;
pub(crate) mod installation;
pub(crate) mod prerequisites;
pub(crate) mod processes;
pub(crate) mod reserve;
pub(crate) mod running;

use secrecy::SecretString;

/// A name that nobody else has: this start, and random digits.
pub(crate) fn random_name(start: &str) -> String {
    format!("{start}_{}", hex::encode(rand::random::<[u8; 6]>()))
}

/// A password that nobody can guess.
pub(crate) fn random_password() -> SecretString {
    hex::encode(rand::random::<[u8; 32]>()).into()
}
