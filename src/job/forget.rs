//! What the agent does about an object that is not what its receipt says.

use crate::error::Result;
use crate::model::id::DatabaseId;
use crate::repository::layout;
use crate::repository::receipt::ObjectRef;
use crate::state::State;

/// Makes the next snapshot send the object's data again. The next snapshot trusts a pack that has the right size. One
/// that is bad anywhere is therefore given up everywhere, although other targets may have it whole.
pub fn lose(state: &State, database: &DatabaseId, object: &ObjectRef) -> Result<()> {
    if object.key.ends_with(&format!("/packs/{}.zst.age", object.sha256)) {
        return state.lose_pack(database, &object.sha256);
    }
    // Objects are never replaced: without its `epoch.age` a target can hold no further snapshot of the
    // epoch, so the next snapshot begins another one.
    match state.epoch(database)? {
        Some(current) if object.key == layout::epoch(&current.epoch) => state.forget_epoch(database),
        _ => Ok(()),
    }
}
