//! Text of which nobody knows the encoding, as text that everything here can hold.
//!
//! A database can hold bytes in its names that are no UTF-8: its encoding may be `SQL_ASCII`, which means any bytes at all,
//! or it may have bytes without a character. Each such byte becomes one character of a private range, and becomes that byte
//! again on its way to the server. Nothing is lost, and two different names stay different.

use std::borrow::Cow;

/// The character of byte 0; only those from 0x80 on are used.
const BASE: u32 = 0x0010_FE00;
/// The first three bytes of such characters in UTF-8, of the lower and the upper half.
const LOWER: [u8; 3] = [0xF4, 0x8F, 0xBA];
const UPPER: [u8; 3] = [0xF4, 0x8F, 0xBB];

/// The byte that this character stands for.
pub(crate) fn byte(c: char) -> Option<u8> {
    let offset = u32::from(c).checked_sub(BASE)?;
    u8::try_from(offset).ok().filter(|byte| *byte >= 0x80)
}

/// Whether any byte in this text is not UTF-8.
pub(crate) fn has_raw(text: &str) -> bool {
    text.contains(|c| byte(c).is_some())
}

/// The text of these bytes.
pub(crate) fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match byte(c) {
                None => text.push(c),
                // A character of our private range that is really there must not become one byte.
                Some(_) => push_bytes(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        push_bytes(&mut text, chunk.invalid());
    }
    text
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    text.extend(bytes.iter().filter_map(|byte| char::from_u32(BASE + u32::from(*byte))));
}

/// The bytes of this text.
pub(crate) fn encode(text: &str) -> Cow<'_, [u8]> {
    encode_bytes(text.as_bytes())
}

/// The bytes of text that is in UTF-8.
pub(crate) fn encode_bytes(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memmem::find(text, &LOWER[..2]).is_none() {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let high = match rest {
            [a, b, c, last, ..] if [*a, *b, *c] == LOWER => Some(*last),
            [a, b, c, last, ..] if [*a, *b, *c] == UPPER => Some(*last | 0x40),
            _ => None,
        };
        bytes.push(high.unwrap_or(first));
        rest = if high.is_some() { &rest[4..] } else { after };
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_bytes_that_are_no_utf8_are_escaped() {
        assert_eq!(decode("Abonnés".as_bytes()), "Abonnés");
        let latin = decode(b"abonn\xe9s");
        assert!(has_raw(&latin) && !has_raw("Abonnés"));
        assert_eq!(encode(&latin).as_ref(), b"abonn\xe9s");
        // The character that would stand for a byte, as text of the database.
        let private = "x\u{10fe80}";
        assert_ne!(decode(private.as_bytes()), private);
        assert_eq!(encode(&decode(private.as_bytes())).as_ref(), private.as_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0xF4), Just(0x8F), Just(0xBA)], 0..40)) {
            let text = decode(&bytes);
            prop_assert_eq!(encode(&text).into_owned(), bytes);
        }
    }
}
