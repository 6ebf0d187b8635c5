//! Deleting everything of a database at one target, in the reverse order of writing, page by page.

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::plan::stays;
use super::report::DeletedAt;
use crate::error::{Error, Result};
use crate::job::tally::Sum;
use crate::model::id::{DatabaseId, DecisionId};
use crate::model::object::ObjectKey;
use crate::repository::part::Part;
use crate::repository::reader::PARALLEL;
use crate::targets::{NamedTarget, ObjectInfo, TargetError, TargetErrorKind};

/// What is deleted one after the other: the folder that is listed, and what of it goes then. A snapshot is gone with its receipt;
/// without its key an epoch cannot be opened, so the key goes last of it.
const STEPS: [(&str, Option<Part>); 8] = [
    ("receipts", Some(Part::Receipt)),
    ("receipts", None),
    ("epochs", Some(Part::Manifest)),
    ("epochs", Some(Part::Pack)),
    ("epochs", None),
    ("drills", None),
    ("claims", None),
    ("", None),
];

/// The work at one target.
pub(super) struct Sweep<'a> {
    pub database: &'a DatabaseId,
    pub target: &'a NamedTarget,
    /// Decisions that stay.
    pub keep: &'a [DecisionId],
    pub cancel: &'a CancellationToken,
}

impl Sweep<'_> {
    /// Does what can be done. An error is the agent's own, or an interruption; that of the target is in the result.
    pub(super) async fn run(&self, done: &mut DeletedAt) -> Result<()> {
        for (folder, part) in STEPS {
            match self.step(folder, part, done).await {
                Ok(()) => {}
                Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
                Err(e) => {
                    done.error = Some(e.to_string());
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn step(&self, folder: &str, part: Option<Part>, done: &mut DeletedAt) -> Result<(), TargetError> {
        let prefix = format!("{}/", self.database);
        let folder: ObjectKey = format!("{prefix}{folder}")
            .trim_end_matches('/')
            .parse()
            .map_err(|e| TargetError::new(TargetErrorKind::Unsupported, format!("list {folder}"), e))?;
        let goes = |object: &ObjectInfo| {
            let relative = object.key.as_str().strip_prefix(&prefix).unwrap_or_default();
            part.is_none_or(|part| part == Part::of(relative)) && !stays(relative, self.keep)
        };
        let mut pages = self.target.target.list(Some(&folder), None, self.cancel).await?;
        // What is refused is met again by the steps after this one, which list all that is left: the last one counts it.
        let is_last = folder.as_str() == prefix.trim_end_matches('/');
        while let Some(page) = pages.try_next().await? {
            let deletions = page.into_iter().filter(goes).map(|object| async move {
                let answer = self.target.target.delete(&object.key, None, self.cancel).await;
                (object.size, answer)
            });
            let deletions: Vec<_> = deletions.collect();
            let mut deleted = stream::iter(deletions).buffer_unordered(PARALLEL);
            while let Some((bytes, answer)) = deleted.next().await {
                let one = Sum { objects: 1, bytes };
                match answer {
                    Ok(()) => done.deleted.add(one),
                    Err(e) if e.kind == TargetErrorKind::Refused && is_last => done.locked.add(one),
                    Err(e) if e.kind == TargetErrorKind::Refused => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }
}
