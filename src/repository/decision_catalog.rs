//! What was decided about a database, and what of its problems is known by that.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::Result;
use crate::keys::Namespace;
use crate::model::id::{DatabaseId, DecisionId, Sha256, TargetName};
use crate::model::level::By;
use crate::model::mark::{Because, Mark};
use crate::model::object::ObjectKey;
use crate::repository::chain::Break;
use crate::repository::decision::{Chain, ChainProblem, Decision, Matter, Place, Problem};
use crate::repository::deletion::Deletion;
use crate::repository::layout;
use crate::repository::record_catalog::{Known, Recorded, Records};
use crate::repository::remembered::Remembered as _;
use crate::repository::signed_record::Signed;
use crate::repository::succession::Seen;
use crate::state::State;

impl Recorded for Decision {
    type Id = DecisionId;
    const NAMES: (&'static str, &'static str) = ("decisions", "decision");
    /// 10,000 objects that were replaced.
    const LIMIT: u64 = 4 << 20;
    const NAMESPACE: Namespace = Namespace::Decision;
    /// Whoever may write receipts may: files of signers that are older than decisions do not name their namespace.
    const RIGHT: Namespace = Namespace::SnapshotReceipt;

    fn id(&self) -> &DecisionId {
        &self.decision
    }

    fn decided_at(&self) -> Timestamp {
        self.decided_at
    }

    fn keys(id: &DecisionId) -> [String; 2] {
        [layout::decision(id), layout::decision_signature(id)]
    }

    fn id_of(database: &DatabaseId, key: &ObjectKey) -> Option<DecisionId> {
        layout::decision_of(database, key)
    }

    fn parse(bytes: &[u8], database: &DatabaseId, id: &DecisionId) -> Result<Self> {
        Self::parse(bytes, database, id)
    }

    fn remembered(state: &State, database: &DatabaseId) -> Result<Vec<Signed<Self>>> {
        state.decisions(database)
    }

    fn remember(state: &State, database: &DatabaseId, signed: &Signed<Self>) -> Result<()> {
        state.remember_decision(database, signed)
    }
}

/// Everything that was decided.
pub(crate) type Decisions = Records<Decision>;

/// A decision at a glance, as `show`, `status` and `accept` print it in their JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecisionSummary {
    /// The decision.
    pub decision: DecisionId,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// What about: what `accept` takes by the same name, or `pin:`, `unpin:` and `forget:` with a snapshot,
    /// or `deleted:` with the targets of a deletion.
    pub about: Vec<String>,
}

impl DecisionSummary {
    /// What a record says.
    pub(crate) fn of(record: &Decision) -> Self {
        Self {
            decision: record.decision.clone(),
            at: record.decided_at,
            by: record.by.clone(),
            reason: record.reason.clone(),
            about: record.about.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Records<Decision> {
    /// What was decided, the oldest first: within one second, names do not show the order.
    fn all(&self) -> impl Iterator<Item = &Decision> {
        self.records.values().map(|known| &known.signed.record)
    }

    fn matters(&self) -> impl Iterator<Item = (&Decision, &Matter)> {
        self.all().flat_map(|decision| decision.about.iter().map(move |matter| (decision, matter)))
    }

    /// Each at a glance.
    pub(crate) fn summaries(&self) -> Vec<DecisionSummary> {
        self.all().map(DecisionSummary::of).collect()
    }

    /// The newest snapshot whose content somebody has accepted.
    pub(crate) fn content(&self) -> Option<&Seen> {
        let accepted = self.matters().filter_map(|(_, matter)| match matter {
            Matter::Content(seen) => Some(seen),
            _ => None,
        });
        accepted.max_by_key(|seen| seen.sequence)
    }

    /// What the newest decision about each snapshot says, by the hash of its receipt. Of one second, the record with the greater
    /// name is the newest.
    pub(crate) fn marks(&self) -> BTreeMap<Sha256, Mark> {
        let mut newest: BTreeMap<Sha256, (Timestamp, Option<Mark>)> = BTreeMap::new();
        for (decision, matter) in self.matters() {
            let because = || Because { by: decision.by.clone(), reason: decision.reason.clone() };
            let (seen, mark) = match matter {
                Matter::Pin(seen) => (seen, Some(Mark::Pinned(because()))),
                Matter::Forget(seen) => (seen, Some(Mark::Forgotten(because()))),
                Matter::Unpin(seen) => (seen, None),
                _ => continue,
            };
            let known = newest.get(&seen.receipt);
            if known.is_none_or(|(at, _)| *at <= decision.decided_at) {
                newest.insert(seen.receipt, (decision.decided_at, mark));
            }
        }
        newest.into_iter().filter_map(|(receipt, (_, mark))| Some((receipt, mark?))).collect()
    }

    /// The decisions by which the archive was deleted, here or there.
    pub(crate) fn deletions(&self) -> impl Iterator<Item = (&Known<Decision>, &Deletion)> {
        self.records.values().flat_map(|known| {
            known.signed.record.about.iter().filter_map(move |matter| match matter {
                Matter::Deleted(deletion) => Some((known, deletion)),
                _ => None,
            })
        })
    }

    /// The last deletion of the whole archive.
    pub(crate) fn deleted(&self) -> Option<&Deletion> {
        let whole = self.deletions().map(|(_, deletion)| deletion).filter(|deletion| deletion.is_whole());
        whole.max_by_key(|deletion| deletion.last.as_ref().map(|last| last.sequence))
    }

    /// Where the chains of drills ended that were deleted with the whole archive: the next one goes on after them.
    pub(crate) fn ends_of_drills(&self) -> BTreeMap<By, (u64, Sha256)> {
        let ends = self.deleted().into_iter().flat_map(|deletion| &deletion.drills);
        ends.map(|end| (end.by, (end.sequence, end.receipt))).collect()
    }

    /// Up to which number deletions of the whole archive explain that receipts of a chain are missing.
    fn deleted_up_to(&self, chain: Chain) -> u64 {
        let whole = self.deletions().map(|(_, deletion)| deletion).filter(|deletion| deletion.is_whole());
        let ends = whole.filter_map(|deletion| match chain {
            Chain::Receipts => deletion.last.as_ref().map(|last| last.sequence),
            Chain::AgentDrills => deletion.drills_end(By::Agent).map(|(sequence, _)| sequence),
            Chain::OwnerDrills => deletion.drills_end(By::Owner).map(|(sequence, _)| sequence),
        });
        ends.max().unwrap_or(0)
    }

    /// When the newest of all decisions was made.
    pub(crate) fn newest_at(&self) -> Option<Timestamp> {
        self.all().map(|decision| decision.decided_at).max()
    }

    /// Whether somebody has said of a break that it is known. Of a gap, each number must be.
    pub(crate) fn know_break<I: std::fmt::Display>(&self, chain: Chain, found: &Break<I>) -> bool {
        let found = ChainProblem::of(chain, found);
        let deleted = self.deleted_up_to(chain);
        let mut next = found.from;
        loop {
            let rest = match found.problem {
                Problem::Missing => ChainProblem { from: next, to: next, ..found.clone() },
                _ => found.clone(),
            };
            let last = self.matters().filter_map(|(_, matter)| match matter {
                Matter::Chain(known) if known.covers(&rest) => Some(known.to),
                _ => None,
            });
            let is_absence = matches!(found.problem, Problem::Missing | Problem::Rollback);
            let deleted = Some(deleted).filter(|upto| is_absence && rest.to <= *upto);
            match last.max().max(deleted) {
                Some(last) if last >= found.to => return true,
                Some(last) => next = last + 1,
                None => return false,
            }
        }
    }

    /// Whether somebody has said of a receipt that is not shown that it is lost.
    pub(crate) fn know_lost(&self, sequence: u64) -> bool {
        self.know_break(Chain::Receipts, &Break::<DecisionId>::Missing(sequence, sequence))
    }

    /// Whether somebody has said of an object at a target that its damage is known, and nobody has replaced it since. The key
    /// is the whole one.
    pub(crate) fn know_damage(&self, target: &TargetName, key: &str) -> bool {
        // A key is below `publisher/database/`.
        let Some(object) = key.splitn(3, '/').nth(2) else { return false };
        let place = Place { target: target.clone(), object: object.to_owned() };
        let said = |(decision, matter): (&Decision, &Matter)| {
            let this = match matter {
                Matter::Damage(known) => *known == place,
                Matter::Replaced(replaced) => {
                    (&replaced.target, &replaced.object) == (&place.target, &place.object)
                }
                _ => false,
            };
            this.then_some((decision.decided_at, matches!(matter, Matter::Damage(_))))
        };
        // Of one second, the replacement counts.
        let newest = self.matters().filter_map(said).max_by_key(|(at, damage)| (*at, !damage));
        newest.is_some_and(|(_, damage)| damage)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::repository::decision::{DecisionKind, Replaced};
    use crate::repository::deletion::DrillsEnd;

    /// Decisions about these matters, one a minute.
    fn decisions(about: Vec<Matter>) -> Decisions {
        let mut decisions = Decisions::default();
        for (n, matter) in (0_u32..).zip(about) {
            let record = Decision {
                format: 1,
                kind: DecisionKind::Decision,
                publisher: "gazette".parse().unwrap(),
                database: "abonnes".parse().unwrap(),
                decision: DecisionId::new("2026-11-22T02:00:00Z".parse().unwrap(), n),
                agent: "marbre".to_owned(),
                by: "claire".to_owned(),
                reason: "a test".to_owned(),
                decided_at: format!("2026-11-22T02:{n:02}:00Z").parse().unwrap(),
                about: vec![matter],
            };
            let bytes = record.to_bytes().unwrap();
            let database = "gazette/abonnes".parse().unwrap();
            let parsed = Decision::parse(&bytes, &database, &record.decision).unwrap();
            assert_eq!(parsed, record);
            let id = record.decision.clone();
            let signed = Signed { record, bytes, signature: String::new(), signer: String::new() };
            decisions.records.insert(id, Known { signed, targets: BTreeSet::new() });
        }
        decisions
    }

    fn gap(problem: Problem, from: u64, to: u64) -> Matter {
        Matter::Chain(ChainProblem { chain: Chain::Receipts, problem, from, to, ids: Vec::new() })
    }

    #[test]
    fn each_number_of_a_gap_must_be_known() {
        let known = decisions(vec![
            gap(Problem::Missing, 2, 3),
            gap(Problem::Missing, 5, 5),
            gap(Problem::Rollback, 9, 11),
        ]);
        let knows = |chain, from, to| known.know_break(chain, &Break::<DecisionId>::Missing(from, to));
        for (from, to) in [(2, 3), (3, 3), (5, 5), (9, 11), (10, 10)] {
            assert!(knows(Chain::Receipts, from, to), "{from} to {to}");
        }
        for (from, to) in [(2, 4), (2, 5), (1, 2), (9, 12)] {
            assert!(!knows(Chain::Receipts, from, to), "{from} to {to}");
        }
        assert!(!knows(Chain::AgentDrills, 2, 3));
        assert!(known.know_break(Chain::Receipts, &Break::<DecisionId>::Rollback(11)));
        assert!(!known.know_break(Chain::Receipts, &Break::<DecisionId>::Rollback(12)));
    }

    #[test]
    fn a_fork_is_known_by_its_receipts() {
        let fork = |a: &str, b: &str| Break::Fork(4, a.to_owned(), b.to_owned());
        let known = decisions(vec![Matter::Chain(ChainProblem::of(Chain::Receipts, &fork("a", "b")))]);
        assert!(known.know_break(Chain::Receipts, &fork("b", "a")));
        assert!(!known.know_break(Chain::Receipts, &fork("a", "c")));
        assert!(!known.know_lost(4));
    }

    #[test]
    fn a_damage_is_known_until_it_is_mended() {
        let target: TargetName = "a".parse().unwrap();
        let damage =
            Matter::Damage(Place { target: target.clone(), object: "epochs/e/epoch.age".to_owned() });
        let replaced = Matter::Replaced(Replaced {
            target: target.clone(),
            object: "epochs/e/epoch.age".to_owned(),
            sha256: Sha256::of(b""),
            size: 0,
            problem: "it has 1 bytes, not 0".to_owned(),
        });
        let key = "gazette/abonnes/epochs/e/epoch.age";
        assert!(decisions(vec![damage.clone()]).know_damage(&target, key));
        assert!(!decisions(vec![damage.clone()]).know_damage(&"b".parse().unwrap(), key));
        assert!(!decisions(vec![damage.clone()]).know_damage(&target, "gazette/abonnes/epochs/e/other"));
        assert!(!decisions(vec![damage.clone(), replaced.clone()]).know_damage(&target, key));
        assert!(decisions(vec![replaced, damage]).know_damage(&target, key));
    }

    #[test]
    fn the_newest_decision_about_a_snapshot_counts() {
        let seen = |n: u8| Seen {
            sequence: n.into(),
            snapshot: format!("2026112{n}T020000Z-00000000").parse().unwrap(),
            receipt: Sha256::of(&[n]),
        };
        let because = || Because { by: "claire".to_owned(), reason: "a test".to_owned() };
        let (pinned, forgotten) = (Mark::Pinned(because()), Mark::Forgotten(because()));
        let (a, b) = (seen(1), seen(2));
        let of = |about: Vec<Matter>| decisions(about).marks();
        assert_eq!(of(vec![Matter::Pin(a.clone())]), BTreeMap::from([(a.receipt, pinned.clone())]));
        assert_eq!(of(vec![Matter::Pin(a.clone()), Matter::Unpin(a.clone())]), BTreeMap::new());
        let both = of(vec![Matter::Forget(a.clone()), Matter::Forget(b.clone()), Matter::Pin(a.clone())]);
        assert_eq!(both, BTreeMap::from([(a.receipt, pinned), (b.receipt, forgotten)]));
        // Dates count, and then names: records of one second.
        let mut one_second = decisions(vec![Matter::Pin(a.clone()), Matter::Unpin(a.clone())]);
        let at: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
        one_second.records.values_mut().for_each(|known| known.signed.record.decided_at = at);
        assert_eq!(one_second.marks(), BTreeMap::new());
        let first = one_second.records.values_mut().next().unwrap();
        first.signed.record.decided_at = at + jiff::SignedDuration::from_secs(1);
        assert_eq!(one_second.marks().len(), 1);
    }

    #[test]
    fn a_deletion_explains_what_is_missing_up_to_the_ends_of_its_chains() {
        let deletion = |elsewhere: &[&str], sequence| {
            Matter::Deleted(Deletion {
                targets: vec!["a".parse().unwrap()],
                elsewhere: elsewhere.iter().map(|name| name.parse().unwrap()).collect(),
                snapshots: 2,
                last: Some(Seen {
                    sequence,
                    snapshot: "20261122T020000Z-00000000".parse().unwrap(),
                    receipt: Sha256::of(b"x"),
                }),
                drills: vec![DrillsEnd { by: By::Agent, sequence: 3, receipt: Sha256::of(b"y") }],
            })
        };
        let missing = |from, to| Break::<DecisionId>::Missing(from, to);
        let whole = decisions(vec![deletion(&[], 7), gap(Problem::Missing, 9, 9)]);
        assert!(whole.know_break(Chain::Receipts, &missing(1, 7)));
        assert!(whole.know_break(Chain::Receipts, &Break::<DecisionId>::Rollback(5)));
        assert!(!whole.know_break(Chain::Receipts, &missing(1, 8)) && whole.know_lost(9));
        assert!(!whole.know_break(Chain::Receipts, &Break::Fork(2, "a".to_owned(), "b".to_owned())));
        assert!(whole.know_break(Chain::AgentDrills, &missing(1, 3)));
        assert!(!whole.know_break(Chain::AgentDrills, &missing(1, 4)));
        assert!(!whole.know_break(Chain::OwnerDrills, &missing(1, 1)));
        assert_eq!(whole.deleted().unwrap().link().unwrap().sequence, 7);
        // A copy that is kept elsewhere is to be there.
        let partly = decisions(vec![deletion(&["b"], 7)]);
        assert!(!partly.know_break(Chain::Receipts, &missing(1, 1)) && partly.deleted().is_none());
    }

    #[test]
    fn what_a_later_release_decides_is_read() {
        let matter: Matter = serde_json::from_str(r#"{"matter":"holiday","until":"2027"}"#).unwrap();
        assert_eq!(matter, Matter::Unknown);
    }
}
