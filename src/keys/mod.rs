//! Keys and trust: who may read a snapshot, who wrote it, and how both are kept in files.
//!
//! Two kinds of keys, never mixed up: age keys open data ([`recipients`], [`epoch`], [`restore_key`]);
//! Ed25519 keys in OpenSSH's format sign records ([`signing`], [`allowed_signers`], [`trust`]). age does not say who
//! encrypted, so a reader asks for the signature first.

pub(crate) mod allowed_signers;
pub(crate) mod epoch;
mod files;
pub(crate) mod keygen;
mod pattern;
pub(crate) mod recipients;
pub(crate) mod restore_key;
pub(crate) mod signing;
pub(crate) mod terminal;
pub(crate) mod trust;

pub(crate) use allowed_signers::AllowedSigners;
pub(crate) use epoch::EpochKey;
pub use recipients::Recipients;
pub use restore_key::RestoreKey;
pub use signing::SigningKey;
pub(crate) use signing::{Namespace, Signer};
pub use trust::TrustStore;

#[cfg(test)]
pub(crate) mod testing;
