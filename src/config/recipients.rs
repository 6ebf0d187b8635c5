//! A publisher's recipients: whom archives are encrypted to.

use std::path::Path;

use toml::de::DeValue;

use super::{forms, lines};
use crate::config::complaint::Complaint;
use crate::config::section::Section;

const FORM: &str = "an age recipient: \"age1…\", or \"age1<plugin>1…\" for hardware keys";

/// Reads `recipients` or `recipients_file` of a publisher.
pub(super) fn read(section: &mut Section<'_>, base: &Path) -> Option<Vec<String>> {
    let inline = section.node("recipients");
    let file = section.node("recipients_file");
    let (key, recipients) = match (inline, file) {
        (Some(_), Some(file)) => {
            file.refuse(Complaint::new("is given beside `recipients`").remedy("Keep one of the two."));
            return None;
        }
        (Some(list), None) => {
            let items = list.items()?;
            let parsed: Vec<_> = items.iter().map(|item| item.read(recipient)).collect();
            let recipients: Vec<String> = parsed.into_iter().collect::<Option<_>>()?;
            for (index, item) in items.iter().enumerate() {
                if recipients[..index].contains(&recipients[index]) {
                    item.refuse(given_twice());
                    return None;
                }
            }
            ("recipients", recipients)
        }
        (None, Some(file)) => {
            let path = file.read(forms::path(base))?;
            ("recipients_file", file.read(|_| from_file(&path))?)
        }
        (None, None) => {
            section.missing("recipients", "recipients = [\"age1…\", \"age1…\"]");
            return None;
        }
    };
    if recipients.len() == 1 {
        section.warn(
            key,
            "a single recipient: if its key is lost, every snapshot is lost. Add a second one, whose key is kept in another place.",
        );
    }
    Some(recipients)
}

fn given_twice() -> Complaint {
    Complaint::new("is listed twice")
        .remedy("Remove one, or replace it with a recipient whose key is kept in another place.")
}

fn recipient(value: &DeValue<'_>) -> Result<String, Complaint> {
    check(&forms::text(value)?)
}

/// One recipient's text, if it is one. Complaints repeat no value that can be a secret.
fn check(text: &str) -> Result<String, Complaint> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    if lower.contains("age-secret-key-") || lower.starts_with("age-plugin-") {
        return Err(Complaint::new("HOLDS A SECRET KEY (not repeated here), not a recipient")
            .accepted(FORM)
            .remedy("Remove the key from this host at once. It opens every archive that was made for it: make a new one with `marbre keygen` on the publisher's machine, and bring only `restore.pub` here."));
    }
    if lower.starts_with("ssh-") {
        return Err(Complaint::new("is an SSH key")
            .accepted(FORM)
            .remedy("Ask the publisher to run `marbre keygen`, and take the recipient from `restore.pub`."));
    }
    let native = text.parse::<age::x25519::Recipient>().err();
    if native.is_none() || text.parse::<age::plugin::Recipient>().is_ok() {
        return Ok(text.to_owned());
    }
    let what = match lower.strip_prefix("age1") {
        Some(_) => format!("{text:?} is not a valid recipient (mistyped or cut short)"),
        None => "is not a recipient".to_owned(),
    };
    Err(Complaint::new(what).accepted(FORM).remedy("Copy it again from the publisher's `restore.pub`."))
}

/// Reports whatever is listed twice.
fn from_file(path: &Path) -> Result<Vec<String>, Complaint> {
    let mut seen: Vec<String> = Vec::new();
    lines::read(path, "recipient", FORM, |line| {
        let recipient = check(line)?;
        if seen.contains(&recipient) {
            return Err(given_twice());
        }
        seen.push(recipient.clone());
        Ok(recipient)
    })
}
