//! Names of stored objects.

use std::fmt;
use std::str::FromStr;

use super::id::InvalidId;

/// The name of an object below a target's prefix.
///
/// Invariants: 1 to 512 bytes; segments separated by single `/`; every segment is 1 to 128 of
/// `a-z A-Z 0-9 . _ -`, is not `.` or `..`, and does not start with `.`. So a key can be joined to a
/// directory, put in a URL and listed by prefix without escaping and without leaving its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectKey {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let segment = |s: &str| {
            (1..=128).contains(&s.len())
                && !s.starts_with('.')
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if value.len() <= 512 && value.split('/').all(segment) {
            Ok(Self(value.to_owned()))
        } else {
            Err(InvalidId {
                what: "object key",
                value: value.to_owned(),
                accepted: "segments of a-z, A-Z, 0-9, '.', '_' and '-' separated by '/', none starting with '.'",
            })
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An opaque version of an object, where a target keeps several under one key (S3 versioning).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub String);
