//! A receipt from a file: where the agent's credentials may not read, somebody who may gives it.

use std::path::Path;

use super::SuccessionJob;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::{Namespace, Signer, signing};
use crate::model::id::{DatabaseId, SnapshotId};
use crate::repository::agents::Agents;
use crate::repository::layout;
use crate::repository::receipt::{Receipt, SignedReceipt};
use crate::repository::signed_record::Signed;
use crate::repository::succession::{self, Succession};

/// The receipt in this file, with a good signature beside it. Whether its signer is trusted is another question.
pub(super) fn receipt(path: &Path, database: &DatabaseId) -> Result<(SignedReceipt, Signer)> {
    let (bytes, signature) = read(path)?;
    let snapshot: Option<SnapshotId> =
        path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
    let snapshot = snapshot.ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("{} is not named like a receipt", path.display())).remedy(
            "Keep the name that it has at the target: SNAPSHOT.json, with SNAPSHOT.json.sig beside it.",
        )
    })?;
    let signer = signing::verify(&signature, Namespace::SnapshotReceipt, &bytes)
        .map_err(|e| e.context(path.display()))?;
    let receipt = Receipt::parse(&bytes, database, &snapshot)?;
    let signature = String::from_utf8_lossy(&signature).into_owned();
    Ok((SignedReceipt { receipt, bytes, signature, signer: signer.fingerprint() }, signer))
}

impl SuccessionJob {
    /// Adds the successions that lie beside a given receipt, or in the folder that is beside it at a target.
    pub(super) fn add_given(&self, path: &Path, agents: &mut Agents) -> Result<()> {
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        for folder in [folder.to_owned(), folder.join("../agents")] {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for path in entries.flatten().map(|entry| entry.path()) {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let key = layout::key(&self.database, &format!("agents/{name}")).ok();
                let number = key.and_then(|key| layout::succession_of(&self.database, &key));
                let Some((number, _)) = number else { continue };
                let (bytes, signature) = read(&path)?;
                let signers = succession::signers(&signature, &bytes)?;
                let record = Succession::parse(&bytes, &signers, &self.database, number)?;
                let signature = String::from_utf8_lossy(&signature).into_owned();
                let signer = signers.first().map(Signer::fingerprint).unwrap_or_default();
                agents.add(Signed { record, bytes, signature, signer }, None);
            }
        }
        Ok(())
    }
}

/// A record and its signature.
fn read(path: &Path) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut signature = path.as_os_str().to_owned();
    signature.push(".sig");
    let read = |path: &Path| {
        std::fs::read(path).map_err(|e| {
            Error::new(ErrorKind::NotFound, format!("{} cannot be read", path.display()))
                .cause(e)
                .remedy("Give a receipt as it lies at the target, with its .sig beside it.")
        })
    };
    Ok((read(path)?, read(Path::new(&signature))?))
}
