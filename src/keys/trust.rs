//! Whom a reader trusts: an `allowed_signers` file, a fingerprint that a person confirmed, or the agent's own key.

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::keys::allowed_signers::{AGENT, AllowedSigners, OWNER};
use crate::keys::signing::{Namespace, Signer};

/// What a reader checks a signer against.
#[derive(Debug, Clone)]
pub enum TrustStore {
    /// The publisher's file.
    AllowedSigners(AllowedSigners),
    /// A fingerprint that a person gave or confirmed: `SHA256:…`.
    Fingerprint(String),
    /// The agent reading its own records, and what the owner of the data has put beside them.
    Own {
        /// The agent's key.
        agent: Signer,
        /// The keys that the owner signs with.
        owners: Vec<Signer>,
    },
}

impl TrustStore {
    /// The agent's own key, and no owner's.
    pub fn own(agent: Signer) -> Self {
        Self::Own { agent, owners: Vec::new() }
    }

    /// Whether any key at all may speak as this principal: of one who is not known nothing can be said.
    pub fn knows(&self, principal: &str) -> bool {
        match self {
            Self::AllowedSigners(allowed) => allowed.lists(principal),
            Self::Fingerprint(_) => principal == AGENT,
            Self::Own { owners, .. } => principal == AGENT || !owners.is_empty(),
        }
    }

    /// Whether a key that an accepted succession names may not sign all the same, because a line of `allowed_signers` says
    /// until when it might.
    pub fn forbids(&self, signer: &Signer, namespace: Namespace, at: Timestamp) -> bool {
        match self {
            Self::AllowedSigners(allowed) => {
                allowed.names(signer, AGENT, namespace) && !allowed.trusts(signer, AGENT, namespace, at)
            }
            Self::Fingerprint(_) | Self::Own { .. } => false,
        }
    }

    /// A fingerprint given by a person, e.g. to `--accept-signer`.
    pub fn fingerprint(text: &str) -> Result<Self> {
        let text = text.trim();
        let valid = text.strip_prefix("SHA256:").is_some_and(|hash| {
            hash.len() == 43 && hash.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
        });
        if valid {
            Ok(Self::Fingerprint(text.to_owned()))
        } else {
            Err(Error::key(format!("{text:?} is not the fingerprint of a signing key"))
                .remedy("Give it as `ssh-keygen -l -f KEY.pub` prints it: SHA256: and 43 characters."))
        }
    }

    /// Fails ([`crate::ErrorKind::Key`]) unless this key may sign as this principal in this namespace. `at` is the
    /// time that is held against the validity of `allowed_signers` lines.
    pub fn check(&self, signer: &Signer, principal: &str, namespace: Namespace, at: Timestamp) -> Result<()> {
        let shown = signer.fingerprint();
        let (trusted, cause) = match self {
            Self::AllowedSigners(allowed) => (
                allowed.trusts(signer, principal, namespace, at),
                format!(
                    "allowed_signers has no line that lets this key sign as {principal} in {namespace} at {at}"
                ),
            ),
            // What was accepted is the agent's key, and not one that speaks for the owner.
            Self::Fingerprint(f) => {
                (*f == shown && principal == AGENT, format!("the accepted signer of the agent is {f}"))
            }
            Self::Own { owners, .. } if principal == OWNER => {
                (owners.contains(signer), "the publisher's `signers` in the configuration lack it".to_owned())
            }
            Self::Own { agent, .. } => (
                agent == signer && principal == AGENT,
                format!("this agent's key is {}", agent.fingerprint()),
            ),
        };
        if trusted {
            return Ok(());
        }
        Err(Error::key(format!("signed by {shown}, which is not trusted"))
            .cause(cause)
            .remedy(format!(
                "Compare this fingerprint with the one that the provider gave you by another way (a call, the contract). If it is the same, run the command again with `--accept-signer {shown}`, or add the key to allowed_signers. If not, somebody else wrote this: do not use it."
            )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::keys::allowed_signers::line;
    use crate::keys::{SigningKey, signing};

    const NAMESPACE: Namespace = Namespace::SnapshotReceipt;

    #[test]
    fn a_signer_that_is_not_trusted_is_shown() {
        let (one, two) = (SigningKey::generate("").unwrap(), SigningKey::generate("").unwrap());
        let signature = one.sign(NAMESPACE, b"x").unwrap();
        let signer = signing::verify(signature.as_bytes(), NAMESPACE, b"x").unwrap();
        let now = "2026-11-22T02:00:00Z".parse().unwrap();
        let print = one.signer().fingerprint();
        let allowed = |key: &SigningKey| {
            let text = line(AGENT, &[NAMESPACE], &key.signer(), "").unwrap();
            TrustStore::AllowedSigners(AllowedSigners::parse(&text).unwrap())
        };
        for good in [TrustStore::fingerprint(&print).unwrap(), TrustStore::own(one.signer()), allowed(&one)] {
            good.check(&signer, AGENT, NAMESPACE, now).unwrap();
        }
        let empty = TrustStore::AllowedSigners(AllowedSigners::default());
        let theirs = TrustStore::fingerprint(&two.signer().fingerprint()).unwrap();
        for bad in [theirs, TrustStore::own(two.signer()), allowed(&two), empty] {
            let e = bad.check(&signer, AGENT, NAMESPACE, now).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Key);
            assert!(e.message().contains(&print), "{e}");
            assert!(e.remedy_text().unwrap().contains(&format!("--accept-signer {print}")));
        }
        for bad in ["", "SHA256:", "MD5:aa", &print[..20], &format!("{print}=")] {
            assert!(TrustStore::fingerprint(bad).is_err(), "{bad}");
        }
    }
}
