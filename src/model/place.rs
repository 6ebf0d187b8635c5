//! Which place a target is: its name and its URL can change, and two of them can lead to one place.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the operating system knows a directory by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    /// The device of its file system. Another one after the next mount, maybe.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// The number is the same after the next mount. exFAT, FAT, SMB and most of what runs in user space make numbers up.
    pub lasts: bool,
}

/// The random part of a place's marker object: 32 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mark(String);

/// The identity of a place: its mark, and for a directory its inode too where that lasts, so that a copy of all files is another place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlaceId(String);

const DIGITS: usize = 32;

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Mark {
    /// A new one, of these random bytes.
    pub(crate) fn new(random: [u8; 16]) -> Self {
        Self(hex::encode(random))
    }

    /// The identity of the place that has this mark.
    pub(crate) fn place(&self, root: Option<Root>) -> PlaceId {
        match root {
            Some(Root { inode, lasts: true, .. }) => PlaceId(format!("{}-{inode:x}", self.0)),
            _ => PlaceId(self.0.clone()),
        }
    }
}

impl FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.len() == DIGITS && is_hex(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("{text:?} is no mark of a place: {DIGITS} lowercase hexadecimal digits")),
        }
    }
}

impl FromStr for PlaceId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mark, inode) = text.split_once('-').unwrap_or((text, "0"));
        mark.parse::<Mark>()?;
        match (1..=16).contains(&inode.len()) && is_hex(inode) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("{text:?} is no place")),
        }
    }
}

impl fmt::Display for PlaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Mark> for String {
    fn from(mark: Mark) -> Self {
        mark.0
    }
}

impl From<PlaceId> for String {
    fn from(place: PlaceId) -> Self {
        place.0
    }
}

impl TryFrom<String> for Mark {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for PlaceId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_a_directory_is_another_place() {
        let mark = Mark::new([0xab; 16]);
        let root = |inode| Some(Root { device: 1, inode, lasts: true });
        assert_eq!(mark.place(None).to_string(), "ab".repeat(16));
        assert_eq!(mark.place(root(255)).to_string(), format!("{}-ff", "ab".repeat(16)));
        assert_ne!(mark.place(root(1)), mark.place(root(2)));
        // A device may have another number tomorrow.
        assert_eq!(mark.place(Some(Root { device: 2, inode: 1, lasts: true })), mark.place(root(1)));
        // And where numbers of files are made up, they say nothing.
        let made_up = |inode| Some(Root { device: 1, inode, lasts: false });
        assert_eq!((mark.place(made_up(1)), mark.place(made_up(2))), (mark.place(None), mark.place(None)));
    }

    #[test]
    fn texts_are_checked() {
        let mark = "0123456789abcdef".repeat(2);
        assert_eq!(String::from(mark.parse::<Mark>().unwrap()), mark);
        for good in [mark.clone(), format!("{mark}-2"), format!("{mark}-{}", "f".repeat(16))] {
            assert_eq!(good.parse::<PlaceId>().unwrap().to_string(), good);
        }
        for bad in ["", "nas", &mark[1..], &format!("{mark}-"), &format!("{mark}-x"), &mark.to_uppercase()] {
            assert!(bad.parse::<PlaceId>().is_err(), "{bad}");
        }
    }
}
