//! Pages for people.

pub mod drill;
