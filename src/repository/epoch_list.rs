//! What a target lists of an epoch, held against what a snapshot of it needs.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use crate::repository::oddity::{Oddity, Problem};
use crate::repository::reader::Reader;
use crate::repository::receipt::Receipt;
use crate::targets::{NamedTarget, TargetError};

/// What a list of an epoch shows.
#[derive(Debug, Default)]
pub(crate) struct Inspected {
    /// Objects that the snapshot needs.
    pub needed: Vec<Oddity>,
    /// Objects of others: who hides those is as much of a concern.
    pub others: Vec<Oddity>,
}

impl Reader<'_> {
    /// Compares what a target lists of an epoch with what a snapshot of it needs. One list, whatever the number of snapshots.
    pub(crate) async fn inspect(
        &self,
        target: &NamedTarget,
        receipt: &Receipt,
        cancel: &CancellationToken,
    ) -> Result<Inspected, TargetError> {
        let prefix = self.folder(&format!("epochs/{}", receipt.epoch))?;
        let key = |relative: &str| format!("{}/{relative}", self.database);
        let mut needed: HashMap<String, u64> =
            receipt.objects.iter().map(|object| (key(&object.key), object.size)).collect();
        let mut found = Inspected::default();
        let mut pages = target.target.list(Some(&prefix), None, cancel).await?;
        while let Some(page) = pages.try_next().await? {
            for object in page {
                let expected = needed.remove(object.key.as_str());
                let odd = Oddity::of(&object.key, object.size, object.hidden, expected);
                if expected.is_some() { &mut found.needed } else { &mut found.others }.extend(odd);
            }
        }
        let mut missing: Vec<String> = needed.into_keys().collect();
        missing.sort();
        found.needed.extend(missing.into_iter().map(|key| Oddity { key, problem: Problem::Missing }));
        Ok(found)
    }
}
