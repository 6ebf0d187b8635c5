//! Questions to a person at a terminal.

use std::io::{BufRead, IsTerminal, Write};

/// Asks, and returns whether the answer is `yes`. Without a terminal there is nobody to ask: then it is not.
pub(super) fn by_a_person(question: &str) -> bool {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return false;
    }
    let mut answer = String::new();
    std::io::stderr().write_all(question.as_bytes()).is_ok()
        && std::io::stdin().lock().read_line(&mut answer).is_ok()
        && answer.trim() == "yes"
}
