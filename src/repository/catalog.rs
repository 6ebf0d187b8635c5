//! Which snapshots of a database there are, and where: read from the targets, signature by signature.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::keys::{Namespace, Signer, signing};
use crate::model::id::{DatabaseId, Sha256, SnapshotId, TargetName};
use crate::model::object::ObjectKey;
use crate::repository::agents::Agents;
use crate::repository::chain::{self, Break, Link};
use crate::repository::decision::Chain;
use crate::repository::decision_catalog::Decisions;
use crate::repository::layout;
use crate::repository::oddity::{Oddity, Problem};
use crate::repository::place::Places;
use crate::repository::prune_catalog::Prunes;
use crate::repository::reader::{BadRecord, Listed, PARALLEL, Reader};
use crate::repository::receipt::{RECEIPT_LIMIT, Receipt, SignedReceipt, Summary};
use crate::repository::remembered::Remembered as _;
use crate::repository::signed_record::{Depth, SignedBytes, SignedRecord};
use crate::repository::succession::Seen;
use crate::state::noted;
use crate::targets::NamedTarget;
use crate::targets::{TargetError, TargetErrorKind, TargetExt};

/// One snapshot in the catalog: its receipt without the list of objects.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The receipt; `objects` is empty here, [`Catalog::load`] has them.
    pub receipt: Receipt,
    /// Its place in the chain.
    pub link: Link,
    /// Bytes that a restore fetches.
    pub size: u64,
    /// Its signer.
    pub signer: Signer,
    /// The targets where this receipt was found, and no other one under its name.
    pub targets: BTreeSet<TargetName>,
}

/// A receipt with a good signature by a key that is no agent of this chain, as far as the reader's trust reaches.
#[derive(Debug, Clone)]
pub(crate) struct Stranger {
    /// What it says of itself.
    pub receipt: Receipt,
    /// SHA-256 of its bytes.
    pub hash: Sha256,
    /// Its signer.
    pub signer: Signer,
}

/// What the targets hold of one database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    /// Every snapshot of the accepted history with a good receipt on some target, oldest first.
    pub entries: BTreeMap<SnapshotId, Entry>,
    /// Snapshots of branches that the history did not go on with: nothing is done with them unless they are named.
    pub aside: BTreeMap<SnapshotId, Entry>,
    /// Where the history ends, also where no target that can be reached has that receipt; several, where two claim to be the
    /// newest.
    pub heads: Vec<Seen>,
    /// Who wrote all this.
    pub agents: Agents,
    /// Receipts of unknown agents that nothing explains.
    pub strangers: Vec<Stranger>,
    /// Records that failed a check.
    pub bad: Vec<BadRecord>,
    /// The keys of bad receipts by agents of this chain, written where they were agents no more.
    pub superseded: BTreeMap<String, Stranger>,
    /// Receipts and other records that a target lists other than they were written.
    pub oddities: BTreeMap<TargetName, Vec<Oddity>>,
    /// Where the targets are.
    pub places: Places,
    /// Targets that could not be listed.
    pub unreachable: Vec<(TargetName, TargetError)>,
    /// What retention has removed; some of it may still be at targets that have not been pruned since.
    pub prunes: Prunes,
    /// What was decided. What of the problems is known by that is not among them any more.
    pub decisions: Decisions,
    /// Snapshots that a target which can be reached has acknowledged, and that none shows any more, although no prune has
    /// removed them. Only an agent that remembers them knows.
    pub hidden: BTreeMap<SnapshotId, Entry>,
}

impl Reader<'_> {
    /// Lists every target and fetches the receipts that are not known yet.
    pub(crate) async fn read(&self, cancel: &CancellationToken) -> Result<Catalog> {
        let agents = self.agents(cancel).await?;
        let mut catalog = Catalog {
            agents: agents.clone(),
            bad: agents.bad.clone(),
            oddities: agents.oddities.clone(),
            ..Catalog::default()
        };
        let mut known = self.state.map(|s| s.summaries(self.database)).transpose()?.unwrap_or_default();
        // At the same time: a target that does not answer takes its time.
        let lists = join_all(self.targets.iter().map(|target| self.list(target, cancel)));
        let (lists, places) = tokio::join!(lists, self.places(cancel));
        catalog.places = places?.clone();
        for (target, keys) in self.targets.iter().zip(lists) {
            let keys = match keys {
                Ok(keys) => keys,
                Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
                Err(e) => {
                    catalog.unreachable.push((target.name.clone(), e));
                    continue;
                }
            };
            let mut others = Vec::new();
            for listed in keys {
                // Its signature was checked, but who was an agent may be known better now.
                let counts =
                    |seen: &&Summary| agents.check_receipt(&seen.receipt, &seen.signer, self.trust).is_ok();
                let summary = known.get(&listed.id).filter(counts);
                let oddity = listed.oddity(summary.map(|summary| summary.stored));
                let resized = oddity.as_ref().is_some_and(|odd| odd.problem != Problem::Hidden);
                if let Some(oddity) = oddity {
                    catalog.oddities.entry(target.name.clone()).or_default().push(oddity);
                }
                match summary.filter(|_| !resized) {
                    Some(summary) => catalog.add(target, listed.key, summary),
                    None => others.push((listed.id, listed.key, resized)),
                }
            }
            let mut fetched = stream::iter(others.into_iter().map(|(snapshot, key, resized)| async move {
                // Of one that is not what it was, an older version may be.
                let receipt = match resized {
                    true => self.fetch(target, &snapshot, cancel).await,
                    false => self.receipt(target, &snapshot, cancel).await,
                };
                (snapshot, (key, resized), receipt)
            }))
            .buffered(PARALLEL);
            while let Some((snapshot, (key, resized), receipt)) = fetched.next().await {
                match receipt {
                    Ok(receipt) => {
                        let summary = receipt.summary()?;
                        catalog.add(target, key, &summary);
                        if self.state.is_some() {
                            known.insert(snapshot, summary);
                        }
                    }
                    Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                    // A target that stops answering in the middle is away; nothing is wrong with what it holds.
                    Err(e) if e.kind() == ErrorKind::Target => {
                        let e = TargetError::new(TargetErrorKind::Unavailable, "read receipts", e);
                        catalog.unreachable.push((target.name.clone(), e));
                        break;
                    }
                    // A succession says of it that it does not count.
                    Err(_) if agents.sets_aside(&snapshot) => {}
                    // That it is not what was written is said already.
                    Err(_) if resized => {}
                    Err(error) => self.refuse(&mut catalog, target, (snapshot, key), error, cancel).await?,
                }
            }
        }
        let reachable: Vec<&NamedTarget> =
            self.targets.iter().filter(|t| !catalog.is_away(&t.name)).collect();
        catalog.prunes = self.prunes(&reachable, cancel).await?;
        catalog.bad.append(&mut catalog.prunes.bad);
        catalog.decisions = self.records(&reachable, cancel).await?;
        catalog.bad.append(&mut catalog.decisions.bad);
        let Catalog { bad, decisions, .. } = &mut catalog;
        bad.retain(|bad| !decisions.know_damage(&bad.target, &bad.key));
        catalog.gather_oddities(self.database);
        let remembered = self.remembered(&catalog, cancel).await?;
        catalog.resolve(remembered);
        catalog.hidden = self.hidden(&catalog, &known)?;
        Ok(catalog)
    }

    /// Notes a receipt that was refused, and what it says of itself.
    async fn refuse(
        &self,
        catalog: &mut Catalog,
        target: &NamedTarget,
        (snapshot, key): (SnapshotId, ObjectKey),
        error: Error,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let agents = self.agents(cancel).await?;
        match self.stranger(target, &snapshot, cancel).await {
            Some(stranger) if agents.knows(&stranger.signer.fingerprint()) => {
                catalog.superseded.insert(key.to_string(), stranger);
            }
            stranger => catalog.strangers.extend(stranger),
        }
        let error = error.context(format!("receipt of {snapshot} at {}", target.name));
        catalog.bad.push(BadRecord { target: target.name.clone(), key: key.to_string(), error });
        Ok(())
    }

    /// What a receipt says that was refused, if its signature is good.
    async fn stranger(
        &self,
        target: &NamedTarget,
        snapshot: &SnapshotId,
        cancel: &CancellationToken,
    ) -> Option<Stranger> {
        let accept = |signed: &SignedBytes| Receipt::parse(&signed.bytes, self.database, snapshot);
        let record = record_of(self.database, snapshot);
        let (receipt, signed) = record.read(target, Depth::AnyVersion, accept, cancel).await.ok()?;
        Some(Stranger { receipt, hash: Sha256::of(&signed.bytes), signer: signed.signer })
    }

    /// All receipts that one target lists, not checked in any way.
    pub(crate) async fn list(
        &self,
        target: &NamedTarget,
        cancel: &CancellationToken,
    ) -> Result<Vec<Listed<SnapshotId>>, TargetError> {
        self.list_folder(target, "receipts", layout::snapshot_of, cancel).await
    }

    /// One receipt from one target, its signature checked; from the state if it was seen before.
    pub(crate) async fn receipt(
        &self,
        target: &NamedTarget,
        snapshot: &SnapshotId,
        cancel: &CancellationToken,
    ) -> Result<SignedReceipt> {
        if let Some(known) = self.state.map(|s| s.receipt(self.database, snapshot)).transpose()?.flatten() {
            // Its signature was checked, but who was an agent may be known better now.
            let signer = signing::signer_of(known.signature.as_bytes())?;
            self.agents(cancel).await?.check_receipt(&known.receipt, &signer, self.trust)?;
            return Ok(known);
        }
        let receipt = self.fetch(target, snapshot, cancel).await?;
        if let Some(state) = self.state {
            noted(state.remember_receipt(self.database, &receipt));
        }
        Ok(receipt)
    }

    /// One receipt from one target, its signature checked, whatever was seen before; an older version of it, where
    /// somebody has overwritten or deleted the newest.
    pub(crate) async fn fetch(
        &self,
        target: &NamedTarget,
        snapshot: &SnapshotId,
        cancel: &CancellationToken,
    ) -> Result<SignedReceipt> {
        self.fetch_from(target, snapshot, Depth::AnyVersion, cancel).await
    }

    /// The same, looking at the newest version only or at older ones too.
    pub(crate) async fn fetch_from(
        &self,
        target: &NamedTarget,
        snapshot: &SnapshotId,
        depth: Depth,
        cancel: &CancellationToken,
    ) -> Result<SignedReceipt> {
        let agents = self.agents(cancel).await?;
        let accept = |signed: &SignedBytes| {
            let receipt = Receipt::parse(&signed.bytes, self.database, snapshot)?;
            agents.check_receipt(&receipt, &signed.signer, self.trust)?;
            Ok(receipt)
        };
        let record = record_of(self.database, snapshot);
        let (receipt, signed) = record.read(target, depth, accept, cancel).await?;
        Ok(SignedReceipt {
            receipt,
            bytes: signed.bytes.to_vec(),
            signature: String::from_utf8_lossy(&signed.signature).into_owned(),
            signer: signed.signer.fingerprint(),
        })
    }

    /// The receipt of an entry with its objects, from the first target that gives a good one; where none shows it, from the
    /// state.
    pub(crate) async fn load(&self, entry: &Entry, cancel: &CancellationToken) -> Result<SignedReceipt> {
        if entry.targets.is_empty()
            && let Some(state) = self.state
            && let Some(known) = state.receipt(self.database, &entry.receipt.snapshot)?
        {
            return Ok(known);
        }
        let mut last = Error::internal("no target has the receipt");
        for target in self.targets.iter().filter(|t| entry.targets.contains(&t.name)) {
            match self.receipt(target, &entry.receipt.snapshot, cancel).await {
                Ok(receipt) if receipt.hash() == entry.link.hash => return Ok(receipt),
                Ok(_) => {
                    last = Error::verification(format!(
                        "the receipt of {} changed while it was read",
                        entry.receipt.snapshot
                    ))
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}

impl Catalog {
    /// Whether a target could not be listed.
    pub(crate) fn is_away(&self, target: &TargetName) -> bool {
        self.unreachable.iter().any(|(name, _)| name == target)
    }

    /// The newest snapshot at a target.
    pub(crate) fn newest_at(&self, target: &TargetName) -> Option<&Entry> {
        self.entries.values().filter(|e| e.targets.contains(target)).max_by_key(|e| e.receipt.sequence)
    }

    /// Puts what is odd about records of every kind together, without what retention has removed, and what somebody has said that
    /// they know.
    fn gather_oddities(&mut self, database: &DatabaseId) {
        let of_prunes = std::mem::take(&mut self.prunes.oddities);
        let of_decisions = std::mem::take(&mut self.decisions.oddities);
        for (target, mut odd) in of_prunes.into_iter().chain(of_decisions) {
            self.oddities.entry(target).or_default().append(&mut odd);
        }
        let pruned = self.prunes.snapshots();
        let decisions = &self.decisions;
        let stays = |target: &TargetName, odd: &Oddity| {
            let key = odd.key.trim_end_matches(".sig").parse().ok();
            let of = key.and_then(|key| layout::snapshot_of(database, &key));
            of.is_none_or(|of| !pruned.contains(&of)) && !decisions.know_damage(target, &odd.key)
        };
        self.oddities.iter_mut().for_each(|(target, odd)| odd.retain(|odd| stays(target, odd)));
        self.oddities.retain(|_, odd| !odd.is_empty());
    }

    fn add(&mut self, target: &NamedTarget, key: ObjectKey, found: &Summary) {
        let receipt = &found.receipt;
        let entry = self.entries.entry(receipt.snapshot.clone()).or_insert_with(|| Entry::of(found));
        if entry.link.hash == found.hash {
            entry.targets.insert(target.name.clone());
        } else {
            let error =
                Error::verification(format!("two different receipts of {} are signed", entry.link.id))
                    .remedy("Tell the publisher: the agent's signing key may be in other hands.");
            self.bad.push(BadRecord { target: target.name.clone(), key: key.to_string(), error });
        }
    }

    /// What is wrong with the chain, and not known to be. `seen` is the newest receipt that the caller remembers.
    pub(crate) fn breaks(&self, seen: Option<(u64, Sha256)>) -> Vec<Break> {
        let links: Vec<Link> =
            self.entries.values().map(|e| e.link.clone()).chain(self.prunes.links()).collect();
        let mut breaks = chain::check(&links, true, seen.filter(|(_, hash)| !self.is_aside(hash)));
        breaks.retain(|b| !self.decisions.know_break(Chain::Receipts, b));
        breaks
    }

    /// The same, without what may be explained by a target that cannot be reached.
    pub(crate) fn certain_breaks(&self, seen: Option<(u64, Sha256)>) -> Vec<Break> {
        let mut breaks = self.breaks(seen);
        if !self.unreachable.is_empty() {
            breaks.retain(|b| !matches!(b, Break::Missing(..) | Break::Rollback(_)));
        }
        breaks
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> Option<&Entry> {
        self.entries.values().max_by_key(|e| e.receipt.sequence)
    }

    /// The newest snapshot that is signed by this key, also of a branch that was set aside.
    pub(crate) fn newest_of(&self, fingerprint: &str) -> Option<&Entry> {
        let by = |e: &&Entry| e.signer.fingerprint() == fingerprint;
        self.entries.values().chain(self.aside.values()).filter(by).max_by_key(|e| e.receipt.sequence)
    }

    /// A snapshot, also of a branch that was set aside.
    pub(crate) fn find(&self, snapshot: &SnapshotId) -> Option<&Entry> {
        self.entries.get(snapshot).or_else(|| self.aside.get(snapshot))
    }
}

/// The databases that have a receipt at any of these targets.
pub(crate) async fn databases(
    targets: &[NamedTarget],
    cancel: &CancellationToken,
) -> Result<Vec<DatabaseId>> {
    let mut found = BTreeSet::new();
    let mut last: Option<TargetError> = None;
    for target in targets {
        let listed = async {
            let mut pages = target.target.list(None, None, cancel).await?;
            while let Some(page) = pages.try_next().await? {
                found.extend(page.iter().filter_map(|o| layout::database_of(&o.key)));
            }
            Ok(())
        };
        if let Err(e) = listed.await {
            last = Some(e);
        }
    }
    match (found.is_empty(), last) {
        (true, Some(e)) => Err(Error::from(e).with_kind(ErrorKind::Target)),
        (true, None) => {
            let places: Vec<String> = targets.iter().map(|t| t.target.describe()).collect();
            Err(Error::new(ErrorKind::NotFound, format!("there is no snapshot at {}", places.join(", ")))
                .remedy("Check the target's URL and prefix."))
        }
        (false, _) => Ok(found.into_iter().collect()),
    }
}

/// Who signed the newest receipt that has a valid signature, whoever that is: to be confirmed by a person.
pub(crate) async fn any_signer(
    targets: &[NamedTarget],
    database: &DatabaseId,
    cancel: &CancellationToken,
) -> Result<Option<Signer>> {
    let mut last: Option<Error> = None;
    for target in targets {
        let prefix = layout::key(database, "receipts")?;
        let objects = match target.target.list_all(Some(&prefix), cancel).await {
            Ok(objects) => objects,
            Err(e) => {
                last = Some(Error::from(e).with_kind(ErrorKind::Target));
                continue;
            }
        };
        for snapshot in objects.iter().rev().filter_map(|o| layout::snapshot_of(database, &o.key)) {
            let record = record_of(database, &snapshot);
            match record.read(target, Depth::AnyVersion, |_| Ok(()), cancel).await {
                Ok(((), signed)) => return Ok(Some(signed.signer)),
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                Err(e) => last = Some(e),
            }
        }
    }
    last.map_or(Ok(None), Err)
}

/// The receipt of a snapshot, as a signed record.
fn record_of<'a>(database: &'a DatabaseId, snapshot: &SnapshotId) -> SignedRecord<'a> {
    SignedRecord {
        database,
        keys: [layout::receipt(snapshot), layout::signature(snapshot)],
        limit: RECEIPT_LIMIT,
        namespace: Namespace::SnapshotReceipt,
    }
}
