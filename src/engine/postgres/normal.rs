//! The part of a definition that does not change when a server prints it, parses it, and prints it again.

/// A definition without what a server prints differently after parsing it again: white space, brackets, casts, and the case of words.
/// `((status)::text = ANY ((ARRAY['a'::character varying])::text[]))` comes back as
/// `((status)::text = ANY (ARRAY[('a'::character varying)::text]))`. Texts and quoted names stay as they are.
pub(crate) fn normal(text: &str) -> String {
    let mut rest = text;
    let mut out = String::with_capacity(text.len());
    while let Some(c) = rest.chars().next() {
        match c {
            '\'' | '"' => {
                let end = quoted(rest, c, out.ends_with(['E', 'e']));
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            ':' if rest.starts_with("::") => rest = after_type(&rest[2..]),
            '(' | ')' => rest = &rest[1..],
            c if c.is_whitespace() => rest = &rest[c.len_utf8()..],
            c => {
                // Names that have capitals are quoted.
                out.push(c.to_ascii_lowercase());
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

/// Where a quoted text that `text` starts with ends. A doubled quote is part of it.
fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && escapes && quote == '\'' {
            chars.next();
        } else if c == quote {
            match chars.peek() {
                Some((_, next)) if *next == quote => chars.next(),
                _ => return at + c.len_utf8(),
            };
        }
    }
    text.len()
}

/// What follows a type's name: `schema."name"`, `character varying(20)[]`, `timestamp(3) without time zone`.
fn after_type(text: &str) -> &str {
    let mut rest = word(text);
    while let Some(next) = rest.strip_prefix('.') {
        rest = word(next);
    }
    let first = &text[..text.len() - rest.len()];
    if first == "interval" {
        for field in [
            " year",
            " to month",
            " day",
            " to hour",
            " hour",
            " to minute",
            " minute",
            " to second",
            " second",
        ] {
            rest = rest.strip_prefix(field).unwrap_or(rest);
        }
    }
    rest = brackets(rest);
    for more in [" varying", " precision", " with time zone", " without time zone"] {
        rest = rest.strip_prefix(more).unwrap_or(rest);
    }
    rest = brackets(rest);
    while let Some(next) = rest.strip_prefix("[]") {
        rest = next;
    }
    rest
}

/// What follows a name.
fn word(text: &str) -> &str {
    if text.starts_with('"') {
        return &text[quoted(text, '"', false)..];
    }
    text.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '$')
}

/// What follows `(20)` or `(10,2)`; the text itself where it does not start so.
fn brackets(text: &str) -> &str {
    let inner = text.strip_prefix('(').and_then(|inner| inner.split_once(')'));
    match inner {
        Some((numbers, rest)) if numbers.bytes().all(|b| b.is_ascii_digit() || b == b',') => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn expressions_that_were_read_back_are_the_same() {
        for (was, is) in [
            (
                "CHECK (((status)::text = ANY ((ARRAY['a'::character varying, 'b c'::character varying])::text[])))",
                "CHECK (((status)::text = ANY (ARRAY[('a'::character varying)::text, ('b c'::character varying)::text])))",
            ),
            ("'2020-01-01'::timestamp(3) without time zone", "'2020-01-01'"),
            ("'1 day'::interval day to second", "('1 day')"),
            ("(x)::numeric(10,2)[] + 1", "x+1"),
            ("'a'::\"odd name\".\"Type\"(3)", "'a'"),
            ("(a)::double precision", "a"),
            ("a LEFT JOIN b ON TRUE", "a LEFT JOIN b ON (true)"),
        ] {
            assert_eq!(normal(was), normal(is), "{was}");
        }
    }

    #[test]
    fn what_means_something_else_differs() {
        for (a, b) in [
            ("'a b'", "'ab'"),
            ("'a::b'", "'a'"),
            ("\"a b\"", "\"ab\""),
            ("\"True\"", "\"true\""),
            ("'TRUE'", "'true'"),
            ("E'\\'x'", "E'\\'y'"),
            ("'it''s (x)'", "'it''s x'"),
            ("nextval('s'::regclass)", "nextval('t'::regclass)"),
            ("now() - '1 day'::interval", "now() - '2 days'::interval"),
        ] {
            assert_ne!(normal(a), normal(b), "{a}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_normal_form(text in ".{0,40}", quotes in "['\"():a-z ]{0,40}") {
            for text in [text, quotes] {
                let once = normal(&text);
                prop_assert!(!once.is_empty() || !text.chars().any(|c| c.is_alphanumeric()) || text.contains("::"));
            }
        }
    }
}
