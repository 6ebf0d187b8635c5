//! What a target really guarantees: found out by trying to break it, and held against what the configuration claims.
//!
//! An answer proves nothing: some servers accept conditions and locks, say 200, and ignore them. So each trial ends with
//! a look at what is there afterwards. What could not be tried is never counted as held.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use strum::VariantArray;

use crate::model::age::Age;
use crate::model::condition::{Condition, ConditionKind, Severity};
use crate::model::id::TargetName;
use crate::model::object_lock::LockMode;

/// How old a probe may be before it proves nothing any more.
pub(crate) const FRESH: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What is tried on an object of the probe's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Trial {
    /// To create an object whose key is taken.
    CreateIfAbsent,
    /// To create one object eight times at the same moment.
    Race,
    /// To put an object with a lock at all.
    Lock,
    /// To put other bytes over an object, without asking.
    Overwrite,
    /// To delete an object.
    Delete,
    /// To delete the very version that holds the bytes.
    DeleteVersion,
    /// To let a lock end earlier.
    ShortenLock,
    /// To turn a lock of compliance into one of governance.
    WeakenLock,
}

impl Trial {
    /// All of them, in the order in which they are made and shown.
    pub(crate) const ALL: &[Self] = Self::VARIANTS;

    /// The word used in messages and JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::CreateIfAbsent => "create-if-absent",
            Self::Race => "race",
            Self::Lock => "lock",
            Self::Overwrite => "overwrite",
            Self::Delete => "delete",
            Self::DeleteVersion => "delete-version",
            Self::ShortenLock => "shorten-lock",
            Self::WeakenLock => "weaken-lock",
        }
    }

    /// Every target must withstand these: snapshots rely on it. The others are about immutability.
    pub(crate) fn is_basic(self) -> bool {
        matches!(self, Self::CreateIfAbsent | Self::Race)
    }
}

/// How a trial ended. The text says what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result", content = "seen")]
pub(crate) enum Outcome {
    /// The object was still there, unchanged.
    Held(String),
    /// It was not.
    Broken(String),
    /// Nothing was learnt, and why.
    Untested(String),
}

impl Outcome {
    /// What was seen.
    pub(crate) fn seen(&self) -> &str {
        match self {
            Self::Held(text) | Self::Broken(text) | Self::Untested(text) => text,
        }
    }
}

/// What a target guarantees against whoever has the credentials that were used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Guarantees {
    /// When it was found out.
    pub at: Timestamp,
    /// The place that was probed: the target's URL, without credentials.
    pub place: String,
    /// Why nothing here binds its host, where that is so.
    pub caveat: Option<String>,
    /// How each trial ended. What is not in here was not tried.
    pub trials: BTreeMap<Trial, Outcome>,
}

impl Guarantees {
    /// The trials of one kind of end.
    fn ended(&self, end: fn(&Outcome) -> bool) -> impl Iterator<Item = (Trial, &str)> {
        self.trials.iter().filter(move |(_, outcome)| end(outcome)).map(|(t, outcome)| (*t, outcome.seen()))
    }

    /// What was broken.
    pub(crate) fn broken(&self) -> impl Iterator<Item = (Trial, &str)> {
        self.ended(|outcome| matches!(outcome, Outcome::Broken(_)))
    }

    /// What could not be tried.
    pub(crate) fn untested(&self) -> impl Iterator<Item = (Trial, &str)> {
        self.ended(|outcome| matches!(outcome, Outcome::Untested(_)))
    }

    /// What held.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Trial, &str)> {
        self.ended(|outcome| matches!(outcome, Outcome::Held(_)))
    }

    /// Whether it is proven that nobody with these credentials can change or remove an object before its time: every
    /// trial was made, and held. A lock of governance cannot be weakened further: there that is no trial.
    pub(crate) fn immutable(&self) -> bool {
        let held = |trial: &Trial| match self.trials.get(trial) {
            Some(outcome) => matches!(outcome, Outcome::Held(_)),
            None => *trial == Trial::WeakenLock,
        };
        self.caveat.is_none() && Trial::ALL.iter().all(held)
    }

    /// Whether this still says something of the target at this place.
    pub(crate) fn counts(&self, place: &str, now: Timestamp) -> bool {
        self.place == place
            && matches!(Age::of(self.at, now), Age::Past(_))
            && now.duration_since(self.at) <= FRESH
    }

    /// What was broken although it must hold: the basic trials at every target, and all others where the configuration
    /// claims a lock.
    pub(crate) fn mismatches(&self, claim: Option<LockMode>) -> Vec<(Trial, &str)> {
        self.broken().filter(|(trial, _)| trial.is_basic() || claim.is_some()).collect()
    }

    /// The incident that a mismatch is.
    pub(crate) fn condition(&self, target: &TargetName, claim: Option<LockMode>) -> Option<Condition> {
        let mismatches = self.mismatches(claim);
        if mismatches.is_empty() {
            return None;
        }
        let summary = match claim {
            Some(mode) if mismatches.iter().any(|(trial, _)| !trial.is_basic()) => format!(
                "Target {target} is not immutable, although the configuration says `lock = \"{}\"`.",
                mode.word()
            ),
            _ => format!("Target {target} replaces objects that it should keep."),
        };
        Some(Condition {
            kind: ConditionKind::TargetMutable,
            severity: Severity::Critical,
            database: None,
            object: Some(target.to_string()),
            summary,
            stage: None,
            error: Some(list(mismatches)),
            targets: Vec::new(),
            proven_at: None,
            remedy: remedy(claim).to_owned(),
            origin: None,
            affected: Vec::new(),
            due_at: None,
        })
    }
}

/// What to do about a mismatch.
pub(crate) fn remedy(claim: Option<LockMode>) -> &'static str {
    match claim {
        Some(_) => {
            "Make the bucket with Object Lock and versioning as docs/TARGETS.md shows, or use a server that honours them. Until then count this target as one that can be emptied."
        }
        None => "Use a target that honours `If-None-Match: *` on put: update the server, or take another.",
    }
}

/// Trials with what was seen, as one text.
pub(crate) fn list<'a>(trials: impl IntoIterator<Item = (Trial, &'a str)>) -> String {
    let texts: Vec<String> =
        trials.into_iter().map(|(trial, seen)| format!("{}: {seen}", trial.word())).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(outcome: &Outcome) -> Guarantees {
        Guarantees {
            at: "2026-11-22T02:00:00Z".parse().unwrap(),
            place: "s3://bucket".to_owned(),
            caveat: None,
            trials: Trial::ALL.iter().copied().map(|trial| (trial, outcome.clone())).collect(),
        }
    }

    fn held() -> Guarantees {
        all(&Outcome::Held("refused".to_owned()))
    }

    #[test]
    fn only_what_was_tried_and_held_is_immutable() {
        assert!(held().immutable());
        for &trial in Trial::ALL {
            for worse in
                [None, Some(Outcome::Broken("x".to_owned())), Some(Outcome::Untested("x".to_owned()))]
            {
                let mut found = held();
                match worse {
                    Some(outcome) => found.trials.insert(trial, outcome),
                    None => found.trials.remove(&trial),
                };
                let governance = trial == Trial::WeakenLock && !found.trials.contains_key(&trial);
                assert_eq!(found.immutable(), governance, "{trial:?}");
            }
        }
        assert!(!Guarantees { caveat: Some("its host".to_owned()), ..held() }.immutable());
    }

    #[test]
    fn a_claim_is_held_against_what_was_seen() {
        let target = "nas".parse().unwrap();
        assert_eq!(held().condition(&target, Some(LockMode::Compliance)), None);
        let mut found = held();
        found.trials.insert(Trial::DeleteVersion, Outcome::Broken("it is gone".to_owned()));
        assert_eq!(found.condition(&target, None), None);
        let condition = found.condition(&target, Some(LockMode::Compliance)).unwrap();
        assert_eq!(condition.key().to_string(), "target-mutable nas");
        assert_eq!(condition.error.as_deref(), Some("delete-version: it is gone"));
        assert!(condition.summary.contains("lock = \"compliance\""), "{}", condition.summary);
        // Snapshots rely on these, whatever is claimed.
        found.trials.insert(Trial::Race, Outcome::Broken("two were told that they created it".to_owned()));
        assert!(found.condition(&target, None).unwrap().summary.contains("replaces"));
    }

    #[test]
    fn a_probe_of_elsewhere_or_long_ago_says_nothing() {
        let now = held().at + FRESH;
        assert!(held().counts("s3://bucket", now));
        assert!(!held().counts("s3://other", now));
        assert!(!held().counts("s3://bucket", now + SignedDuration::from_secs(1)));
    }

    #[test]
    fn is_remembered_as_it_was() {
        let text = serde_json::to_string(&held()).unwrap();
        assert_eq!(serde_json::from_str::<Guarantees>(&text).unwrap(), held());
        assert!(text.contains("\"shorten-lock\":{\"result\":\"held\",\"seen\":\"refused\"}"), "{text}");
    }
}
