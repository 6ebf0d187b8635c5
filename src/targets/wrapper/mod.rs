//! Behaviour that is put around any target. A wrapper sees every call of the contract as one value, so it says only what
//! it changes, and hands on everything else.

pub(crate) mod faulty;
pub(crate) mod impatient;
pub(crate) mod limit;
pub(crate) mod lock;
pub(crate) mod retry;
pub(crate) mod unopened;
pub(crate) mod watch;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::model::object::{ObjectKey, VersionId};
use crate::model::place::Root;
use crate::targets::{
    ObjectInfo, ObjectPages, ObjectStream, PutOutcome, Target, TargetError, TargetErrorKind, Upload,
};

/// A call of the contract, with its arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call<'a> {
    /// [`Target::put`].
    Put { key: &'a ObjectKey, upload: &'a Upload },
    /// [`Target::head`].
    Head { key: &'a ObjectKey },
    /// [`Target::get`].
    Get { key: &'a ObjectKey, version: Option<&'a VersionId> },
    /// [`Target::list`].
    List { prefix: Option<&'a ObjectKey>, after: Option<&'a ObjectKey> },
    /// [`Target::versions`].
    Versions { key: &'a ObjectKey },
    /// [`Target::delete`].
    Delete { key: &'a ObjectKey, version: Option<&'a VersionId> },
}

/// What a call of the same name returns.
pub(crate) enum Answer {
    /// Of [`Target::put`].
    Put(PutOutcome),
    /// Of [`Target::head`].
    Head(Option<ObjectInfo>),
    /// Of [`Target::get`].
    Get(ObjectStream),
    /// Of [`Target::list`].
    List(ObjectPages),
    /// Of [`Target::versions`].
    Versions(Vec<ObjectInfo>),
    /// Of [`Target::delete`].
    Delete,
}

impl Call<'_> {
    /// Makes the call.
    pub(crate) async fn run<T: Target + ?Sized>(
        self,
        target: &T,
        cancel: &CancellationToken,
    ) -> Result<Answer, TargetError> {
        Ok(match self {
            Self::Put { key, upload } => Answer::Put(target.put(key, upload, cancel).await?),
            Self::Head { key } => Answer::Head(target.head(key, cancel).await?),
            Self::Get { key, version } => Answer::Get(target.get(key, version, cancel).await?),
            Self::List { prefix, after } => Answer::List(target.list(prefix, after, cancel).await?),
            Self::Versions { key } => Answer::Versions(target.versions(key, cancel).await?),
            Self::Delete { key, version } => {
                target.delete(key, version, cancel).await?;
                Answer::Delete
            }
        })
    }

    /// The key, or the prefix of a list.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Put { key, .. }
            | Self::Head { key }
            | Self::Get { key, .. }
            | Self::Versions { key }
            | Self::Delete { key, .. } => key.as_str(),
            Self::List { prefix, .. } => prefix.map_or("", ObjectKey::as_str),
        }
    }
}

impl Answer {
    /// The same with its stream changed, where it is one.
    pub(crate) fn map_stream(self, change: impl FnOnce(ObjectStream) -> ObjectStream) -> Self {
        match self {
            Self::Get(stream) => Self::Get(change(stream)),
            other => other,
        }
    }
}

/// Something that answers calls as a target: mostly by handing them on to another one. Every wrapper is a [`Target`].
#[async_trait]
pub(crate) trait Wrapper: Send + Sync + fmt::Debug {
    /// As [`Target::describe`].
    fn description(&self) -> String;

    /// As [`Target::root`].
    fn root_identity(&self) -> Option<Root>;

    /// Answers a call, with the answer that belongs to it.
    async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError>;
}

#[async_trait]
impl<W: Wrapper> Target for W {
    fn describe(&self) -> String {
        self.description()
    }

    fn root(&self) -> Option<Root> {
        self.root_identity()
    }

    async fn put(
        &self,
        key: &ObjectKey,
        upload: &Upload,
        cancel: &CancellationToken,
    ) -> Result<PutOutcome, TargetError> {
        match self.call(Call::Put { key, upload }, cancel).await? {
            Answer::Put(outcome) => Ok(outcome),
            _ => Err(mismatch("put")),
        }
    }

    async fn head(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Option<ObjectInfo>, TargetError> {
        match self.call(Call::Head { key }, cancel).await? {
            Answer::Head(found) => Ok(found),
            _ => Err(mismatch("look up")),
        }
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<ObjectStream, TargetError> {
        match self.call(Call::Get { key, version }, cancel).await? {
            Answer::Get(stream) => Ok(stream),
            _ => Err(mismatch("get")),
        }
    }

    async fn list(
        &self,
        prefix: Option<&ObjectKey>,
        after: Option<&ObjectKey>,
        cancel: &CancellationToken,
    ) -> Result<ObjectPages, TargetError> {
        match self.call(Call::List { prefix, after }, cancel).await? {
            Answer::List(pages) => Ok(pages),
            _ => Err(mismatch("list")),
        }
    }

    async fn versions(
        &self,
        key: &ObjectKey,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectInfo>, TargetError> {
        match self.call(Call::Versions { key }, cancel).await? {
            Answer::Versions(found) => Ok(found),
            _ => Err(mismatch("list versions")),
        }
    }

    async fn delete(
        &self,
        key: &ObjectKey,
        version: Option<&VersionId>,
        cancel: &CancellationToken,
    ) -> Result<(), TargetError> {
        match self.call(Call::Delete { key, version }, cancel).await? {
            Answer::Delete => Ok(()),
            _ => Err(mismatch("delete")),
        }
    }
}

/// A mistake in a wrapper. Trying again would not mend it.
fn mismatch(operation: &str) -> TargetError {
    TargetError::new(TargetErrorKind::Unsupported, operation, "a wrapper gave the answer of another call")
}

/// A target that several hold, so that a wrapper can be put around one that is in use.
#[async_trait]
impl<T: Target + ?Sized> Wrapper for Arc<T> {
    fn description(&self) -> String {
        (**self).describe()
    }

    fn root_identity(&self) -> Option<Root> {
        (**self).root()
    }

    async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError> {
        call.run(&**self, cancel).await
    }
}
