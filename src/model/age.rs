//! How old something is that somebody else has dated, by a clock that may have been wrong.

use jiff::{SignedDuration, Timestamp};

/// Clocks may differ by this much. What is dated further ahead was dated by a clock that was wrong, or is looked at by one.
pub(crate) const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// The age of something, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// So long ago.
    Past(u64),
    /// So far in the future: how old it is, nobody knows.
    Ahead(u64),
}

impl Age {
    /// The age at `now` of what is dated `at`.
    pub(crate) fn of(at: Timestamp, now: Timestamp) -> Self {
        let age = now.duration_since(at);
        let seconds = age.as_secs().unsigned_abs();
        match age.is_negative() {
            true if age < -TOLERANCE => Self::Ahead(seconds),
            true => Self::Past(0),
            false => Self::Past(seconds),
        }
    }

    /// How far ahead it is, where it is.
    pub(crate) fn ahead(self) -> Option<u64> {
        match self {
            Self::Ahead(seconds) => Some(seconds),
            Self::Past(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dated_ahead_has_no_age() {
        let now: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
        let at = |seconds| Age::of(now + SignedDuration::from_secs(seconds), now);
        assert_eq!(at(-7200), Age::Past(7200));
        assert_eq!(at(0), Age::Past(0));
        assert_eq!(at(300), Age::Past(0), "clocks differ a little");
        assert_eq!(at(301), Age::Ahead(301));
        assert_eq!(at(86_400 * 365).ahead(), Some(86_400 * 365));
        assert_eq!(at(-1).ahead(), None);
    }
}
