//! Whose records are read, from where, and with which signatures.

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::keys::TrustStore;
use crate::model::id::DatabaseId;
use crate::model::object::ObjectKey;
use crate::repository::agents::Agents;
pub(crate) use crate::repository::bad_record::BadRecord;
use crate::repository::oddity::Oddity;
use crate::repository::place::{self, Places};
use crate::state::{State, noted};
use crate::targets::{NamedTarget, ObjectInfo, TargetError, TargetErrorKind};

/// Records that are fetched at the same time.
pub(crate) const PARALLEL: usize = 8;

/// Reads the records of one database.
pub(crate) struct Reader<'a> {
    /// The database.
    pub database: &'a DatabaseId,
    /// Where to look.
    pub targets: &'a [NamedTarget],
    /// Whose signatures count.
    pub trust: &'a TrustStore,
    /// Records seen before, if there is a state.
    pub state: Option<&'a State>,
    /// Who wrote them, once it was read.
    pub(super) agents: OnceCell<Agents>,
    /// Where the targets are, once it was looked.
    places: OnceCell<Places>,
}

impl<'a> Reader<'a> {
    /// A reader of one database.
    pub(crate) fn new(
        database: &'a DatabaseId,
        targets: &'a [NamedTarget],
        trust: &'a TrustStore,
        state: Option<&'a State>,
    ) -> Self {
        Self { database, targets, trust, state, agents: OnceCell::new(), places: OnceCell::new() }
    }
}

/// A record that a list names.
#[derive(Debug, Clone)]
pub(crate) struct Listed<I> {
    /// What it is about.
    pub id: I,
    /// Its key.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub size: u64,
    /// The size of the signature beside it, where that was listed too.
    pub signature: Option<u64>,
    /// It, or its signature, lies under a delete marker.
    pub hidden: bool,
}

impl<I> Listed<I> {
    /// What is odd about it. `expected`: the sizes of the record and of its signature, where they are known.
    pub(crate) fn oddity(&self, expected: Option<[u64; 2]>) -> Option<Oddity> {
        let [size, signature] = expected.map_or([None, None], |sizes| sizes.map(Some));
        Oddity::of(&self.key, self.size, self.hidden, size).or_else(|| {
            let key = format!("{}.sig", self.key).parse().ok()?;
            Oddity::of(&key, self.signature?, false, signature)
        })
    }
}

impl Reader<'_> {
    /// Where the targets are. What is seen is remembered: proofs belong to places.
    pub(super) async fn places(&self, cancel: &CancellationToken) -> Result<&Places, Error> {
        let look = async || {
            let mut places = Places::default();
            let looks = self.targets.iter().map(async |target| {
                let last =
                    self.state.map(|s| s.place(&target.name, &target.target.describe())).transpose()?;
                Ok::<_, Error>(place::look(&*target.target, last.flatten(), cancel).await)
            });
            for (target, sight) in self.targets.iter().zip(join_all(looks).await) {
                let sight = sight?.map_err(|_| Error::interrupted())?;
                places.note(target, sight);
                if let Some(state) = self.state {
                    let seen = places.of(&target.name);
                    noted(state.bind_place(&target.name, &target.target.describe(), seen.as_ref()).map(drop));
                }
            }
            Ok(places)
        };
        self.places.get_or_try_init(look).await
    }

    /// The key of a folder of the database, to list it.
    pub(super) fn folder(&self, folder: &str) -> Result<ObjectKey, TargetError> {
        let invalid = |e| TargetError::new(TargetErrorKind::Unsupported, format!("list {folder}"), e);
        format!("{}/{folder}", self.database).parse().map_err(invalid)
    }

    /// The records in one folder of the database at one target, each with the id that `id_of` finds in its key.
    pub(crate) async fn list_folder<I>(
        &self,
        target: &NamedTarget,
        folder: &str,
        id_of: fn(&DatabaseId, &ObjectKey) -> Option<I>,
        cancel: &CancellationToken,
    ) -> Result<Vec<Listed<I>>, TargetError> {
        let mut pages = target.target.list(Some(&self.folder(folder)?), None, cancel).await?;
        let mut found: Vec<Listed<I>> = Vec::new();
        while let Some(page) = pages.try_next().await? {
            for ObjectInfo { key, size, hidden, .. } in page {
                if let Some(id) = id_of(self.database, &key) {
                    found.push(Listed { id, key, size, signature: None, hidden });
                } else if let Some(of) = key.as_str().strip_suffix(".sig")
                    // A list is sorted, so a signature follows what it signs.
                    && let Some(last) = found.last_mut().filter(|last| last.key.as_str() == of)
                {
                    last.signature = Some(size);
                    last.hidden |= hidden;
                }
            }
        }
        Ok(found)
    }
}
