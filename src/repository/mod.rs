//! What is stored, and how it is found again: layout, manifest, receipt, chain, and catalogues of them.

mod agent_catalog;
pub(crate) mod agents;
mod bad_record;
pub(crate) mod canonical;
pub(crate) mod catalog;
pub(crate) mod chain;
pub(crate) mod claim;
pub(crate) mod drill_catalog;
pub(crate) mod drill_receipt;
mod heads;
mod hidden;
pub(crate) mod history;
pub(crate) mod layout;
mod levels;
pub(crate) mod manifest;
pub(crate) mod next_place;
pub(crate) mod oddity;
pub(crate) mod place;
pub(crate) mod prune_catalog;
pub(crate) mod prune_record;
pub(crate) mod put;
pub(crate) mod reader;
pub(crate) mod receipt;
pub(crate) mod record_catalog;
pub(crate) mod remembered;
pub(crate) mod signed_record;
pub(crate) mod succession;
