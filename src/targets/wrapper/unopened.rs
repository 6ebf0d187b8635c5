//! A stand-in for a target that could not be opened (its disk is not mounted, its credentials file is
//! not there), so that one such target does not stop a job that has others.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::model::object::{ObjectKey, VersionId};
use crate::targets::{ObjectInfo, ObjectStream, PutOutcome, Target, TargetError, TargetErrorKind, Upload};

/// Answers every operation with the error that opening it gave.
#[derive(Debug, Clone)]
pub struct Unopened {
    description: String,
    error: TargetError,
}

impl Unopened {
    /// Stands in for the target that people know as `description`.
    pub fn new(description: String, error: TargetError) -> Self {
        // A missing directory is a target that is down; as "not found" it would read as if the target
        // were there and an object missing from it.
        let kind = match error.kind {
            TargetErrorKind::NotFound => TargetErrorKind::Unavailable,
            other => other,
        };
        Self { description, error: TargetError { kind, ..error } }
    }

    fn fail<T>(&self) -> Result<T, TargetError> {
        Err(self.error.clone())
    }
}

#[async_trait]
impl Target for Unopened {
    fn describe(&self) -> String {
        self.description.clone()
    }

    async fn put(&self, _: &ObjectKey, _: &Upload, _: &CancellationToken) -> Result<PutOutcome, TargetError> {
        self.fail()
    }

    async fn head(&self, _: &ObjectKey, _: &CancellationToken) -> Result<Option<ObjectInfo>, TargetError> {
        self.fail()
    }

    async fn get(
        &self,
        _: &ObjectKey,
        _: Option<&VersionId>,
        _: &CancellationToken,
    ) -> Result<ObjectStream, TargetError> {
        self.fail()
    }

    async fn list(
        &self,
        _: Option<&ObjectKey>,
        _: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        self.fail()
    }

    async fn versions(&self, _: &ObjectKey, _: &CancellationToken) -> Result<Vec<ObjectInfo>, TargetError> {
        self.fail()
    }

    async fn delete(
        &self,
        _: &ObjectKey,
        _: Option<&VersionId>,
        _: &CancellationToken,
    ) -> Result<(), TargetError> {
        self.fail()
    }
}
