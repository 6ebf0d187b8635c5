//! Which statements of an archive are about rights only: without them the data is still complete.

/// Statements about owners and rights, or about objects that only a superuser may create: without them the data
/// is still complete.
pub(crate) fn is_about_rights(statement: &str) -> bool {
    const ABOUT: [&str; 13] = [
        "GRANT ",
        "REVOKE ",
        "ALTER DEFAULT PRIVILEGES ",
        "COMMENT ON EXTENSION ",
        "COMMENT ON EVENT TRIGGER ",
        "COMMENT ON PUBLICATION ",
        "COMMENT ON SUBSCRIPTION ",
        "CREATE EVENT TRIGGER ",
        "CREATE PUBLICATION ",
        "CREATE SUBSCRIPTION ",
        "ALTER EVENT TRIGGER ",
        "ALTER PUBLICATION ",
        "ALTER SUBSCRIPTION ",
    ];
    ABOUT.iter().any(|start| statement.starts_with(start)) || changes_owner(statement)
}

/// `ALTER … OWNER TO name;` with nothing after the name.
pub(crate) fn changes_owner(statement: &str) -> bool {
    let Some(at) = statement.rfind(" OWNER TO ") else {
        return false;
    };
    let name = statement[at + " OWNER TO ".len()..].trim_end();
    let Some(name) = name.strip_suffix(';') else {
        return false;
    };
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let quoted = name.len() > 2
        && name.starts_with('"')
        && name.ends_with('"')
        && !name[1..name.len() - 1].replace("\"\"", "").contains('"');
    statement.starts_with("ALTER ") && (plain || quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rights_are_excused() {
        for statement in [
            "ALTER TABLE public.a OWNER TO b;",
            "ALTER TABLE \"new\nline\" OWNER TO \"a \"\"b\";\n\n",
            "GRANT SELECT ON TABLE a TO b;",
            "CREATE EVENT TRIGGER et ON ddl_command_end",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC;",
        ] {
            assert!(is_about_rights(statement), "{statement}");
        }
        for statement in [
            "CREATE TABLE public.a ();",
            "ALTER TABLE ONLY public.a ADD CONSTRAINT p PRIMARY KEY (i);",
            "ALTER TABLE a ADD CONSTRAINT c CHECK (t <> ' OWNER TO b');",
            "",
        ] {
            assert!(!is_about_rights(statement), "{statement}");
        }
    }
}
