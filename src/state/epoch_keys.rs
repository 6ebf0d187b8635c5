//! The keys of the epochs that are still drilled: one file each, destroyed as completely as we can. They are
//! not in the database of the state, where a deleted row may survive in a free page or a log.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{State, make_private_folder};
use crate::error::{Error, Result, ResultExt};
use crate::model::id::{DatabaseId, EpochId};

const SUFFIX: &str = ".key";

impl State {
    fn epoch_keys_folder(&self, database: &DatabaseId) -> PathBuf {
        self.folder.join("epoch-keys").join(database.publisher.as_str()).join(database.database.as_str())
    }

    fn epoch_key_file(&self, database: &DatabaseId, epoch: &EpochId) -> PathBuf {
        self.epoch_keys_folder(database).join(format!("{epoch}{SUFFIX}"))
    }

    /// Keeps the key of an epoch, as text, in a file of mode 0600.
    pub(crate) fn keep_epoch_key(
        &self,
        database: &DatabaseId,
        epoch: &EpochId,
        key: &SecretString,
    ) -> Result<()> {
        let folder = self.epoch_keys_folder(database);
        make_private_folder(&folder)?;
        let path = self.epoch_key_file(database, epoch);
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(key.expose_secret().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            sync_folder(&folder)
        };
        write().or_internal(format!("keep the key of epoch {epoch} in {}", folder.display()))
    }

    /// The key of an epoch, if it is still kept.
    pub(crate) fn epoch_key(&self, database: &DatabaseId, epoch: &EpochId) -> Result<Option<SecretString>> {
        match fs::read_to_string(self.epoch_key_file(database, epoch)) {
            Ok(text) => Ok(Some(SecretString::from(text))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::internal(format!("failed to read the key of epoch {epoch}")).cause(e)),
        }
    }

    /// The epochs of a database whose keys are kept, oldest first.
    pub(crate) fn kept_epochs(&self, database: &DatabaseId) -> Result<Vec<EpochId>> {
        let folder = self.epoch_keys_folder(database);
        let what = format!("look at the keys of epochs in {}", folder.display());
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).or_internal(what),
        };
        let mut epochs = Vec::new();
        for entry in entries {
            let name = entry.or_internal(&what)?.file_name();
            let epoch = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).map(str::parse);
            epochs.extend(epoch.and_then(Result::ok));
        }
        epochs.sort();
        Ok(epochs)
    }

    /// Destroys the key of an epoch: overwritten, then removed, both before this returns. (A file system that writes
    /// elsewhere, or a flash disk, may still hold the old blocks: see SECURITY.md.)
    pub(crate) fn destroy_epoch_key(&self, database: &DatabaseId, epoch: &EpochId) -> Result<()> {
        let path = self.epoch_key_file(database, epoch);
        let destroy = || -> std::io::Result<()> {
            let mut file = match OpenOptions::new().write(true).open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(e),
            };
            let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
            file.write_all(&vec![b'#'; length])?;
            file.sync_all()?;
            fs::remove_file(&path)?;
            sync_folder(&self.epoch_keys_folder(database))
        };
        destroy().map_err(|e| {
            Error::internal(format!("failed to destroy the key of epoch {epoch}"))
                .cause(e)
                .remedy(format!("Remove {} by hand: it opens that epoch.", path.display()))
        })
    }
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_kept_privately_and_destroyed() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(&folder.path().join("state")).unwrap();
        let database: DatabaseId = "gazette/abonnes".parse().unwrap();
        let other: DatabaseId = "gazette/boutique".parse().unwrap();
        let epoch: EpochId = "20261122T020000Z-1f3a9c4e".parse().unwrap();
        assert!(state.epoch_key(&database, &epoch).unwrap().is_none());
        state.keep_epoch_key(&database, &epoch, &SecretString::from("SECRET")).unwrap();
        let path = state.epoch_key_file(&database, &epoch);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let kept = state.epoch_key(&database, &epoch).unwrap().unwrap();
        assert_eq!(kept.expose_secret().trim(), "SECRET");
        assert_eq!(state.kept_epochs(&database).unwrap(), std::slice::from_ref(&epoch));
        assert!(state.kept_epochs(&other).unwrap().is_empty());
        assert!(state.keep_epoch_key(&database, &epoch, &SecretString::from("x")).is_err(), "never replaced");
        // A second name for the file shows what became of its bytes.
        let witness = folder.path().join("witness");
        fs::hard_link(&path, &witness).unwrap();
        state.destroy_epoch_key(&database, &epoch).unwrap();
        state.destroy_epoch_key(&database, &epoch).unwrap();
        assert!(!path.exists() && state.kept_epochs(&database).unwrap().is_empty());
        assert!(!fs::read_to_string(witness).unwrap().contains("SECRET"));
    }
}
