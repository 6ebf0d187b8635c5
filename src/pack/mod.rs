//! Bytes to bytes: streams are cut into units, compared with the previous snapshot, and what is new
//! goes into packs. No target, no network, no async runtime.

pub(crate) mod base;
pub(crate) mod compose;
pub(crate) mod extent;
pub(crate) mod file_section;
pub(crate) mod layers;
pub(crate) mod matcher;
pub(crate) mod pack_reader;
pub(crate) mod pack_writer;
pub(crate) mod padme;
pub(crate) mod script;
pub(crate) mod stream;
pub(crate) mod units;
