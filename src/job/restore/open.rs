//! Opening a snapshot: receipt, epoch, manifest, each checked before it is used.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Origin, Result, ResultExt};
use crate::keys::{EpochKey, RestoreKey};
use crate::model::id::{DatabaseId, SnapshotId, TargetName};
use crate::model::observer::Observer;
use crate::model::stream::Contents;
use crate::pack::pack_reader::open_small;
use crate::repository::catalog::{Catalog, Entry};
use crate::repository::layout;
use crate::repository::manifest::{FORMAT, MANIFEST_LIMIT, Manifest};
use crate::repository::reader::{BadRecord, Reader};
use crate::repository::receipt::{ObjectRef, Receipt, SignedReceipt};
use crate::repository::succession::Seen;
use crate::state::State;
use crate::targets::NamedTarget;
use crate::targets::{Expected, Fetched, TargetExt};

/// Which snapshot is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The newest.
    Latest,
    /// The newest by the agent with this fingerprint.
    LatestOf(String),
    /// This one.
    Snapshot(SnapshotId),
}

/// Fetches objects, from whichever target has a good copy.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    /// The database.
    pub database: DatabaseId,
    /// The targets, in the order in which they are tried.
    pub targets: Vec<NamedTarget>,
    /// Remembers which version of an object is ours: that one is read, whatever was written over it. Without a
    /// state the newest is read first, and older ones if it is not good.
    pub state: Option<State>,
}

impl Fetcher {
    /// The bytes of a small object, which is fetched to `scratch` unless it is already there, and removed.
    async fn small(
        &self,
        object: &ObjectRef,
        scratch: &Path,
        observer: &dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<Vec<u8>> {
        let path = scratch.join(object.sha256.to_string());
        if !path.exists() {
            self.fetch(object, &path, observer, cancel).await?;
        }
        let bytes = tokio::fs::read(&path).await;
        let _ = tokio::fs::remove_file(&path).await;
        bytes.or_internal(format!("read {}", path.display()))
    }

    /// Fetches one object into a file; a target that lacks it or has a damaged copy is skipped, and that is
    /// reported. Says where only an older version was good.
    pub(crate) async fn fetch(
        &self,
        object: &ObjectRef,
        path: &Path,
        observer: &dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<Fetched> {
        let key = layout::key(&self.database, &object.key)?;
        let mut failures: Vec<(TargetName, Error)> = Vec::new();
        for target in &self.targets {
            let version = self.state.as_ref().map(|s| s.version(&target.name, &key)).transpose()?.flatten();
            let expected = Expected { version, size: object.size, sha256: object.sha256 };
            match target.target.fetch_to_file(&key, &expected, path, cancel).await {
                Ok(fetched) => {
                    if let Some(version) = &fetched.instead {
                        observer.warn(&format!(
                            "{key} is damaged or deleted at {}: its older version {} is good and was used",
                            target.name, version.0
                        ));
                    }
                    for (name, e) in &failures {
                        observer.warn(&format!("{e}: {name} was skipped, {} has a good copy", target.name));
                    }
                    return Ok(fetched);
                }
                Err(e) => {
                    let e = Error::from(e);
                    if e.kind() == ErrorKind::Interrupted {
                        return Err(e);
                    }
                    failures.push((target.name.clone(), e));
                }
            }
        }
        Err(no_good_copy(&key.to_string(), failures))
    }
}

/// Damage and absence weigh more than a target that does not answer.
fn no_good_copy(key: &str, failures: Vec<(TargetName, Error)>) -> Error {
    let kinds: Vec<ErrorKind> = failures.iter().map(|(_, e)| e.kind()).collect();
    let kind = if kinds.iter().any(|k| matches!(k, ErrorKind::Verification | ErrorKind::NotFound)) {
        ErrorKind::Verification
    } else {
        ErrorKind::Target
    };
    let causes: Vec<String> = failures.iter().map(|(name, e)| format!("{name}: {e}")).collect();
    Error::new(kind, format!("no target has a good copy of {key}")).cause(causes.join("; ")).remedy(
        "Name another target with `--from`, or restore another snapshot: `marbre list` shows them, `marbre verify` says which are intact.",
    )
}

/// What opens an epoch.
pub(crate) enum Opener<'a> {
    /// The owner's key, which opens `epoch.age`.
    Owner(&'a RestoreKey),
    /// The epoch's own key, if the agent still keeps it.
    Epoch(EpochKey),
}

impl Opener<'_> {
    fn open(self, sealed: &[u8], receipt: &Receipt) -> Result<EpochKey> {
        match self {
            Self::Owner(key) => EpochKey::open(sealed, key, &receipt.recipients),
            Self::Epoch(key) => Ok(key),
        }
    }
}

/// An opened snapshot.
#[derive(Debug)]
pub(crate) struct OpenSnapshot {
    /// Its signed receipt.
    pub receipt: SignedReceipt,
    /// Its manifest.
    pub manifest: Arc<Manifest>,
    /// The part of the manifest that engines use.
    pub contents: Contents,
    /// The key of its epoch.
    pub key: EpochKey,
    /// Where its objects come from.
    pub fetcher: Fetcher,
}

/// Chooses the wanted entry, and warns about problems of the catalog.
pub(crate) fn choose<'a>(
    catalog: &'a Catalog,
    wanted: &Wanted,
    database: &DatabaseId,
    observer: &dyn Observer,
) -> Result<&'a Entry> {
    for (name, e) in &catalog.unreachable {
        observer.warn(&format!("target {name} is not used: {e}"));
    }
    let entry = match wanted {
        Wanted::Latest => {
            catalog.require_one_head(database)?;
            catalog.newest()
        }
        Wanted::LatestOf(agent) => {
            let by_agent =
                |head: &&Seen| catalog.find(&head.snapshot).is_some_and(|e| e.signer.fingerprint() == *agent);
            // One agent may have written two itself: from a clone of its host, or from an old state.
            if catalog.heads.iter().filter(by_agent).count() > 1 {
                catalog.require_one_head(database)?;
            }
            catalog.newest_of(agent)
        }
        Wanted::Snapshot(id) => catalog.find(id),
    };
    let Some(entry) = entry else {
        return Err(not_there(catalog, wanted, database));
    };
    if *wanted == Wanted::Latest
        && let Some(bad) = newer_than(&entry.receipt.snapshot, catalog, database)
    {
        // Where another agent has taken over, that is what there is to say.
        if let Some(successor) = catalog.agents.bad.iter().find(|bad| bad.error.kind() == ErrorKind::Key) {
            return Err(successor.error.clone());
        }
        return Err(bad.error.clone().remedy(format!(
            "The newest good snapshot is older: `marbre restore {}` takes it. Find out first what happened to this one.",
            entry.receipt.snapshot
        )));
    }
    for bad in &catalog.bad {
        observer.warn(&format!("{} at {} is ignored: {}", bad.key, bad.target, bad.error));
    }
    for problem in catalog.breaks(None) {
        observer.warn(&format!("the chain of receipts is incomplete: {problem}"));
    }
    Ok(entry)
}

/// An unusable receipt of a snapshot after this one (or of the same second, when names do not tell the order):
/// a request for the newest snapshot must not silently yield an older one.
fn newer_than<'a>(newest: &SnapshotId, catalog: &'a Catalog, database: &DatabaseId) -> Option<&'a BadRecord> {
    // What an agent wrote after its succession is no newer state of this history.
    catalog.bad.iter().filter(|bad| !catalog.superseded.contains_key(&bad.key)).find(|bad| {
        let snapshot = bad.key.parse().ok().and_then(|key| layout::snapshot_of(database, &key));
        snapshot.is_some_and(|s| second(&s) >= second(newest) && s != *newest)
    })
}

/// The part of a snapshot's name that says when it was.
fn second(snapshot: &SnapshotId) -> &str {
    snapshot.as_str().split_once('-').map_or(snapshot.as_str(), |(time, _)| time)
}

fn not_there(catalog: &Catalog, wanted: &Wanted, database: &DatabaseId) -> Error {
    let meant = |key: &str| match wanted {
        Wanted::Latest | Wanted::LatestOf(_) => true,
        Wanted::Snapshot(id) => key.contains(id.as_str()),
    };
    if let Some(bad) = catalog.bad.iter().find(|b| meant(&b.key)) {
        return bad.error.clone();
    }
    if let Some((name, e)) = catalog.unreachable.first() {
        let e = Error::from(e.clone()).with_kind(ErrorKind::Target).origin(Origin::Target(name.to_string()));
        return e.context(format!("target {name}"));
    }
    let known: Vec<&str> = catalog.entries.keys().rev().take(3).map(SnapshotId::as_str).collect();
    match wanted {
        Wanted::Latest => Error::new(ErrorKind::NotFound, format!("there is no snapshot of {database} here"))
            .remedy(
                "Check the target's URL and prefix, and the name of the database (`publisher/database`).",
            ),
        Wanted::LatestOf(agent) => {
            Error::new(ErrorKind::NotFound, format!("there is no snapshot of {database} by {agent} here"))
                .remedy("`marbre show SNAPSHOT` says who signed it.")
        }
        Wanted::Snapshot(id) => {
            Error::new(ErrorKind::NotFound, format!("there is no snapshot {id} of {database} here"))
                .remedy(format!("`marbre list` shows what there is; the newest are {}.", known.join(", ")))
        }
    }
}

impl OpenSnapshot {
    /// Opens the snapshot of a receipt. `scratch` is a private folder: what it contains under its hash was fetched and
    /// checked before, and is used.
    pub(crate) async fn open(
        receipt: SignedReceipt,
        fetcher: Fetcher,
        opener: Opener<'_>,
        scratch: &Path,
        observer: &dyn Observer,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let content = &receipt.receipt;
        let epoch = needed(content, &layout::epoch(&content.epoch))?;
        let sealed = fetcher.small(&epoch, scratch, observer, cancel).await?;
        let key = opener.open(&sealed, content)?;
        let manifest = needed(content, &layout::manifest(&content.epoch, &content.snapshot))?;
        let sealed = fetcher.small(&manifest, scratch, observer, cancel).await?;
        let json = open_small(&sealed, key.identity(), MANIFEST_LIMIT).map_err(|e| {
            Error::verification(format!(
                "the manifest of {} cannot be decrypted with the key of its epoch",
                content.snapshot
            ))
            .cause(e)
        })?;
        let manifest = parse(&json, content)?;
        let contents = manifest.contents()?;
        Ok(Self { receipt, manifest: Arc::new(manifest), contents, key, fetcher })
    }
}

impl Fetcher {
    /// Fetches from all targets. Those that have this receipt come first, but the others may still have some of
    /// its objects.
    pub(crate) fn of(reader: &Reader<'_>, entry: &Entry) -> Self {
        Self {
            database: reader.database.clone(),
            targets: by_presence(reader.targets, entry),
            state: reader.state.cloned(),
        }
    }
}

fn by_presence(targets: &[NamedTarget], entry: &Entry) -> Vec<NamedTarget> {
    let (mut first, second): (Vec<_>, Vec<_>) =
        targets.iter().cloned().partition(|t| entry.targets.contains(&t.name));
    first.extend(second);
    first
}

fn needed(receipt: &Receipt, key: &str) -> Result<ObjectRef> {
    receipt.object(key).cloned().ok_or_else(|| {
        Error::verification(format!("the receipt of {} does not name {key}", receipt.snapshot))
    })
}

fn parse(json: &[u8], receipt: &Receipt) -> Result<Manifest> {
    let snapshot = &receipt.snapshot;
    let wrong = |what: String| Error::verification(format!("the manifest of {snapshot}: {what}"));
    let format: Format = serde_json::from_slice(json).map_err(|e| wrong(format!("it is not JSON: {e}")))?;
    if format.format > FORMAT {
        return Err(Error::preflight(format!(
            "the manifest of {snapshot} has format {}, but this marbre reads up to {FORMAT}",
            format.format
        ))
        .remedy("Use a newer version of marbre."));
    }
    let manifest: Manifest =
        serde_json::from_slice(json).map_err(|e| wrong(format!("it does not follow its format: {e}")))?;
    let place = (&manifest.publisher, &manifest.database, &manifest.snapshot, &manifest.epoch);
    if place != (&receipt.publisher, &receipt.database, snapshot, &receipt.epoch) {
        return Err(wrong("it belongs to another snapshot".to_owned()));
    }
    for pack in &manifest.packs {
        let object = receipt.object(&layout::pack(&receipt.epoch, &pack.sha256));
        if object.is_none_or(|o| o.sha256 != pack.sha256 || o.size != pack.size) {
            return Err(wrong(format!("it needs a pack {} that the receipt does not name", pack.sha256)));
        }
    }
    manifest.check().map_err(|e| wrong(e.to_string()))?;
    Ok(manifest)
}

#[derive(serde::Deserialize)]
struct Format {
    format: u32,
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use bytes::Bytes;

    use super::*;
    use crate::model::id::Sha256;
    use crate::model::object::VersionId;
    use crate::model::observer::LoadObserver;
    use crate::model::stage::Stage;
    use crate::targets::memory::MemoryTarget;
    use crate::targets::{Target, Upload};

    /// Collects warnings.
    #[derive(Default)]
    struct Warnings(Mutex<Vec<String>>);

    impl LoadObserver for Warnings {
        fn stage(&self, _: Stage) {}
        fn bytes(&self, _: u64) {}
    }

    impl Observer for Warnings {
        fn expect(&self, _: u64) {}
        fn moves(&self) {}
        fn warn(&self, message: &str) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_owned());
        }
    }

    #[tokio::test]
    async fn the_version_that_is_ours_is_read_whatever_lies_over_it() {
        let folder = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let database: DatabaseId = "gazette/abonnes".parse().unwrap();
        let body = Bytes::from_static(b"ours");
        let object =
            ObjectRef { key: "epochs/x".to_owned(), sha256: Sha256::of(&body), size: body.len() as u64 };
        let key = layout::key(&database, &object.key).unwrap();
        let target = Arc::new(MemoryTarget::versioned());
        target.put(&key, &Upload::memory(body.clone()), &cancel).await.unwrap();
        target.tamper(&key, Some(Bytes::from_static(b"evil")));
        let name: TargetName = "bucket".parse().unwrap();
        let state = State::open(&folder.path().join("state")).unwrap();
        state.remember_version(&name, &key, &VersionId("1".to_owned())).unwrap();
        let path = folder.path().join("fetched");
        for (state, warnings) in [(Some(state), 0), (None, 1)] {
            let targets = vec![NamedTarget { name: name.clone(), target: target.clone() }];
            let fetcher = Fetcher { database: database.clone(), targets, state };
            let heard = Warnings::default();
            fetcher.fetch(&object, &path, &heard, &cancel).await.unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"ours");
            assert_eq!(heard.0.lock().unwrap().len(), warnings);
        }
    }
}
