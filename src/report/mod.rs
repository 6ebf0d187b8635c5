//! Pages for people.

pub(crate) mod drill;
