//! The record of a succession: one agent goes on with another's chain of receipts, in clear and signed (see
//! `docs/FORMAT.md`). It outlives both: what the old agent signed stays trusted as far as this record reaches.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::keys::{Signer, signing};
use crate::model::id::{DatabaseId, DatabaseName, PublisherName, Sha256, SnapshotId};
use crate::repository::canonical;
use crate::repository::chain::Link;
use crate::repository::signed_record;

/// What is recorded of a succession.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Succession {
    /// Format version.
    pub format: u32,
    /// What is recorded; `succession`.
    pub kind: SuccessionKind,
    /// The owner of the data.
    pub publisher: PublisherName,
    /// The database.
    pub database: DatabaseName,
    /// Its number, from 1: receipts name the succession under which they are written.
    pub number: u64,
    /// SHA-256 of the succession that it goes on from; `null` for the first.
    pub previous: Option<Sha256>,
    /// How the chain passes on.
    pub action: Action,
    /// The agent that wrote until then.
    pub from: AgentKey,
    /// The agent that writes from then on; the same key, where only the chain had to be put in order.
    pub to: AgentKey,
    /// The receipt that the next one follows.
    pub after: Seen,
    /// Receipts that were seen, and that are not of the history that goes on.
    pub set_aside: Vec<Seen>,
    /// Why, for people.
    pub reason: String,
    /// When it was decided; not before the receipt that it goes on after.
    pub decided_at: Timestamp,
    /// Name and version of the writer.
    pub agent: String,
}

/// What a [`Succession`] records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SuccessionKind {
    /// A succession.
    Succession,
}

/// How a chain passes from one key to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// The new key says so, and a person confirms it: the old key is lost.
    Adopt,
    /// The old key says so: whoever trusts it trusts the new one.
    Rotate,
}

impl Action {
    /// As it is written in the record.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Action::Adopt => "adopt",
            Action::Rotate => "rotate",
        }
    }
}

/// An agent's signing key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentKey {
    /// `ssh-ed25519 AAAA…`.
    pub key: String,
    /// `SHA256:…`.
    pub fingerprint: String,
}

impl AgentKey {
    /// The key of a signer.
    pub(crate) fn of(signer: &Signer) -> Self {
        Self { key: signer.to_openssh(), fingerprint: signer.fingerprint() }
    }

    /// The signer that has this key.
    pub(crate) fn signer(&self) -> Result<Signer> {
        Signer::parse(&self.key)
    }
}

/// A receipt that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Its place in the chain.
    pub sequence: u64,
    /// Its snapshot.
    pub snapshot: SnapshotId,
    /// SHA-256 of its bytes.
    pub receipt: Sha256,
}

impl Seen {
    /// The receipt of a link.
    pub(crate) fn of(link: &Link) -> Self {
        Self { sequence: link.sequence, snapshot: link.id.clone(), receipt: link.hash }
    }
}

impl Succession {
    /// The bytes that are hashed, signed and stored.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        canonical::to_bytes(self)
    }

    /// Parses the record that was found at its place, and checks that those signed it who must have: the new key, and
    /// before it the old one where the chain was passed on. Whether either is trusted is another question.
    pub(crate) fn parse(
        bytes: &[u8],
        signers: &[Signer],
        database: &DatabaseId,
        number: u64,
    ) -> Result<Self> {
        let record: Self =
            canonical::from_bytes(bytes).map_err(|e| e.context(format!("succession {number}")))?;
        let says = (&record.publisher, &record.database, &record.number);
        signed_record::require_place("record at succession", database, &number, says)?;
        let (from, to) = (record.from.signer()?, record.to.signer()?);
        let needed = match record.action {
            Action::Adopt => vec![to],
            Action::Rotate => vec![from, to],
        };
        let wrong = |what: &str| Err(Error::verification(format!("succession {number}: {what}")));
        if signers != needed {
            return wrong("it is not signed by the keys that it names");
        }
        if AgentKey::of(&from) != record.from || AgentKey::of(&to) != record.to {
            return wrong("a key and its fingerprint differ");
        }
        if number == 0 || record.after.sequence == 0 {
            return wrong("numbers begin with 1");
        }
        Ok(record)
    }

    /// Whether this receipt was seen, and is not of the history that goes on.
    pub(crate) fn sets_aside(&self, snapshot: &SnapshotId) -> bool {
        self.set_aside.iter().any(|seen| seen.snapshot == *snapshot)
    }
}

/// Who made the signatures beside a succession, in their order.
pub(crate) fn signers(signature: &[u8], bytes: &[u8]) -> Result<Vec<Signer>> {
    signing::verify_all(signature, crate::keys::Namespace::Succession, bytes)
}

#[cfg(test)]
pub(crate) mod testing {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;
    use crate::keys::SigningKey;

    static KEYS: Mutex<BTreeMap<String, Signer>> = Mutex::new(BTreeMap::new());

    /// The signer of this name, the same each time.
    pub(crate) fn signer(name: &str) -> Signer {
        let mut keys = KEYS.lock().unwrap();
        *keys.entry(name.to_owned()).or_insert_with(|| SigningKey::generate(name).unwrap().signer())
    }

    /// Its key.
    pub(crate) fn key(name: &str) -> AgentKey {
        AgentKey::of(&signer(name))
    }

    /// An adoption of one agent's chain by another, after its first receipt.
    pub(crate) fn succession(number: u64, from: &str, to: &str) -> Succession {
        Succession {
            format: 1,
            kind: SuccessionKind::Succession,
            publisher: "gazette".parse().unwrap(),
            database: "abonnes".parse().unwrap(),
            number,
            previous: None,
            action: Action::Adopt,
            from: key(from),
            to: key(to),
            after: Seen {
                sequence: 1,
                snapshot: "20261122T020000Z-1f3a9c4e".parse().unwrap(),
                receipt: Sha256::of(b"receipt"),
            },
            set_aside: Vec::new(),
            reason: "a test".to_owned(),
            decided_at: "2026-11-22T03:00:00Z".parse().unwrap(),
            agent: "marbre".to_owned(),
        }
    }

    #[test]
    fn it_must_be_signed_by_the_keys_that_it_names() {
        let database: DatabaseId = "gazette/abonnes".parse().unwrap();
        let adopt = succession(1, "a", "b");
        let rotate = Succession { action: Action::Rotate, ..adopt.clone() };
        let parse = |record: &Succession, signers: &[&str], number| {
            let signers: Vec<Signer> = signers.iter().map(|name| signer(name)).collect();
            Succession::parse(&record.to_bytes().unwrap(), &signers, &database, number)
        };
        assert_eq!(parse(&adopt, &["b"], 1).unwrap(), adopt);
        assert_eq!(parse(&rotate, &["a", "b"], 1).unwrap(), rotate);
        for signers in [&["a"][..], &["c"], &["a", "b"], &[]] {
            assert!(parse(&adopt, signers, 1).is_err(), "{signers:?}");
        }
        for signers in [&["b"][..], &["a"], &["b", "a"], &["a", "b", "b"]] {
            assert!(parse(&rotate, signers, 1).is_err(), "{signers:?}");
        }
        assert!(parse(&adopt, &["b"], 2).is_err(), "it was moved");
        let mut odd = adopt.clone();
        odd.from.fingerprint = key("c").fingerprint;
        assert!(parse(&odd, &["b"], 1).is_err(), "a key and its fingerprint differ");
    }
}
