//! Names and identifiers that come from outside, as validated newtypes.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a name or an identifier was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {accepted}")]
pub struct InvalidId {
    /// What kind of identifier was read.
    pub what: &'static str,
    /// The value as given.
    pub value: String,
    /// The accepted form.
    pub accepted: &'static str,
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $accepted:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(value: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(value) {
                    Ok(Self(value.to_owned()))
                } else {
                    Err(InvalidId { what: $what, value: value.to_owned(), accepted: $accepted })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(value: String) -> Result<Self, InvalidId> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_name(value: &str) -> bool {
    let bytes = value.as_bytes();
    (1..=64).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

fn is_stamped(value: &str) -> bool {
    let Some((stamp, random)) = value.split_once('-') else {
        return false;
    };
    stamp.len() == 16
        && stamp.bytes().enumerate().all(|(i, b)| match i {
            8 => b == b'T',
            15 => b == b'Z',
            _ => b.is_ascii_digit(),
        })
        && random.len() == 8
        && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

string_id!(
    /// A publisher: the owner of data and of the restore key.
    PublisherName, "publisher name", "1 to 64 of a-z, 0-9, '-' and '_', starting with a letter or digit", is_name
);
string_id!(
    /// A database to protect, unique within its publisher.
    DatabaseName, "database name", "1 to 64 of a-z, 0-9, '-' and '_', starting with a letter or digit", is_name
);
string_id!(
    /// A target: a place where copies are kept.
    TargetName, "target name", "1 to 64 of a-z, 0-9, '-' and '_', starting with a letter or digit", is_name
);
string_id!(
    /// An alert channel: a way to tell people.
    ChannelName, "channel name", "1 to 64 of a-z, 0-9, '-' and '_', starting with a letter or digit", is_name
);
string_id!(
    /// One snapshot, as `20261122T020000Z-1f3a9c4e`: UTC time and 32 random bits. Sorts by time.
    SnapshotId, "snapshot", "like 20261122T020000Z-1f3a9c4e", is_stamped
);
string_id!(
    /// One epoch, in the same form as a snapshot's.
    EpochId, "epoch", "like 20261122T020000Z-1f3a9c4e", is_stamped
);
string_id!(
    /// One drill, in the same form as a snapshot's.
    DrillId, "drill", "like 20261122T020000Z-1f3a9c4e", is_stamped
);

string_id!(
    /// One record of what retention deleted, in the same form as a snapshot's.
    PruneId, "prune", "like 20261122T020000Z-1f3a9c4e", is_stamped
);

string_id!(
    /// One record of what somebody decided, in the same form as a snapshot's.
    DecisionId, "decision", "like 20261122T020000Z-1f3a9c4e", is_stamped
);

fn stamped(now: Timestamp, random: u32) -> String {
    format!("{}-{random:08x}", now.strftime("%Y%m%dT%H%M%SZ"))
}

impl SnapshotId {
    /// A new identifier for a snapshot that starts `now`.
    pub fn new(now: Timestamp, random: u32) -> Self {
        Self(stamped(now, random))
    }

    /// When it started, to the second. An impossible date, which has the form of one, is the beginning of time.
    pub fn time(&self) -> Timestamp {
        stamp_of(&self.0)
    }
}

impl EpochId {
    /// A new identifier for an epoch that starts `now`.
    pub fn new(now: Timestamp, random: u32) -> Self {
        Self(stamped(now, random))
    }
}

impl EpochId {
    /// When it began, to the second. An impossible date, which has the form of one, is the beginning of time.
    pub fn time(&self) -> Timestamp {
        stamp_of(&self.0)
    }
}

fn stamp_of(id: &str) -> Timestamp {
    let stamp = id.split('-').next().unwrap_or_default();
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp);
    let zoned = civil.and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC));
    zoned.map_or(Timestamp::MIN, |zoned| zoned.timestamp())
}

impl DrillId {
    /// A new identifier for a drill that starts `now`.
    pub fn new(now: Timestamp, random: u32) -> Self {
        Self(stamped(now, random))
    }

    /// When it started, to the second. An impossible date, which has the form of one, is the beginning of time.
    pub fn time(&self) -> Timestamp {
        stamp_of(&self.0)
    }
}

impl DecisionId {
    /// A new identifier for something that is decided `now`.
    pub fn new(now: Timestamp, random: u32) -> Self {
        Self(stamped(now, random))
    }
}

impl PruneId {
    /// A new identifier for a record of a run that starts `now`.
    pub fn new(now: Timestamp, random: u32) -> Self {
        Self(stamped(now, random))
    }
}

/// A database and its publisher, written `publisher/database`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseId {
    /// Who owns the data.
    pub publisher: PublisherName,
    /// Which of the publisher's databases.
    pub database: DatabaseName,
}

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.publisher, self.database)
    }
}

impl FromStr for DatabaseId {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let (publisher, database) = value.split_once('/').ok_or_else(|| InvalidId {
            what: "database",
            value: value.to_owned(),
            accepted: "publisher/database",
        })?;
        Ok(Self { publisher: publisher.parse()?, database: database.parse()? })
    }
}

impl TryFrom<String> for DatabaseId {
    type Error = InvalidId;

    fn try_from(value: String) -> Result<Self, InvalidId> {
        value.parse()
    }
}

impl From<DatabaseId> for String {
    fn from(id: DatabaseId) -> Self {
        id.to_string()
    }
}

/// A SHA-256, written as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl FromStr for Sha256 {
    type Err = InvalidId;

    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId {
            what: "SHA-256",
            value: value.to_owned(),
            accepted: "64 lowercase hexadecimal digits",
        };
        if value.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid());
        }
        let mut hash = [0; 32];
        hex::decode_to_slice(value, &mut hash).map_err(|_| invalid())?;
        Ok(Self(hash))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = InvalidId;

    fn try_from(value: String) -> Result<Self, InvalidId> {
        value.parse()
    }
}

impl From<Sha256> for String {
    fn from(hash: Sha256) -> String {
        hex::encode(hash.0)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_could_leave_the_prefix() {
        for bad in ["", ".", "..", "a/b", "A", "-a", "a b", "a.b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<PublisherName>().is_err(), "{bad:?}");
        }
        for good in ["a", "le-monde", "0_1", &"a".repeat(64)] {
            assert!(good.parse::<PublisherName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn snapshots_are_stamped_and_sort_by_time() {
        let early = SnapshotId::new("2026-11-22T02:00:00Z".parse().unwrap(), 0xffff_ffff);
        let late = SnapshotId::new("2026-11-22T02:00:01Z".parse().unwrap(), 0);
        assert_eq!(early.as_str(), "20261122T020000Z-ffffffff");
        assert!(early < late);
        let begun = "2026-11-22T02:00:00Z".parse().unwrap();
        assert_eq!(EpochId::new(begun, 7).time(), begun);
        assert_eq!("20261399T020000Z-00000000".parse::<EpochId>().unwrap().time(), Timestamp::MIN);
        assert!(early.as_str().parse::<SnapshotId>().is_ok());
        for bad in ["20261122T020000Z", "20261122T020000Z-FFFFFFFF", "20261122 020000Z-00000000", "../x"] {
            assert!(bad.parse::<SnapshotId>().is_err(), "{bad:?}");
        }
    }
}
