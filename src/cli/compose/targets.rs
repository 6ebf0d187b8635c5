//! Targets: those of the configuration, and those named on the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;

use crate::config::{Config, Database, TargetConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::model::id::TargetName;
use crate::targets::attack::Attack;
use crate::targets::pace::Pace;
use crate::targets::wrapper::impatient::no_answer;
use crate::targets::wrapper::limit::Limit;
use crate::targets::wrapper::lock::Locked;
use crate::targets::{NamedTarget, TargetUrl, registry};

/// Opens the targets of a database, each of which locks the database's objects as the configuration says.
pub(crate) async fn targets(config: &Config, database: &Database) -> Result<Vec<NamedTarget>> {
    // All at a time: one that hangs must not add its time to that of others.
    let opened = join_all(database.targets.iter().map(|name| configured_target(config, name))).await;
    let mut targets = Vec::new();
    for opened in opened {
        let NamedTarget { name, mut target } = opened?;
        if let Some(term) = config.targets.get(&name).and_then(|settings| settings.lock_term(database)) {
            target = Arc::new(Locked::new(target, database.id.clone(), term, Timestamp::now()));
        }
        targets.push(NamedTarget { name, target });
    }
    Ok(targets)
}

/// Opens each of these targets once, to have a glance at what lies there: see [`registry::open_for_a_glance`].
pub(crate) async fn for_a_glance(
    config: &Config,
    names: BTreeSet<&TargetName>,
    patience: Duration,
) -> Result<BTreeMap<TargetName, NamedTarget>> {
    let opened =
        names.into_iter().map(async |name| Ok((name.clone(), at_a_glance(config, name, patience).await?)));
    join_all(opened).await.into_iter().collect()
}

/// The same for one of them.
pub(crate) async fn at_a_glance(
    config: &Config,
    name: &TargetName,
    patience: Duration,
) -> Result<NamedTarget> {
    let opened = registry::open_for_a_glance(&target_url(settings(config, name)?)?, patience).await;
    let target = opened.map_err(|e| e.context(format!("target.{name}")))?;
    Ok(NamedTarget { name: name.clone(), target })
}

fn settings<'a>(config: &'a Config, name: &TargetName) -> Result<&'a TargetConfig> {
    let settings = config.targets.get(name);
    settings.ok_or_else(|| Error::internal(format!("target {name} is not in the configuration")))
}

/// Opens one target of the configuration.
pub(crate) async fn configured_target(config: &Config, name: &TargetName) -> Result<NamedTarget> {
    let settings = settings(config, name)?;
    let open = async {
        let url = target_url(settings)?;
        registry::open_if_up(&url).await
    };
    let mut target = open.await.map_err(|e| e.context(format!("target.{name}")))?;
    if let Some(rate) = settings.bandwidth {
        let (up, down) = paces(name, rate);
        target = Arc::new(Limit::new(target, up, down));
    }
    Ok(NamedTarget { name: name.clone(), target })
}

/// The paces of a target. All jobs of this process share its line, so they share these.
fn paces(name: &TargetName, rate: u64) -> (Pace, Pace) {
    static PACES: Mutex<BTreeMap<(TargetName, u64), (Pace, Pace)>> = Mutex::new(BTreeMap::new());
    // No code panics while it holds the lock.
    let mut paces = PACES.lock().unwrap_or_else(PoisonError::into_inner);
    let made = paces.entry((name.clone(), rate)).or_insert_with(|| (Pace::new(rate), Pace::new(rate)));
    made.clone()
}

/// Opens one target of the configuration for a probe, which it must let happen within `patience`.
pub(crate) async fn attackable_target(
    config: &Config,
    name: &TargetName,
    patience: Duration,
) -> Result<Arc<dyn Attack>> {
    let url = target_url(settings(config, name)?)?;
    let opened = tokio::time::timeout(patience, registry::open_for_attack(&url)).await;
    opened.unwrap_or_else(|_| Err(no_answer(&url.to_string(), patience).into()))
}

/// The URL of a configured target, with what stands beside it.
pub(crate) fn target_url(settings: &TargetConfig) -> Result<TargetUrl> {
    let mut url: TargetUrl = settings.url.parse()?;
    if let Some(file) = &settings.credentials_file {
        match &mut url {
            TargetUrl::S3(location) => location.credentials_file = Some(file.clone()),
            TargetUrl::Directory(_) => {
                return Err(Error::new(ErrorKind::Config, "`credentials_file` is for s3:// targets")
                    .remedy("Take it out: a directory needs no credentials."));
            }
        }
    }
    Ok(url)
}

/// Opens targets that were named on the command line: `URL`, or `NAME=URL` with the name that the provider uses. With
/// `patience`, for a glance.
pub(crate) async fn named_targets(urls: &[String], patience: Option<Duration>) -> Result<Vec<NamedTarget>> {
    let mut targets = Vec::new();
    for (number, text) in urls.iter().enumerate() {
        let named =
            text.split_once('=').and_then(|(name, url)| Some((name.parse::<TargetName>().ok()?, url)));
        let (name, text) = match named {
            Some((name, url)) => (name, url),
            None => {
                let name = format!("from-{}", number + 1);
                let name = name
                    .parse()
                    .map_err(|e| Error::internal("a made-up target name is not valid").cause(e))?;
                (name, text.as_str())
            }
        };
        let url: TargetUrl = from_here(text).parse().map_err(|e: Error| e.with_kind(ErrorKind::Usage))?;
        let target = match patience {
            Some(patience) => registry::open_for_a_glance(&url, patience).await?,
            None => registry::open_if_up(&url).await?,
        };
        targets.push(NamedTarget { name, target });
    }
    Ok(targets)
}

/// On the command line a directory may be named from where one is.
fn from_here(text: &str) -> String {
    match std::path::absolute(text) {
        Ok(path) if !text.contains("://") => path.display().to_string(),
        _ => text.to_owned(),
    }
}
