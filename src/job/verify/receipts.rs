//! What the signed receipts of a database say must be where, and what is wrong with the receipts themselves.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::versions::{Standing, standing};
use super::{Damage, VerifyJob};
use crate::error::{Error, ErrorKind, Result};
use crate::model::id::{Sha256, SnapshotId, TargetName};
use crate::repository::agents::Agents;
use crate::repository::chain::{self, Break, Link};
use crate::repository::decision::Chain;
use crate::repository::decision_catalog::Decisions;
use crate::repository::history::{self, Member, Origin};
use crate::repository::layout;
use crate::repository::prune_catalog::Prunes;
use crate::repository::reader::Reader;
use crate::repository::receipt::{ObjectRef, SignedReceipt};
use crate::repository::remembered::Remembered as _;
use crate::repository::signed_record::Depth;
use crate::targets::NamedTarget;
use crate::targets::TargetErrorKind;

/// Receipts that are fetched at the same time.
const PARALLEL: usize = 8;

/// A snapshot with a good receipt somewhere. Objects are numbers: a repository has few objects and many
/// references to them.
#[derive(Debug)]
pub(super) struct Known {
    /// Its place in the chain.
    pub link: Link,
    /// Who wrote it, and under which succession.
    origin: Origin,
    /// When it was finished.
    pub finished_at: Timestamp,
    /// Indexes into [`Gathered::objects`].
    pub objects: Vec<u32>,
    /// Reachable targets that have this very receipt, with a valid signature.
    at: BTreeSet<TargetName>,
    /// Receipt and signature as objects.
    records: [ObjectRef; 2],
}

/// What must be at one target.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    /// Snapshots that must be there.
    pub expected: BTreeSet<SnapshotId>,
    /// Of these, those without a good receipt there.
    pub bad: BTreeSet<SnapshotId>,
    /// Snapshots that it is not known to have received.
    pub behind: u64,
}

/// Everything the receipts say.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Snapshots with a good receipt, here or in the state.
    pub snapshots: BTreeMap<SnapshotId, Known>,
    /// The objects of all of them, each once.
    pub objects: Vec<ObjectRef>,
    /// Receipts that are not as they should be.
    pub damaged: Vec<Damage>,
    /// Targets that do not answer, and why.
    pub unreachable: BTreeMap<TargetName, Error>,
    numbers: BTreeMap<ObjectRef, u32>,
    holdings: BTreeMap<TargetName, Holdings>,
    /// What the agent remembers to have stored where.
    stored: BTreeMap<TargetName, BTreeSet<SnapshotId>>,
    listed: BTreeMap<TargetName, BTreeSet<SnapshotId>>,
    /// What retention has removed.
    prunes: Prunes,
    /// Receipts that are not of the accepted history.
    aside: BTreeSet<Sha256>,
    /// What was decided.
    pub decisions: Decisions,
}

/// Fetches every receipt afresh from every target.
pub(super) async fn gather(job: &VerifyJob, cancel: &CancellationToken) -> Result<Gathered> {
    let mut gathered = Gathered::default();
    if let Some(state) = &job.state {
        for target in &job.targets {
            let stored = state.stored_at(&job.database, &target.name)?.into_iter().collect();
            gathered.stored.insert(target.name.clone(), stored);
        }
    }
    let reader = Reader::new(&job.database, &job.targets, &job.trust, job.state.as_ref());
    let lists = join_all(job.targets.iter().map(|t| reader.list(t, cancel))).await;
    for (target, list) in job.targets.iter().zip(lists) {
        match list {
            Ok(list) => {
                let snapshots = list.into_iter().map(|listed| listed.id).collect();
                gathered.listed.insert(target.name.clone(), snapshots);
            }
            Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
            Err(e) => {
                gathered.unreachable.insert(target.name.clone(), Error::from(e));
            }
        }
    }
    for target in &job.targets {
        gathered.fetch_all(job, &reader, target, cancel).await?;
    }
    gathered.read_prunes(job, cancel).await?;
    gathered.recall(job)?;
    gathered.put_aside(reader.agents(cancel).await?);
    for target in &job.targets {
        gathered.compare(job, target, cancel).await?;
    }
    gathered.numbers = BTreeMap::new();
    Ok(gathered)
}

impl Gathered {
    /// What must be at a target; nothing, where it cannot be reached.
    pub(super) fn holdings(&self, target: &TargetName) -> &Holdings {
        static NOTHING: Holdings = Holdings { expected: BTreeSet::new(), bad: BTreeSet::new(), behind: 0 };
        self.holdings.get(target).unwrap_or(&NOTHING)
    }

    /// The objects that must be at a target, for one snapshot or for all, each once.
    pub(super) fn needed_at(&self, target: &TargetName, wanted: Option<&SnapshotId>) -> Vec<u32> {
        let snapshots = self.holdings(target).expected.iter().filter(|s| wanted.is_none_or(|w| w == *s));
        let needed: BTreeSet<u32> =
            snapshots.filter_map(|s| self.snapshots.get(s)).flat_map(|k| k.objects.iter().copied()).collect();
        needed.into_iter().collect()
    }

    /// What is wrong with the chain, and not known to be. A target that does not answer may hold what is missing elsewhere: then
    /// gaps are no findings, and the snapshots that the agent stored there count as seen.
    pub(super) fn breaks(&self, seen: Option<(u64, Sha256)>) -> Vec<Break> {
        let hidden = |snapshot: &SnapshotId| {
            let mut stored = self.stored.iter().filter(|(target, _)| self.unreachable.contains_key(*target));
            stored.any(|(_, snapshots)| snapshots.contains(snapshot))
        };
        let known = self.snapshots.iter().filter(|(snapshot, k)| !k.at.is_empty() || hidden(snapshot));
        let links: Vec<Link> = known.map(|(_, k)| k.link.clone()).chain(self.prunes.links()).collect();
        let seen = seen.filter(|(_, hash)| !self.aside.contains(hash));
        let mut breaks = chain::check(&links, true, seen);
        if !self.unreachable.is_empty() {
            breaks.retain(|b| !matches!(b, Break::Missing(..)));
        }
        breaks.retain(|b| !self.decisions.know_break(Chain::Receipts, b));
        breaks
    }

    /// Reads afresh what retention has removed: it is not missing.
    async fn read_prunes(&mut self, job: &VerifyJob, cancel: &CancellationToken) -> Result<()> {
        let (database, trust) = (&job.database, &job.trust);
        let reader = Reader::new(database, &job.targets, trust, None);
        let listed: Vec<&NamedTarget> =
            job.targets.iter().filter(|t| self.listed.contains_key(&t.name)).collect();
        self.prunes = reader.prunes(&listed, cancel).await?;
        self.damaged.extend(self.prunes.bad.iter().map(Damage::of));
        self.decisions = reader.records(&listed, cancel).await?;
        self.damaged.extend(self.decisions.bad.iter().map(Damage::of));
        let pruned = self.prunes.snapshots();
        for stored in self.stored.values_mut() {
            stored.retain(|snapshot| !pruned.contains(snapshot));
        }
        for target in &job.targets {
            self.excuse(job, target, &pruned, cancel).await?;
        }
        Ok(())
    }

    /// Takes back what was found of receipts that a prune removed between their being listed and read.
    async fn excuse(
        &mut self,
        job: &VerifyJob,
        target: &NamedTarget,
        pruned: &BTreeSet<SnapshotId>,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let Some(holdings) = self.holdings.get(&target.name) else { return Ok(()) };
        let bad: Vec<SnapshotId> = holdings.bad.intersection(pruned).cloned().collect();
        for snapshot in bad {
            if self.arrived(job, target, &snapshot, cancel).await? {
                continue;
            }
            let key = layout::key(&job.database, &layout::receipt(&snapshot))?.to_string();
            self.damaged.retain(|d| d.target != target.name || d.object != key);
            self.listed.entry(target.name.clone()).or_default().remove(&snapshot);
            self.holdings.entry(target.name.clone()).or_default().bad.remove(&snapshot);
        }
        Ok(())
    }

    async fn fetch_all(
        &mut self,
        job: &VerifyJob,
        reader: &Reader<'_>,
        target: &NamedTarget,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let listed = self.listed.get(&target.name).cloned().unwrap_or_default();
        let mut fetched = stream::iter(listed.into_iter().map(|snapshot| async move {
            let receipt = reader.fetch_from(target, &snapshot, Depth::Newest, cancel).await;
            (snapshot, receipt)
        }))
        .buffered(PARALLEL);
        while let Some((snapshot, receipt)) = fetched.next().await {
            let problem = match receipt {
                Ok(receipt) => self.accept(job, target, &receipt)?,
                Err(e) if e.kind() == ErrorKind::Target => {
                    self.unreachable.insert(target.name.clone(), e);
                    self.listed.remove(&target.name);
                    return Ok(());
                }
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::Internal) => return Err(e),
                Err(_) if reader.agents(cancel).await?.sets_aside(&snapshot) => continue,
                Err(e) => {
                    // Something was written over it, which is damage; the objects that it needs are checked all the same.
                    if let Ok(older) = reader.fetch(target, &snapshot, cancel).await {
                        self.accept(job, target, &older)?;
                    }
                    Some(e.to_string())
                }
            };
            if let Some(problem) = problem {
                self.holdings.entry(target.name.clone()).or_default().bad.insert(snapshot.clone());
                self.damage(job, target, &snapshot, problem)?;
            }
        }
        Ok(())
    }

    /// Adds a receipt with a valid signature, and says how it differs from others of its snapshot. The
    /// agent's own memory decides which of two is the right one, else the first.
    fn accept(
        &mut self,
        job: &VerifyJob,
        target: &NamedTarget,
        signed: &SignedReceipt,
    ) -> Result<Option<String>> {
        let snapshot = &signed.receipt.snapshot;
        if !self.snapshots.contains_key(snapshot) {
            let own = job.state.as_ref().map(|s| s.receipt(&job.database, snapshot)).transpose()?.flatten();
            let known = self.know(own.as_ref().unwrap_or(signed));
            self.snapshots.insert(snapshot.clone(), known);
        }
        let Some(known) = self.snapshots.get_mut(snapshot) else { return Ok(None) };
        if known.link.hash == signed.hash() {
            known.at.insert(target.name.clone());
            return Ok(None);
        }
        let other = match known.at.first() {
            Some(name) => format!("another one is at {name}"),
            None => "this agent wrote another one".to_owned(),
        };
        Ok(Some(format!(
            "two different receipts of {snapshot} are signed ({other}): the agent's signing key may be in other hands"
        )))
    }

    fn know(&mut self, signed: &SignedReceipt) -> Known {
        let receipt = &signed.receipt;
        let mut objects = Vec::with_capacity(receipt.objects.len());
        for object in &receipt.objects {
            let next = self.objects.len() as u32;
            let number = *self.numbers.entry(object.clone()).or_insert(next);
            if number == next {
                self.objects.push(object.clone());
            }
            objects.push(number);
        }
        let record = |key: String, bytes: &[u8]| ObjectRef {
            key,
            sha256: Sha256::of(bytes),
            size: bytes.len() as u64,
        };
        Known {
            link: Link::of(receipt, signed.hash()),
            origin: Origin::of(receipt, signed.signer.clone()),
            finished_at: receipt.finished_at,
            objects,
            at: BTreeSet::new(),
            records: [
                record(layout::receipt(&receipt.snapshot), &signed.bytes),
                record(layout::signature(&receipt.snapshot), signed.signature.as_bytes()),
            ],
        }
    }

    /// Leaves the branches alone that the history did not go on with, and names bad records of who writes.
    fn put_aside(&mut self, agents: &Agents) {
        let member = |k: &Known| Member { link: k.link.clone(), origin: k.origin.clone() };
        let members: Vec<Member> = self.snapshots.values().map(member).collect();
        let links: Vec<Link> = self.prunes.links().collect();
        self.aside = history::resolve_all(&agents.lines(), &members, &links).aside;
        let named = agents.accepted().flat_map(|known| &known.signed.record.set_aside);
        self.aside.extend(named.map(|seen| seen.receipt));
        let aside: BTreeSet<SnapshotId> = self
            .snapshots
            .iter()
            .filter(|(_, known)| self.aside.contains(&known.link.hash))
            .map(|(snapshot, _)| snapshot.clone())
            .collect();
        self.prunes.branches = self.aside.clone();
        self.snapshots.retain(|snapshot, _| !aside.contains(snapshot));
        for snapshots in self.listed.values_mut().chain(self.stored.values_mut()) {
            snapshots.retain(|snapshot| !aside.contains(snapshot) && !agents.sets_aside(snapshot));
        }
        self.damaged.extend(agents.bad.iter().map(Damage::of));
    }

    /// Snapshots that no reachable target has a good receipt of, and that the agent remembers.
    fn recall(&mut self, job: &VerifyJob) -> Result<()> {
        let Some(state) = &job.state else { return Ok(()) };
        let all: BTreeSet<SnapshotId> =
            self.stored.values().chain(self.listed.values()).flatten().cloned().collect();
        for snapshot in all {
            if !self.snapshots.contains_key(&snapshot)
                && let Some(own) = state.receipt(&job.database, &snapshot)?
            {
                let known = self.know(&own);
                self.snapshots.insert(snapshot, known);
            }
        }
        Ok(())
    }

    /// What must be at a reachable target, what of it is missing, and what never arrived.
    async fn compare(
        &mut self,
        job: &VerifyJob,
        target: &NamedTarget,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let Some(listed) = self.listed.get(&target.name).cloned() else { return Ok(()) };
        let stored = self.stored.get(&target.name).cloned().unwrap_or_default();
        let mut holdings = self.holdings.remove(&target.name).unwrap_or_default();
        let known: BTreeSet<SnapshotId> = self.snapshots.keys().chain(&stored).cloned().collect();
        let pruned = self.prunes.snapshots();
        for snapshot in known.difference(&listed).filter(|snapshot| !pruned.contains(*snapshot)) {
            let others: Vec<&str> =
                self.snapshots.get(snapshot).iter().flat_map(|k| &k.at).map(TargetName::as_str).collect();
            let problem = if stored.contains(snapshot) {
                "the receipt is missing, although it was stored here".to_owned()
            } else if job.state.is_some() {
                holdings.behind += 1;
                continue;
            } else {
                let others = others.join(" and ");
                format!("the receipt is missing here, and {others} has it: it was deleted, or never arrived")
            };
            if self.arrived(job, target, snapshot, cancel).await? {
                continue;
            }
            holdings.bad.insert(snapshot.clone());
            self.damage(job, target, snapshot, problem)?;
        }
        holdings.expected = listed.union(&holdings.bad).cloned().collect();
        self.look_at_older_versions(job, target, &holdings.bad, cancel).await?;
        self.holdings.insert(target.name.clone(), holdings);
        Ok(())
    }

    /// Whether the receipt of a snapshot is at a target now.
    async fn arrived(
        &self,
        job: &VerifyJob,
        target: &NamedTarget,
        snapshot: &SnapshotId,
        cancel: &CancellationToken,
    ) -> Result<bool> {
        let key = layout::key(&job.database, &layout::receipt(snapshot))?;
        match target.target.head(&key, cancel).await {
            Err(e) if e.kind == TargetErrorKind::Cancelled => Err(Error::interrupted()),
            found => Ok(matches!(found, Ok(Some(_)))),
        }
    }

    /// Where older versions of a bad receipt and its signature are good, the problem's text says so.
    async fn look_at_older_versions(
        &mut self,
        job: &VerifyJob,
        target: &NamedTarget,
        bad: &BTreeSet<SnapshotId>,
        cancel: &CancellationToken,
    ) -> Result<()> {
        for snapshot in bad {
            let Some(known) = self.snapshots.get(snapshot) else { continue };
            let mut older = false;
            let mut good = true;
            for record in &known.records {
                let key = layout::key(&job.database, &record.key)?;
                match standing(&*target.target, &key, record, cancel).await? {
                    Standing::Newest => {}
                    Standing::Older(_) => older = true,
                    Standing::Nowhere => good = false,
                }
            }
            let key = layout::key(&job.database, &known.records[0].key)?.to_string();
            let here = |d: &&mut Damage| d.target == target.name && d.object == key;
            if good
                && older
                && let Some(damage) = self.damaged.iter_mut().find(here)
            {
                damage.problem.push_str("; an older version is good: somebody deleted or overwrote it");
            }
        }
        Ok(())
    }

    fn damage(
        &mut self,
        job: &VerifyJob,
        target: &NamedTarget,
        snapshot: &SnapshotId,
        problem: String,
    ) -> Result<()> {
        let object = layout::key(&job.database, &layout::receipt(snapshot))?.to_string();
        self.damaged.push(Damage { target: target.name.clone(), object, problem });
        Ok(())
    }
}
