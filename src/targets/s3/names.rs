//! Names in listings. They are asked for with `encoding-type=url`, because XML cannot hold every character that a key may
//! have; then the server encodes them, and which characters it encodes is its own choice: AWS leaves `/` as it is, others
//! do not.

/// A name as it was put, from what a listing says.
///
/// A server that knows nothing of the encoding sends names as they are. That changes none of ours, which hold neither `%`
/// nor `+`.
pub(super) fn decoded(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = || std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok();
        let code = || escaped().filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match (byte, (*byte == b'%').then(code).flatten()) {
            (_, Some(hex)) => {
                plain.extend(u8::from_str_radix(hex, 16));
                at += 2;
            }
            // As in forms: a plus sign itself is `%2B`.
            (b'+', None) => plain.push(b' '),
            (other, None) => plain.push(*other),
        }
        at += 1;
    }
    // What is no UTF-8 is no key of ours.
    String::from_utf8(plain).unwrap_or_else(|_| name.to_owned())
}

/// Whether a listing means this key.
pub(super) fn is_named(name: Option<&str>, key: &str) -> bool {
    name.is_some_and(|name| decoded(name) == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_whatever_a_server_encodes() {
        for (said, name) in [
            ("a/b-c_d.e", "a/b-c_d.e"),
            ("a%2Fb%2fc", "a/b/c"),
            ("%61%2D%2e", "a-."),
            ("two+words%2B%20more", "two words+ more"),
            ("%C3%A9t%C3%A9", "\u{e9}t\u{e9}"),
            // Not encoded, or not well.
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz%+1", "%zz% 1"),
            ("%\u{e9}", "%\u{e9}"),
            ("%FF", "%FF"),
            ("", ""),
        ] {
            assert_eq!(decoded(said), name, "{said}");
        }
        assert!(is_named(Some("a%2Fb"), "a/b") && !is_named(Some("a%2Fbc"), "a/b") && !is_named(None, "a"));
    }
}
