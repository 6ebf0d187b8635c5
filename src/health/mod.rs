//! What is wrong, and what to do about it.

pub(crate) mod conditions;
pub(crate) mod doctor;
pub(crate) mod expiry;
pub(crate) mod findings;
pub(crate) mod first_due;
mod inspection;
pub(crate) mod left;
pub(crate) mod look;
pub(crate) mod neighbours;
pub(crate) mod presence;
pub(crate) mod score;
pub(crate) mod status;
pub(crate) mod surroundings;
