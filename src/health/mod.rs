//! What is wrong, and what to do about it.

pub mod conditions;
pub mod doctor;
pub(crate) mod expiry;
pub mod findings;
pub mod look;
pub mod neighbours;
pub mod score;
pub mod status;
pub(crate) mod surroundings;
