//! Names and texts as SQL.

/// An identifier, always in quotes: `a"b` as `"a""b"`.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.name`, both quoted.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// A comma-separated list of quoted identifiers.
pub(crate) fn idents(names: &[String]) -> String {
    names.iter().map(|name| ident(name)).collect::<Vec<_>>().join(", ")
}

/// A string constant whose meaning does not depend on `standard_conforming_strings`.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// An identifier on one line: control characters are written as Unicode escapes.
pub(crate) fn ident_line(name: &str) -> String {
    if !has_control(name) {
        return ident(name);
    }
    let mut out = String::from("U&\"");
    for c in name.chars() {
        match c {
            '"' => out.push_str("\"\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A string constant on one line: control characters are written as escapes.
pub(crate) fn literal_line(text: &str) -> String {
    if !has_control(text) {
        return literal(text);
    }
    let mut out = String::from("E'");
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_always_quoted() {
        assert_eq!(ident("a"), "\"a\"");
        assert_eq!(ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(qualified("My schema", "x;--"), "\"My schema\".\"x;--\"");
        assert_eq!(idents(&["a".into(), "B\"".into()]), "\"a\", \"B\"\"\"");
    }

    #[test]
    fn literals_hold_quotes_and_backslashes() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(literal("é\n"), "'é\n'");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(ident_line("plain"), "\"plain\"");
        assert_eq!(ident_line("a\nb\"\\"), "U&\"a\\000Ab\"\"\\\\\"");
        assert_eq!(literal_line("a\n'\\\t"), "E'a\\u000A''\\\\\\u0009'");
        assert_eq!(literal_line("\u{85}"), "E'\\u0085'");
    }
}
