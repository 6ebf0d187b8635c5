//! Versions of servers.

use std::fmt;

use crate::model::engine_kind::EngineKind;

/// A server's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    /// E.g. 10.
    pub major: u32,
    /// E.g. 11.
    pub minor: u32,
    /// E.g. 19.
    pub patch: u32,
}

impl Version {
    /// The first version in a text such as `10.11.19-MariaDB-log` or `mysqld  Ver 9.7.4-2 for Linux`.
    pub(super) fn find(text: &str) -> Option<Self> {
        text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
            let mut numbers = word.split('.').map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(Self { major: next()?, minor: next()?, patch: next()? })
        })
    }

    /// Snapshots of one series are restored into the same one without a difference.
    pub(super) fn series(self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Which of the two kinds a server is that calls its version this.
pub(super) fn kind(version: &str) -> EngineKind {
    match version.to_ascii_lowercase().contains("mariadb") {
        true => EngineKind::MariaDb,
        false => EngineKind::MySql,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_servers_and_programs_say() {
        for (text, version, of) in [
            ("10.11.19-MariaDB-0+deb12u1-log", "10.11.19", EngineKind::MariaDb),
            ("mariadbd  Ver 11.8.2-MariaDB for debian-linux-gnu on x86_64", "11.8.2", EngineKind::MariaDb),
            ("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))", "9.7.4", EngineKind::MySql),
        ] {
            assert_eq!(Version::find(text).unwrap().to_string(), version);
            assert_eq!(kind(text), of);
        }
        assert_eq!(Version::find("no version"), None);
    }
}
