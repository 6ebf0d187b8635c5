//! What is wrong with a database, as its receipts, its targets and its drills show it now.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Origin};
use crate::health::status::{DatabaseStatus, Promises, TargetStatus};
use crate::job::anomaly::{self, Anomaly};
use crate::model::age::{Age, TOLERANCE};
use crate::model::condition::{Condition, ConditionKind, Severity};
use crate::model::drill_stage::DrillStage;
use crate::model::human;
use crate::model::id::TargetName;
use crate::model::level::By;
use crate::model::loss;
use crate::repository::catalog::Catalog;
use crate::repository::chain::Break;
use crate::repository::decision::Chain;
use crate::repository::drill_catalog::{DrillCatalog, DrillProof};
use crate::repository::oddity::{self, Oddity, Problem};
use crate::repository::place::Twin;
use crate::repository::reader::BadRecord;

const LATE_REMEDY: &str = "Run `marbre snapshot` now and read what it says; look at `journalctl -u marbre`.";
const AHEAD_REMEDY: &str = "Check the clocks (`timedatectl`) of this host, of the host that took the snapshot and of its source, then run `marbre snapshot`.";
const DAMAGED_REMEDY: &str = "Find out who or what changed the target. `marbre verify` reads everything back; `marbre snapshot` sends lost data again.";
const HIDDEN_REMEDY: &str = "Find out who has deleted objects there, and with which credentials. They are not gone: remove the delete markers, or restore from the versions below them, as marbre does. `marbre verify` says more.";
const TELL_PUBLISHER: &str = "Tell the publisher. Keep the targets as they are, and find out who or what has written there: `marbre verify` says more.";

/// One database: what was read, and what was agreed.
pub(crate) struct Observation<'a> {
    pub status: &'a DatabaseStatus,
    pub catalog: &'a Catalog,
    pub drills: &'a DrillCatalog,
    /// By target, what is listed other than signed records say.
    pub oddities: &'a BTreeMap<TargetName, Vec<Oddity>>,
    /// Targets that are the place of another one.
    pub twins: &'a [Twin],
    pub promises: Promises,
    pub breaks: &'a [Break],
    pub now: Timestamp,
}

impl Observation<'_> {
    /// Everything that is wrong.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let mut found: Vec<Condition> = self.freshness().into_iter().collect();
        found.extend(self.order());
        found.extend(self.catalog.unreachable.iter().map(|(name, e)| {
            let what = e.to_string();
            let summary = format!("Target {name} cannot be reached: {}.", what.trim_end_matches(['.', '?']));
            self.critical(ConditionKind::TargetFailing, summary)
                .object(name)
                .error(e)
                .origin(Some(Origin::Target(name.to_string())))
                .remedy(e.remedy())
                .with(Severity::Warning)
        }));
        found.extend(self.twins.iter().map(|twin| self.same_place(twin)));
        found.extend(self.oddities.iter().filter_map(|(name, odd)| self.damaged(name, odd)));
        found.extend(self.status.targets.iter().filter_map(|target| self.behind(target)));
        found.extend(self.untrusted(self.catalog.bad.iter()));
        found.extend(self.proof());
        found.extend(self.last_drill());
        found.extend(self.key_proof());
        found.extend(self.odd());
        let decisions = &self.catalog.decisions;
        let unknown = |bad: &&BadRecord| !decisions.know_damage(&bad.target, &bad.key);
        found.extend(self.untrusted(self.drills.bad.iter().filter(unknown)));
        for by in [By::Agent, By::Owner] {
            let breaks = self.drills.breaks(by, None).into_iter();
            let unknown = breaks.filter(|b| !decisions.know_break(Chain::of_drills(by), b));
            found.extend(unknown.map(|b| self.broken("drills", &b)));
        }
        let doubt = self.catalog.require_one_head(&self.status.id()).err();
        // Two receipts of one place are why there are two heads: once is enough.
        let told = |b: &&Break| doubt.is_some() && matches!(b, Break::Fork(..));
        found.extend(self.breaks.iter().filter(|b| !told(b)).map(|b| self.broken("receipts", b)));
        found.extend(doubt.map(|e| self.doubtful(&e)));
        found
    }

    fn critical(&self, kind: ConditionKind, summary: String) -> Condition {
        Condition::new(kind, Severity::Critical, summary).of(&self.status.id())
    }

    fn freshness(&self) -> Option<Condition> {
        let reachable = self.catalog.unreachable.is_empty();
        if let Some(ahead) = self.status.ahead_seconds {
            let summary = format!(
                "The newest snapshot is dated {} in the future: nobody knows how old it is, so it counts as late.",
                span(ahead)
            );
            return Some(self.critical(ConditionKind::SnapshotLate, summary).remedy(AHEAD_REMEDY));
        }
        let summary = match (self.status.age_seconds, self.status.rpo_seconds) {
            (None, _) if reachable => "There is no snapshot yet.".to_owned(),
            (None, _) => "There is no snapshot at any target that can be reached.".to_owned(),
            (Some(age), Some(rpo)) if self.status.late => {
                let (age, rpo) = (span(age.unsigned_abs()), span(rpo));
                format!("The newest snapshot is {age} old, and may be {rpo} old at most.")
            }
            _ => return None,
        };
        let origin = self.away().filter(|_| self.status.age_seconds.is_none());
        let due = self.status.first_due_at.filter(|_| self.status.snapshot.is_none());
        let mut found =
            self.critical(ConditionKind::SnapshotLate, summary).origin(origin).due(due).remedy(LATE_REMEDY);
        found.targets = self.status.targets.iter().map(|t| (t.name.clone(), newest(t))).collect();
        Some(found)
    }

    /// The newest snapshot of the chain is the one that counts: where another one is dated later, a clock was wrong.
    fn order(&self) -> Option<Condition> {
        let newest = &self.catalog.newest()?.receipt;
        let later = self.catalog.entries.values().map(|e| &e.receipt).max_by_key(|r| r.consistent_at)?;
        let off = later.consistent_at.duration_since(newest.consistent_at);
        if later.sequence >= newest.sequence || off <= TOLERANCE {
            return None;
        }
        let summary = format!(
            "Snapshot {} (number {}) is dated {} after {} (number {}), which follows it: a clock was wrong.",
            later.snapshot,
            later.sequence,
            span(off.as_secs().unsigned_abs()),
            newest.snapshot,
            newest.sequence
        );
        let found = self.critical(ConditionKind::ClockSkew, summary).object("order");
        let remedy = "The chain decides which one is the newest. Check the time service of every host that takes snapshots or is the source of one.";
        Some(found.with(Severity::Warning).remedy(remedy))
    }

    fn same_place(&self, twin: &Twin) -> Condition {
        let summary = format!("Target {}: {}.", twin.name, twin.problem());
        self.critical(ConditionKind::SamePlace, summary).object(&twin.name).remedy(twin.remedy())
    }

    fn damaged(&self, name: &TargetName, odd: &[Oddity]) -> Option<Condition> {
        let found = oddity::describe(odd)?;
        let summary = format!("Target {name} does not list what was stored there. Objects: {found}.");
        let hidden = odd.iter().any(|odd| odd.problem == Problem::Hidden);
        let remedy = if hidden { HIDDEN_REMEDY } else { DAMAGED_REMEDY };
        Some(self.critical(ConditionKind::TargetDamaged, summary).object(name).remedy(remedy))
    }

    fn behind(&self, target: &TargetStatus) -> Option<Condition> {
        let behind = target.behind.filter(|n| *n > 0)?;
        let pruned = self.catalog.prunes.snapshots();
        let total = self.catalog.entries.keys().filter(|snapshot| !pruned.contains(*snapshot)).count();
        let newest = if target.snapshot == self.status.snapshot { "" } else { ", among them the newest" };
        let since = target.behind_seconds.map(|age| format!(" (the oldest is {} old)", span(age)));
        let since = since.unwrap_or_default();
        let summary = format!("Target {} lacks {behind} of {total} snapshots{newest}{since}.", target.name);
        let found = self.critical(ConditionKind::TargetBehind, summary).object(&target.name);
        Some(
            found.with(Severity::Warning).remedy(
                "`marbre sync` copies them from another target, without a key and without a new dump.",
            ),
        )
    }

    /// The target that cannot be reached: what no other one shows may be there.
    fn away(&self) -> Option<Origin> {
        self.catalog.unreachable.first().map(|(name, _)| Origin::Target(name.to_string()))
    }

    fn proof(&self) -> Option<Condition> {
        let every = self.status.drill_every_seconds?;
        let proofs = self.status.targets.iter().filter_map(|t| t.restored.as_ref());
        let summary = match self.newest_age(proofs) {
            None => "No drill has proven a snapshot yet.".to_owned(),
            Some(Age::Ahead(ahead)) => format!(
                "The newest proof by a drill is dated {} in the future: nobody knows how old it is.",
                span(ahead)
            ),
            Some(Age::Past(age)) if age > every => {
                let (age, every) = (span(age), span(every));
                format!("The newest proof by a drill is {age} old, and may be {every} old at most.")
            }
            Some(Age::Past(_)) => return None,
        };
        let remedy = "Run `marbre drill` now, and read what it says.";
        let found = self.critical(ConditionKind::DrillOverdue, summary).due(self.first_proof_due(every));
        Some(found.with(Severity::Warning).origin(self.away()).remedy(remedy))
    }

    /// When the first proof is due, of a database that is new: as long after its first snapshot as later ones after each
    /// other. `None` once an earlier snapshot than the oldest must have been there.
    fn first_proof_due(&self, every: u64) -> Option<Timestamp> {
        let receipts = self.catalog.entries.values().map(|entry| &entry.receipt);
        let Some(oldest) = receipts.min_by_key(|receipt| receipt.sequence) else {
            // There is nothing to prove yet, unless it is where nobody can look.
            let none = self.catalog.unreachable.is_empty() || self.status.first_due_at.is_some();
            return none.then_some(Timestamp::MAX);
        };
        // Where a whole archive of this name was deleted, the next one goes on after it.
        let deleted = self.catalog.decisions.deleted().and_then(|deletion| deletion.last.as_ref());
        let first = oldest.sequence == deleted.map_or(1, |last| last.sequence + 1);
        first.then(|| oldest.finished_at.checked_add(Duration::from_secs(every)).unwrap_or(Timestamp::MAX))
    }

    fn last_drill(&self) -> Vec<Condition> {
        let mut found = Vec::new();
        if let Some(drill) = self.status.last_drill.as_ref().filter(|d| !d.passed) {
            let stage = drill.failed_stage.as_deref().unwrap_or(DrillStage::Start.word());
            let target = drill.target.as_ref().map(|t| format!(" from target {t}")).unwrap_or_default();
            let summary = format!("The last drill ({}{target}) FAILED at stage {stage}.", drill.drill);
            let mut condition = self.critical(ConditionKind::DrillFailed, summary);
            condition.stage = Some(stage.to_owned());
            found.push(condition.remedy("Read the report of the drill, and run `marbre drill` again."));
        }
        let times = self.status.last_drill.as_ref().and_then(|d| d.rto_seconds.zip(d.rto_promised_seconds));
        if let Some((took, rto)) = times.filter(|(took, rto)| *took > *rto as f64) {
            let took = human::duration(took);
            let summary = format!("The last drill recovered in {took}, and {} were promised.", span(rto));
            let remedy = "See in the report which stage takes the time: more `jobs`, a nearer target or a faster disk may help.";
            let condition = self.critical(ConditionKind::DrillSlow, summary);
            found.push(condition.with(Severity::Warning).remedy(remedy));
        }
        if let Some(drill) = self.drills.unnoticed() {
            let summary = format!(
                "Drill {drill} damaged its own copy and did NOT notice it: drills prove nothing here."
            );
            found.push(self.critical(ConditionKind::SabotageUnnoticed, summary).remedy(TELL_PUBLISHER));
        }
        found
    }

    /// An owner who restores with their own key has proven that they hold it.
    fn key_proof(&self) -> Option<Condition> {
        let every = self.promises.key_proof_every?.as_secs();
        let proofs = self.status.targets.iter().filter_map(|t| t.owner_restored.as_ref());
        let summary = match self.newest_age(proofs) {
            None => "The publisher has not yet proven a working restore key.".to_owned(),
            Some(Age::Ahead(ahead)) => format!(
                "The publisher's newest proof of a working restore key is dated {} in the future: nobody knows how old it is.",
                span(ahead)
            ),
            Some(Age::Past(age)) if age > every => format!(
                "The publisher last proved a working restore key {} ago; {} were agreed.",
                span(age),
                span(every)
            ),
            Some(Age::Past(_)) => return None,
        };
        let found = self.critical(ConditionKind::KeyProofOverdue, summary).with(Severity::Warning);
        let found = found.due(self.first_proof_due(every)).origin(self.away());
        Some(found.remedy("The publisher runs `marbre drill --as-owner -i KEY --from URL`."))
    }

    /// The age of the newest proof that is not dated ahead; of one that is only where there is no other.
    fn newest_age<'p>(&self, proofs: impl Iterator<Item = &'p DrillProof>) -> Option<Age> {
        let ages = proofs.map(|proof| Age::of(proof.at, self.now));
        ages.min_by_key(|age| match age {
            Age::Past(seconds) => (false, *seconds),
            Age::Ahead(seconds) => (true, *seconds),
        })
    }

    /// What may be meant, or the disaster that older snapshots are kept for.
    fn odd(&self) -> Option<Condition> {
        let limit = self.promises.rows_limit.unwrap_or(loss::DEFAULT_LIMIT);
        let anomalies = anomaly::anomalies(self.catalog, self.drills, limit);
        // A drill that failed is told by itself.
        let rows = anomalies.iter().find(|anomaly| matches!(anomaly, Anomaly::Rows { .. }))?;
        let summary = format!("Rows are gone: {}.", rows.what());
        Some(self.critical(ConditionKind::ContentOdd, summary).remedy(format!(
            "Look at the source. Snapshots from before are kept until somebody says that it is meant: `marbre accept {} --why \
             TEXT`. If it is not, restore.",
            self.status.database
        )))
    }

    fn untrusted<'b>(
        &'b self,
        bad: impl Iterator<Item = &'b BadRecord> + 'b,
    ) -> impl Iterator<Item = Condition> + 'b {
        bad.map(|bad| {
            let summary = format!("{} at target {} cannot be trusted: {}.", bad.key, bad.target, bad.error);
            let object = format!("{} {}", bad.target, bad.key);
            self.critical(ConditionKind::ChainBroken, summary).object(object).remedy(TELL_PUBLISHER)
        })
    }

    fn doubtful(&self, e: &Error) -> Condition {
        self.critical(ConditionKind::ChainBroken, format!("{e}."))
            .object("heads")
            .remedy(e.remedy_text().unwrap_or_default())
    }

    fn broken<I: std::fmt::Display>(&self, what: &str, b: &Break<I>) -> Condition
    where
        Break<I>: std::fmt::Display,
    {
        let summary = format!("The chain of {what} is broken: {b}.");
        let missing = matches!(b, Break::Missing(..) | Break::Rollback(_));
        let remedy = match missing && !self.catalog.hidden.is_empty() {
            true => "`marbre sync` puts back what the agent or another target still has. ",
            false => "",
        };
        let accept = format!(" What is lost for good, `marbre accept {}` names.", self.status.database);
        self.critical(ConditionKind::ChainBroken, summary)
            .object(format!("{what}: {b}"))
            .remedy(format!("{remedy}{TELL_PUBLISHER}{accept}"))
    }
}

impl Condition {
    fn with(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }
}

fn newest(target: &TargetStatus) -> String {
    match (&target.error, &target.snapshot) {
        (Some(e), _) => e.clone(),
        (None, Some(snapshot)) => snapshot.to_string(),
        (None, None) => "no snapshot".to_owned(),
    }
}

fn span(seconds: u64) -> String {
    human::duration(seconds as f64)
}

/// Seconds since then; 0 for a moment in the future.
pub(crate) fn age(at: Timestamp, now: Timestamp) -> u64 {
    now.duration_since(at).as_secs().max(0).unsigned_abs()
}
