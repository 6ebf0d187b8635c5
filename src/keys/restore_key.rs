//! The restore key: the publisher's age identities, as `age`, `age-keygen` and age plugins keep them in files.

use std::io::{BufReader, Read};
use std::path::Path;

use age::armor::ArmoredReader;
use age::{plugin, scrypt, x25519};
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::error::{BoxError, Error, Result};
use crate::keys::files;
use crate::keys::recipients::missing_plugin;
use crate::keys::terminal::Terminal;
use crate::model::id::Sha256;

/// The largest scrypt work factor (log2) that is tried, as `age` itself has it: about 4 GiB of memory.
const MAX_WORK_FACTOR: u8 = 22;
/// More than any decrypted identity file holds.
const CONTENT_LIMIT: u64 = 1024 * 1024;

type Identity = Box<dyn age::Identity + Send + Sync>;

/// The publisher's key, ready to open epochs.
pub struct RestoreKey {
    identities: Vec<Identity>,
    recipients: Vec<String>,
    warnings: Vec<String>,
}

impl RestoreKey {
    /// Loads an age identity file: comments and one or more identities, X25519 or of a plugin
    /// (`AGE-PLUGIN-…`, whose program must be installed), plain or protected with a passphrase
    /// (`age -p`, also armored). `passphrase` is only called for a protected file.
    ///
    /// Errors are of kind [`crate::ErrorKind::Key`], say what the file is instead, and never show its content.
    pub fn load(path: &Path, passphrase: impl FnOnce() -> Result<SecretString>) -> Result<Self> {
        let file = files::read("restore key", path)?;
        let name = path.display();
        let mut warnings = Vec::new();
        if file.exposed != 0 {
            warnings.push(format!(
                "restore key {name} can be read by other users of this machine; `chmod 600` it, or keep it on a medium that only you can read"
            ));
        }
        let context = |e: Error| e.context(format!("restore key {name}"));
        let content = if is_age_file(&file.bytes) {
            let passphrase = passphrase()?;
            decrypt(&file.bytes, passphrase).map_err(context)?
        } else {
            file.bytes
        };
        let mut key = parse(&content).map_err(context)?;
        key.warnings.splice(0..0, warnings);
        Ok(key)
    }

    /// What the person should know, e.g. that the file can be read by others.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The fingerprints of the recipients of this key, as receipts name them: SHA-256 of the recipient's text. Those
    /// of plugin identities are not known.
    pub fn fingerprints(&self) -> Vec<Sha256> {
        self.recipients.iter().map(|r| Sha256::of(r.as_bytes())).collect()
    }

    pub(super) fn identities(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.identities.iter().map(|i| &**i as &dyn age::Identity)
    }
}

impl std::fmt::Debug for RestoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RestoreKey({} identities)", self.identities.len())
    }
}

fn is_age_file(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
}

fn decrypt(bytes: &[u8], passphrase: SecretString) -> Result<Zeroizing<Vec<u8>>> {
    let damaged = |e: BoxError| {
        Error::key("the protected key file is damaged").cause(e).remedy("Use another copy of the key file.")
    };
    let decryptor = age::Decryptor::new_buffered(BufReader::new(ArmoredReader::new(bytes)))
        .map_err(|e| damaged(e.into()))?;
    if !decryptor.is_scrypt() {
        return Err(Error::key("this is an age file encrypted to other keys, not an identity")
            .remedy("Decrypt it first with `age -d -i OTHERKEY`, or give the key file itself."));
    }
    let mut identity = scrypt::Identity::new(passphrase);
    identity.set_max_work_factor(MAX_WORK_FACTOR);
    let reader =
        decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(|e| match e {
            age::DecryptError::DecryptionFailed
            | age::DecryptError::KeyDecryptionFailed
            | age::DecryptError::NoMatchingKeys => {
                Error::key("wrong passphrase").remedy("Try again; mind the keyboard layout and Caps Lock.")
            }
            e => damaged(e.into()),
        })?;
    let mut content = Zeroizing::new(Vec::with_capacity(64 * 1024));
    reader.take(CONTENT_LIMIT).read_to_end(&mut content).map_err(|e| damaged(e.into()))?;
    Ok(content)
}

fn parse(content: &[u8]) -> Result<RestoreKey> {
    let Ok(text) = std::str::from_utf8(content) else {
        return Err(not_a_key("it is not text"));
    };
    if let Some(e) = something_else(text) {
        return Err(e);
    }
    let mut key = RestoreKey { identities: Vec::new(), recipients: Vec::new(), warnings: Vec::new() };
    let mut missing = None;
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Ok(identity) = line.parse::<x25519::Identity>() {
            key.recipients.push(identity.to_public().to_string());
            key.identities.push(Box::new(identity));
        } else if let Ok(identity) = line.parse::<plugin::Identity>() {
            let name = identity.plugin().to_owned();
            match plugin::IdentityPluginV1::new(&name, &[identity], Terminal) {
                Ok(identity) => key.identities.push(Box::new(identity)),
                Err(_) => {
                    let e = missing_plugin(&name);
                    key.warnings.push(e.message().to_owned());
                    missing = Some(e);
                }
            }
        } else if line.starts_with("age1") {
            return Err(Error::key(format!(
                "line {} is a recipient (a public key), which cannot decrypt",
                number + 1
            ))
            .remedy("Give the file that holds the secret key: its line starts with AGE-SECRET-KEY-1."));
        } else {
            return Err(not_a_key(&format!("line {} is not an identity, or is mistyped", number + 1)));
        }
    }
    // A missing plugin only matters when nothing else could open the epoch.
    match (key.identities.is_empty(), missing) {
        (false, _) => Ok(key),
        (true, Some(e)) => Err(e),
        (true, None) => Err(not_a_key("it holds no identity")),
    }
}

fn not_a_key(why: &str) -> Error {
    Error::key("not an age identity file")
        .cause(why)
        .remedy("Give the file that `marbre keygen` or `age-keygen` made: it has a line that starts with AGE-SECRET-KEY-1.")
}

/// The usual mix-ups, recognised by how the file starts.
fn something_else(text: &str) -> Option<Error> {
    let text = text.trim_start();
    if text.starts_with("-----BEGIN") && text.contains("PRIVATE KEY-----") {
        return Some(
            Error::key("this is a signing or SSH private key, not an age identity")
                .remedy("Give restore.key; publisher_ed25519 beside it signs, and cannot decrypt."),
        );
    }
    if text.starts_with("ssh-") || text.starts_with("ecdsa-") {
        return Some(
            Error::key("this is an SSH public key, not an age identity")
                .remedy("Give restore.key, which has a line that starts with AGE-SECRET-KEY-1."),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::error::ErrorKind;
    use crate::keys::{EpochKey, Recipients, testing};

    fn no_passphrase() -> Result<SecretString> {
        panic!("no passphrase is needed")
    }

    fn opens(key: &RestoreKey, recipient: &str) -> bool {
        let recipients = Recipients::parse(&[recipient.to_owned()]).unwrap();
        let epoch = "20261122T020000Z-1f3a9c4e".parse().unwrap();
        let sealed = EpochKey::generate().seal(&recipients, &epoch, &"a/b".parse().unwrap()).unwrap();
        EpochKey::open(&sealed, key, &recipients.fingerprints()).is_ok()
    }

    fn written(dir: &Path, content: &[u8]) -> std::path::PathBuf {
        let path = dir.join("key");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn every_identity_of_a_file_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (testing::age_key(dir.path(), "1"), testing::age_key(dir.path(), "2"));
        let both = [std::fs::read(&one.path).unwrap(), std::fs::read(&two.path).unwrap()];
        let key = RestoreKey::load(&written(dir.path(), &both.concat()), no_passphrase).unwrap();
        assert!(opens(&key, &one.recipient) && opens(&key, &two.recipient));
        assert_eq!(key.fingerprints()[1], Sha256::of(two.recipient.as_bytes()));
        assert!(key.warnings().is_empty());
        let windows = String::from_utf8(both.concat()).unwrap().replace('\n', "\r\n");
        assert!(RestoreKey::load(&written(dir.path(), windows.as_bytes()), no_passphrase).is_ok());
    }

    #[test]
    fn a_key_that_others_can_read_is_used_with_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let key = testing::age_key(dir.path(), "1");
        std::fs::set_permissions(&key.path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let loaded = RestoreKey::load(&key.path, no_passphrase).unwrap();
        assert!(loaded.warnings()[0].contains("chmod 600"));
    }

    #[test]
    fn keys_protected_by_age_p_open_with_their_passphrase_only() {
        let dir = tempfile::tempdir().unwrap();
        for (armored, file) in [(false, "testdata/protected.age"), (true, "testdata/protected-armored.age")] {
            // Made once with `age -p` (which insists on a terminal), passphrase "correct horse", as CONTENT of
            // the file `testdata/protected.recipient`'s key.
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/keys").join(file);
            let bytes = std::fs::read(path).unwrap();
            assert_eq!(bytes.starts_with(b"-----BEGIN"), armored);
            let path = written(dir.path(), &bytes);
            let key = RestoreKey::load(&path, || Ok("correct horse".into())).unwrap();
            assert!(opens(&key, include_str!("testdata/protected.recipient").trim()));
            let e = RestoreKey::load(&path, || Ok("correct hors".into())).unwrap_err();
            assert!(e.message().ends_with("wrong passphrase"), "{e}");
            assert_eq!(e.kind(), ErrorKind::Key);
            let cancelled = RestoreKey::load(&path, || Err(Error::interrupted())).unwrap_err();
            assert_eq!(cancelled.kind(), ErrorKind::Interrupted);
        }
    }

    #[test]
    fn mix_ups_are_named_and_content_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let ssh = testing::ssh_key(dir.path(), "id");
        let (ssh_public, ssh_private) =
            (std::fs::read(ssh.with_extension("pub")).unwrap(), std::fs::read(&ssh).unwrap());
        let age = testing::age_key(dir.path(), "age");
        let sealed = Recipients::parse(std::slice::from_ref(&age.recipient)).unwrap().seal(b"x").unwrap();
        let cases: [(&[u8], &str); 8] = [
            (b"", "holds no identity"),
            (b"# only a comment\n", "holds no identity"),
            (b"hunter2\n", "line 1 is not an identity"),
            (b"\xff\xfe", "not text"),
            (age.recipient.as_bytes(), "public key"),
            (&ssh_private, "SSH private key"),
            (&ssh_public, "SSH public key"),
            (&sealed, "encrypted to other keys"),
        ];
        for (content, expected) in cases {
            let e = RestoreKey::load(&written(dir.path(), content), || Ok("x".into())).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Key);
            assert!(e.to_string().contains(expected), "{e}");
            assert!(e.remedy_text().is_some(), "{e}");
            assert!(!format!("{e:?}").contains("hunter2"));
        }
        let e = RestoreKey::load(&dir.path().join("none"), no_passphrase).unwrap_err();
        assert!(e.message().contains("no such file"), "{e}");
        let e = RestoreKey::load(dir.path(), no_passphrase).unwrap_err();
        assert!(e.message().contains("is a directory"), "{e}");
    }

    /// The test process runs itself again with a plugin on its PATH: an environment cannot be changed safely
    /// while other tests run.
    #[test]
    fn plugins_seal_and_open() {
        const AGAIN: &str = "MARBRE_TEST_WITH_PLUGIN";
        if std::env::var_os(AGAIN).is_some() {
            let dir = tempfile::tempdir().unwrap();
            let identity = testing::plugin_identity("marbretest");
            let key = RestoreKey::load(&written(dir.path(), identity.as_bytes()), no_passphrase).unwrap();
            assert!(key.warnings().is_empty());
            assert!(opens(&key, &testing::plugin_recipient("marbretest")));
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let plugin = dir.path().join("age-plugin-marbretest");
        std::fs::write(&plugin, include_str!("testdata/age-plugin-marbretest.py")).unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "keys::restore_key::tests::plugins_seal_and_open"])
            .env("PATH", format!("{}:{path}", dir.path().display()))
            .env(AGAIN, "1")
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
    }

    #[test]
    fn a_missing_plugin_only_matters_when_nothing_else_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let plugin = testing::plugin_identity("marbretest");
        let e = RestoreKey::load(&written(dir.path(), plugin.as_bytes()), no_passphrase).unwrap_err();
        assert!(e.message().contains("age-plugin-marbretest"), "{e}");
        let age = testing::age_key(dir.path(), "age");
        let both = [plugin.as_bytes(), b"\n", &std::fs::read(&age.path).unwrap()].concat();
        let key = RestoreKey::load(&written(dir.path(), &both), no_passphrase).unwrap();
        assert!(opens(&key, &age.recipient));
        assert!(key.warnings()[0].contains("age-plugin-marbretest"));
    }
}
