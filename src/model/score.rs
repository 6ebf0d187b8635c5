//! The 3-2-1-1-0 rule, as a score: three copies, in two failure domains, one off the provider, one immutable, and zero
//! errors in the last drill.
//!
//! The copies are the original and every target that holds the newest snapshot. The other numbers count those targets
//! only: what destroys the original is what they are for. What nobody said or proved does not count.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::id::TargetName;

/// Who runs a target, and so can switch it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The provider that runs the database too.
    Provider,
    /// The publisher that owns the data.
    Publisher,
    /// Anybody else.
    ThirdParty,
}

/// One target of a database, as far as the rule asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFacts {
    /// Its name.
    pub target: TargetName,
    /// It holds the newest snapshot.
    pub holds_newest: bool,
    /// What it fails together with, as the configuration says.
    pub domain: Option<String>,
    /// Who runs it, as the configuration says.
    pub owner: Option<Owner>,
    /// It is in another place than the database, as the configuration says.
    pub offsite: bool,
    /// A probe has proven it immutable; or why that is not known.
    pub immutable: Result<(), String>,
}

/// How a database stands by the rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Score {
    /// The original, and the targets that hold the newest snapshot. Three are asked for.
    pub copies: u64,
    /// Different failure domains among these targets. Two are asked for.
    pub domains: u64,
    /// Targets that are offsite and not run by the provider. One is asked for.
    pub off_provider: u64,
    /// Targets that a probe has proven immutable. One is asked for.
    pub immutable: u64,
    /// Errors in the last drill: 0 if it passed, 1 if it failed; `null` without a drill.
    pub drill_errors: Option<u64>,
    /// All five numbers are as the rule asks.
    pub met: bool,
    /// What is missing: full sentences.
    pub missing: Vec<String>,
}

impl Score {
    /// The score of these copies. `drill_passed` is that of the last drill that was made to prove something.
    pub fn of(copies: &[TargetFacts], drill_passed: Option<bool>) -> Self {
        let held: Vec<&TargetFacts> = copies.iter().filter(|copy| copy.holds_newest).collect();
        let domains: BTreeSet<&str> = held.iter().filter_map(|copy| copy.domain.as_deref()).collect();
        let off =
            |copy: &&&TargetFacts| copy.offsite && copy.owner.is_some_and(|owner| owner != Owner::Provider);
        let mut score = Self {
            copies: 1 + held.len() as u64,
            domains: domains.len() as u64,
            off_provider: held.iter().filter(off).count() as u64,
            immutable: held.iter().filter(|copy| copy.immutable.is_ok()).count() as u64,
            drill_errors: drill_passed.map(|passed| u64::from(!passed)),
            met: false,
            missing: Vec::new(),
        };
        score.missing = score.what_is_missing(copies, &held);
        score.met = score.missing.is_empty();
        score
    }

    fn what_is_missing(&self, copies: &[TargetFacts], held: &[&TargetFacts]) -> Vec<String> {
        let mut missing = Vec::new();
        if self.copies < 3 {
            let lacking: Vec<&str> =
                copies.iter().filter(|c| !c.holds_newest).map(|c| c.target.as_str()).collect();
            missing.push(match lacking.as_slice() {
                [] => "A third copy: add another target.".to_owned(),
                names => format!("A third copy: {} should hold the newest snapshot.", names.join(" or ")),
            });
        }
        if self.domains < 2 {
            let silent = names(held.iter().filter(|copy| copy.domain.is_none()));
            missing.push(match silent.as_str() {
                "" => "A second failure domain: add a target that does not fail together with the others."
                    .to_owned(),
                names => {
                    format!("A second failure domain: say with `domain` what {names} fails together with.")
                }
            });
        }
        if self.off_provider == 0 {
            missing.push(
                "One copy off the provider: a target with `offsite = true` whose `owner` is not the provider."
                    .to_owned(),
            );
        }
        if self.immutable == 0 {
            let why: Vec<String> = held
                .iter()
                .filter_map(|copy| Some(format!("{}: {}", copy.target, copy.immutable.as_ref().err()?)))
                .collect();
            let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
            missing.push(format!("One copy that is proven immutable{why}."));
        }
        match self.drill_errors {
            Some(0) => {}
            Some(_) => missing.push("A last drill without errors: it failed.".to_owned()),
            None => missing.push("A last drill without errors: none was made yet.".to_owned()),
        }
        missing
    }
}

/// As `3-2-1-1-0`; a drill that was never made is `?`.
impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let errors = self.drill_errors.map_or("?".to_owned(), |n| n.to_string());
        write!(f, "{}-{}-{}-{}-{errors}", self.copies, self.domains, self.off_provider, self.immutable)
    }
}

fn names<'a>(copies: impl Iterator<Item = &'a &'a TargetFacts>) -> String {
    copies.map(|copy| copy.target.as_str()).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copy(name: &str, domain: &str, owner: Owner, immutable: bool) -> TargetFacts {
        TargetFacts {
            target: name.parse().unwrap(),
            holds_newest: true,
            domain: Some(domain.to_owned()),
            owner: Some(owner),
            offsite: owner != Owner::Provider,
            immutable: if immutable { Ok(()) } else { Err("no lock is claimed".to_owned()) },
        }
    }

    fn good() -> Vec<TargetFacts> {
        vec![copy("nas", "cellar", Owner::Provider, false), copy("ovh", "gra", Owner::ThirdParty, true)]
    }

    #[test]
    fn the_rule_is_met() {
        let score = Score::of(&good(), Some(true));
        assert_eq!((score.to_string().as_str(), score.met), ("3-2-1-1-0", true), "{score:?}");
        assert!(score.missing.is_empty());
    }

    #[test]
    fn each_number_can_be_what_is_missing() {
        let with = |change: fn(&mut Vec<TargetFacts>)| {
            let mut copies = good();
            change(&mut copies);
            Score::of(&copies, Some(true))
        };
        for (score, text, word) in [
            (with(|c| drop(c.remove(0))), "2-1-1-1-0", "add another target"),
            (with(|c| c[0].holds_newest = false), "2-1-1-1-0", "nas should hold"),
            (with(|c| c[0].domain = None), "3-1-1-1-0", "what nas fails together with"),
            (with(|c| c[0].domain = c[1].domain.clone()), "3-1-1-1-0", "A second failure domain"),
            (with(|c| c[1].owner = Some(Owner::Provider)), "3-2-0-1-0", "off the provider"),
            (with(|c| c[1].owner = None), "3-2-0-1-0", "off the provider"),
            (with(|c| c[1].offsite = false), "3-2-0-1-0", "offsite"),
            (with(|c| c[1].immutable = Err("never probed".to_owned())), "3-2-1-0-0", "ovh: never probed"),
            (Score::of(&good(), Some(false)), "3-2-1-1-1", "it failed"),
            (Score::of(&good(), None), "3-2-1-1-?", "none was made yet"),
        ] {
            assert_eq!((score.to_string().as_str(), score.met), (text, false), "{score:?}");
            assert!(score.missing.iter().any(|missing| missing.contains(word)), "{score:?}");
        }
        assert_eq!(Score::of(&[], None).missing.len(), 5);
    }

    proptest! {
        #[test]
        fn met_is_all_five_and_nothing_else(
            flags in prop::collection::vec(any::<(bool, bool, bool, bool, bool)>(), 0..5), drill: Option<bool>
        ) {
            let copies: Vec<TargetFacts> = flags
                .iter()
                .enumerate()
                .map(|(n, (newest, domain, third, offsite, immutable))| TargetFacts {
                    holds_newest: *newest,
                    domain: domain.then(|| format!("d{n}")),
                    offsite: *offsite,
                    ..copy(&format!("t{n}"), "d", if *third { Owner::ThirdParty } else { Owner::Provider }, *immutable)
                })
                .collect();
            let score = Score::of(&copies, drill);
            let enough = score.copies >= 3 && score.domains >= 2 && score.off_provider >= 1
                && score.immutable >= 1 && score.drill_errors == Some(0);
            prop_assert_eq!(score.met, enough);
            prop_assert_eq!(score.met, score.missing.is_empty());
        }
    }
}
