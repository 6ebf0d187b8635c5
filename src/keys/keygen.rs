//! Making keys: the publisher's folder, and the agent's signing key.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use age::armor::{ArmoredWriter, Format};
use age::{scrypt, x25519};
use jiff::Timestamp;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{BoxError, Error, Result};
use crate::keys::allowed_signers::{self, AGENT, OWNER};
use crate::keys::files;
use crate::keys::signing::{Namespace, Signer, SigningKey};

/// The publisher's age identity.
pub(crate) const RESTORE_KEY: &str = "restore.key";
/// Its recipient, for the provider.
pub(crate) const RESTORE_PUB: &str = "restore.pub";
/// The publisher's signing key; its public key has `.pub` added.
pub(crate) const PUBLISHER_KEY: &str = "publisher_ed25519";
/// Whose receipts the publisher trusts.
pub(crate) const ALLOWED_SIGNERS: &str = "allowed_signers";

/// The scrypt work factor (log2) of protected keys, the one `age -p` uses: 256 MiB of memory, about a second.
const WORK_FACTOR: u8 = 18;

/// How to get the data back without marbre, and the program that does it.
pub(crate) const RECOVERY: [(&str, &str); 2] = [
    ("RECOVERY.md", include_str!("../../docs/RECOVERY.md")),
    ("marbre-read.py", include_str!("../../docs/recovery/marbre-read.py")),
];

const ALLOWED_SIGNERS_HEAD: &str = "\
# Whose records are trusted: those of the owner of the data, who drills with the restore key, and those of the
# agents that make snapshots. One line for each agent, as the provider gives it (compare the fingerprint
# by another way, e.g. on the phone):
#   agent namespaces=\"snapshot-receipt@marbre,drill-receipt@marbre,prune-record@marbre,decision@marbre,succession@marbre\" ssh-ed25519 AAAA...
";

/// What a new publisher's folder should hold beyond the keys.
#[derive(Debug, Default)]
pub(crate) struct PublisherOptions {
    /// Protects the restore key; it then takes the file and the passphrase to open anything.
    pub passphrase: Option<SecretString>,
    /// Agents whose signatures are trusted from the start, with a comment each.
    pub agents: Vec<(Signer, String)>,
}

/// The folder that was made.
#[derive(Debug, Clone)]
pub(crate) struct PublisherKeys {
    /// Where the restore key lies.
    pub restore_key: PathBuf,
    /// Its recipient, `age1…`: what the provider gets.
    pub recipient: String,
    /// Who signs for the publisher.
    pub signer: Signer,
    /// What the person should know, e.g. that the medium does not keep permissions.
    pub warnings: Vec<String>,
}

/// Makes a publisher's keys in a folder (created 0700, files 0600): `restore.key`, `restore.pub`, `publisher_ed25519`
/// with `.pub`, `allowed_signers`, and what restores without marbre ([`RECOVERY`]). All or nothing: where one of them exists, nothing is written
/// ([`crate::ErrorKind::Preflight`]).
pub(crate) fn publisher(folder: &Path, options: &PublisherOptions, now: Timestamp) -> Result<PublisherKeys> {
    let identity = x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let signing = SigningKey::generate("marbre publisher")?;
    let mut allowed = ALLOWED_SIGNERS_HEAD.to_owned();
    allowed += &owner_line(&signing.signer(), "marbre publisher")?;
    for (agent, comment) in &options.agents {
        allowed += &agent_line(agent, comment)?;
    }
    let restore_key = match &options.passphrase {
        None => identity_file(&identity, now),
        Some(passphrase) => protect(&identity_file(&identity, now), passphrase)?,
    };
    let public_name = format!("{PUBLISHER_KEY}.pub");
    let recipient_line = format!("{recipient}\n");
    let (private, public) = (signing.to_private_openssh()?, signing.to_public_openssh());
    let keys: [(&str, &[u8]); 5] = [
        (RESTORE_KEY, &restore_key),
        (RESTORE_PUB, recipient_line.as_bytes()),
        (PUBLISHER_KEY, private.as_bytes()),
        (&public_name, public.as_bytes()),
        (ALLOWED_SIGNERS, allowed.as_bytes()),
    ];
    let recovery = RECOVERY.map(|(name, text)| (name, text.as_bytes()));
    write_all(folder, &[keys.as_slice(), &recovery].concat())?;
    Ok(PublisherKeys {
        restore_key: folder.join(RESTORE_KEY),
        recipient,
        signer: signing.signer(),
        warnings: exposure(folder),
    })
}

/// Makes the agent's signing key at a path, with `.pub` beside it. Overwrites nothing.
pub(crate) fn agent(path: &Path, comment: &str) -> Result<Signer> {
    let folder = files::parent(path);
    create_folder(folder)?;
    let key = SigningKey::generate(comment)?;
    key.write(path)?;
    Ok(key.signer())
}

/// What an agent signs.
const OF_AGENT: [Namespace; 5] = [
    Namespace::SnapshotReceipt,
    Namespace::DrillReceipt,
    Namespace::PruneRecord,
    Namespace::Decision,
    Namespace::Succession,
];

/// The line that makes a publisher trust an agent's records.
pub(crate) fn agent_line(agent: &Signer, comment: &str) -> Result<String> {
    allowed_signers::line(AGENT, &OF_AGENT, agent, comment)
}

/// The line for an agent that another one has succeeded: what it signed until then stays trusted.
pub(crate) fn former_agent_line(agent: &Signer, until: Timestamp, comment: &str) -> Result<String> {
    allowed_signers::line_until(AGENT, &OF_AGENT, Some(until), agent, comment)
}

/// The line that lets the owner of the data sign their own drills, the charter and key proofs.
pub(crate) fn owner_line(owner: &Signer, comment: &str) -> Result<String> {
    let namespaces = [Namespace::DrillReceipt, Namespace::Charter, Namespace::KeyProof];
    allowed_signers::line(OWNER, &namespaces, owner, comment)
}

/// An identity file as `age-keygen` writes it.
fn identity_file(identity: &x25519::Identity, now: Timestamp) -> Zeroizing<Vec<u8>> {
    let secret = identity.to_string();
    Zeroizing::new(
        format!(
            "# created: {}\n# public key: {}\n{}\n",
            now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            identity.to_public(),
            secret.expose_secret(),
        )
        .into_bytes(),
    )
}

/// The same file under a passphrase, armored so that it can also be printed: what `age -p -a` makes.
fn protect(plaintext: &[u8], passphrase: &SecretString) -> Result<Zeroizing<Vec<u8>>> {
    if passphrase.expose_secret().is_empty() {
        return Err(
            Error::key("the passphrase is empty").remedy("Give a passphrase, or make the key without one.")
        );
    }
    let failed = |e: BoxError| Error::internal("failed to protect the restore key").cause(e);
    let mut recipient = scrypt::Recipient::new(passphrase.clone());
    recipient.set_work_factor(WORK_FACTOR);
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
        .map_err(|e| failed(e.into()))?;
    let mut sealed = Vec::new();
    let write = |sealed: &mut Vec<u8>| {
        let armor = ArmoredWriter::wrap_output(sealed, Format::AsciiArmor)?;
        let mut writer = encryptor.wrap_output(armor)?;
        writer.write_all(plaintext)?;
        writer.finish()?.finish().map(drop)
    };
    write(&mut sealed).map_err(|e| failed(e.into()))?;
    Ok(Zeroizing::new(sealed))
}

/// Writes all files or none.
fn write_all(folder: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    for (name, _) in files {
        let path = folder.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(files::exists(&path));
        }
    }
    create_folder(folder)?;
    for (i, (name, bytes)) in files.iter().enumerate() {
        if let Err(e) = files::create(&folder.join(name), bytes) {
            for (written, _) in &files[..i] {
                // These are ours, made a moment ago; the error that matters is the first one.
                let _ = std::fs::remove_file(folder.join(written));
            }
            return Err(e);
        }
    }
    files::sync_folder(folder)
}

fn create_folder(folder: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|e| Error::preflight(format!("failed to create {}", folder.display())).cause(e))
}

/// A folder that was there already keeps its mode, and some media (vfat) have none: say so.
fn exposure(folder: &Path) -> Vec<String> {
    let exposed = |path: &Path| std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0);
    if exposed(&folder.join(RESTORE_KEY)) {
        vec![format!(
            "{} can be read by other users of this machine, since its medium does not keep permissions; unmount it when it is not needed",
            folder.join(RESTORE_KEY).display()
        )]
    } else if exposed(folder) {
        vec![format!("{} can be listed by other users of this machine; `chmod 700` it", folder.display())]
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::keys::{AllowedSigners, RestoreKey, testing};

    fn now() -> Timestamp {
        "2026-11-22T02:00:00.5Z".parse().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn stock_tools_use_every_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/publisher");
        let agent = SigningKey::generate("").unwrap().signer();
        let options = PublisherOptions { passphrase: None, agents: vec![(agent, "db1".into())] };
        let keys = publisher(&folder, &options, now()).unwrap();
        assert_eq!(mode(&folder), 0o700);
        let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), 5 + RECOVERY.len());
        assert!(names.iter().all(|n| mode(n) == 0o600));
        assert!(keys.warnings.is_empty());

        let recipient = testing::run("age-keygen", &["-y".as_ref(), keys.restore_key.as_os_str()], b"");
        assert_eq!(String::from_utf8(recipient).unwrap().trim(), keys.recipient);
        assert_eq!(std::fs::read_to_string(folder.join(RESTORE_PUB)).unwrap().trim(), keys.recipient);
        let text = std::fs::read_to_string(&keys.restore_key).unwrap();
        assert!(
            text.starts_with("# created: 2026-11-22T02:00:00Z\n# public key: age1"),
            "no secret is shown"
        );
        let listed = testing::run(
            "ssh-keygen",
            &["-l".as_ref(), "-f".as_ref(), folder.join(PUBLISHER_KEY).as_os_str()],
            b"",
        );
        assert!(String::from_utf8(listed).unwrap().contains(&keys.signer.fingerprint()));
        let allowed = AllowedSigners::load(&folder.join(ALLOWED_SIGNERS)).unwrap();
        assert!(allowed.trusts(&agent, AGENT, Namespace::SnapshotReceipt, now()));
        assert!(!allowed.trusts(&keys.signer, AGENT, Namespace::SnapshotReceipt, now()));
    }

    #[test]
    fn a_protected_key_opens_with_its_passphrase() {
        let dir = tempfile::tempdir().unwrap();
        let options = PublisherOptions { passphrase: Some("correct horse".into()), agents: vec![] };
        let keys = publisher(dir.path(), &options, now()).unwrap();
        let text = std::fs::read_to_string(&keys.restore_key).unwrap();
        assert!(text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
        let key = RestoreKey::load(&keys.restore_key, || Ok("correct horse".into())).unwrap();
        assert_eq!(key.fingerprints().len(), 1);
        assert!(RestoreKey::load(&keys.restore_key, || Ok("wrong".into())).is_err());
        // age -d reads the passphrase from a terminal, which `script` gives it.
        let command = format!("age -d {}", keys.restore_key.display());
        let args = ["-qec", &command, "/dev/null"].map(AsRef::as_ref);
        let shown = testing::run("script", &args, b"correct horse\n");
        assert!(String::from_utf8_lossy(&shown).contains(&format!("# public key: {}", keys.recipient)));
        let empty = PublisherOptions { passphrase: Some("".into()), agents: vec![] };
        assert_eq!(publisher(&dir.path().join("x"), &empty, now()).unwrap_err().kind(), ErrorKind::Key);
        assert!(!dir.path().join("x").exists());
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_half_made() {
        for taken in [RESTORE_KEY, RESTORE_PUB, PUBLISHER_KEY, "publisher_ed25519.pub", ALLOWED_SIGNERS] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(taken), "precious").unwrap();
            let e = publisher(dir.path(), &PublisherOptions::default(), now()).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Preflight);
            assert!(e.message().contains(taken), "{e}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
            assert_eq!(std::fs::read_to_string(dir.path().join(taken)).unwrap(), "precious");
        }
    }

    #[test]
    fn an_open_folder_is_pointed_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let keys = publisher(dir.path(), &PublisherOptions::default(), now()).unwrap();
        assert!(keys.warnings[0].contains("chmod 700"));
    }

    #[test]
    fn the_agent_gets_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/agent_ed25519");
        let signer = agent(&path, "marbre agent").unwrap();
        assert_eq!(SigningKey::load(&path).unwrap().signer(), signer);
        assert!(agent(&path, "again").is_err());
        assert_eq!(SigningKey::load(&path).unwrap().signer(), signer);
    }
}
