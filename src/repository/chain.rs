//! The chain of a database's receipts: a dropped, edited, reordered or replayed one shows. Drills have chains of
//! their own, one for each who makes them.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use crate::model::id::{Sha256, SnapshotId};
use crate::repository::receipt::Receipt;

/// What the chain needs to know of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link<I = SnapshotId> {
    /// The snapshot, or the drill.
    pub id: I,
    /// Its place.
    pub sequence: u64,
    /// The hash it names as its predecessor's.
    pub previous: Option<Sha256>,
    /// Its own hash.
    pub hash: Sha256,
}

impl Link {
    /// The link of a receipt with this hash.
    pub(crate) fn of(receipt: &Receipt, hash: Sha256) -> Self {
        Self { id: receipt.snapshot.clone(), sequence: receipt.sequence, previous: receipt.previous, hash }
    }
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Break<I = SnapshotId> {
    /// No receipt has these places (first and last of a gap).
    Missing(u64, u64),
    /// Two different receipts claim one place.
    Fork(u64, I, I),
    /// The receipt of this number does not name the hash of the one before it.
    Edited(u64, I),
    /// A newer head was seen before (its place and hash), and is not there.
    Rollback(u64),
}

impl<I: Display> Display for Break<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Break::Missing(from, to) if from == to => write!(f, "receipt number {from} is missing"),
            Break::Missing(from, to) => write!(f, "receipts number {from} to {to} are missing"),
            Break::Fork(at, a, b) => write!(f, "{a} and {b} both claim to be receipt number {at}"),
            Break::Edited(_, id) => {
                write!(
                    f,
                    "the receipt of {id} does not continue the one before it: one of the two was changed"
                )
            }
            Break::Rollback(at) => {
                write!(f, "receipt number {at}, seen before, is not there: an old state is being shown")
            }
        }
    }
}

/// Checks a set of links, in any order. `from_start` demands that the chain begins with number 1
/// (retention may have removed the oldest). `seen` is the newest head that the caller remembers.
pub(crate) fn check<I: Clone>(
    links: &[Link<I>],
    from_start: bool,
    seen: Option<(u64, Sha256)>,
) -> Vec<Break<I>> {
    let mut breaks = Vec::new();
    let mut places: BTreeMap<u64, &Link<I>> = BTreeMap::new();
    for link in links {
        match places.get(&link.sequence) {
            Some(other) if other.hash != link.hash => {
                breaks.push(Break::Fork(link.sequence, other.id.clone(), link.id.clone()));
            }
            _ => {
                places.insert(link.sequence, link);
            }
        }
    }
    let mut before: Option<&Link<I>> = None;
    for (&at, &link) in &places {
        let expected = match before {
            Some(b) => b.sequence + 1,
            None if from_start => 1,
            None => at,
        };
        if at > expected {
            breaks.push(Break::Missing(expected, at - 1));
        } else {
            let continues = match before {
                Some(b) => link.previous == Some(b.hash),
                None => (at == 1) == link.previous.is_none(),
            };
            if !continues {
                breaks.push(Break::Edited(at, link.id.clone()));
            }
        }
        before = Some(link);
    }
    if let Some((sequence, hash)) = seen
        && places.get(&sequence).is_none_or(|link| link.hash != hash)
    {
        breaks.push(Break::Rollback(sequence));
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chain(n: u64) -> Vec<Link> {
        let hash = |i: u64| Sha256::of(&i.to_le_bytes());
        (1..=n)
            .map(|i| Link {
                id: SnapshotId::new("2026-11-22T02:00:00Z".parse().unwrap(), i as u32),
                sequence: i,
                previous: (i > 1).then(|| hash(i - 1)),
                hash: hash(i),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn a_whole_chain_in_any_order_is_sound(n in 1u64..30, turn in 0usize..30) {
            let mut links = chain(n);
            let last = links.last().map(|l| (l.sequence, l.hash));
            let len = links.len();
            links.rotate_left(turn % len);
            prop_assert_eq!(check(&links, true, last), vec![]);
        }

        #[test]
        fn one_removed_shows(n in 2u64..30, at in 0usize..30) {
            let mut links = chain(n);
            let last = links.last().map(|l| (l.sequence, l.hash));
            let at = at % links.len();
            links.remove(at);
            prop_assert_eq!(check(&links, true, last).len(), 1);
        }

        #[test]
        fn one_edited_shows(n in 2u64..30, at in 0usize..30) {
            let mut links = chain(n);
            let last = links.last().map(|l| (l.sequence, l.hash));
            let at = at % links.len();
            links[at].hash = Sha256::of(b"edited");
            prop_assert_eq!(check(&links, true, last).len(), 1);
        }
    }

    #[test]
    fn two_of_one_number_are_a_fork() {
        let mut links = chain(3);
        let mut twin = links[1].clone();
        twin.hash = Sha256::of(b"twin");
        links.push(twin);
        assert!(matches!(check(&links, true, None)[..], [Break::Fork(2, ..)]));
    }

    #[test]
    fn retention_may_remove_the_oldest() {
        assert_eq!(check(&chain(5)[2..], false, None), vec![]);
        assert_eq!(check(&chain(5)[2..], true, None), vec![Break::Missing(1, 2)]);
    }
}
