//! What is stored, and how it is found again: layout, manifest, receipt, chain.

pub mod canonical;
pub mod chain;
pub mod drill;
pub mod layout;
pub mod manifest;
pub mod prune;
pub mod receipt;
