//! OpenSSH's patterns (ssh_config(5), "PATTERNS"), as `allowed_signers` uses them.

/// OpenSSH's pattern lists: commas, `*`, `?`, and `!` for exceptions. At least one pattern must match.
pub(super) fn matches_list(list: &str, value: &str) -> bool {
    let mut matched = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), value.as_bytes()) => return false,
            Some(_) => {}
            None => matched |= matches(pattern.as_bytes(), value.as_bytes()),
        }
    }
    matched
}

/// One pattern of `*` and `?` against a value; on a mismatch the last star takes one more byte.
fn matches(pattern: &[u8], value: &[u8]) -> bool {
    let (mut p, mut v, mut star) = (0, 0, None);
    while v < value.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, v));
                p += 1;
            }
            Some(&c) if c == b'?' || c == value[v] => {
                p += 1;
                v += 1;
            }
            _ => {
                let Some((star_p, star_v)) = star else {
                    return false;
                };
                star = Some((star_p, star_v + 1));
                p = star_p + 1;
                v = star_v + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_marks_and_exceptions() {
        for (list, value, expected) in [
            ("agent", "agent", true),
            ("agent", "agents", false),
            ("", "", true),
            ("*", "", true),
            ("a*t", "agent", true),
            ("a*n", "agent", false),
            ("*a*a*b", "aaaaaaaaab", true),
            ("?gent", "gent", false),
            ("x,agent", "agent", true),
            ("!agent,*", "agent", false),
            ("!agent", "other", false),
        ] {
            assert_eq!(matches_list(list, value), expected, "{list} {value}");
        }
        // Would take for ever if every star tried every place again.
        assert!(!matches_list(&"*a".repeat(40), &"a".repeat(39)));
    }
}
