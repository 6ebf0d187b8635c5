//! What a throwaway server's log says, without what code of the database or its rows may have put there.

/// Serious problems by words that the servers use for them, the more telling ones first, and what they mean. Sources: `strerror(3)`,
/// `sql/signal_handler.cc` and `storage/innobase` of both.
const PROBLEMS: [(&str, &str); 7] = [
    ("No space left on device", "no space is left on the server's disk"),
    ("Disk is full", "no space is left on the server's disk"),
    ("Cannot allocate memory", "the server got no more memory"),
    ("Out of memory", "the server got no more memory"),
    ("got signal", "the server crashed"),
    ("Assertion failure", "the server crashed"),
    ("Database page corruption", "a page of the server's files is damaged"),
];

/// The last serious problem in a server's log. The texts themselves are not told.
pub(super) fn trouble(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log);
    let serious =
        |line: &&str| ["[ERROR]", "got signal", "Assertion failure"].iter().any(|word| line.contains(word));
    let mut lines = text.lines().rev().filter(serious);
    lines.find_map(|line| {
        let (_, meaning) = PROBLEMS.iter().find(|(words, _)| line.contains(words))?;
        Some((*meaning).to_owned())
    })
}

/// The last message of the log about a failure, in a log to which nothing but the server's own programs has written.
pub(super) fn last_message(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // The last errors only say that the server gives up.
    let says_why = |line: &&&str| {
        line.contains("[ERROR]")
            && !["Aborting", "failed to initialize", "Failed to initialize"].iter().any(|w| line.contains(w))
    };
    let last = lines.iter().rfind(says_why).or(lines.last())?;
    let last = last.find("[ERROR]").map_or(*last, |at| &last[at + "[ERROR]".len()..]);
    Some(last.trim().chars().filter(|c| !c.is_control()).take(400).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_by_what_it_means() {
        let log = "2026-12-01 16:02:36 0 [Note] started\n\
            2026-12-01 16:02:37 7 [ERROR] mariadbd: Disk is full writing './d/Dupont.MYD' (Errcode: 28 \"No space left on device\")\n\
            2026-12-01 16:02:37 0 [ERROR] Dupont\n";
        assert_eq!(trouble(log.as_bytes()).unwrap(), "no space is left on the server's disk");
        assert_eq!(trouble(b"2026-12-01 16:02:37 0 [Note] No space left on device\n"), None);
        assert_eq!(trouble(b"16:02:37 UTC - mysqld got signal 11 ;\n").unwrap(), "the server crashed");
    }

    #[test]
    fn logs_end_with_a_reason() {
        let log = "2026-12-01T16:03:03Z 0 [System] [MY-013169] [Server] in progress\n\
            2026-12-01T16:03:03Z 0 [ERROR] [MY-010457] [Server] --initialize specified but the data directory has files in it.\n\
            2026-12-01T16:03:03Z 0 [ERROR] [MY-010119] [Server] Aborting\n";
        assert_eq!(
            last_message(log.as_bytes()).unwrap(),
            "[MY-010457] [Server] --initialize specified but the data directory has files in it."
        );
        assert_eq!(last_message(b"prlimit: failed to execute\n\n").unwrap(), "prlimit: failed to execute");
        assert_eq!(last_message(b""), None);
    }
}
