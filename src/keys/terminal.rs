//! How age plugins talk to the person at the terminal: "touch your key", "insert the card", a PIN.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use secrecy::SecretString;

use crate::model::visible::visible;

/// How to do something while nothing else is drawn on the terminal.
type Quietly = fn(&mut dyn FnMut());

static QUIETLY: OnceLock<Quietly> = OnceLock::new();

/// Whoever draws on the terminal says once how to keep still.
pub(crate) fn keep_still_by(how: Quietly) {
    let _ = QUIETLY.set(how);
}

fn quietly<T>(mut work: impl FnMut() -> T) -> Option<T> {
    let mut done = None;
    let mut work = || done = Some(work());
    match QUIETLY.get() {
        Some(quietly) => quietly(&mut work),
        None => work(),
    }
    done
}

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
        quietly(|| {
            let mut terminal = std::io::stderr().lock();
            write!(terminal, "{question} ").ok()?;
            terminal.flush().ok()?;
            let mut answer = String::new();
            let read = std::io::stdin().read_line(&mut answer).ok()?;
            (read > 0).then(|| answer.trim().to_owned())
        })
        .flatten()
    }
}

impl age::Callbacks for Terminal {
    fn display_message(&self, message: &str) {
        // Nobody needs to be told anything where nobody looks.
        let _ = quietly(|| writeln!(std::io::stderr().lock(), "{}", visible(message)));
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
        let question = format!("{}: ", visible(description));
        quietly(|| rpassword::prompt_password(&question).ok()).flatten().map(SecretString::from)
    }
}
