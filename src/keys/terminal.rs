//! How age plugins talk to the person at the terminal: "touch your key", "insert the card", a PIN.

use std::io::{IsTerminal, Write};

use secrecy::SecretString;

use crate::model::visible::visible;

/// Asks on the terminal; where there is none, answers that nobody can be asked.
#[derive(Clone, Copy)]
pub(super) struct Terminal;

impl Terminal {
    fn present() -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    fn ask(question: &str) -> Option<String> {
        if !Self::present() {
            return None;
        }
        let mut terminal = std::io::stderr().lock();
        write!(terminal, "{question} ").ok()?;
        terminal.flush().ok()?;
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer).ok()?;
        (read > 0).then(|| answer.trim().to_owned())
    }
}

impl age::Callbacks for Terminal {
    fn display_message(&self, message: &str) {
        // Nobody needs to be told anything where nobody looks.
        let _ = writeln!(std::io::stderr().lock(), "{}", visible(message));
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let (yes, no) = (visible(yes), visible(no.unwrap_or("no")));
        let question = format!("{}\n  y: {yes}\n  n: {no}\n[y/n]", visible(message));
        loop {
            match Self::ask(&question)?.to_lowercase().as_str() {
                "y" | "yes" => return Some(true),
                "n" | "no" => return Some(false),
                _ => {}
            }
        }
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        Self::ask(&format!("{}:", visible(description)))
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        if !Self::present() {
            return None;
        }
        rpassword::prompt_password(format!("{}: ", visible(description))).ok().map(SecretString::from)
    }
}
