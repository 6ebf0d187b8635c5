//! Names and texts in statements.

/// A name, in backticks.
pub(super) fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A name in a database.
pub(super) fn qualified(database: &str, name: &str) -> String {
    format!("{}.{}", ident(database), ident(name))
}

/// Names with commas between them.
pub(super) fn idents(names: &[String]) -> String {
    names.iter().map(|name| ident(name)).collect::<Vec<_>>().join(", ")
}

/// A text, as it is under any `sql_mode`: where it is no plain word, in hexadecimal digits, with its character set.
pub(super) fn literal(text: &str) -> String {
    match text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-+,.:/ ".contains(&byte)) {
        true => format!("'{text}'"),
        false => format!("_utf8mb4 0x{}", hex::encode(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_quoted_name_or_text() {
        assert_eq!(qualified("a`b", "c.d"), "`a``b`.`c.d`");
        assert_eq!(literal("it's \\"), "_utf8mb4 0x69742773205c");
        assert_eq!(literal("+00:00") + &literal(""), "'+00:00'''");
    }
}
