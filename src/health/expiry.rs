//! What ends by itself, certificates and tokens, and clocks that differ: pure rules.

use jiff::{SignedDuration, Timestamp};

use crate::model::check::{Check, CheckState};
use crate::model::condition::{Condition, ConditionKind, Severity};
use crate::model::human;
use crate::model::id::TargetName;

const DAY: i64 = 86_400;
/// A clock that is off by more than this is wrong.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// The names under which the tools that fetch tokens write when they end: saml2aws, aws-azure-login, and others.
const TOKEN_ENDS: [&str; 3] = ["x_security_token_expires", "aws_expiration", "expiration"];

/// What kind of thing ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A certificate, which people or a service renew weeks before.
    Certificate,
    /// A token, which something renews every few hours.
    Token,
}

/// Something that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// What kind of thing it is.
    pub thing: Thing,
    /// Whose: `target nas (nas.example:9000)`.
    pub of: String,
    /// When it ends.
    pub ends: Timestamp,
}

impl Expiry {
    /// How bad it is by now.
    fn severity(&self, now: Timestamp) -> Option<Severity> {
        let left = self.ends.duration_since(now).as_secs();
        let (warn, critical) = match self.thing {
            Thing::Certificate => (21 * DAY, 3 * DAY),
            // What lives for an hour and is renewed in time must not alarm anybody.
            Thing::Token => (15 * 60, 0),
        };
        match left {
            left if left <= critical => Some(Severity::Critical),
            left if left <= warn => Some(Severity::Warning),
            _ => None,
        }
    }

    fn name(&self) -> &'static str {
        match self.thing {
            Thing::Certificate => "certificate",
            Thing::Token => "token",
        }
    }

    fn remedy(&self) -> &'static str {
        match self.thing {
            Thing::Certificate => "Renew it, and find out why what renews it has not done so.",
            Thing::Token => "Find out why it is not renewed, or use keys that do not end.",
        }
    }

    /// `ends in 20 d 3 h`, and the moment.
    fn when(&self, now: Timestamp) -> String {
        let left = self.ends.duration_since(now);
        let (span, at) = (human::duration(left.unsigned_abs().as_secs_f64()), self.ends);
        match left.is_positive() {
            true => format!("ends in {span}, at {at}"),
            false => format!("ended {span} ago, at {at}"),
        }
    }

    /// What people are told, if it is time.
    pub(crate) fn condition(&self, now: Timestamp) -> Option<Condition> {
        let severity = self.severity(now)?;
        let (name, of) = (self.name(), &self.of);
        // No span in the words: they must not change from look to look.
        let verb = if self.ends > now { "ends" } else { "ended" };
        let summary = format!("The {name} of {of} {verb} at {}.", self.ends);
        let condition = Condition::new(ConditionKind::Expiring, severity, summary);
        Some(condition.object(self.object()).remedy(self.remedy()))
    }

    /// What makes its incident: `certificate of target nas (nas.example:9000)`.
    pub(crate) fn object(&self) -> String {
        format!("{} of {}", self.name(), self.of)
    }

    /// What `doctor` shows.
    pub(crate) fn check(&self, now: Timestamp) -> Check {
        let severity = self.severity(now);
        let state = match severity {
            None => CheckState::Ok,
            // An expired one makes other checks fail where it is in the way.
            Some(_) => CheckState::Warn,
        };
        let remedy = severity.map(|_| self.remedy().to_owned());
        Check { name: self.object(), state, found: self.when(now), remedy }
    }
}

/// When the token of a profile ends, as its credentials file says. `None` for keys that do not end.
pub(crate) fn token_ends(credentials: &str, profile: &str) -> Option<Timestamp> {
    let mut inside = false;
    for line in credentials.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.trim() == profile;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside)
            && TOKEN_ENDS.contains(&key.trim().to_ascii_lowercase().as_str())
        {
            return value.trim().parse().ok();
        }
    }
    None
}

/// How far this host's clock is ahead of a target's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skew {
    /// The target.
    pub target: TargetName,
    /// How far.
    pub ahead: SignedDuration,
}

impl Skew {
    const REMEDY: &'static str = "Check the time service of this host (`timedatectl`), and that of the target: times in receipts, slots and locks follow \
                                  these clocks.";

    fn words(&self) -> Option<String> {
        (self.ahead.abs() > SKEW).then(|| {
            let by = human::duration(self.ahead.unsigned_abs().as_secs_f64());
            let word = if self.ahead.is_positive() { "ahead of" } else { "behind" };
            format!("{by} {word}")
        })
    }

    /// What people are told, if it is too much.
    pub(crate) fn condition(&self) -> Option<Condition> {
        let summary = format!("The clock of this host is {} that of target {}.", self.words()?, self.target);
        let condition = Condition::new(ConditionKind::ClockSkew, Severity::Warning, summary);
        Some(condition.object(&self.target).remedy(Self::REMEDY))
    }

    /// What `doctor` shows.
    pub(crate) fn check(&self) -> Check {
        let name = format!("clock of target {}", self.target);
        match self.words() {
            None => {
                Check { name, state: CheckState::Ok, found: "agrees with this host's".into(), remedy: None }
            }
            Some(words) => Check {
                name,
                state: CheckState::Warn,
                found: format!("the clock of this host is {words} it"),
                remedy: Some(Self::REMEDY.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn severity(thing: Thing, seconds: i64) -> Option<Severity> {
        let now: Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
        let expiry =
            Expiry { thing, of: "target nas".into(), ends: now + SignedDuration::from_secs(seconds) };
        let condition = expiry.condition(now);
        assert_eq!(condition.is_some(), expiry.check(now).state == CheckState::Warn);
        condition.map(|condition| condition.severity)
    }

    #[test]
    fn certificates_are_told_three_weeks_and_three_days_before() {
        let of = |seconds| severity(Thing::Certificate, seconds);
        assert_eq!(of(21 * DAY + 1), None);
        assert_eq!(of(21 * DAY), Some(Severity::Warning));
        assert_eq!(of(3 * DAY + 1), Some(Severity::Warning));
        for seconds in [3 * DAY, 1, 0, -DAY] {
            assert_eq!(of(seconds), Some(Severity::Critical));
        }
    }

    #[test]
    fn tokens_are_told_when_nothing_has_renewed_them() {
        let of = |seconds| severity(Thing::Token, seconds);
        assert_eq!((of(901), of(900)), (None, Some(Severity::Warning)));
        assert_eq!((of(1), of(0)), (Some(Severity::Warning), Some(Severity::Critical)));
    }

    #[test]
    fn the_end_of_a_token_is_that_of_its_profile() {
        let file = "[default]\naws_access_key_id = x\n[ a ]\nX_Security_Token_Expires = 2026-11-25T14:53:18+02:00\n\
                    [b]\naws_expiration=2026-11-25T12:00:00.000Z\n[c]\nexpiration = soon\n";
        let of = |profile| token_ends(file, profile).map(|at| at.to_string());
        assert_eq!(of("a").as_deref(), Some("2026-11-25T12:53:18Z"));
        assert_eq!(of("b").as_deref(), Some("2026-11-25T12:00:00Z"));
        assert_eq!((of("default"), of("c"), of("d")), (None, None, None));
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let skew =
            |seconds| Skew { target: "nas".parse().unwrap(), ahead: SignedDuration::from_secs(seconds) };
        assert_eq!((skew(300).condition(), skew(-300).condition()), (None, None));
        let condition = skew(-301).condition().unwrap();
        assert_eq!(condition.key().to_string(), "clock-skew nas");
        assert!(condition.summary.contains("5 min 1 s behind that of target nas"), "{}", condition.summary);
        assert!(skew(301).check().found.contains("ahead of it"));
    }
}
