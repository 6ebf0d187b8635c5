//! A stand-in for a target that could not be opened (its disk is not mounted, its credentials file is
//! not there), so that one such target does not stop a job that has others.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::model::place::Root;
use crate::targets::wrapper::{Answer, Call, Wrapper};
use crate::targets::{TargetError, TargetErrorKind};

/// Answers every operation with the error that opening it gave.
#[derive(Debug, Clone)]
pub(crate) struct Unopened {
    description: String,
    error: TargetError,
}

impl Unopened {
    /// Stands in for the target that people know as `description`.
    pub(crate) fn new(description: String, error: TargetError) -> Self {
        // A missing directory is a target that is down; as "not found" it would read as if the target
        // were there and an object missing from it.
        let kind = match error.kind {
            TargetErrorKind::NotFound => TargetErrorKind::Unavailable,
            other => other,
        };
        Self { description, error: TargetError { kind, ..error } }
    }
}

#[async_trait]
impl Wrapper for Unopened {
    fn description(&self) -> String {
        self.description.clone()
    }

    fn root_identity(&self) -> Option<Root> {
        None
    }

    async fn call(&self, _: Call<'_>, _: &CancellationToken) -> Result<Answer, TargetError> {
        Err(self.error.clone())
    }
}
