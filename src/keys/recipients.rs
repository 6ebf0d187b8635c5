//! The publisher's recipients: what data is encrypted to.

use std::collections::BTreeMap;
use std::io::Write;

use age::{plugin, x25519};

use crate::error::{Error, Result};
use crate::keys::terminal::Terminal;
use crate::model::id::Sha256;

const REMEDY: &str = "Give each recipient as age1…, as `age-keygen -y` or `marbre keygen` printed it.";

enum Recipient {
    X25519(x25519::Recipient),
    Plugin(plugin::Recipient),
}

/// All recipients of a publisher: at least one, each listed once.
pub struct Recipients {
    recipients: BTreeMap<String, Recipient>,
}

impl Recipients {
    /// Reads recipients: age X25519 (`age1…`) and those of age plugins (`age1name1…`).
    ///
    /// Errors ([`crate::ErrorKind::Key`]): an empty list, a recipient given twice, anything else. A secret key
    /// that was given by mistake is refused and not repeated.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut recipients = BTreeMap::new();
        for (i, text) in texts.iter().enumerate() {
            let text = text.trim();
            let recipient = parse_one(text).map_err(|e| e.context(format!("recipient {}", i + 1)))?;
            // age accepts a recipient in capitals; it is the same one, with the same fingerprint.
            let text = text.to_ascii_lowercase();
            if recipients.insert(text.clone(), recipient).is_some() {
                return Err(Error::key(format!("recipient {text} is given twice")).remedy(
                    "Give each recipient once; a second copy of the same key protects against nothing.",
                ));
            }
        }
        if recipients.is_empty() {
            return Err(Error::key("no recipient is given").remedy(REMEDY));
        }
        Ok(Self { recipients })
    }

    /// The recipients' texts, sorted.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.recipients.keys().map(String::as_str)
    }

    /// The SHA-256 of each recipient's text, sorted, as receipts hold them.
    pub fn fingerprints(&self) -> Vec<Sha256> {
        let mut fingerprints: Vec<_> = self.texts().map(|t| Sha256::of(t.as_bytes())).collect();
        fingerprints.sort_unstable();
        fingerprints
    }

    /// Encrypts to all recipients: a binary age file. Any one of their keys opens it.
    ///
    /// Runs the plugins of plugin recipients. Errors ([`crate::ErrorKind::Key`]): a plugin is missing or fails, or
    /// age refuses to mix these recipients in one file.
    pub fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>> {
        let mut native: Vec<Box<dyn age::Recipient>> = Vec::new();
        let mut plugins: BTreeMap<&str, Vec<plugin::Recipient>> = BTreeMap::new();
        for recipient in self.recipients.values() {
            match recipient {
                Recipient::X25519(r) => native.push(Box::new(r.clone())),
                Recipient::Plugin(r) => plugins.entry(r.plugin()).or_default().push(r.clone()),
            }
        }
        for (name, recipients) in plugins {
            let plugin = plugin::RecipientPluginV1::new(name, &recipients, &[], Terminal)
                .map_err(|_| missing_plugin(name))?;
            native.push(Box::new(plugin));
        }
        let encryptor = age::Encryptor::with_recipients(native.iter().map(|r| &**r)).map_err(refused)?;
        let mut sealed = Vec::with_capacity(plaintext.len() + 1024);
        let write = |sealed: &mut Vec<u8>| {
            let mut writer = encryptor.wrap_output(sealed)?;
            writer.write_all(plaintext)?;
            writer.finish().map(drop)
        };
        write(&mut sealed).map_err(|e| Error::internal("failed to encrypt to the recipients").cause(e))?;
        Ok(sealed)
    }
}

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.texts()).finish()
    }
}

fn parse_one(text: &str) -> Result<Recipient> {
    let upper = text.to_ascii_uppercase();
    if upper.contains("AGE-SECRET-KEY-") || upper.contains("AGE-PLUGIN-") || upper.contains("PRIVATE KEY") {
        return Err(Error::key("this is a secret key, not a recipient")
            .remedy("Remove it from here at once, and make a new key if others could read this place. The recipient is the text that starts with age1, as `age-keygen -y` prints it."));
    }
    if text.starts_with("ssh-") {
        return Err(Error::key("SSH keys are not accepted as recipients").remedy(REMEDY));
    }
    if let Ok(recipient) = text.parse::<x25519::Recipient>() {
        return Ok(Recipient::X25519(recipient));
    }
    if let Ok(recipient) = text.parse::<plugin::Recipient>() {
        return Ok(Recipient::Plugin(recipient));
    }
    // The text itself is not shown: it may be a secret of another kind.
    Err(Error::key("not an age recipient, or mistyped").remedy(REMEDY))
}

/// A plugin that age would need is not installed.
pub(super) fn missing_plugin(name: &str) -> Error {
    Error::key(format!("the age plugin age-plugin-{name} is not installed"))
        .remedy(format!("Install age-plugin-{name} so that it is on the PATH."))
}

fn refused(e: age::EncryptError) -> Error {
    let mixed = matches!(e, age::EncryptError::IncompatibleRecipients { .. });
    let error = Error::key("failed to encrypt to the recipients").cause(e);
    if mixed {
        error.remedy(
            "Give either post-quantum or classic recipients, not both: age does not mix them in one file.",
        )
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::keys::testing;

    fn parse(texts: &[&str]) -> Result<Recipients> {
        Recipients::parse(&texts.iter().map(|&t| t.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn real_age_opens_what_was_sealed_to_several() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (testing::age_key(dir.path(), "1"), testing::age_key(dir.path(), "2"));
        let recipients = parse(&[&one.recipient, &two.recipient]).unwrap();
        let sealed = recipients.seal(b"sesame").unwrap();
        for key in [&one, &two] {
            let opened = testing::run("age", &["-d".as_ref(), "-i".as_ref(), key.path.as_os_str()], &sealed);
            assert_eq!(opened, b"sesame");
        }
    }

    #[test]
    fn fingerprints_are_hashes_of_the_texts_and_sorted() {
        let dir = tempfile::tempdir().unwrap();
        let keys: Vec<_> = (0..4).map(|i| testing::age_key(dir.path(), &i.to_string())).collect();
        let texts: Vec<_> = keys.iter().map(|k| k.recipient.clone()).collect();
        let fingerprints = Recipients::parse(&texts).unwrap().fingerprints();
        let mut expected: Vec<_> = texts.iter().map(|t| Sha256::of(t.as_bytes())).collect();
        expected.sort();
        assert_eq!(fingerprints, expected);
    }

    #[test]
    fn secret_keys_are_refused_and_never_repeated() {
        let secret = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
        for given in [secret, &secret.to_lowercase(), &format!("key: {secret}")] {
            let e = parse(&[given]).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Key);
            let shown = format!("{e} {e:?}").to_lowercase();
            assert!(!shown.contains("gq9778v"), "{shown}");
            assert!(shown.contains("secret key"), "{shown}");
        }
    }

    #[test]
    fn refusals_name_the_problem() {
        let key = "age1ysxuaeqlk7xd8uqsh8lsnfwt9jzzjlqf49ruhpjrrj5yatlcuf7qke4pqe";
        let capitals = key.to_uppercase();
        let cases = [
            (vec![], "no recipient"),
            (vec![key, key], "given twice"),
            (vec![key, &capitals], "given twice"),
            (vec!["ssh-ed25519 AAAA"], "SSH keys"),
            (vec!["age1ysxuaeqlk7xd8uqsh8lsnfwt9jzzjlqf49ruhpjrrj5yatlcuf7qke4pqx"], "mistyped"),
            (vec![key, "me@example.org"], "recipient 2"),
        ];
        for (given, expected) in cases {
            let e = parse(&given).unwrap_err();
            assert!(e.message().contains(expected), "{e}");
            assert!(e.remedy_text().is_some());
        }
    }

    #[test]
    fn a_missing_plugin_is_named() {
        let recipient = testing::plugin_recipient("marbretest");
        let e = parse(&[&recipient]).unwrap().seal(b"x").unwrap_err();
        assert!(e.message().contains("age-plugin-marbretest"), "{e}");
        assert_eq!(e.kind(), ErrorKind::Key);
    }
}
