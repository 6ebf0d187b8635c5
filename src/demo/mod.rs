//! The fictional publisher of the demo and its subscriber base.
//!
//! Nobody here exists: names are put together at random, telephone numbers are from the ranges that Arcep keeps
//! for works of fiction, and e-mail addresses are below `.example`. Towns and postcodes are real.

mod names;
mod night;
mod plans;
mod population;
mod random;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use night::{destroy, night};
pub(crate) use population::{PopulationOptions, create};

/// The newspaper's name, for people.
pub(crate) const PUBLISHER_TITLE: &str = "La Gazette de l'Ouest";

/// The newspaper's name as a publisher of marbre.
pub(crate) const PUBLISHER: &str = "gazette-de-l-ouest";

/// Its database of subscribers.
pub(crate) const DATABASE: &str = "abonnes";
