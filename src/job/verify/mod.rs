//! Reading back everything that the targets hold, and comparing it with the signed receipts.

mod objects;
mod receipts;
#[cfg(test)]
mod tests;
pub(crate) mod versions;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use futures_util::future::try_join_all;
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::job::resend;
use crate::job::stopwatch::Stopwatch;
use crate::keys::TrustStore;
use crate::model::human;
use crate::model::id::{DatabaseId, SnapshotId, TargetName};
use crate::model::level::{By, Level};
use crate::model::observer::LoadObserver as _;
use crate::model::observer::Observer;
use crate::model::stage::Stage;
use crate::repository::chain::Break;
use crate::repository::decision::Chain;
use crate::repository::decision_catalog::Decisions;
use crate::repository::reader::{BadRecord, Reader};
use crate::state::State;
use crate::targets::{NamedTarget, TargetErrorKind};
use objects::{Findings, ReadBack};
use receipts::Gathered;

/// Everything a verification needs. No key: receipts and hashes are enough.
pub(crate) struct VerifyJob {
    /// The database.
    pub database: DatabaseId,
    /// Where its copies are.
    pub targets: Vec<NamedTarget>,
    /// Whose receipts count.
    pub trust: TrustStore,
    /// What the agent remembers: what must be where. A publisher has none.
    pub state: Option<State>,
    /// Read back only the objects of this snapshot. Receipts and their chain are always checked whole.
    pub snapshot: Option<SnapshotId>,
}

/// What was found, as `verify --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct VerifyReport {
    /// Snapshots whose objects were looked for.
    pub snapshots: u64,
    /// Objects read back to their end, over all targets; receipts do not count.
    pub objects: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Everything that is not as a signed receipt says.
    pub damaged: Vec<Damage>,
    /// Of the same, what somebody has said is known: it is no reason to fail.
    pub known: Vec<Damage>,
    /// What is wrong with the chain of receipts.
    pub chain: Vec<String>,
    /// Every target.
    pub targets: Vec<VerifiedTarget>,
    /// How long it took.
    pub seconds: f64,
}

/// Something at a target that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Damage {
    /// The target.
    pub target: TargetName,
    /// The full key of the object or receipt.
    pub object: String,
    /// What is wrong: a fragment.
    pub problem: String,
}

impl Damage {
    /// A record that cannot be used.
    pub(crate) fn of(bad: &BadRecord) -> Self {
        Self { target: bad.target.clone(), object: bad.key.clone(), problem: bad.error.to_string() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.object, self.target, self.problem)
    }
}

/// How one target did.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct VerifiedTarget {
    /// The target.
    pub name: TargetName,
    /// Snapshots that must be there (of those asked for).
    pub snapshots: u64,
    /// Of these, how many are intact: receipt and every object.
    pub intact: u64,
    /// Snapshots that other targets have, and that this one is not known to have received.
    pub behind: u64,
    /// Objects read back to their end.
    pub objects: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Why it could not be looked at, or not to the end.
    pub error: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
}

impl VerifyReport {
    /// The reports of two databases as one.
    #[must_use]
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.snapshots += other.snapshots;
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.damaged.extend(other.damaged);
        self.known.extend(other.known);
        self.chain.extend(other.chain);
        self.seconds += other.seconds;
        for target in other.targets {
            match self.targets.iter_mut().find(|t| t.name == target.name) {
                Some(known) => {
                    known.snapshots += target.snapshots;
                    known.intact += target.intact;
                    known.behind += target.behind;
                    known.objects += target.objects;
                    known.bytes += target.bytes;
                    known.error = known.error.take().or(target.error);
                    known.remedy = known.remedy.take().or(target.remedy);
                }
                None => self.targets.push(target),
            }
        }
        self
    }

    /// The error that the command ends with, unless everything was looked at and is good.
    pub(crate) fn error(&self) -> Option<Error> {
        if !self.damaged.is_empty() || !self.chain.is_empty() {
            return Some(self.damage_error());
        }
        let failed: Vec<&VerifiedTarget> = self.targets.iter().filter(|t| t.error.is_some()).collect();
        if let Some(first) = failed.first() {
            let names: Vec<&str> = failed.iter().map(|t| t.name.as_str()).collect();
            let causes: Vec<&str> = failed.iter().filter_map(|t| t.error.as_deref()).collect();
            let message = format!("{} could not be verified", names.join(", "));
            let error = Error::new(ErrorKind::Target, message).cause(causes.join("; "));
            return Some(error.remedy(first.remedy.clone().unwrap_or_default()));
        }
        // Nothing was looked at: that is no evidence of anything good.
        if self.snapshots == 0 {
            let what = "there is no such snapshot at any target, so nothing was verified";
            return Some(Error::new(ErrorKind::NotFound, what).remedy(
                "`marbre list` shows which snapshots there are; check the targets and the database's name.",
            ));
        }
        let behind = self.targets.iter().filter(|t| t.behind > 0);
        let behind: Vec<String> = behind.map(|t| format!("{} lacks {}", t.name, t.behind)).collect();
        (!behind.is_empty()).then(|| {
            let what = "what is there is intact, but not every target has all snapshots";
            Error::new(ErrorKind::Degraded, what).cause(behind.join("; ")).remedy(
                "`marbre sync` copies them from another target. If the target once had them, find out who or what removed them.",
            )
        })
    }

    fn damage_error(&self) -> Error {
        let damage = self.damaged.iter().map(Damage::to_string);
        let causes: Vec<String> = damage.chain(self.chain.iter().cloned()).collect();
        let what = match causes.len() {
            1 => "1 problem was found".to_owned(),
            n => format!("{n} problems were found"),
        };
        Error::verification(what).cause(human::first_few(&causes, 3)).remedy(
            "Find out who or what changed the target. `marbre restore` takes good copies from another target, `marbre sync \
             --heal` puts them in the place of bad ones, and `marbre snapshot` sends lost data again. What cannot be mended, \
             `marbre accept DB` names.",
        )
    }
}

impl VerifyJob {
    /// Checks everything. An error means that it could not be done at all; what was found is in the report.
    pub(crate) async fn run(
        self,
        observer: Arc<dyn Observer>,
        cancel: &CancellationToken,
    ) -> Result<VerifyReport> {
        let watch = Arc::new(Stopwatch::new(observer));
        watch.stage(Stage::Receipts);
        // Before any target is listed: a snapshot that is being taken meanwhile is not a lost one.
        let seen = self.state.as_ref().map(|s| s.head(&self.database)).transpose()?.flatten();
        let gathered = Arc::new(receipts::gather(&self, cancel).await?);
        let chain = gathered.breaks(seen.map(|h| (h.sequence, h.hash)));
        watch.stage(Stage::Objects);
        let work: Vec<(&NamedTarget, Vec<u32>)> =
            self.targets.iter().map(|t| (t, gathered.needed_at(&t.name, self.snapshot.as_ref()))).collect();
        let bytes =
            |numbers: &Vec<u32>| numbers.iter().map(|n| gathered.objects[*n as usize].size).sum::<u64>();
        watch.expect(work.iter().map(|(_, numbers)| bytes(numbers)).sum());
        let mut findings = try_join_all(work.into_iter().map(|(target, numbers)| {
            let read_back = ReadBack {
                database: self.database.clone(),
                target: target.clone(),
                gathered: gathered.clone(),
                observer: watch.clone(),
            };
            read_back.run(numbers, cancel)
        }))
        .await?;
        for (target, found) in self.targets.iter().zip(&mut findings) {
            self.look_again(target, &gathered, found, cancel).await?;
        }
        let mut report = VerifyReport {
            snapshots: gathered.snapshots.keys().filter(|s| self.in_scope(s)).count() as u64,
            objects: findings.iter().map(|f| f.objects).sum(),
            bytes: findings.iter().map(|f| f.bytes).sum(),
            damaged: gathered.damaged.clone(),
            known: Vec::new(),
            chain: chain.iter().map(Break::to_string).collect(),
            targets: Vec::new(),
            seconds: 0.0,
        };
        for (target, found) in self.targets.iter().zip(&findings) {
            report.damaged.extend(found.damaged.iter().map(|(_, d)| d.clone()));
            report.targets.push(self.weigh(target, &gathered, found));
            // What was found must be told also where a full disk keeps it from being noted.
            if let Err(e) = self.note(target, &gathered, found) {
                watch.warn(&format!("what was found at {} could not be noted: {e}", target.name));
            }
        }
        self.drills(&mut report, &gathered.decisions, cancel).await?;
        let known = |d: &Damage| gathered.decisions.know_damage(&d.target, &d.object);
        (report.known, report.damaged) = std::mem::take(&mut report.damaged).into_iter().partition(known);
        report.seconds = watch.read().1;
        Ok(report)
    }

    /// What a prune has deleted since the receipts were listed is no damage. Only its signed record explains that a receipt
    /// is gone; otherwise what that receipt names must still be there.
    async fn look_again(
        &self,
        target: &NamedTarget,
        gathered: &Gathered,
        found: &mut Findings,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let expected = &gathered.holdings(&target.name).expected;
        if expected.is_empty() {
            return Ok(());
        }
        let (database, targets, trust) = (&self.database, &self.targets[..], &self.trust);
        let reader = Reader::new(database, targets, trust, None);
        let listed: BTreeSet<SnapshotId> = match reader.list(target, cancel).await {
            Ok(listed) => listed.into_iter().map(|listed| listed.id).collect(),
            Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
            // What was found stands.
            Err(_) => return Ok(()),
        };
        let pruned = reader.prunes(&[target], cancel).await?.snapshots();
        found.pruned =
            expected.iter().filter(|s| !listed.contains(s) && pruned.contains(s)).cloned().collect();
        let stays = expected.iter().filter(|s| !found.pruned.contains(s));
        let named: BTreeSet<u32> =
            stays.filter_map(|s| gathered.snapshots.get(s)).flat_map(|k| k.objects.iter().copied()).collect();
        found.damaged.retain(|(number, _)| named.contains(number));
        Ok(())
    }

    /// The receipts of drills, fetched afresh, and their chains.
    async fn drills(
        &self,
        report: &mut VerifyReport,
        decisions: &Decisions,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let (database, targets, trust) = (&self.database, &self.targets[..], &self.trust);
        let drills = Reader::new(database, targets, trust, None).drills(cancel).await?;
        report.damaged.extend(drills.bad.iter().map(Damage::of));
        for by in [By::Agent, By::Owner] {
            let seen = self.state.as_ref().map(|s| s.drill_head(database, by)).transpose()?.flatten();
            let mut breaks = drills.breaks(by, seen);
            breaks.retain(|b| !decisions.know_break(Chain::of_drills(by), b));
            report.chain.extend(breaks.iter().map(|b| format!("drills of the {}: {b}", by.word())));
        }
        Ok(())
    }

    fn in_scope(&self, snapshot: &SnapshotId) -> bool {
        self.snapshot.as_ref().is_none_or(|wanted| wanted == snapshot)
    }

    /// Whether each snapshot that this target should have is intact there, and those of which it is not known.
    fn judged<'a>(
        target: &NamedTarget,
        gathered: &'a Gathered,
        found: &'a Findings,
    ) -> impl Iterator<Item = (&'a SnapshotId, Option<bool>)> {
        let broken: BTreeSet<u32> = found.damaged.iter().map(|(number, _)| *number).collect();
        let holdings = gathered.holdings(&target.name);
        holdings.expected.iter().filter(move |snapshot| !found.pruned.contains(*snapshot)).map(
            move |snapshot| {
                let needed = gathered.snapshots.get(snapshot).map(|k| &k.objects);
                let bad = holdings.bad.contains(snapshot)
                    || needed.is_some_and(|n| n.iter().any(|number| broken.contains(number)));
                let good = needed.is_some_and(|n| n.iter().all(|number| found.good.contains(number)));
                (snapshot, if bad { Some(false) } else { good.then_some(true) })
            },
        )
    }

    /// Remembers the conclusions for one target.
    fn note(&self, target: &NamedTarget, gathered: &Gathered, found: &Findings) -> Result<()> {
        for (snapshot, intact) in Self::judged(target, gathered, found) {
            match intact {
                Some(false) => self.disprove(snapshot, &target.name)?,
                Some(true) if self.in_scope(snapshot) => self.prove(snapshot, &target.name, gathered)?,
                _ => {}
            }
        }
        for (number, _) in &found.damaged {
            if let Some(state) = &self.state {
                resend::mark(state, &self.database, &gathered.objects[*number as usize])?;
            }
        }
        Ok(())
    }

    /// Draws the conclusions for one target.
    fn weigh(&self, target: &NamedTarget, gathered: &Gathered, found: &Findings) -> VerifiedTarget {
        let in_scope: Vec<_> =
            Self::judged(target, gathered, found).filter(|(s, _)| self.in_scope(s)).collect();
        let holdings = gathered.holdings(&target.name);
        let error = gathered.unreachable.get(&target.name).or(found.error.as_ref());
        VerifiedTarget {
            name: target.name.clone(),
            snapshots: in_scope.len() as u64,
            intact: in_scope.iter().filter(|(_, intact)| *intact == Some(true)).count() as u64,
            behind: holdings.behind,
            objects: found.objects,
            bytes: found.bytes,
            error: error.map(Error::to_string),
            remedy: error.and_then(|e| e.remedy_text().map(str::to_owned)),
        }
    }

    fn prove(&self, snapshot: &SnapshotId, target: &TargetName, gathered: &Gathered) -> Result<()> {
        let Some(state) = &self.state else { return Ok(()) };
        // A state that was lost learns again what must be where.
        if let Some(known) = gathered.snapshots.get(snapshot)
            && state.levels(&self.database, snapshot, target)?.stored.is_none()
        {
            state.prove(&self.database, snapshot, target, Level::Stored, known.finished_at)?;
        }
        state.prove(&self.database, snapshot, target, Level::Intact, Timestamp::now())
    }

    fn disprove(&self, snapshot: &SnapshotId, target: &TargetName) -> Result<()> {
        match &self.state {
            Some(state) => state.disprove(&self.database, snapshot, target, Timestamp::now()),
            None => Ok(()),
        }
    }
}
