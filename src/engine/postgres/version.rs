//! Versions of servers and of client tools, and which of them work together.

use std::fmt;

/// The oldest server that can be read.
pub(crate) const OLDEST_SERVER: u32 = 12;
/// The newest server that was tested; newer ones are read with a warning.
pub(crate) const NEWEST_SERVER: u32 = 18;

/// A version of PostgreSQL since 10: major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    /// Such as 15.
    pub major: u32,
    /// Such as 20; 0 for development versions.
    pub minor: u32,
    /// A release, not a beta, a release candidate or a development version.
    pub released: bool,
}

impl Version {
    /// From `server_version_num`, e.g. 150020.
    pub(super) fn from_number(number: u32) -> Self {
        Self { major: number / 10_000, minor: number % 10_000, released: true }
    }

    /// From a tool's `--version`, e.g. `pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)`.
    pub(super) fn from_tool(output: &str) -> Option<Self> {
        let text = output.split_once("(PostgreSQL) ")?.1;
        let word = text.split_whitespace().next()?;
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        let major = word[..digits].parse().ok()?;
        let rest = &word[digits..];
        match rest.strip_prefix('.') {
            Some(minor) => Some(Self { major, minor: minor.parse().ok()?, released: true }),
            None => Some(Self { major, minor: 0, released: rest.is_empty() }),
        }
    }

    /// Why tools of this version must not be used with a server of that major version.
    pub(super) fn tool_refusal(self, server_major: u32) -> Option<String> {
        if self.major < server_major {
            return Some(format!("older than the server, which is {server_major}"));
        }
        // CVE-2025-8714 and CVE-2025-8715: an archive could run code on the restoring machine.
        let fixed = match self.major {
            0..=12 => {
                return Some("can run code from crafted archives, and was never fixed".into());
            }
            13 => 22,
            14 => 19,
            15 => 14,
            16 => 10,
            17 => 6,
            _ => 0,
        };
        if self.minor < fixed {
            return Some(format!(
                "can run code from crafted archives (CVE-2025-8714, CVE-2025-8715), fixed in {}.{fixed}",
                self.major
            ));
        }
        if !self.released {
            return Some("not a release".into());
        }
        None
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if !self.released {
            f.write_str(" (not a release)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(version: &str) -> Version {
        Version::from_tool(&format!("pg_dump (PostgreSQL) {version}\n")).unwrap()
    }

    #[test]
    fn tools_tell_their_version() {
        let debian = tool("15.20 (Debian 15.20-0+deb12u1)");
        assert_eq!((debian.major, debian.minor), (15, 20));
        assert!(!tool("19devel").released);
        assert!(!tool("18beta2").released);
        assert_eq!(Version::from_tool("pg_dump 9"), None);
        assert_eq!(Version::from_tool(""), None);
        assert_eq!(Version::from_number(150_020).to_string(), "15.20");
    }

    #[test]
    fn vulnerable_and_older_tools_are_refused() {
        for bad in ["12.22", "13.21", "14.18", "15.13", "16.9", "17.5", "18beta2"] {
            assert!(tool(bad).tool_refusal(12).is_some(), "{bad}");
        }
        for good in ["13.22", "14.19", "15.14", "16.10", "17.6", "18.0", "19.1"] {
            assert!(tool(good).tool_refusal(12).is_none(), "{good}");
        }
        assert!(tool("15.20").tool_refusal(16).is_some());
        assert!(tool("15.20").tool_refusal(15).is_none());
    }
}
