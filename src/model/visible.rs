//! Makes visible what a text hides: names, messages and records come from databases, programs and other people, and could
//! steer a terminal, or turn the text around them.

use std::borrow::Cow;
use std::fmt::Write;

use super::raw_text;

/// Whether a character is not seen, or changes how the text around it is seen: what controls terminals (C0, DEL, C1), the
/// marks that change a text's direction, and what has no width.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line, with whatever is hidden in it written out as `\u001b`, and bytes that are no UTF-8 as `\xe9`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    written_out(text, |c| is_hidden(c) || raw_text::byte(c).is_some())
}

/// The same for several lines: line feeds and tabs stay. A JSON document stays the same document, because in JSON this is
/// another way to write the same characters.
pub(crate) fn visible_lines(text: &str) -> Cow<'_, str> {
    written_out(text, |c| is_hidden(c) && c != '\n' && c != '\t')
}

fn written_out(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if !hidden(c) {
            out.push(c);
        } else if let Some(byte) = raw_text::byte(c) {
            let _ = write!(out, "\\x{byte:02x}");
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_hidden_is_written_out() {
        for (text, shown) in [
            ("plain, é, 漢字, ✓", "plain, é, 漢字, ✓"),
            ("\u{1b}[31mred\u{7f}", "\\u001b[31mred\\u007f"),
            ("\u{9b}31m \u{202e}evil\u{2069}", "\\u009b31m \\u202eevil\\u2069"),
            ("a\u{200b}b\u{e0041}", "a\\u200bb\\udb40\\udc41"),
            ("abonn\u{10fee9}s", "abonn\\xe9s"),
            ("two\r\nlines\t", "two\\u000d\\u000alines\\u0009"),
        ] {
            assert_eq!(visible(text), shown);
        }
        assert_eq!(visible_lines("two\r\nlines\t"), "two\\u000d\nlines\t");
    }

    proptest! {
        #[test]
        fn a_json_document_stays_the_same(text in "\\PC{0,10}[\\x00-\\x1f\u{7f}-\u{a0}\u{200b}-\u{206f}\u{e0041}]{0,5}\\PC{0,10}") {
            let document = serde_json::json!({ "text": text });
            for printed in [document.to_string(), serde_json::to_string_pretty(&document).unwrap()] {
                let shown = visible_lines(&printed).into_owned();
                prop_assert!(shown.chars().all(|c| c == '\n' || !is_hidden(c)));
                prop_assert_eq!(&serde_json::from_str::<serde_json::Value>(&shown).unwrap(), &document);
            }
        }
    }
}
