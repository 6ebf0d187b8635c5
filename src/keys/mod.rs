//! Keys and trust: who may read a snapshot, who wrote it, and how both are kept in files.
//!
//! Two kinds of keys, never mixed up: age keys open data ([`recipients`], [`epoch`], [`restore_key`]);
//! Ed25519 keys in OpenSSH's format sign records ([`signing`], [`allowed_signers`], [`trust`]). age does not say who
//! encrypted, so a reader asks for the signature first.

pub mod allowed_signers;
pub mod epoch;
mod files;
pub mod keygen;
mod pattern;
pub mod recipients;
pub mod restore_key;
pub mod signing;
mod terminal;
pub mod trust;

pub use allowed_signers::AllowedSigners;
pub use epoch::EpochKey;
pub use recipients::Recipients;
pub use restore_key::RestoreKey;
pub use signing::{Namespace, Signer, SigningKey};
pub use trust::TrustStore;

#[cfg(test)]
pub(crate) mod testing;
