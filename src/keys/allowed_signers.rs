//! OpenSSH's `allowed_signers` file: which keys may sign what (ssh-keygen(1), "ALLOWED SIGNERS").

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::error::{Error, Result};
use crate::keys::files;
use crate::keys::pattern::matches_list;
use crate::keys::signing::{Namespace, Signer};
use crate::model::level::By;

/// The principal of the agent in `allowed_signers`.
pub(crate) const AGENT: &str = "agent";

/// The principal of the owner of the data, the publisher.
pub(crate) const OWNER: &str = "owner";

/// The principal of those who make drills.
pub(crate) fn principal(by: By) -> &'static str {
    match by {
        By::Agent => AGENT,
        By::Owner => OWNER,
    }
}

/// A parsed `allowed_signers` file. Lines with keys that are not Ed25519 are kept out: they sign nothing of ours.
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners {
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
struct Line {
    principals: String,
    signer: Signer,
    options: Options,
}

#[derive(Debug, Clone, Default)]
struct Options {
    namespaces: Option<String>,
    valid_after: Option<Timestamp>,
    valid_before: Option<Timestamp>,
}

impl AllowedSigners {
    /// Reads the file's text. Errors ([`crate::ErrorKind::Key`]) name the line. `cert-authority` is refused, since
    /// certificates are not checked here, and so are options that are not known.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = parse_line(line).map_err(|e| {
                e.context(format!("line {}", number + 1)).remedy(
                    "Write each line as: agent namespaces=\"snapshot-receipt@marbre\" ssh-ed25519 AAAA….",
                )
            })?;
            lines.extend(parsed);
        }
        Ok(Self { lines })
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self> {
        let file = files::read("allowed signers", path)?;
        let text = std::str::from_utf8(&file.bytes)
            .map_err(|_| Error::key(format!("{} is not text", path.display())))?;
        Self::parse(text).map_err(|e| e.context(format!("allowed signers {}", path.display())))
    }

    /// Whether some key is listed for this principal.
    pub fn lists(&self, principal: &str) -> bool {
        self.lines.iter().any(|line| matches_list(&line.principals, principal))
    }

    /// Whether some line names this key for this principal and namespace, whatever the time.
    pub fn names(&self, signer: &Signer, principal: &str, namespace: Namespace) -> bool {
        self.lines.iter().any(|line| line.names(signer, principal, namespace))
    }

    /// Whether some line lets this key sign as this principal in this namespace at this time.
    pub fn trusts(&self, signer: &Signer, principal: &str, namespace: Namespace, at: Timestamp) -> bool {
        self.lines.iter().any(|line| {
            line.names(signer, principal, namespace)
                && line.options.valid_after.is_none_or(|after| at >= after)
                && line.options.valid_before.is_none_or(|before| at <= before)
        })
    }
}

impl Line {
    fn names(&self, signer: &Signer, principal: &str, namespace: Namespace) -> bool {
        self.signer == *signer
            && matches_list(&self.principals, principal)
            && self.options.namespaces.as_ref().is_none_or(|n| matches_list(n, namespace.as_str()))
    }
}

/// A line that lets a key sign as a principal in some namespaces, with its line feed.
pub(crate) fn line(
    principal: &str,
    namespaces: &[Namespace],
    signer: &Signer,
    comment: &str,
) -> Result<String> {
    line_until(principal, namespaces, None, signer, comment)
}

/// The same for a key that signs until a moment, and no longer.
pub(crate) fn line_until(
    principal: &str,
    namespaces: &[Namespace],
    until: Option<Timestamp>,
    signer: &Signer,
    comment: &str,
) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+');
    if principal.is_empty() || !principal.chars().all(plain) {
        return Err(Error::key(format!(
            "principal {principal:?} may only have letters, digits and - _ . @ +"
        )));
    }
    let comment: String = comment.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let namespaces: Vec<_> = namespaces.iter().map(|n| n.as_str()).collect();
    let until =
        until.map(|at| format!(",valid-before=\"{}\"", at.strftime("%Y%m%d%H%M%SZ"))).unwrap_or_default();
    let options = format!("namespaces=\"{}\"{until}", namespaces.join(","));
    let text = format!("{principal} {options} {} {comment}", signer.to_openssh());
    Ok(format!("{}\n", text.trim_end()))
}

fn parse_line(line: &str) -> Result<Option<Line>> {
    let (principals, mut rest) = word(line)?;
    let mut options = Options::default();
    if !is_key_type(word(rest)?.0) {
        let (list, after) = word(rest)?;
        if list.is_empty() {
            return Err(Error::key("has no public key"));
        }
        for option in split_options(list) {
            options.apply(option)?;
        }
        rest = after;
    }
    let (kind, rest) = word(rest)?;
    if !is_key_type(kind) {
        return Err(Error::key("has no public key"));
    }
    if kind != "ssh-ed25519" {
        return Ok(None);
    }
    Ok(Some(Line {
        principals: principals.replace('"', ""),
        signer: Signer::parse(&format!("{kind} {}", word(rest)?.0))?,
        options,
    }))
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"].iter().any(|p| word.starts_with(p))
}

/// The first word of a text and what follows; spaces within double quotes belong to the word.
fn word(text: &str) -> Result<(&str, &str)> {
    let text = text.trim_start();
    let mut quoted = false;
    for (i, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return Ok((&text[..i], &text[i..])),
            _ => {}
        }
    }
    if quoted {
        return Err(Error::key("has an unterminated quote"));
    }
    Ok((text, ""))
}

/// Splits at commas outside quotes.
fn split_options(options: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    options.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

impl Options {
    fn apply(&mut self, option: &str) -> Result<()> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name.to_ascii_lowercase(), Some(value)),
            None => (option.to_ascii_lowercase(), None),
        };
        let unquoted = value.and_then(|v| v.strip_prefix('"')?.strip_suffix('"'));
        match (name.as_str(), unquoted) {
            ("namespaces", Some(value)) => self.namespaces = Some(value.to_owned()),
            ("valid-after", Some(value)) => self.valid_after = Some(time(value)?),
            ("valid-before", Some(value)) => self.valid_before = Some(time(value)?),
            ("namespaces" | "valid-after" | "valid-before", None) => {
                return Err(Error::key(format!("option {name} needs a value in double quotes")));
            }
            ("cert-authority", _) => {
                return Err(Error::key("has cert-authority, but certificates are not accepted"));
            }
            _ => {
                return Err(Error::key(format!("has neither a public key nor a known option at {option:?}")));
            }
        }
        Ok(())
    }
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, local time unless `Z` follows.
fn time(text: &str) -> Result<Timestamp> {
    let invalid = || Error::key(format!("{text:?} is not a time like 20261122 or 20261122020000Z"));
    let (digits, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    if ![8, 12, 14].contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let padded = format!("{digits:0<14}");
    DateTime::strptime("%Y%m%d%H%M%S", &padded)
        .and_then(|at| at.to_zoned(zone))
        .map(|at| at.timestamp())
        .map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::keys::{SigningKey, testing};

    const NAMESPACE: Namespace = Namespace::SnapshotReceipt;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Every line is put to `ssh-keygen -Y verify` as well: both must say the same.
    #[test]
    fn decides_as_ssh_keygen_does() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (SigningKey::generate("").unwrap(), SigningKey::generate("").unwrap());
        let (key, other) = (one.signer().to_openssh(), two.signer().to_openssh());
        let ecdsa = testing::ssh_key_with(dir.path(), "ecdsa", "ecdsa", "");
        let ecdsa = std::fs::read_to_string(ecdsa.with_extension("pub")).unwrap();
        let cases = [
            (format!("agent {key} a comment\n"), true),
            (format!("# comment\n\n  agent\t{key}\r\n"), true),
            (format!("agent {other}\n"), false),
            (format!("agent {other}\nagent {key}\n"), true),
            (format!("publisher {key}\n"), false),
            (format!("publisher,agent {key}\n"), true),
            (format!("\"publisher,agent\" {key}\n"), true),
            (format!("*,!agent {key}\n"), false),
            (format!("a?en* {key}\n"), true),
            (format!("agent namespaces=\"snapshot-receipt@marbre\" {key}\n"), true),
            (format!("agent namespaces=\"drill-receipt@marbre,snapshot-*@marbre\" {key}\n"), true),
            (format!("agent namespaces=\"charter@marbre\" {key}\n"), false),
            (format!("agent namespaces=\"charter@marbre\" {key}\nagent {key}\n"), true),
            (format!("agent valid-after=\"20260101Z\",valid-before=\"20270101Z\" {key}\n"), true),
            (format!("agent VALID-AFTER=\"20260615120000Z\" {key}\n"), true),
            (format!("agent valid-after=\"20260615120001Z\" {key}\n"), false),
            (format!("agent valid-before=\"202606151200Z\" {key}\n"), true),
            (format!("agent valid-before=\"202606151159Z\" {key}\n"), false),
            (format!("agent {ecdsa}"), false),
        ];
        let signature = one.sign(NAMESPACE, b"x").unwrap();
        let (file, sig) = (dir.path().join("allowed"), dir.path().join("sig"));
        std::fs::write(&sig, signature).unwrap();
        for (text, trusted) in cases {
            let ours = AllowedSigners::parse(&text).unwrap().trusts(
                &one.signer(),
                AGENT,
                NAMESPACE,
                at("2026-06-15T12:00:00Z"),
            );
            assert_eq!(ours, trusted, "{text}");
            std::fs::write(&file, &text).unwrap();
            let args = [
                "-Y",
                "verify",
                "-I",
                AGENT,
                "-n",
                NAMESPACE.as_str(),
                "-O",
                "verify-time=20260615120000Z",
                "-f",
            ];
            let mut args: Vec<&std::ffi::OsStr> = args.iter().map(AsRef::as_ref).collect();
            args.extend([file.as_os_str(), "-s".as_ref(), sig.as_os_str()]);
            let theirs = testing::output("ssh-keygen", &args, b"x").status.success();
            assert_eq!(theirs, trusted, "ssh-keygen: {text}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_line() {
        let key = SigningKey::generate("").unwrap().signer().to_openssh();
        let cases = [
            (format!("agent cert-authority {key}"), "certificates"),
            ("agent".to_owned(), "no public key"),
            (format!("agent namespace=\"x\" {key}"), "known option"),
            (format!("agent namespaces=snapshot-receipt@marbre {key}"), "double quotes"),
            (format!("agent namespaces=\"x {key}"), "quote"),
            (format!("agent valid-after=\"2026-01-01\" {key}"), "not a time"),
            (format!("agent valid-after=\"20261301\" {key}"), "not a time"),
            ("agent ssh-ed25519 AAAA".to_owned(), "not an OpenSSH public key"),
            (key.clone(), "neither a public key"),
        ];
        for (text, expected) in cases {
            let e = AllowedSigners::parse(&format!("# one\n{text}\n")).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Key);
            assert!(e.message().starts_with("line 2: "), "{e}");
            assert!(e.to_string().contains(expected), "{e}");
        }
    }

    #[test]
    fn a_line_lets_its_key_sign_what_it_names_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("allowed_signers");
        let key = SigningKey::generate("").unwrap();
        let text = line(AGENT, &[NAMESPACE, Namespace::DrillReceipt], &key.signer(), "db1\nevil").unwrap();
        std::fs::write(&path, format!("# a comment\n{text}")).unwrap();
        let now = at("2026-11-22T02:00:00Z");
        let allowed = AllowedSigners::load(&path).unwrap();
        assert!(allowed.trusts(&key.signer(), AGENT, NAMESPACE, now));
        assert!(!allowed.trusts(&key.signer(), AGENT, Namespace::Charter, now));
        assert!(line("a b", &[NAMESPACE], &key.signer(), "").is_err());
    }
}
