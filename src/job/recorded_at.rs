//! Where a record was put.

use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::model::id::TargetName;

/// A target, and whether it has the record.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RecordedAt {
    /// The target.
    pub name: TargetName,
    /// Why it does not have it.
    pub error: Option<String>,
}

/// The targets that lack the record, and why; `None` where every target has it.
pub(crate) fn lacking(targets: &[RecordedAt]) -> Option<String> {
    let lacking = targets.iter().filter_map(|at| Some(format!("{}: {}", at.name, at.error.as_ref()?)));
    let lacking: Vec<String> = lacking.collect();
    (!lacking.is_empty()).then(|| lacking.join("; "))
}

/// The error that a command ends with which has written a decision, where a target lacks the record.
pub(crate) fn incomplete(targets: &[RecordedAt]) -> Option<Error> {
    lacking(targets).map(|lacking| {
        Error::new(ErrorKind::Degraded, "the decision is written, but not at every target")
            .cause(lacking)
            .remedy("`marbre sync` puts it there.")
    })
}
