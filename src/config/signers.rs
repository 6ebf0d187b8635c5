//! A publisher's signers: whose signature makes a drill the publisher's own.

use std::path::Path;

use ssh_key::{Algorithm, PublicKey};
use toml::de::DeValue;

use super::{forms, lines};
use crate::config::complaint::Complaint;
use crate::config::section::Section;

const FORM: &str = "an Ed25519 public key: \"ssh-ed25519 AAAA…\"";

/// Reads `signers` or `signers_file` of a publisher; there may be none.
pub(super) fn read(section: &mut Section<'_>, base: &Path) -> Vec<String> {
    let inline = section.list("signers", signer);
    let file = section
        .optional("signers_file", |value| lines::read(&forms::path(base)(value)?, "public key", FORM, check));
    section.only_one(&["signers", "signers_file"]);
    file.unwrap_or(inline)
}

fn signer(value: &DeValue<'_>) -> Result<String, Complaint> {
    check(&forms::text(value)?)
}

/// One public key's text without its comment, if it is one. Complaints repeat nothing that can be a secret.
fn check(text: &str) -> Result<String, Complaint> {
    let lower = text.trim().to_ascii_lowercase();
    let complaint = |what: String| {
        Complaint::new(what).accepted(FORM).remedy("Copy it from the publisher's `publisher_ed25519.pub`.")
    };
    if lower.contains("private key") || lower.contains("age-secret-key-") {
        return Err(Complaint::new("HOLDS A SECRET KEY (not repeated here), not a public one")
            .accepted(FORM)
            .remedy("Remove the key from this host at once. Whoever has it can impersonate the publisher: make a new one with `marbre keygen` on the publisher's machine, and bring only `publisher_ed25519.pub` here."));
    }
    if lower.starts_with("age1") {
        return Err(complaint("is an age recipient, which cannot sign".to_owned()));
    }
    let unreadable =
        |_| complaint("is not an OpenSSH public key (mistyped, cut short, or something else)".to_owned());
    let key = PublicKey::from_openssh(text.trim()).map_err(unreadable)?;
    match key.algorithm() {
        Algorithm::Ed25519 => PublicKey::from(key.key_data().clone()).to_openssh().map_err(unreadable),
        other => Err(complaint(format!("is a key of type {other}, not Ed25519"))),
    }
}
