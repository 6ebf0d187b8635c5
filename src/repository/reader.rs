//! Whose records are read, from where, and with which signatures.

use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::keys::TrustStore;
use crate::model::id::{DatabaseId, TargetName};
use crate::model::object::ObjectKey;
use crate::state::State;
use crate::targets::{NamedTarget, TargetError, TargetErrorKind};

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
}

/// A record that cannot be used.
#[derive(Debug, Clone)]
pub(crate) struct BadRecord {
    /// Where it lies.
    pub target: TargetName,
    /// Its key.
    pub key: String,
    /// Why.
    pub error: Error,
}

impl Reader<'_> {
    /// The keys below one folder of the database at one target, each with the id that `id_of` finds in it.
    pub(crate) async fn list_folder<I>(
        &self,
        target: &NamedTarget,
        folder: &str,
        id_of: fn(&DatabaseId, &ObjectKey) -> Option<I>,
        cancel: &CancellationToken,
    ) -> Result<Vec<(I, ObjectKey)>, TargetError> {
        let prefix = format!("{}/{folder}", self.database)
            .parse()
            .map_err(|e| TargetError::new(TargetErrorKind::Unsupported, format!("list {folder}"), e))?;
        let mut pages = target.target.list(Some(&prefix), None, cancel).await?;
        let mut found = Vec::new();
        while let Some(page) = pages.try_next().await? {
            found.extend(page.into_iter().filter_map(|o| Some((id_of(self.database, &o.key)?, o.key))));
        }
        Ok(found)
    }
}
