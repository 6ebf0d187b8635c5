//! Questions to a person at a terminal.

use super::output;

/// Asks, and returns whether the answer is `yes`. Without a terminal there is nobody to ask: then it is not.
pub(super) fn by_a_person(question: &str) -> bool {
    by_its_name(question, "yes")
}

/// Asks, and returns whether the answer is this name.
pub(super) fn by_its_name(question: &str, name: &str) -> bool {
    output::ask(question).is_some_and(|answer| answer == name)
}
