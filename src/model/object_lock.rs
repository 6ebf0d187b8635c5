//! How long an object is held fast at a target (S3 Object Lock), and by which rule.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::retention::Policy;

/// Clocks differ, and uploads take their time: every lock lasts so much longer than it is needed.
pub(crate) const MARGIN: Duration = Duration::from_secs(86_400);

const DAY: u64 = 86_400;

/// Who may end a lock before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Nobody, not even the owner of the account.
    Compliance,
    /// Only who has the right to bypass it.
    Governance,
}

impl LockMode {
    /// The word used in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Compliance => "compliance",
            Self::Governance => "governance",
        }
    }
}

/// The lock of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Who may end it.
    pub mode: LockMode,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// How the objects of one database are locked at one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockTerm {
    /// Who may end the locks.
    pub mode: LockMode,
    /// How long an epoch lasts at most.
    pub epoch: Duration,
    /// How long a snapshot is to be held fast after that.
    pub keep: Duration,
}

impl LockTerm {
    /// The lock of an object that is put `now` and belongs to an epoch that began then, if to any.
    ///
    /// Later snapshots of an epoch refer to its earlier packs. Its last snapshot can be taken when the epoch ends, and is
    /// kept so long after that: only then is a pack free. What belongs to no epoch counts as if one began now.
    pub fn lock(&self, epoch_began: Option<Timestamp>, now: Timestamp) -> Lock {
        let end = later(epoch_began.unwrap_or(now), self.epoch);
        Lock { mode: self.mode, until: later(later(end.max(now), self.keep), MARGIN) }
    }
}

/// A moment that is so much later. What no calendar holds any more is the end of time.
fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// How long rules of retention keep a snapshot, where they say so in time. `keep_last` alone does not.
pub(crate) fn span(policy: &Policy) -> Option<Duration> {
    // Taken apart, so that no new rule is forgotten here: a lock would end before what it keeps.
    let Policy { last: _, hourly, daily, weekly, monthly, yearly, within } = policy;
    let spans = [
        hourly.saturating_mul(3600),
        daily.saturating_mul(DAY),
        weekly.saturating_mul(7 * DAY),
        monthly.saturating_mul(31 * DAY),
        yearly.saturating_mul(366 * DAY),
        within.map_or(0, |within| within.as_secs()),
    ];
    spans.into_iter().max().filter(|longest| *longest > 0).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn days(n: u64) -> Duration {
        Duration::from_secs(n * DAY)
    }

    #[test]
    fn the_longest_rule_counts() {
        assert_eq!(span(&Policy::default()), None);
        assert_eq!(span(&Policy { last: 9, ..Policy::default() }), None);
        let policy = Policy { daily: 30, weekly: 13, ..Policy::default() };
        assert_eq!(span(&policy), Some(days(91)));
        assert_eq!(span(&Policy { within: Some(days(100)), ..policy }), Some(days(100)));
    }

    #[test]
    fn nothing_overflows() {
        let term = LockTerm { mode: LockMode::Governance, epoch: Duration::MAX, keep: Duration::MAX };
        assert_eq!(term.lock(Some(Timestamp::MIN), at(0)).until, Timestamp::MAX);
        assert!(span(&Policy { yearly: u64::MAX, ..Policy::default() }).is_some());
    }

    proptest! {
        /// Whatever is put when in an epoch, no snapshot of it that may still be taken outlives the lock of a pack.
        #[test]
        fn no_snapshot_outlives_the_lock_of_its_packs(
            began in 0_i64..4_000_000_000, epoch in 1_u64..4_000_000, keep in 1_u64..400_000_000,
            put in 0.0_f64..1.0, taken in 0.0_f64..1.0,
        ) {
            let term = LockTerm {
                mode: LockMode::Compliance,
                epoch: Duration::from_secs(epoch),
                keep: Duration::from_secs(keep),
            };
            let put = began + (epoch as f64 * put) as i64;
            let taken = put + ((began + epoch as i64 - put) as f64 * taken) as i64;
            let lock = term.lock(Some(at(began)), at(put));
            prop_assert!(lock.until >= later(later(at(taken), term.keep), MARGIN));
            // A receipt is put with its snapshot, and outlives it too.
            prop_assert!(term.lock(None, at(taken)).until >= later(at(taken), term.keep));
            // What is put after the end of its epoch (copied from another target) is held as long from then on.
            let late = at(began + 2 * epoch as i64);
            prop_assert!(term.lock(Some(at(began)), late).until >= later(late, term.keep));
        }
    }
}
