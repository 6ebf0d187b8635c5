//! Bytes to bytes: streams are cut into units, compared with the previous snapshot, and what is new
//! goes into packs. No target, no network, no async runtime.

pub mod delta;
pub mod history;
pub mod pack_reader;
pub mod pack_writer;
pub mod padme;
pub mod stream;
