//! The agent's own key, whom it trusts, and what it keeps.

use std::path::Path;

use crate::config::{Config, Database, DrillKey};
use crate::error::{Origin, Result};
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
        let e = e.origin(Origin::Key(path.display().to_string()));
        match path.exists() {
            true => e,
            false => e.remedy(missing_key(path, config.state_dir.join("state.sqlite").exists())),
        }
    })
}

/// What to do about a signing key that is not there. A new one is no way out for an agent that has worked before: nobody
/// trusts it, and it cannot go on with what the old one signed.
fn missing_key(path: &Path, has_worked: bool) -> String {
    let path = path.display();
    match has_worked {
        true => format!(
            "Put it back from its copy to {path} (mode 0600, owned by the user that runs marbre). Make no new one while there \
             is a copy; if there is none, `marbre adopt` goes on with a new key, and every publisher has to confirm it."
        ),
        false => format!(
            "If this agent had a key before, put it back from its copy to {path}. On a new host make it with `marbre keygen \
             --agent {path}`, and give the line that it prints to the publishers."
        ),
    }
}

/// Which keys of epochs are kept for drills.
pub(crate) fn key_policy(database: &Database) -> KeyPolicy {
    KeyPolicy { keep: database.drills.key == DrillKey::Epoch, longest: database.drills.keep_key }
}
