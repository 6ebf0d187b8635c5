//! What a target's lists say of a database's objects, so that not each of them has to be asked for.

use std::collections::HashMap;
use std::iter::Peekable;

use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use crate::model::id::{DatabaseId, EpochId};
use crate::model::object::ObjectKey;
use crate::targets::{NamedTarget, ObjectInfo, ObjectPages, TargetError, TargetErrorKind, TargetExt};

/// What was listed: the receipts, and the objects of one epoch.
pub(super) struct Listed {
    receipts: HashMap<String, ObjectInfo>,
    objects: HashMap<String, ObjectInfo>,
}

impl Listed {
    /// What the lists say of an object; `None` where they do not name it.
    pub(super) fn get(&self, key: &str) -> Option<&ObjectInfo> {
        self.objects.get(key).or_else(|| self.receipts.get(key))
    }
}

/// The lists of one target: of its receipts, and of one epoch after the other, of which only one is held.
pub(super) struct Lists {
    database: DatabaseId,
    listed: Listed,
    /// The rest of the list of all epochs.
    pages: ObjectPages,
    /// The part of its last page that was not looked at.
    page: Peekable<std::vec::IntoIter<ObjectInfo>>,
}

impl Lists {
    /// Lists the receipts, and begins to list the epochs.
    pub(super) async fn open(
        target: &NamedTarget,
        database: &DatabaseId,
        cancel: &CancellationToken,
    ) -> Result<Self, TargetError> {
        let folder = |name: &str| {
            let key = format!("{database}/{name}").parse::<ObjectKey>();
            key.map_err(|e| TargetError::caused_by(TargetErrorKind::Unsupported, format!("list {name}"), e))
        };
        let (receipts, epochs) = (folder("receipts")?, folder("epochs")?);
        let listed = target.target.list_all(Some(&receipts), cancel).await?;
        let receipts = listed.into_iter().map(|object| (object.key.to_string(), object)).collect();
        let pages = target.target.list(Some(&epochs), None, cancel).await?;
        let page = Vec::new().into_iter().peekable();
        let listed = Listed { receipts, objects: HashMap::new() };
        Ok(Self { database: database.clone(), listed, pages, page })
    }

    /// Reads on until the end of this epoch. Epochs must be asked for in the order of their names.
    pub(super) async fn read_on(&mut self, epoch: &EpochId) -> Result<&Listed, TargetError> {
        let folder = format!("{}/epochs/{epoch}/", self.database);
        let objects = &mut self.listed.objects;
        if objects.keys().next().is_some_and(|key| key.starts_with(&folder)) {
            return Ok(&self.listed);
        }
        objects.clear();
        loop {
            // What is not of this epoch and not after it belongs to an epoch that nobody asked for.
            let until = |object: &ObjectInfo| {
                object.key.as_str().starts_with(&folder) || object.key.as_str() < folder.as_str()
            };
            while let Some(object) = self.page.next_if(until) {
                if object.key.as_str().starts_with(&folder) {
                    objects.insert(object.key.to_string(), object);
                }
            }
            if self.page.peek().is_some() {
                return Ok(&self.listed);
            }
            match self.pages.try_next().await? {
                Some(page) => self.page = page.into_iter().peekable(),
                None => return Ok(&self.listed),
            }
        }
    }
}
