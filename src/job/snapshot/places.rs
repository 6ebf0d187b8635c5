//! Where the copies of a snapshot go: each to a place of its own.

use tokio_util::sync::CancellationToken;

use super::{SnapshotJob, TargetReport};
use crate::error::Result;
use crate::repository::catalog::Catalog;
use crate::repository::place;
use crate::targets::NamedTarget;

/// The targets that a snapshot is sent to.
pub(super) struct Destinations {
    /// They can be reached, and each is another place.
    pub targets: Vec<NamedTarget>,
    /// Those that are left out, and why.
    pub left_out: Vec<TargetReport>,
    /// What people should know of the places.
    pub warnings: Vec<String>,
}

impl SnapshotJob {
    /// Of the targets that can be reached, those that are different places: one place under two names holds one copy, and
    /// must not count as two. New places are marked.
    pub(super) async fn destinations(
        &self,
        catalog: &Catalog,
        (reachable, mut left_out): (Vec<NamedTarget>, Vec<TargetReport>),
        cancel: &CancellationToken,
    ) -> Result<Destinations> {
        let (places, moved) = place::settle(catalog.places.clone(), &reachable, &self.state, cancel).await?;
        let warnings = moved.iter().map(|name| {
            format!(
                "target {name} is another place than before: nothing that was proven there counts any more"
            )
        });
        // The one that must have the snapshot keeps the place.
        let mut names: Vec<_> = reachable.iter().map(|target| &target.name).collect();
        names.sort_by_key(|name| !self.required.contains(*name));
        let twins = places.twins(names);
        left_out.extend(twins.iter().map(|twin| TargetReport {
            name: twin.name.clone(),
            required: self.required.contains(&twin.name),
            level: None,
            error: Some(twin.problem()),
            remedy: Some(twin.remedy()),
            damaged: None,
        }));
        let warnings = warnings.collect();
        let own = |target: &NamedTarget| !twins.iter().any(|twin| twin.name == target.name);
        let targets = reachable.into_iter().filter(own).collect();
        Ok(Destinations { targets, left_out, warnings })
    }
}
