//! Why a snapshot is kept or deleted, for the record and for people.

use std::fmt;

use crate::model::id::TargetName;
use crate::model::mark::Mark;

/// Why a snapshot is kept, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nothing was taken after it.
    Newest,
    /// Nothing was taken after it that is dated in order and not damaged.
    NewestSound,
    /// This target holds no newer one.
    NewestAt(TargetName),
    /// A restore has proven it, and none that is newer.
    NewestProven,
    /// The full snapshot that begins the epoch of the newest proven one, or that of the newest sound one.
    BeginsEpoch {
        /// Of the newest proven one.
        proven: bool,
    },
    /// A rule keeps it.
    Rule {
        /// Its name.
        rule: &'static str,
        /// The hour, day, week, month or year; empty where the rule has none.
        of: String,
        /// Counted from the newest proven snapshot.
        from_proven: bool,
    },
    /// What came after it is odd, and nobody has accepted that.
    Held,
    /// There is no rule at all.
    NoRule,
    /// Its date is still to come.
    Future,
    /// It is dated before snapshots that were taken earlier, and these are kept.
    Backdated,
    /// Without it, a backdated one that outlives every rule would pass for one that is dated in order.
    ShowsBackdated,
    /// It would go, and one run deletes so many at most.
    HeldBack(usize),
    /// No rule keeps it.
    Unneeded,
    /// It is dated before snapshots that were taken earlier, and these are not kept either.
    BackdatedAlone,
    /// An earlier run has decided so.
    Pruned,
    /// Somebody has decided so.
    Marked(Mark),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Newest => write!(f, "newest"),
            Reason::NewestSound => write!(f, "newest that is dated in order and not damaged"),
            Reason::NewestAt(target) => write!(f, "newest at target {target}"),
            Reason::NewestProven => write!(f, "newest that a restore has proven"),
            Reason::BeginsEpoch { proven } => {
                write!(f, "begins the epoch of the newest {}", if *proven { "proven" } else { "sound" })
            }
            Reason::Rule { rule, of, from_proven } => {
                let space = if of.is_empty() { "" } else { " " };
                let from = if *from_proven { ", counted from the newest proven" } else { "" };
                write!(f, "{rule}{space}{of}{from}")
            }
            Reason::Held => write!(f, "held: later content is odd, and nobody has accepted that"),
            Reason::NoRule => write!(f, "there is no rule"),
            Reason::Future => write!(f, "dated in the future, so no rule can judge it"),
            Reason::Backdated => write!(f, "dated before snapshots that were taken earlier and are kept"),
            Reason::ShowsBackdated => write!(f, "shows that one that was taken later is backdated"),
            Reason::HeldBack(max) => write!(f, "held back: one run deletes {max} at most"),
            Reason::Unneeded => write!(f, "no rule keeps it"),
            Reason::BackdatedAlone => {
                write!(f, "no rule keeps it, and it is dated before snapshots that were taken earlier")
            }
            Reason::Pruned => write!(f, "an earlier run has decided so"),
            Reason::Marked(mark) => mark.fmt(f),
        }
    }
}
