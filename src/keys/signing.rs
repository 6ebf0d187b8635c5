//! Signatures: Ed25519 keys in OpenSSH's format, SSHSIG armor, so that `ssh-keygen -Y` makes and checks them too.
//! Format: OpenSSH's PROTOCOL.sshsig and PROTOCOL.key.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use rand::TryRngCore;
use secrecy::zeroize::Zeroizing;
use ssh_key::private::Ed25519Keypair;
use ssh_key::public::{Ed25519PublicKey, KeyData};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use crate::error::{Error, Result};
use crate::keys::files;

/// What a signature is about. A signature of one namespace never passes for another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// The agent's receipt of a snapshot.
    SnapshotReceipt,
    /// The agent's or the publisher's receipt of a drill.
    DrillReceipt,
    /// The agent's record of what retention deleted.
    PruneRecord,
    /// The agent's record of what somebody decided.
    Decision,
    /// The record by which one agent goes on with another's chain.
    Succession,
    /// The publisher's charter.
    Charter,
    /// The publisher's answer to a key challenge.
    KeyProof,
}

impl Namespace {
    /// The namespace as SSHSIG and `ssh-keygen -n` have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Namespace::SnapshotReceipt => "snapshot-receipt@marbre",
            Namespace::DrillReceipt => "drill-receipt@marbre",
            Namespace::PruneRecord => "prune-record@marbre",
            Namespace::Decision => "decision@marbre",
            Namespace::Succession => "succession@marbre",
            Namespace::Charter => "charter@marbre",
            Namespace::KeyProof => "key-proof@marbre",
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who signed: an Ed25519 public key. Being one says nothing about trust: see [`crate::keys::TrustStore`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signer([u8; 32]);

impl Signer {
    /// The fingerprint as `ssh-keygen -l` prints it: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// The key as `allowed_signers` and `.pub` files have it: `ssh-ed25519 AAAA…`.
    pub fn to_openssh(self) -> String {
        self.public_key()
            .to_openssh()
            // Encoding 32 bytes into memory cannot fail.
            .expect("an Ed25519 public key has a text form")
    }

    /// Reads `ssh-ed25519 AAAA… [comment]`.
    pub fn parse(text: &str) -> Result<Self> {
        let key = PublicKey::from_openssh(text.trim()).map_err(|e| {
            Error::key("not an OpenSSH public key")
                .cause(e)
                .remedy("Give the content of the .pub file: ssh-ed25519 AAAA….")
        })?;
        Self::of(key.key_data()).ok_or_else(|| not_ed25519("the public key", &key.algorithm()))
    }

    /// Reads a `.pub` file.
    pub fn load(path: &Path) -> Result<Self> {
        let file = files::read("public key", path)?;
        Self::parse(&String::from_utf8_lossy(&file.bytes)).map_err(|e| e.context(path.display()))
    }

    fn of(key: &KeyData) -> Option<Self> {
        key.ed25519().map(|k| Self(k.0))
    }

    fn public_key(self) -> PublicKey {
        PublicKey::from(KeyData::Ed25519(Ed25519PublicKey(self.0)))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

/// A private Ed25519 key that signs. Wiped from memory when dropped.
pub struct SigningKey {
    key: PrivateKey,
    signer: Signer,
}

impl SigningKey {
    /// A fresh key. The comment ends up in its files, e.g. `marbre agent`.
    pub fn generate(comment: &str) -> Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        rand::rngs::OsRng
            .try_fill_bytes(&mut *seed)
            .map_err(|e| Error::internal("failed to read random bytes").cause(e))?;
        let pair = Ed25519Keypair::from_seed(&seed);
        let signer = Signer(pair.public.0);
        let mut key = PrivateKey::from(pair);
        key.set_comment(comment);
        Ok(Self { key, signer })
    }

    /// Loads an OpenSSH private key that only its owner can read.
    ///
    /// Errors ([`crate::ErrorKind::Key`]): no such file; others can read it; not a private key; protected with a
    /// passphrase; not Ed25519.
    pub fn load(path: &Path) -> Result<Self> {
        let file = files::read("signing key", path)?;
        let name = path.display();
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
        if !private_enough(file.exposed, path, credentials.as_deref()) {
            return Err(Error::key(format!("signing key {name} can be read by others")).remedy(format!(
                "Run `chmod 600 {name}`; if others may have read it, replace it with `marbre rotate`."
            )));
        }
        let key = PrivateKey::from_openssh(&*file.bytes).map_err(|e| {
            Error::key(format!("signing key {name} is not an OpenSSH private key"))
                .cause(e)
                .remedy("Give the file without .pub that `ssh-keygen -t ed25519` or `marbre keygen` made.")
        })?;
        if key.is_encrypted() {
            return Err(Error::key(format!("signing key {name} is protected with a passphrase"))
                .remedy(format!("The agent signs unattended: remove the passphrase with `ssh-keygen -p -N '' -f {name}`, or make a key without one.")));
        }
        let signer = Signer::of(key.public_key().key_data())
            .ok_or_else(|| not_ed25519(&format!("signing key {name}"), &key.algorithm()))?;
        Ok(Self { key, signer })
    }

    /// Writes the private key to a new file (0600) and the public key beside it, as `PATH.pub`. Overwrites nothing.
    pub fn write(&self, path: &Path) -> Result<()> {
        let public = public_path(path);
        if public.exists() {
            return Err(files::exists(&public));
        }
        files::create(path, self.to_private_openssh()?.as_bytes())?;
        if let Err(e) = files::create(&public, self.to_public_openssh().as_bytes()) {
            // Both or none; the error that matters is the first one.
            let _ = std::fs::remove_file(path);
            return Err(e);
        }
        files::sync_folder(files::parent(path))
    }

    /// The public key that goes with it.
    pub fn signer(&self) -> Signer {
        self.signer
    }

    /// Signs: an armored SSHSIG with SHA-512, as `ssh-keygen -Y sign -n NAMESPACE` makes it.
    pub fn sign(&self, namespace: Namespace, message: &[u8]) -> Result<String> {
        self.key
            .sign(namespace.as_str(), HashAlg::Sha512, message)
            .and_then(|signature| signature.to_pem(LineEnding::LF))
            .map_err(|e| Error::key("failed to sign").cause(e))
    }

    pub(super) fn to_private_openssh(&self) -> Result<Zeroizing<String>> {
        self.key
            .to_openssh(LineEnding::LF)
            .map_err(|e| Error::internal("failed to encode a signing key").cause(e))
    }

    pub(super) fn to_public_openssh(&self) -> String {
        let text = format!("{} {}", self.signer.to_openssh(), self.key.comment());
        format!("{}\n", text.trim_end())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.signer)
    }
}

/// Whether a signing key's file is for its user alone. systemd gives a service its credentials with an access control
/// list for that one user, which shows as a readable group (0440).
fn private_enough(exposed: u32, path: &Path, credentials: Option<&OsStr>) -> bool {
    exposed == 0 || (exposed == 0o040 && credentials.is_some_and(|folder| path.starts_with(folder)))
}

/// Where the public key of a private key file lies.
pub(super) fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// Checks an armored SSHSIG and says who made it. Any Ed25519 key passes: the caller then asks whether it is
/// trusted, with [`crate::keys::TrustStore::check`]. Where several signatures follow each other, this is the first, as
/// for `ssh-keygen`.
///
/// Errors ([`crate::ErrorKind::Verification`]): not a signature, of another namespace, by another kind of key, or
/// the message is not what was signed.
pub(crate) fn verify(armored: &[u8], namespace: Namespace, message: &[u8]) -> Result<Signer> {
    let (signature, signer) = parse(first(armored).0)?;
    signer.public_key().verify(namespace.as_str(), message, &signature).map_err(|e| match e {
        ssh_key::Error::Namespace => Error::verification(format!(
            "the signature is about {}, not {namespace}",
            signature.namespace().escape_debug()
        )),
        _ => Error::verification("the signature does not match: what was signed has been changed"),
    })?;
    Ok(signer)
}

/// Checks several signatures of one message that follow each other, and says who made them, in their order.
pub(crate) fn verify_all(mut armored: &[u8], namespace: Namespace, message: &[u8]) -> Result<Vec<Signer>> {
    let mut signers = Vec::new();
    while !armored.is_empty() {
        signers.push(verify(armored, namespace, message)?);
        armored = first(armored).1;
    }
    Ok(signers)
}

/// Whose signature it is, of one that was checked before.
pub(crate) fn signer_of(armored: &[u8]) -> Result<Signer> {
    parse(first(armored).0).map(|(_, signer)| signer)
}

/// The first signature, and what follows it.
fn first(armored: &[u8]) -> (&[u8], &[u8]) {
    const END: &[u8] = b"-----END SSH SIGNATURE-----\n";
    let end = armored.windows(END.len()).position(|window| window == END);
    armored.split_at(end.map_or(armored.len(), |at| at + END.len()))
}

fn parse(armored: &[u8]) -> Result<(SshSig, Signer)> {
    let signature = SshSig::from_pem(armored)
        .map_err(|e| Error::verification("the signature cannot be read").cause(e))?;
    let signer = Signer::of(signature.public_key()).ok_or_else(|| {
        Error::verification("the signature is not by an Ed25519 key")
            .cause(signature.public_key().algorithm().to_string())
    })?;
    Ok((signature, signer))
}

fn not_ed25519(what: &str, algorithm: &Algorithm) -> Error {
    Error::key(format!("{what} is {algorithm}, not Ed25519"))
        .remedy("Make one with `ssh-keygen -t ed25519` or `marbre keygen`.")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::error::ErrorKind;
    use crate::keys::testing;

    const NAMESPACE: Namespace = Namespace::SnapshotReceipt;

    /// `ssh-keygen -Y verify` with an `allowed_signers` line for this signer.
    fn ssh_keygen_verifies(dir: &Path, signer: Signer, signature: &str, message: &[u8]) -> bool {
        let allowed = dir.join("allowed");
        std::fs::write(&allowed, format!("agent {}\n", signer.to_openssh())).unwrap();
        let sig = dir.join("message.sig");
        std::fs::write(&sig, signature).unwrap();
        let output = testing::output(
            "ssh-keygen",
            &[
                "-Y".as_ref(),
                "verify".as_ref(),
                "-f".as_ref(),
                allowed.as_os_str(),
                "-I".as_ref(),
                "agent".as_ref(),
                "-n".as_ref(),
                NAMESPACE.as_str().as_ref(),
                "-s".as_ref(),
                sig.as_os_str(),
            ],
            message,
        );
        output.status.success()
    }

    fn ssh_keygen_signs(key: &Path, namespace: &str, message: &[u8]) -> Vec<u8> {
        let args = [
            "-Y".as_ref(),
            "sign".as_ref(),
            "-n".as_ref(),
            namespace.as_ref(),
            "-f".as_ref(),
            key.as_os_str(),
        ];
        testing::run("ssh-keygen", &args, message)
    }

    #[test]
    fn ssh_keygen_verifies_what_marbre_signs() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate("marbre agent").unwrap();
        for message in [&b"{}"[..], b"", &[0; 100_000]] {
            let signature = key.sign(NAMESPACE, message).unwrap();
            assert!(ssh_keygen_verifies(dir.path(), key.signer(), &signature, message));
            assert!(!ssh_keygen_verifies(dir.path(), key.signer(), &signature, b"other"));
        }
        let other = key.sign(Namespace::DrillReceipt, b"{}").unwrap();
        assert!(!ssh_keygen_verifies(dir.path(), key.signer(), &other, b"{}"));
    }

    #[test]
    fn what_ssh_keygen_signs_is_accepted_and_changes_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = testing::ssh_key(dir.path(), "agent");
        let signature = ssh_keygen_signs(&path, NAMESPACE.as_str(), b"receipt");
        let signer = verify(&signature, NAMESPACE, b"receipt").unwrap();
        assert_eq!(signer, SigningKey::load(&path).unwrap().signer());
        assert_eq!(signer, Signer::load(&path.with_extension("pub")).unwrap());
        let listed = testing::run("ssh-keygen", &["-l".as_ref(), "-f".as_ref(), path.as_os_str()], b"");
        assert!(String::from_utf8(listed).unwrap().contains(&signer.fingerprint()));

        for (namespace, message) in [(NAMESPACE, &b"receipt "[..]), (Namespace::Charter, b"receipt")] {
            let e = verify(&signature, namespace, message).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Verification, "{e}");
        }
        let text = String::from_utf8(signature).unwrap();
        for position in [60, text.len() / 2, text.len() - 40] {
            let mut bytes = text.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let result = verify(&bytes, NAMESPACE, b"receipt");
            assert!(result.is_err() || result.unwrap() != signer, "position {position}");
        }
        assert!(verify(b"", NAMESPACE, b"receipt").is_err());
    }

    #[test]
    fn another_key_is_another_signer() {
        let (one, two) = (SigningKey::generate("").unwrap(), SigningKey::generate("").unwrap());
        let signature = two.sign(NAMESPACE, b"x").unwrap();
        let signer = verify(signature.as_bytes(), NAMESPACE, b"x").unwrap();
        assert_ne!(signer, one.signer());
        assert_eq!(signer, two.signer());
    }

    #[test]
    fn other_kinds_of_keys_do_not_sign_receipts() {
        let dir = tempfile::tempdir().unwrap();
        let path = testing::ssh_key_with(dir.path(), "ecdsa", "ecdsa", "");
        let signature = ssh_keygen_signs(&path, NAMESPACE.as_str(), b"x");
        let e = verify(&signature, NAMESPACE, b"x").unwrap_err();
        assert!(e.message().contains("Ed25519"), "{e}");
        let e = SigningKey::load(&path).unwrap_err();
        assert!(e.message().contains("not Ed25519"), "{e}");
    }

    #[test]
    fn files_are_for_their_owner_and_openssh_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let key = SigningKey::generate("marbre agent").unwrap();
        key.write(&path).unwrap();
        for file in [&path, &public_path(&path)] {
            let mode = std::fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        }
        let public = testing::run("ssh-keygen", &["-y".as_ref(), "-f".as_ref(), path.as_os_str()], b"");
        assert_eq!(String::from_utf8(public).unwrap(), std::fs::read_to_string(public_path(&path)).unwrap());
        assert_eq!(SigningKey::load(&path).unwrap().signer(), key.signer());
        assert!(!format!("{key:?}").contains("PRIVATE"));

        let before = std::fs::read(&path).unwrap();
        assert_eq!(SigningKey::generate("").unwrap().write(&path).unwrap_err().kind(), ErrorKind::Preflight);
        std::fs::remove_file(&path).unwrap();
        assert!(SigningKey::generate("").unwrap().write(&path).is_err(), "the .pub is still there");
        assert!(!path.exists());
        std::fs::write(&path, before).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let e = SigningKey::load(&path).unwrap_err();
        assert!(e.remedy_text().unwrap().contains("chmod 600"), "{e}");
    }

    #[test]
    fn only_systemd_may_show_a_readable_group() {
        let (path, folder) =
            (Path::new("/run/credentials/marbre/key"), OsStr::new("/run/credentials/marbre"));
        assert!(private_enough(0, path, None));
        assert!(private_enough(0o040, path, Some(folder)));
        assert!(!private_enough(0o040, path, None));
        assert!(!private_enough(0o044, path, Some(folder)));
        assert!(!private_enough(0o040, Path::new("/etc/marbre/key"), Some(folder)));
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let protected = testing::ssh_key_with(dir.path(), "protected", "ed25519", "correct horse");
        let e = SigningKey::load(&protected).unwrap_err();
        assert!(e.message().contains("passphrase"), "{e}");
        let age = testing::age_key(dir.path(), "age");
        let e = SigningKey::load(&age.path).unwrap_err();
        assert!(e.message().contains("not an OpenSSH private key"), "{e}");
        let e = SigningKey::load(&dir.path().join("none")).unwrap_err();
        assert!(e.message().contains("no such file"), "{e}");
        assert_eq!(e.kind(), ErrorKind::Key);
    }
}
