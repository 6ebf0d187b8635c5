//! The agents of a database, one after the other, followed as far as the reader's trust reaches.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::keys::allowed_signers::AGENT;
use crate::keys::{Namespace, Signer, TrustStore};
use crate::model::id::{SnapshotId, TargetName};
use crate::repository::bad_record::BadRecord;
use crate::repository::history::{self, Line, Origin, Reign};
use crate::repository::oddity::Oddity;
use crate::repository::receipt::Receipt;
use crate::repository::signed_record::Signed;
use crate::repository::succession::{Action, Succession};

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct KnownSuccession {
    /// The record.
    pub signed: Signed<Succession>,
    /// The targets that have it.
    pub targets: BTreeSet<TargetName>,
}

/// The agents of a database.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agents {
    /// Every record that is signed by the keys that it names, by number. Not all of them are accepted.
    pub records: Vec<KnownSuccession>,
    /// Records that failed a check, and those whose new agent is not trusted.
    pub bad: Vec<BadRecord>,
    /// Records that a target lists under delete markers.
    pub oddities: BTreeMap<TargetName, Vec<Oddity>>,
    /// The highest number that is taken at some target, whatever lies there.
    pub highest: u64,
    /// The accepted history, as indexes of `records`; several, where it cannot be told which one goes on.
    lines: Vec<Vec<usize>>,
}

impl Agents {
    /// Adds a record that was found at a target, or is remembered.
    pub(crate) fn add(&mut self, signed: Signed<Succession>, target: Option<&TargetName>) {
        let hash = signed.hash();
        self.highest = self.highest.max(signed.record.number);
        let at = match self.records.iter().position(|known| known.signed.hash() == hash) {
            Some(at) => at,
            None => {
                let number = signed.record.number;
                let at = self.records.partition_point(|known| known.signed.record.number <= number);
                self.records.insert(at, KnownSuccession { signed, targets: BTreeSet::new() });
                at
            }
        };
        self.records[at].targets.extend(target.cloned());
    }

    /// Follows the records as far as trust reaches. The newest record whose new agent the reader trusts itself comes first:
    /// a person has confirmed that key. From there on only rotations count, since the agent that is trusted signed them, and
    /// of two that go on from one place the one that came first: what a key signs after its succession does not count.
    pub(crate) fn resolve(&mut self, trust: &TrustStore) {
        let mut anchors: Vec<Vec<usize>> = Vec::new();
        for at in 0..self.records.len() {
            let record = &self.records[at].signed.record;
            let trusted = record
                .to
                .signer()
                .is_ok_and(|to| trust.check(&to, AGENT, Namespace::Succession, record.decided_at).is_ok());
            let Some(path) = self.path(at).filter(|_| trusted) else { continue };
            // What one agent says twice is no conflict: then the later word counts.
            let beats = |one: &[usize], other: &[usize]| match (self.end(one), self.end(other)) {
                (Some(one), Some(other)) if one.number == other.number => {
                    one.to == other.to && one.decided_at > other.decided_at
                }
                (one, other) => one.map(|r| r.number) > other.map(|r| r.number),
            };
            if !anchors.iter().any(|other| beats(other, &path)) {
                anchors.retain(|other| !beats(&path, other));
                anchors.push(path);
            }
        }
        if anchors.is_empty() {
            anchors.push(Vec::new());
        }
        self.lines = Vec::new();
        while let Some(line) = anchors.pop() {
            let next = self.rotations(&line, trust);
            if next.is_empty() {
                self.lines.push(line);
            } else {
                anchors.extend(next.into_iter().map(|at| line.iter().copied().chain([at]).collect()));
            }
        }
    }

    fn end(&self, line: &[usize]) -> Option<&Succession> {
        line.last().map(|at| &self.records[*at].signed.record)
    }

    /// The records from the first to this one; nothing, where one between is not known or does not fit.
    fn path(&self, at: usize) -> Option<Vec<usize>> {
        let mut path = vec![at];
        let mut record = &self.records[at].signed.record;
        while let Some(previous) = record.previous {
            let before = self.records.iter().position(|known| known.signed.hash() == previous)?;
            let earlier = &self.records[before].signed.record;
            if earlier.number >= record.number || earlier.to != record.from {
                return None;
            }
            path.push(before);
            record = earlier;
        }
        path.reverse();
        Some(path)
    }

    /// The first rotations that go on from the end of a line; several, where two bear one number.
    fn rotations(&self, line: &[usize], trust: &TrustStore) -> Vec<usize> {
        let last = line.last().map(|at| &self.records[*at].signed);
        let follows = |record: &Succession| match last {
            Some(last) => record.previous == Some(last.hash()) && record.from == last.record.to,
            None => {
                let (namespace, at) = (Namespace::Succession, record.decided_at);
                let from = record.from.signer();
                record.previous.is_none()
                    && from.is_ok_and(|from| trust.check(&from, AGENT, namespace, at).is_ok())
            }
        };
        let next: Vec<usize> = (0..self.records.len())
            .filter(|at| {
                let record = &self.records[*at].signed.record;
                record.action == Action::Rotate && follows(record)
            })
            .collect();
        let number = |at: &usize| self.records[*at].signed.record.number;
        let first = next.iter().map(number).min();
        next.into_iter().filter(|at| Some(number(at)) == first).collect()
    }

    /// The accepted history; several, where it cannot be told which one goes on. Never none.
    pub(crate) fn lines(&self) -> Vec<Line<'_>> {
        let record = |at: &usize| &self.records[*at].signed.record;
        match self.lines.is_empty() {
            true => vec![Line::new()],
            false => self.lines.iter().map(|line| line.iter().map(record).collect()).collect(),
        }
    }

    /// The records of the accepted history.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = &KnownSuccession> {
        let accepted: BTreeSet<usize> = self.lines.iter().flatten().copied().collect();
        accepted.into_iter().map(|at| &self.records[at])
    }

    /// The others.
    pub(crate) fn unaccepted(&self) -> impl Iterator<Item = &KnownSuccession> {
        let accepted: BTreeSet<usize> = self.lines.iter().flatten().copied().collect();
        self.records.iter().enumerate().filter(move |(at, _)| !accepted.contains(at)).map(|(_, known)| known)
    }

    /// The record of another agent that may have the chain, as far as the reader knows: it is not accepted, and no later one
    /// overrules it.
    pub(crate) fn rival(&self) -> Option<&KnownSuccession> {
        let newest = self.accepted().map(|known| known.signed.record.number).max().unwrap_or(0);
        let last = self.last().map(|last| &last.record.to);
        let rivals = self.unaccepted().filter(|known| known.signed.record.number >= newest.max(1));
        rivals.filter(|known| Some(&known.signed.record.to) != last).last()
    }

    /// Whether a record of the accepted history says of this receipt that it does not count.
    pub(crate) fn sets_aside(&self, snapshot: &SnapshotId) -> bool {
        self.accepted().any(|known| known.signed.record.sets_aside(snapshot))
    }

    /// The last record of the accepted history, unless there are several ends.
    pub(crate) fn last(&self) -> Option<&Signed<Succession>> {
        match &self.lines[..] {
            [line] => line.last().map(|at| &self.records[*at].signed),
            _ => None,
        }
    }

    /// Whether it cannot be told which of several records goes on.
    pub(crate) fn in_doubt(&self) -> bool {
        self.lines.len() > 1
    }

    /// Whether this key was an agent of the accepted history at some time.
    pub(crate) fn knows(&self, fingerprint: &str) -> bool {
        self.lines()
            .iter()
            .any(|line| Reign::all(line).iter().any(|reign| reign.agent() == Some(fingerprint)))
    }

    /// Fails unless a receipt counts: by the agent of the succession that it names, within what that agent wrote.
    pub(crate) fn check_receipt(&self, receipt: &Receipt, signer: &Signer, trust: &TrustStore) -> Result<()> {
        let origin = Origin::of(receipt, signer.fingerprint());
        let namespace = Namespace::SnapshotReceipt;
        let check = |line: &Line<'_>| {
            history::check(line, &origin)?;
            self.check_key(line, signer, namespace, receipt.finished_at, trust)
        };
        self.any_line(check)
    }

    /// Fails unless an agent signed another record while it was one.
    pub(crate) fn check_record(
        &self,
        signer: &Signer,
        namespace: Namespace,
        at: Timestamp,
        trust: &TrustStore,
    ) -> Result<()> {
        let fingerprint = signer.fingerprint();
        self.any_line(|line| {
            let reigns = Reign::all(line);
            let own: Vec<&Reign<'_>> =
                reigns.iter().filter(|r| r.agent().is_none_or(|agent| agent == fingerprint)).collect();
            let ended = |reign: &&&Reign<'_>| reign.ended.is_none_or(|end| at <= end.decided_at);
            match (own.iter().find(ended), own.last()) {
                (Some(_), _) => self.check_key(line, signer, namespace, at, trust),
                (None, Some(_)) => Err(Error::verification(format!(
                    "its agent {fingerprint} was succeeded by another before {at}"
                ))
                .remedy("Stop the old agent: what it signs after its succession does not count.")),
                (None, None) => trust.check(signer, AGENT, namespace, at).and_then(|()| {
                    Err(Error::key(format!("signed by {fingerprint}, which is no agent of this chain")))
                }),
            }
        })
    }

    /// A key that successions name is trusted with them, unless the reader says until when it was; without any, the reader
    /// decides.
    fn check_key(
        &self,
        line: &Line<'_>,
        signer: &Signer,
        namespace: Namespace,
        at: Timestamp,
        trust: &TrustStore,
    ) -> Result<()> {
        match line.is_empty() || trust.forbids(signer, namespace, at) {
            true => trust.check(signer, AGENT, namespace, at),
            false => Ok(()),
        }
    }

    fn any_line(&self, check: impl Fn(&Line<'_>) -> Result<()>) -> Result<()> {
        let mut last = Err(Error::internal("a database without a history"));
        for line in self.lines() {
            last = check(&line);
            if last.is_ok() {
                break;
            }
        }
        last
    }
}

impl Origin {
    /// What a receipt says, and who signed it.
    pub(crate) fn of(receipt: &Receipt, signer: String) -> Self {
        Self {
            succession: receipt.succession,
            sequence: receipt.sequence,
            finished_at: receipt.finished_at,
            signer,
        }
    }
}
