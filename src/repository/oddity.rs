//! What the lists of a target show other than signed records say: known at once, before anything is read back.

use crate::model::object::ObjectKey;

/// An object that is not at a target as a signed record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Oddity {
    /// Its full key.
    pub key: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an object that is only listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Somebody has laid a delete marker over it.
    Hidden,
    /// It is not there.
    Missing,
    /// It has another size.
    Resized {
        /// What is listed, in bytes.
        found: u64,
        /// What the record says.
        expected: u64,
    },
}

impl Oddity {
    /// What is wrong with an object that is listed so; nothing, where it is as it should be.
    pub(crate) fn of(key: &ObjectKey, size: u64, hidden: bool, expected: Option<u64>) -> Option<Self> {
        let problem = match expected.filter(|expected| *expected != size) {
            _ if hidden => Problem::Hidden,
            Some(expected) => Problem::Resized { found: size, expected },
            None => return None,
        };
        Some(Self { key: key.to_string(), problem })
    }
}

/// In words, as a fragment: how many objects have which problem, and the first of them.
pub(crate) fn describe(oddities: &[Oddity]) -> Option<String> {
    let first = oddities.first()?;
    let count = |of: fn(&Problem) -> bool| oddities.iter().filter(|oddity| of(&oddity.problem)).count();
    let counts = [
        ("under a delete marker", count(|p| matches!(p, Problem::Hidden))),
        ("of another size", count(|p| matches!(p, Problem::Resized { .. }))),
        ("missing", count(|p| matches!(p, Problem::Missing))),
    ];
    let counts = counts.iter().filter(|(_, n)| *n > 0);
    let counts: Vec<String> = counts.map(|(what, n)| format!("{n} {what}")).collect();
    let size = match first.problem {
        Problem::Resized { found, expected } => format!(" with {found} bytes, not {expected}"),
        Problem::Hidden | Problem::Missing => String::new(),
    };
    Some(format!("{} (the first: {}{size})", counts.join(", "), first.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_odd_is_counted_and_the_first_is_named() {
        let key: ObjectKey = "gazette/abonnes/epochs/e/epoch.age".parse().unwrap();
        assert_eq!(Oddity::of(&key, 5, false, Some(5)), None);
        assert_eq!(Oddity::of(&key, 5, false, None), None, "no record says anything of it");
        let resized = Oddity::of(&key, 0, false, Some(5)).unwrap();
        let hidden = Oddity::of(&key, 5, true, Some(5)).unwrap();
        assert_eq!(describe(&[]), None);
        assert_eq!(
            describe(&[resized, hidden.clone(), hidden]).unwrap(),
            "2 under a delete marker, 1 of another size (the first: gazette/abonnes/epochs/e/epoch.age with 0 bytes, not 5)"
        );
    }
}
