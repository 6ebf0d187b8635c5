//! How everything in a database is defined, in the server's own words.

use serde::{Deserialize, Serialize};

use super::quote::{ident, literal};
use super::session::{Failure, Row, Session};
use crate::error::{Error, Result};
use crate::model::engine_kind::EngineKind;

/// A kind of object. In the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// MariaDB's.
    Sequence,
    /// A table.
    Table,
    /// A stored function.
    Function,
    /// A stored procedure.
    Procedure,
    /// A package of MariaDB's Oracle mode.
    Package,
    /// Its body.
    PackageBody,
    /// A view.
    View,
    /// A trigger.
    Trigger,
    /// A scheduled event.
    Event,
}

impl Kind {
    /// As it is written in statements.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Sequence => "SEQUENCE",
            Self::Table => "TABLE",
            Self::Function => "FUNCTION",
            Self::Procedure => "PROCEDURE",
            Self::Package => "PACKAGE",
            Self::PackageBody => "PACKAGE BODY",
            Self::View => "VIEW",
            Self::Trigger => "TRIGGER",
            Self::Event => "EVENT",
        }
    }

    /// For people.
    pub(super) fn word(self) -> String {
        self.sql().to_ascii_lowercase()
    }

    /// Where the statement, the settings and the time zone are in what SHOW CREATE answers.
    fn columns(self) -> (usize, Option<usize>, Option<usize>) {
        match self {
            Self::Sequence | Self::Table => (1, None, None),
            Self::View => (1, None, Some(2)),
            Self::Function | Self::Procedure | Self::Package | Self::PackageBody | Self::Trigger => {
                (2, Some(1), Some(3))
            }
            Self::Event => (3, Some(1), Some(4)),
        }
    }

    /// The right without which a server shows no statement.
    fn right(self) -> &'static str {
        match self {
            Self::View => "SHOW VIEW",
            Self::Trigger => "TRIGGER",
            Self::Event => "EVENT",
            Self::Sequence | Self::Table => "SELECT",
            _ => "SELECT on *.* (MySQL: SHOW_ROUTINE; MariaDB 11.3 and later: SHOW CREATE ROUTINE)",
        }
    }
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definition {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The statement that makes it.
    pub create: String,
    /// The `sql_mode` under which it is to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_mode: Option<String>,
    /// The character set of the client that made it, and the collation of its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<(String, String)>,
    /// It could not be used in the source either: it refers to what is not there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub broken: bool,
    /// The time zone of an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

impl Definition {
    /// For people.
    pub(super) fn what(&self) -> String {
        format!("{} {}", self.kind.word(), self.name.escape_debug())
    }

    /// As whom it runs, as it is written in statements: a user, or a role of MariaDB.
    pub(super) fn definer(&self) -> Option<&str> {
        let rest = self.create.strip_prefix("CREATE ")?;
        let rest = if rest.starts_with("ALGORITHM=") { rest.split_once(' ')?.1 } else { rest };
        let rest = rest.strip_prefix("DEFINER=").filter(|rest| rest.starts_with('`'))?;
        let user = quoted(rest, '`');
        match rest[user..].strip_prefix('@').filter(|host| host.starts_with('`')) {
            Some(host) => Some(&rest[..user + 1 + quoted(host, '`')]),
            None => Some(&rest[..user]),
        }
    }

    /// The settings under which it is made.
    pub(super) fn settings(&self) -> String {
        // A table's own defaults may be of any age.
        let mode = self.sql_mode.as_deref().unwrap_or("");
        let zone = self.time_zone.as_deref().unwrap_or("+00:00");
        let (charset, collation) =
            self.client.clone().unwrap_or_else(|| ("utf8mb4".to_owned(), "utf8mb4_general_ci".to_owned()));
        format!(
            "SET SESSION sql_mode = {}, SESSION time_zone = {}, SESSION character_set_client = {}, SESSION collation_connection = {}",
            literal(mode),
            literal(zone),
            literal(&charset),
            literal(&collation),
        )
    }
}

/// All objects of the database, by kind and name; triggers in the order in which they fire.
pub(super) async fn read(session: &mut Session, database: &str, kind: EngineKind) -> Result<Vec<Definition>> {
    let mut all = Vec::new();
    for (kind, name) in names(session, database, kind).await? {
        let Some(definition) = show(session, database, kind, &name).await? else { continue };
        let broken = kind == Kind::View && is_broken(session, database, &name).await?;
        all.push(Definition { broken, ..definition });
    }
    Ok(all)
}

async fn names(session: &mut Session, database: &str, kind: EngineKind) -> Result<Vec<(Kind, String)>> {
    let schema = literal(database);
    let mut names = Vec::new();
    let tables = format!(
        "SELECT TABLE_TYPE, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} ORDER BY TABLE_NAME"
    );
    let routines = format!(
        "SELECT ROUTINE_TYPE, ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {schema} ORDER BY ROUTINE_NAME"
    );
    let triggers = format!(
        "SELECT 'TRIGGER', TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {schema} \
         ORDER BY EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER"
    );
    let events = format!(
        "SELECT 'EVENT', EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {schema} ORDER BY EVENT_NAME"
    );
    for sql in [tables, routines, triggers, events] {
        for row in session.query(&sql, "list the objects of the database").await? {
            let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
            let of = match text(0).as_str() {
                "BASE TABLE" | "SYSTEM VERSIONED" => Kind::Table,
                "VIEW" => Kind::View,
                "SEQUENCE" if kind == EngineKind::MariaDb => Kind::Sequence,
                "FUNCTION" => Kind::Function,
                "PROCEDURE" => Kind::Procedure,
                "PACKAGE" => Kind::Package,
                "PACKAGE BODY" => Kind::PackageBody,
                "TRIGGER" => Kind::Trigger,
                "EVENT" => Kind::Event,
                // Tables of a session belong to nobody else.
                "TEMPORARY" | "TEMPORARY SEQUENCE" => continue,
                other => {
                    return Err(Error::preflight(format!(
                        "{} is a {other}, which this version of marbre cannot read",
                        text(1).escape_debug()
                    ))
                    .remedy("Use a newer version of marbre."));
                }
            };
            names.push((of, text(1)));
        }
    }
    // Stable: triggers stay in their order.
    names.sort_by_key(|(kind, _)| *kind);
    Ok(names)
}

/// Whether a view refers to what is not there. Asking for its columns reads none of its rows.
async fn is_broken(session: &mut Session, database: &str, view: &str) -> Result<bool> {
    match session.rows(&format!("SHOW COLUMNS FROM {}.{}", ident(database), ident(view))).await {
        Err(Failure::Server(e)) => Ok([1054, 1146, 1305, 1356].contains(&e.code)),
        Ok(_) => Ok(false),
        Err(e) => Err(session.failed("look at a view", e)),
    }
}

/// One object; `None` if it is gone.
async fn show(session: &mut Session, database: &str, kind: Kind, name: &str) -> Result<Option<Definition>> {
    let sql = format!("SHOW CREATE {} {}.{}", kind.sql(), ident(database), ident(name));
    let what = format!("read the definition of {} {}", kind.word(), name.escape_debug());
    let rows = session.query(&sql, &what).await?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    definition(kind, name, &row).map(Some)
}

fn definition(kind: Kind, name: &str, row: &Row) -> Result<Definition> {
    let text = |at: usize| row.get(at).cloned().flatten();
    let (create, mode, client) = kind.columns();
    let Some(create) = text(create) else {
        return Err(Error::preflight(format!(
            "the definition of {} {} is hidden from this user",
            kind.word(),
            name.escape_debug()
        ))
        .remedy(format!("Grant {} to the user of marbre.", kind.right())));
    };
    let sql_mode = mode.and_then(text);
    let verbatim = sql_mode.as_deref().is_some_and(|mode| mode.contains("NO_BACKSLASH_ESCAPES"));
    let create = match kind {
        Kind::Event if verbatim => with_verbatim_comment(&create).unwrap_or(create),
        _ => create,
    };
    let client = client.and_then(|at| Some((text(at)?, text(at + 1)?)));
    Ok(Definition {
        kind,
        name: name.to_owned(),
        create,
        sql_mode,
        client,
        broken: false,
        time_zone: text(2).filter(|_| kind == Kind::Event),
    })
}

/// The statement of an event whose `sql_mode` takes backslashes as they are: servers escape its comment with them all the same.
fn with_verbatim_comment(create: &str) -> Option<String> {
    const COMMENT: &str = " COMMENT '";
    let options = create.find(" ON COMPLETION ")?;
    let start = options + create[options..].find(COMMENT)? + COMMENT.len();
    let (mut comment, mut rest) = (String::new(), create[start..].chars());
    loop {
        match rest.next()? {
            '\\' => comment.push(match rest.next()? {
                '0' => '\0',
                'n' => '\n',
                'r' => '\r',
                other => other,
            }),
            '\'' if !rest.as_str().starts_with('\'') => break,
            '\'' => {
                rest.next();
                comment += "''";
            }
            other => comment.push(other),
        }
    }
    Some(format!("{}{comment}'{}", &create[..start], rest.as_str()))
}

/// A table's statement without its counter, and the counter. It is an option behind the last column or key.
pub(super) fn without_counter(create: &str) -> (String, Option<u64>) {
    let Some(last) = create.rfind("\n) ").filter(|_| create.starts_with("CREATE")) else {
        return (create.to_owned(), None);
    };
    let (head, tail) = create.split_at(last);
    // A comment that is like it comes later: options have an order.
    let options = tail.find(" DEFAULT CHARSET=").unwrap_or(tail.len());
    let Some(at) = tail[..options].find(" AUTO_INCREMENT=") else { return (create.to_owned(), None) };
    let value = &tail[at + " AUTO_INCREMENT=".len()..];
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    match value[..digits].parse() {
        Ok(counter) => (format!("{head}{}{}", &tail[..at], &value[digits..]), Some(counter)),
        Err(_) => (create.to_owned(), None),
    }
}

/// A statement with the names of one database replaced by another's, where the server has written them in full.
pub(super) fn requalified(text: &str, from: &str, to: &str) -> String {
    let (from, to) = (format!("{}.", ident(from)), format!("{}.", ident(to)));
    if from == to || !text.contains(&from) {
        return text.to_owned();
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(&from) {
            out += &to;
            rest = after;
            continue;
        }
        let length = match first {
            '\'' | '"' | '`' => quoted(rest, first),
            other => other.len_utf8(),
        };
        out += &rest[..length];
        rest = &rest[length..];
    }
    out
}

/// How long the quoted text at the beginning is, in bytes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            // A doubled quote begins another text, which is copied as well.
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_of_a_table_is_no_part_of_its_definition() {
        let create = "CREATE TABLE `t` (\n  `id` int COMMENT '\\n) AUTO_INCREMENT=1',\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB AUTO_INCREMENT=42 DEFAULT CHARSET=utf8mb4 COMMENT=' AUTO_INCREMENT=7'";
        let (without, counter) = without_counter(create);
        assert_eq!(counter, Some(42));
        assert!(
            without.contains(") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT=' AUTO_INCREMENT=7'"),
            "{without}"
        );
        assert_eq!(without_counter(&without), (without.clone(), None));
    }

    #[test]
    fn the_comment_of_an_event_is_as_it_was_written() {
        let event = r"CREATE DEFINER=`a b`@`%` EVENT `e` ON SCHEDULE AT '2037-12-31' ON COMPLETION PRESERVE COMMENT 'it''s\\ a\nb' DO SELECT 'a\\b'";
        let found = with_verbatim_comment(event).unwrap();
        assert!(found.ends_with("COMMENT 'it''s\\ a\nb' DO SELECT 'a\\\\b'"), "{found}");
        let definition = Definition {
            kind: Kind::Event,
            name: "e".into(),
            create: event.into(),
            sql_mode: None,
            client: None,
            broken: false,
            time_zone: None,
        };
        assert_eq!(definition.definer(), Some("`a b`@`%`"));
    }

    #[test]
    fn names_in_full_are_moved_to_another_database_but_texts_are_not() {
        let view =
            "select `old`.`f`(`t`.`a`) AS `x`,'`old`.`f` it''s' AS `old`,\"`old`.\" from `t` join `old`.`u`";
        assert_eq!(
            requalified(view, "old", "new"),
            "select `new`.`f`(`t`.`a`) AS `x`,'`old`.`f` it''s' AS `old`,\"`old`.\" from `t` join `new`.`u`"
        );
    }
}
