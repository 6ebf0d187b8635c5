//! What has been proven of a snapshot at a target.

use crate::error::Result;
use crate::model::id::{SnapshotId, TargetName};
use crate::model::level::Levels;
use crate::repository::catalog::Catalog;
use crate::repository::drill_catalog::DrillCatalog;
use crate::repository::reader::Reader;

impl Reader<'_> {
    /// The levels of one snapshot at one target. `stored` is what the target shows: a signed receipt, written last.
    pub(crate) fn levels(
        &self,
        catalog: &Catalog,
        drills: &DrillCatalog,
        snapshot: &SnapshotId,
        target: &TargetName,
    ) -> Result<Levels> {
        let mut levels = match self.state {
            Some(state) => state.levels(self.database, snapshot, target)?,
            None => Levels::default(),
        };
        let unreachable = catalog.is_away(target);
        if !unreachable {
            let here = catalog.find(snapshot).filter(|e| e.targets.contains(target));
            // What was proven of a snapshot that is not there any more does not count.
            let Some(here) = here else {
                return Ok(Levels { damaged: levels.damaged, ..Levels::default() });
            };
            levels.stored = Some(here.receipt.finished_at);
        }
        drills.raise(&mut levels, snapshot, target);
        Ok(levels)
    }
}
