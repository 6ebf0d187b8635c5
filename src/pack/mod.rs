//! Bytes to bytes: streams are cut into units, compared with the previous snapshot, and what is new
//! goes into packs. No target, no network, no async runtime.

pub(crate) mod delta;
pub(crate) mod history;
pub(crate) mod pack_reader;
pub(crate) mod pack_writer;
pub(crate) mod padme;
pub(crate) mod stream;
