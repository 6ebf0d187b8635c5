//! Opens the target that a URL names: the one place that knows every adapter.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::attack::Attack;
use super::directory::DirectoryTarget;
use super::s3::proxy::Proxy;
use super::s3::{S3Target, S3Timeouts};
use super::url::TargetUrl;
use super::wrapper::impatient::{Impatient, no_answer};
use super::wrapper::retry::{Retry, RetryPolicy};
use super::wrapper::unopened::Unopened;
use super::{Target, TargetError, TargetErrorKind};
use crate::error::Result;

/// Opens a target as production uses it: the adapter that the URL names, with retries around it.
/// Changes nothing at the target, and does not speak to an S3 server yet.
pub async fn open(url: &TargetUrl) -> Result<Arc<dyn Target>> {
    Ok(open_adapter(url, RetryPolicy::default()).await?)
}

/// Like [`open`], for jobs that may have other targets: where this one is down (its disk is not mounted,
/// its credentials are not there), every operation on it fails with what opening it gave. Only a target
/// that can never work is an error here.
pub(crate) async fn open_if_up(url: &TargetUrl) -> Result<Arc<dyn Target>> {
    or_unopened(url, open_adapter(url, RetryPolicy::default()).await)
}

/// Like [`open_if_up`], for a glance: a target that is silent for longer than `patience`, or cannot be reached at the second
/// attempt, is given up, and from then on counts as down.
pub(crate) async fn open_for_a_glance(url: &TargetUrl, patience: Duration) -> Result<Arc<dyn Target>> {
    let opened = timeout(patience, open_adapter(url, RetryPolicy::once_more())).await;
    let opened = opened.unwrap_or_else(|_| Err(no_answer(&url.to_string(), patience)));
    Ok(Arc::new(Impatient::new(or_unopened(url, opened)?, patience)))
}

fn or_unopened(url: &TargetUrl, opened: Result<Arc<dyn Target>, TargetError>) -> Result<Arc<dyn Target>> {
    match opened {
        Ok(target) => Ok(target),
        Err(e) if e.kind == TargetErrorKind::Unsupported => Err(e.into()),
        Err(e) => Ok(Arc::new(Unopened::new(url.to_string(), e))),
    }
}

/// Opens a target for a probe, which tries to break it: the adapter itself, without retries.
pub(crate) async fn open_for_attack(url: &TargetUrl) -> Result<Arc<dyn Attack>> {
    Ok(match url {
        TargetUrl::Directory(path) => Arc::new(DirectoryTarget::open(path).await?),
        TargetUrl::S3(location) => Arc::new(S3Target::open(location, S3Timeouts::default()).await?),
    })
}

/// By which proxy a target is reached, and which variable of the environment says so; for people.
pub(crate) fn proxy(url: &TargetUrl) -> Option<(String, &'static str)> {
    match url {
        TargetUrl::Directory(_) => None,
        TargetUrl::S3(location) => {
            let proxy = Proxy::from_environment(location)?;
            Some((proxy.address(), proxy.variable))
        }
    }
}

async fn open_adapter(url: &TargetUrl, policy: RetryPolicy) -> Result<Arc<dyn Target>, TargetError> {
    Ok(match url {
        TargetUrl::Directory(path) => Arc::new(Retry::new(DirectoryTarget::open(path).await?, policy)),
        TargetUrl::S3(location) => {
            Arc::new(Retry::new(S3Target::open(location, S3Timeouts::default()).await?, policy))
        }
    })
}
