//! Bytes to bytes: streams are cut into units, compared with the previous snapshot, and what is new
//! goes into packs. No target, no network, no async runtime.

pub mod delta;
pub mod padme;
pub mod reader;
pub mod stream;
pub mod writer;
