//! Whose records are read, from where, and with which signatures.

use futures_util::TryStreamExt;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::keys::TrustStore;
use crate::model::id::DatabaseId;
use crate::model::object::ObjectKey;
use crate::repository::agents::Agents;
pub(crate) use crate::repository::bad_record::BadRecord;
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
    /// Who wrote them, once it was read.
    pub(super) agents: OnceCell<Agents>,
}

impl<'a> Reader<'a> {
    /// A reader of one database.
    pub(crate) fn new(
        database: &'a DatabaseId,
        targets: &'a [NamedTarget],
        trust: &'a TrustStore,
        state: Option<&'a State>,
    ) -> Self {
        Self { database, targets, trust, state, agents: OnceCell::new() }
    }
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
