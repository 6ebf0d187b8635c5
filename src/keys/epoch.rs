//! The key of one epoch: an age identity that packs and manifests are encrypted to, sealed once to the
//! publisher's recipients (`epoch.age`, see `docs/FORMAT.md`).

use std::io::Read;

use age::x25519;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, Result};
use crate::keys::{Recipients, RestoreKey};
use crate::model::id::{DatabaseId, EpochId, Sha256};

/// More than the content of any `epoch.age`.
const CONTENT_LIMIT: u64 = 64 * 1024;

/// The secret key of an epoch. Wiped from memory when dropped.
#[derive(Clone)]
pub(crate) struct EpochKey(x25519::Identity);

impl EpochKey {
    /// A fresh key.
    pub(crate) fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// What packs and manifests of this epoch are encrypted to.
    pub(crate) fn recipient(&self) -> x25519::Recipient {
        self.0.to_public()
    }

    /// The age identity that opens packs and manifests of this epoch.
    pub(crate) fn identity(&self) -> &x25519::Identity {
        &self.0
    }

    /// The key as text (`AGE-SECRET-KEY-1…`), for the agent's state while it drills this epoch.
    pub(crate) fn to_secret(&self) -> SecretString {
        self.0.to_string()
    }

    /// Reads what [`EpochKey::to_secret`] gave, or the content of an `epoch.age`: comment lines and one identity.
    pub(crate) fn from_secret(text: &SecretString) -> Result<Self> {
        let mut lines = text
            .expose_secret()
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let not_a_key = || Error::key("the epoch's key is not one age identity");
        let identity = lines.next().ok_or_else(not_a_key)?;
        if lines.next().is_some() {
            return Err(not_a_key());
        }
        identity.parse().map(Self).map_err(|_| not_a_key())
    }

    /// The content of `epoch.age`: this key, encrypted to all of the publisher's recipients.
    pub(crate) fn seal(
        &self,
        recipients: &Recipients,
        epoch: &EpochId,
        database: &DatabaseId,
    ) -> Result<Vec<u8>> {
        let secret = self.to_secret();
        let text = Zeroizing::new(format!(
            "# marbre: key of epoch {epoch} of {database}\n# public key: {}\n{}\n",
            self.recipient(),
            secret.expose_secret(),
        ));
        recipients.seal(text.as_bytes())
    }

    /// Opens an `epoch.age` with the publisher's key. `recipients` are the fingerprints that the receipt names; they
    /// help to find the right key when this is not one of them.
    ///
    /// Errors ([`crate::ErrorKind::Key`]): the key is not among the epoch's recipients, a plugin failed or was refused,
    /// or the file does not hold a key.
    pub(crate) fn open(sealed: &[u8], key: &RestoreKey, recipients: &[Sha256]) -> Result<Self> {
        let decryptor = age::Decryptor::new_buffered(sealed)
            .map_err(|e| Error::key("epoch.age is not an age file").cause(e))?;
        let reader = decryptor.decrypt(key.identities()).map_err(|e| does_not_open(e, key, recipients))?;
        let mut text = Zeroizing::new(Vec::with_capacity(4096));
        reader
            .take(CONTENT_LIMIT)
            .read_to_end(&mut text)
            .map_err(|e| Error::key("epoch.age is damaged").cause(e))?;
        let text =
            std::str::from_utf8(&text).map_err(|_| Error::key("the epoch's key is not one age identity"))?;
        Self::from_secret(&SecretString::from(text))
    }
}

impl std::fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EpochKey({})", self.recipient())
    }
}

fn does_not_open(e: age::DecryptError, key: &RestoreKey, recipients: &[Sha256]) -> Error {
    if !matches!(e, age::DecryptError::NoMatchingKeys) {
        return Error::key("failed to open epoch.age with this key").cause(e);
    }
    let list = |fingerprints: &[Sha256]| match fingerprints {
        [] => "none that is known".to_owned(),
        some => some.iter().map(Sha256::to_string).collect::<Vec<_>>().join(", "),
    };
    Error::key("this key is not among the recipients of the epoch")
        .cause(format!(
            "the receipt names the recipient fingerprints {}; this key has {}",
            list(recipients),
            list(&key.fingerprints()),
        ))
        .remedy("Use the restore key that belongs to one of these fingerprints: `printf %s \"$(age-keygen -y KEY)\" | sha256sum` shows a key's.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::keys::testing;

    fn ids() -> (EpochId, DatabaseId) {
        ("20261122T020000Z-1f3a9c4e".parse().unwrap(), "le-monde/abonnes".parse().unwrap())
    }

    fn load(path: &std::path::Path) -> RestoreKey {
        RestoreKey::load(path, || panic!("no passphrase is needed")).unwrap()
    }

    #[test]
    fn stock_age_opens_the_epoch_and_a_pack_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let publisher = testing::age_key(dir.path(), "restore");
        let recipients = Recipients::parse(std::slice::from_ref(&publisher.recipient)).unwrap();
        let (epoch, database) = ids();
        let key = EpochKey::generate();
        let sealed = key.seal(&recipients, &epoch, &database).unwrap();

        // As docs/FORMAT.md says: age -d -i restore.key epoch.age > epoch.key
        let content =
            testing::run("age", &["-d".as_ref(), "-i".as_ref(), publisher.path.as_os_str()], &sealed);
        let epoch_key = dir.path().join("epoch.key");
        std::fs::write(&epoch_key, &content).unwrap();
        let pack = age::encrypt(&key.recipient(), b"data").unwrap();
        let opened = testing::run("age", &["-d".as_ref(), "-i".as_ref(), epoch_key.as_os_str()], &pack);
        assert_eq!(opened, b"data");
        let text = String::from_utf8(content).unwrap();
        assert!(text.contains(epoch.as_str()) && text.contains("le-monde/abonnes"));

        let again = EpochKey::open(&sealed, &load(&publisher.path), &[]).unwrap();
        assert_eq!(again.to_secret().expose_secret(), key.to_secret().expose_secret());
        assert!(!format!("{again:?}").contains("SECRET"));
    }

    #[test]
    fn another_key_is_told_whose_epoch_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (right, wrong) = (testing::age_key(dir.path(), "1"), testing::age_key(dir.path(), "2"));
        let recipients = Recipients::parse(&[right.recipient]).unwrap();
        let (epoch, database) = ids();
        let sealed = EpochKey::generate().seal(&recipients, &epoch, &database).unwrap();
        let named = recipients.fingerprints();
        let e = EpochKey::open(&sealed, &load(&wrong.path), &named).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Key);
        assert_eq!(e.message(), "this key is not among the recipients of the epoch");
        let cause = e.cause_text().unwrap();
        assert!(cause.contains(&named[0].to_string()), "{cause}");
        assert!(cause.contains(&Sha256::of(wrong.recipient.as_bytes()).to_string()), "{cause}");
    }

    #[test]
    fn content_that_is_not_one_key_is_refused() {
        let one = EpochKey::generate().to_secret().expose_secret().to_owned();
        for content in [String::new(), "# nothing\n".into(), format!("{one}\n{one}\n"), "x".into()] {
            let e = EpochKey::from_secret(&SecretString::from(content)).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Key);
        }
        assert!(EpochKey::from_secret(&SecretString::from(format!("# a\r\n{one}\r\n"))).is_ok());
    }
}
