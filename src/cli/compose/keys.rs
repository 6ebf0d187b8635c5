//! The agent's own key, whom it trusts, and what it keeps.

use crate::config::{Config, Database, DrillKey};
use crate::error::Result;
use crate::job::key_policy::KeyPolicy;
use crate::keys::{Signer, SigningKey, TrustStore};
use crate::model::id::PublisherName;

/// The agent trusts its own key, and the owner's where the owner speaks.
pub(crate) fn own_trust(config: &Config, publisher: &PublisherName) -> Result<TrustStore> {
    let signers = config.publishers.get(publisher).map_or(&[][..], |p| &p.signers);
    let owners = signers.iter().map(|text| Signer::parse(text)).collect::<Result<_>>()?;
    Ok(TrustStore::Own { agent: signing_key(config)?.signer(), owners })
}

pub(crate) fn signing_key(config: &Config) -> Result<SigningKey> {
    let path = &config.signing_key;
    SigningKey::load(path).map_err(|e| {
        if path.exists() {
            return e;
        }
        e.remedy(format!(
            "Make it with `marbre keygen --agent {}`, and give the line that it prints to the publishers.",
            path.display()
        ))
    })
}

/// Which keys of epochs are kept for drills.
pub(crate) fn key_policy(database: &Database) -> KeyPolicy {
    KeyPolicy { keep: database.drills.key == DrillKey::Epoch, longest: database.drills.keep_key }
}
