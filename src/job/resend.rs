//! Sending damaged data again: what the agent does about an object that is not what its receipt says.

use crate::error::Result;
use crate::model::id::DatabaseId;
use crate::repository::layout;
use crate::repository::receipt::ObjectRef;
use crate::state::State;

/// Makes the next snapshot upload the object's data again. Snapshots rely on a pack that has the right size, so one that
/// is bad at one target is uploaded again to all of them, although others may have it intact.
pub(crate) fn mark(state: &State, database: &DatabaseId, object: &ObjectRef) -> Result<()> {
    if object.key.ends_with(&format!("/packs/{}.zst.age", object.sha256)) {
        return state.lose_pack(database, &object.sha256);
    }
    // Objects are never replaced: without a good `epoch.age` a target can hold no further snapshot of the
    // epoch, so the next snapshot begins a new one.
    match state.epoch(database)? {
        Some(current) if object.key == layout::epoch(&current.epoch) => state.forget_epoch(database),
        _ => Ok(()),
    }
}
