//! The accepted history: which of the receipts that are signed by agents of this chain are one line, and where it ends.
//! Pure: the records were read and their signatures checked before.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::model::id::Sha256;
use crate::repository::chain::Link;
use crate::repository::succession::{Seen, Succession};

/// Successions from the first to the last, each going on from the one before; empty where one agent wrote everything.
pub(crate) type Line<'a> = Vec<&'a Succession>;

/// What a receipt says of its place, and who signed it.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The succession under which it was written.
    pub succession: u64,
    /// Its place in the chain.
    pub sequence: u64,
    /// When its snapshot was finished.
    pub finished_at: Timestamp,
    /// The fingerprint of its signer.
    pub signer: String,
}

/// The part of a line in which one agent writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reign<'a> {
    /// The succession that began it; the first agent needed none.
    pub begun: Option<&'a Succession>,
    /// The succession that ended it.
    pub ended: Option<&'a Succession>,
}

impl<'a> Reign<'a> {
    /// Every reign of a line, in order.
    pub(crate) fn all(line: &[&'a Succession]) -> Vec<Self> {
        let begun = std::iter::once(None).chain(line.iter().copied().map(Some));
        let ended = line.iter().copied().map(Some).chain(std::iter::once(None));
        begun.zip(ended).map(|(begun, ended)| Self { begun, ended }).collect()
    }

    /// The fingerprint of its agent, where a succession says who it is.
    pub(crate) fn agent(&self) -> Option<&'a str> {
        let begun = self.begun.map(|s| &s.to).or_else(|| self.ended.map(|s| &s.from));
        begun.map(|key| key.fingerprint.as_str())
    }

    fn number(&self) -> u64 {
        self.begun.map_or(0, |s| s.number)
    }
}

/// Whether a receipt lies within the reign that it names, and is by the agent of that reign. Where no succession says who the
/// agent is, any signer passes: the caller asks whether it is trusted.
pub(crate) fn check(line: &[&Succession], origin: &Origin) -> Result<()> {
    let Some(reign) = Reign::all(line).into_iter().find(|reign| reign.number() == origin.succession) else {
        return Err(Error::key(format!(
            "it was written under succession {}, which is not of the accepted history",
            origin.succession
        ))
        .cause(format!("signed by {}", origin.signer))
        .remedy(
            "Look at the other targets, which may have that record. If the agent was replaced, compare the new key's \
             fingerprint with the one that the provider gives you by another way, and add it to allowed_signers.",
        ));
    };
    if let Some(agent) = reign.agent().filter(|agent| *agent != origin.signer) {
        return Err(Error::key(format!("signed by {}, which is not the agent at that place", origin.signer))
            .cause(format!("under succession {} the agent is {agent}", origin.succession))
            .remedy("Find out who holds that key: it must not write here any more."));
    }
    if reign.begun.is_some_and(|s| origin.sequence <= s.after.sequence) {
        return Err(Error::verification(format!(
            "number {} was written before succession {} began",
            origin.sequence, origin.succession
        ))
        .remedy("Tell the publisher: the agent's signing key may be in other hands."));
    }
    match reign.ended {
        Some(end) if origin.sequence > end.after.sequence || origin.finished_at > end.decided_at => {
            Err(Error::verification(format!(
                "its agent {} was succeeded by {} after number {}, on {}",
                origin.signer, end.to.fingerprint, end.after.sequence, end.decided_at
            ))
            .remedy("Stop the old agent: what it signs after its succession does not count."))
        }
        _ => Ok(()),
    }
}

/// Which receipts count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Where the history ends; several where it cannot be told which end is the newest.
    pub heads: Vec<Seen>,
    /// Receipts of branches that a succession did not go on with.
    pub aside: BTreeSet<Sha256>,
}

/// A receipt in the catalogue: its place and its origin.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its link.
    pub link: Link,
    /// What it says, and who signed it.
    pub origin: Origin,
}

/// Follows every line that may be the accepted history through the receipts that count in it, and through other `links`
/// (removed or remembered receipts). Where it is in doubt which line goes on, there are several heads, and nothing is put
/// aside that one of them keeps.
pub(crate) fn resolve_all(lines: &[Line<'_>], members: &[Member], links: &[Link]) -> Resolved {
    let mut heads: BTreeMap<Sha256, Seen> = BTreeMap::new();
    let mut aside: Option<BTreeSet<Sha256>> = None;
    for line in lines {
        let counts = |member: &&Member| check(line, &member.origin).is_ok();
        let own = members.iter().filter(counts).map(|member| &member.link);
        let resolved = resolve(line, &own.chain(links).cloned().collect::<Vec<Link>>());
        heads.extend(resolved.heads.into_iter().map(|head| (head.receipt, head)));
        aside = Some(match aside {
            None => resolved.aside,
            Some(others) => others.intersection(&resolved.aside).copied().collect(),
        });
    }
    let mut heads: Vec<Seen> = heads.into_values().collect();
    heads.sort_by_key(|head| head.sequence);
    Resolved { heads, aside: aside.unwrap_or_default() }
}

/// Follows one line through all links of the agents that it names.
fn resolve(line: &[&Succession], links: &[Link]) -> Resolved {
    let by_hash: BTreeMap<Sha256, &Link> = links.iter().map(|link| (link.hash, link)).collect();
    let settled = settled(line, &by_hash);
    let aside = |link: &&Link| settled.get(&link.sequence).is_some_and(|hash| *hash != link.hash);
    let last = line.last().map(|s| &s.after);
    let open: Vec<&Link> = by_hash
        .values()
        .copied()
        .filter(|link| last.is_none_or(|after| link.sequence > after.sequence))
        .collect();
    let mut heads: Vec<Seen> = ends(&open).into_iter().map(Seen::of).collect();
    if heads.is_empty() {
        heads.extend(last.cloned());
    }
    let aside = by_hash.values().copied().filter(aside).map(|link| link.hash).collect();
    Resolved { heads, aside }
}

/// The receipts that successions go on after, and all before them as far as they are known: their numbers are decided.
fn settled(line: &[&Succession], by_hash: &BTreeMap<Sha256, &Link>) -> BTreeMap<u64, Sha256> {
    let mut settled = BTreeMap::new();
    for succession in line.iter().rev() {
        follow(&succession.after, by_hash, &mut settled);
    }
    settled
}

/// A receipt and all before it, as far as they are known, by number.
pub(crate) fn followed(after: &Seen, links: &[Link]) -> BTreeMap<u64, Sha256> {
    let mut followed = BTreeMap::new();
    follow(after, &links.iter().map(|link| (link.hash, link)).collect(), &mut followed);
    followed
}

fn follow(after: &Seen, by_hash: &BTreeMap<Sha256, &Link>, found: &mut BTreeMap<u64, Sha256>) {
    let mut next = Some((after.sequence, after.receipt));
    while let Some((sequence, hash)) = next.filter(|(sequence, _)| !found.contains_key(sequence)) {
        found.insert(sequence, hash);
        let previous = by_hash.get(&hash).and_then(|link| link.previous);
        next = previous.zip(sequence.checked_sub(1)).map(|(hash, sequence)| (sequence, hash));
    }
}

/// The ends of what has been written since the last succession: one, unless two receipts claim one place.
fn ends<'a>(open: &[&'a Link]) -> Vec<&'a Link> {
    let mut places: BTreeMap<u64, Vec<&'a Link>> = BTreeMap::new();
    let mut next: BTreeMap<Sha256, Vec<&'a Link>> = BTreeMap::new();
    for link in open {
        places.entry(link.sequence).or_default().push(link);
        if let Some(previous) = link.previous {
            next.entry(previous).or_default().push(link);
        }
    }
    let newest = places.values().next_back().and_then(|links| links.first()).copied();
    let mut found: BTreeMap<Sha256, &Link> = newest.map(|link| (link.hash, link)).into_iter().collect();
    let mut branches: Vec<&Link> =
        places.values().filter(|links| links.len() > 1).flatten().copied().collect();
    while let Some(link) = branches.pop() {
        match next.get(&link.hash) {
            Some(following) => branches.extend(following),
            None => {
                found.insert(link.hash, link);
            }
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;
    use crate::repository::succession::testing;

    const DAY: &str = "2026-11-22T02:00:00Z";

    fn at(hour: i64) -> Timestamp {
        DAY.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_hours(hour)
    }

    /// A receipt of number `n` on the branch of this name, after this one.
    fn link(branch: &str, n: u64, previous: Option<&Link>) -> Link {
        let hash = Sha256::of(format!("{branch}{n}").as_bytes());
        let id = crate::model::id::SnapshotId::new(at(n as i64), u32::from(branch.as_bytes()[0]));
        Link { id, sequence: n, previous: previous.map(|link| link.hash), hash }
    }

    fn chain(branch: &str, n: u64) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        for number in 1..=n {
            links.push(link(branch, number, links.last()));
        }
        links
    }

    fn succession(number: u64, from: &str, to: &str, after: &Link) -> Succession {
        let mut record = testing::succession(number, from, to);
        record.after = Seen::of(after);
        record.decided_at = at(after.sequence as i64);
        record
    }

    #[test]
    fn two_branches_are_two_heads_until_a_succession_goes_on_with_one() {
        let mut links = chain("x", 3);
        links.push(link("y", 3, Some(&links[1])));
        links.push(link("y", 4, links.last()));
        let doubt = resolve(&[], &links);
        assert_eq!(doubt.heads.iter().map(|head| head.sequence).max(), Some(4));
        assert_eq!(doubt.heads.len(), 2);
        assert!(doubt.aside.is_empty());
        let decided = succession(1, "k", "k", &links[2]);
        let resolved = resolve(&[&decided], &links[..4]);
        assert_eq!(resolved.heads, [Seen::of(&links[2])]);
        assert_eq!(resolved.aside, BTreeSet::from([links[3].hash]));
        // The next one, under the succession, is the head again.
        let next = link("x", 4, Some(&links[2]));
        let resolved = resolve(&[&decided], &[links[..4].to_vec(), vec![next.clone()]].concat());
        assert_eq!(resolved.heads, [Seen::of(&next)]);
    }

    proptest! {
        /// Whatever is missing, a chain without a second branch has one head: the newest that is known.
        #[test]
        fn gaps_are_no_doubt(keep in proptest::collection::vec(any::<bool>(), 1..30)) {
            let all = chain("x", keep.len() as u64);
            let known: Vec<Link> = all.into_iter().zip(&keep).filter(|(_, keep)| **keep).map(|(l, _)| l).collect();
            let resolved = resolve(&[], &known);
            prop_assert_eq!(resolved.heads, known.last().map(Seen::of).into_iter().collect::<Vec<_>>());
            prop_assert!(resolved.aside.is_empty());
        }

        /// Of a fork at any place, a succession keeps exactly the branch that it names.
        #[test]
        fn the_other_branch_is_set_aside(trunk in 1u64..8, one in 1u64..8, two in 1u64..8) {
            let mut links = chain("t", trunk);
            let mut grow = |branch: &str, n: u64| {
                let mut last = links[trunk as usize - 1].clone();
                let from = links.len();
                for number in trunk + 1..=trunk + n {
                    last = link(branch, number, Some(&last));
                    links.push(last.clone());
                }
                links[from..].to_vec()
            };
            let (x, y) = (grow("x", one), grow("y", two));
            prop_assert_eq!(resolve(&[], &links).heads.len(), 2);
            let decided = succession(1, "k", "l", x.last().unwrap());
            let end = x.last().unwrap().sequence;
            let counted: Vec<Link> = links.iter().filter(|l| l.sequence <= end).cloned().collect();
            let resolved = resolve(&[&decided], &counted);
            prop_assert_eq!(resolved.heads, vec![Seen::of(x.last().unwrap())]);
            let aside: BTreeSet<Sha256> = y.iter().filter(|l| l.sequence <= end).map(|l| l.hash).collect();
            prop_assert_eq!(resolved.aside, aside);
        }
    }

    #[test]
    fn a_receipt_counts_within_the_reign_of_its_agent() {
        let links = chain("x", 5);
        let line = [&succession(1, "a", "b", &links[2]), &succession(3, "b", "c", &links[3])];
        let key = |name: &str| testing::key(name).fingerprint;
        let origin = |succession, sequence, signer: &str| Origin {
            succession,
            sequence,
            finished_at: at(sequence as i64),
            signer: key(signer),
        };
        for good in [origin(0, 3, "a"), origin(1, 4, "b"), origin(3, 5, "c"), origin(3, 99, "c")] {
            check(&line, &good).unwrap();
        }
        let late = Origin { finished_at: at(4), ..origin(0, 3, "a") };
        for (bad, kind) in [
            (origin(0, 4, "a"), ErrorKind::Verification),
            (late, ErrorKind::Verification),
            (origin(1, 3, "b"), ErrorKind::Verification),
            (origin(1, 5, "b"), ErrorKind::Verification),
            (origin(1, 4, "a"), ErrorKind::Key),
            (origin(3, 5, "b"), ErrorKind::Key),
            (origin(2, 4, "b"), ErrorKind::Key),
            (origin(0, 1, "c"), ErrorKind::Key),
        ] {
            assert_eq!(check(&line, &bad).unwrap_err().kind(), kind, "{bad:?}");
        }
    }
}
