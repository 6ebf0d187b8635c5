//! What is stored, and how it is found again: layout, manifest, receipt, chain, and catalogues of them.

pub mod canonical;
pub mod catalog;
pub mod chain;
pub mod drill_catalog;
pub mod drill_receipt;
pub mod layout;
mod levels;
pub mod manifest;
pub mod prune_catalog;
pub mod prune_record;
pub mod put;
pub mod reader;
pub mod receipt;
pub mod remembered;
pub mod signed_record;
