//! The places where copies are kept, and what is claimed of them.

use std::path::Path;

use toml::de::DeValue;

use super::names::table_name;
use super::secret::credential_path;
use super::{LockConfig, Retention, TargetConfig, forms};
use crate::config::complaint::Complaint;
use crate::config::section::{Family, Section};
use crate::model::id::TargetName;
use crate::model::object_lock::{LockMode, span};
use crate::model::score::Owner;

/// Slower, and a server would take a transfer for one that hangs.
const MIN_BANDWIDTH: u64 = 64 * 1024;

/// `places` holds the name and place of the targets before: two names for one place are one copy.
pub(super) fn read(
    name: &str,
    section: &mut Section<'_>,
    base: &Path,
    places: &mut Vec<(String, String)>,
) -> Option<TargetConfig> {
    let parsed = table_name(name, section);
    let url = section.required("url", "url = \"s3://bucket/prefix\"", forms::target_url);
    if let Some(url) = &url {
        let place = url.strip_prefix("file://").unwrap_or(url);
        let place = place.trim_end_matches('/').to_owned();
        match places.iter().find(|(_, known)| *known == place) {
            Some((other, _)) => section.refuse(
                "url",
                Complaint::new(format!("is also the place of target {other:?}"))
                    .remedy("Use one name for it: two names for one place are still one copy."),
            ),
            None => places.push((name.to_owned(), place)),
        }
    }
    let file = section.optional("credentials_file", forms::secret_path(base));
    let credential = section.optional("credentials", forms::credential_name);
    section.only_one(&["credentials_file", "credentials"]);
    let required = section.optional("required", forms::truth).unwrap_or(false);
    let domain = section.optional("domain", forms::filled_text);
    let owner = section.optional("owner", owner);
    let offsite = section.optional("offsite", forms::truth).unwrap_or(false);
    let bandwidth = section.optional("bandwidth", forms::bandwidth(MIN_BANDWIDTH));
    let lock = lock(section, url.as_deref());
    Some(TargetConfig {
        name: parsed?,
        url: url?,
        credentials_file: file.or_else(|| credential.as_deref().map(credential_path)),
        required,
        domain,
        owner,
        offsite,
        bandwidth,
        lock,
    })
}

fn owner(value: &DeValue<'_>) -> Result<Owner, Complaint> {
    match forms::text(value)?.as_str() {
        "provider" => Ok(Owner::Provider),
        "publisher" => Ok(Owner::Publisher),
        "third-party" => Ok(Owner::ThirdParty),
        other => Err(Complaint::new(format!("there is no owner {other:?}"))
            .accepted("\"provider\", \"publisher\" or \"third-party\"")),
    }
}

fn lock(section: &mut Section<'_>, url: Option<&str>) -> Option<LockConfig> {
    let mode = section.optional("lock", |value| match forms::text(value)?.as_str() {
        "compliance" => Ok(LockMode::Compliance),
        "governance" => Ok(LockMode::Governance),
        other => Err(Complaint::new(format!("there is no lock {other:?}"))
            .accepted("\"compliance\" or \"governance\"")),
    });
    let keep = section.optional("lock_for", forms::duration);
    if mode.is_some() && url.is_some_and(|url| !url.starts_with("s3://")) {
        section.refuse(
            "lock",
            Complaint::new("is for s3:// targets, and this one is a directory")
                .remedy("Remove it: nothing can be locked against the host of a directory."),
        );
    }
    if keep.is_some() && !section.has("lock") {
        section.refuse(
            "lock_for",
            Complaint::new("says for how long, but there is no `lock`")
                .remedy("Add `lock = \"compliance\"` or `lock = \"governance\"`, or remove it."),
        );
    }
    mode.map(|mode| LockConfig { mode, keep })
}

/// Refuses a database whose objects would be locked nobody knows for how long.
pub(super) fn check_locks(
    section: &Section<'_>,
    names: Option<&[TargetName]>,
    targets: &Family<TargetConfig>,
    retention: Option<&Retention>,
) {
    let known = retention.and_then(|retention| span(&retention.policy));
    let silent = |target: &&TargetConfig| target.lock.is_some_and(|lock| lock.keep.is_none());
    let used = |target: &&TargetConfig| names.is_some_and(|names| names.contains(&target.name));
    for target in targets.values.iter().filter(used).filter(silent).filter(|_| known.is_none()) {
        section.refuse(
            "targets",
            Complaint::new(format!(
                "target {:?} locks objects, and nothing says for how long",
                target.name.as_str()
            ))
            .remedy(format!(
                "Say it with `lock_for` in [target.{}], or with rules of retention that are measured in time, for example `keep_daily = 30`.",
                target.name
            )),
        );
    }
}
