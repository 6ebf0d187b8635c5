//! Records that cannot be used.

use crate::error::Error;
use crate::model::id::TargetName;

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
