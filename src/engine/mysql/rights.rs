//! What the user may do. Of triggers, events and routines that a user may not see, a server says that there are none: so the rights are
//! looked at themselves.

use super::connect::Connector;
use super::session::Session;
use crate::error::{Error, ErrorKind, Result};
use crate::model::engine_kind::EngineKind;

/// A right that reading needs. The first name is MySQL's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Right {
    /// Its name, and others that include it.
    pub names: &'static [&'static str],
    /// It can be given for one database.
    pub of_database: bool,
    /// What it is for.
    pub purpose: &'static str,
    /// There is no snapshot without it.
    pub required: bool,
}

const fn right(
    names: &'static [&'static str],
    of_database: bool,
    required: bool,
    purpose: &'static str,
) -> Right {
    Right { names, of_database, purpose, required }
}

const SELECT: Right = right(&["SELECT"], true, true, "to read tables");
const LOCK_TABLES: Right = right(
    &["LOCK TABLES"],
    true,
    true,
    "to stop all writing to the tables for the moment in which a snapshot begins",
);
const VIEWS: Right = right(&["SHOW VIEW"], true, true, "to see the definitions of views");
const TRIGGERS: Right = right(&["TRIGGER"], true, true, "to see triggers; without it there seem to be none");
const EVENTS: Right = right(&["EVENT"], true, true, "to see events; without it there seem to be none");
const ROUTINES: Right = right(
    &["SHOW_ROUTINE", "SELECT"],
    false,
    true,
    "to see procedures and functions; without it there seem to be none",
);
const PROCESS: Right =
    right(&["PROCESS"], false, true, "to see who waits for a snapshot, or stands in its way");
const POSITION: Right =
    right(&["REPLICATION CLIENT", "BINLOG MONITOR"], false, false, "to know the position in the binary log");

/// What a user may do, as the server writes it.
pub(super) struct Rights {
    kind: EngineKind,
    /// The rights of a grant, and where they hold: `*.*`, or the pattern of a database's name.
    grants: Vec<(Vec<String>, String)>,
}

impl Rights {
    /// Of this session's user, with the roles that are active.
    pub(super) async fn read(session: &mut Session, kind: EngineKind) -> Result<Self> {
        const WHAT: &str = "read the user's own rights";
        let mut sql = "SHOW GRANTS".to_owned();
        if kind == EngineKind::MySql {
            let roles = session.value("SELECT CURRENT_ROLE()", WHAT).await?;
            if let Some(roles) = roles.filter(|roles| roles != "NONE") {
                sql = format!("SHOW GRANTS FOR CURRENT_USER() USING {roles}");
            }
        }
        let rows = session.query(&sql, WHAT).await?;
        let grants = rows.into_iter().filter_map(|mut row| parse(&row.pop().flatten()?)).collect();
        Ok(Self { kind, grants })
    }

    fn has(&self, right: &Right, database: &str) -> bool {
        let everywhere = |scope: &str| scope == "*.*";
        let here = |scope: &str| everywhere(scope) || (right.of_database && matches(scope, database));
        self.grants.iter().filter(|(_, scope)| here(scope)).any(|(rights, scope)| {
            let all =
                |name: &String| name.starts_with("ALL PRIVILEGES") || (name == "SUPER" && everywhere(scope));
            rights.iter().any(|name| all(name) || right.names.contains(&name.as_str()))
        })
    }

    /// What the server calls a right.
    pub(super) fn name(&self, right: &Right) -> &'static str {
        match (self.kind, right.names) {
            (EngineKind::MariaDb, ["REPLICATION CLIENT", other]) => other,
            (_, names) => names[0],
        }
    }

    /// What is missing to read this database.
    pub(super) fn missing(&self, database: &str) -> Vec<Right> {
        let mut all = vec![SELECT, LOCK_TABLES, VIEWS, TRIGGERS, EVENTS, PROCESS, POSITION];
        if self.kind == EngineKind::MySql {
            all.push(ROUTINES);
        }
        all.into_iter().filter(|right| !self.has(right, database)).collect()
    }
}

/// How a missing right is given.
pub(super) fn remedy(name: &str, right: &Right, connector: &Connector) -> String {
    let user = super::quote::ident(connector.user());
    let scope = match right.of_database {
        true => format!("{}.*", super::quote::ident(connector.database())),
        false => "*.*".to_owned(),
    };
    format!("Let the server's administrator run: GRANT {name} ON {scope} TO {user}@…;")
}

/// Fails if there can be no snapshot.
pub(super) async fn refuse(session: &mut Session, connector: &Connector) -> Result<()> {
    let rights = Rights::read(session, connector.kind()).await?;
    let missing: Vec<Right> =
        rights.missing(connector.database()).into_iter().filter(|right| right.required).collect();
    if let Some(first) = missing.first() {
        let all: Vec<String> =
            missing.iter().map(|right| format!("{}, {}", rights.name(right), right.purpose)).collect();
        return Err(Error::new(
            ErrorKind::Preflight,
            format!("the user {} lacks a right", connector.user().escape_debug()),
        )
        .cause(all.join("; "))
        .remedy(remedy(rights.name(first), first, connector)));
    }
    if connector.kind() == EngineKind::MariaDb
        && session.rows("SELECT 1 FROM mysql.proc LIMIT 0").await.is_err()
    {
        return Err(Error::new(
            ErrorKind::Preflight,
            format!("the user {} lacks a right", connector.user().escape_debug()),
        )
        .cause("SELECT on mysql.proc, to see procedures and functions; without it there seem to be none")
        .remedy(format!(
            "Let the server's administrator run: GRANT SELECT ON mysql.* TO {}@…;",
            super::quote::ident(connector.user())
        )));
    }
    Ok(())
}

/// The rights of a grant, and where they hold. `None` for roles and single objects.
fn parse(grant: &str) -> Option<(Vec<String>, String)> {
    let (rights, rest) = grant.strip_prefix("GRANT ")?.split_once(" ON ")?;
    let (scope, _) = rest.split_once(" TO ")?;
    let rights = rights.split(',').map(|right| right.trim().to_owned()).collect();
    let scope = match scope {
        "*.*" => scope.to_owned(),
        _ => scope.strip_prefix('`')?.strip_suffix("`.*")?.replace("``", "`"),
    };
    Some((rights, scope))
}

/// Whether a pattern matches a name, as `LIKE` does.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('%') => name
            .char_indices()
            .map(|(at, _)| &name[at..])
            .chain([""])
            .any(|tail| matches(rest.as_str(), tail)),
        Some('_') => {
            !name.is_empty() && matches(rest.as_str(), &name[name.chars().next().map_or(0, char::len_utf8)..])
        }
        Some(c) => {
            let c = if c == '\\' { rest.next().unwrap_or(c) } else { c };
            name.strip_prefix(c).is_some_and(|tail| matches(rest.as_str(), tail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(grants: &[&str]) -> Rights {
        Rights { kind: EngineKind::MySql, grants: grants.iter().filter_map(|grant| parse(grant)).collect() }
    }

    #[test]
    fn what_is_missing_is_named() {
        let all = [
            "GRANT PROCESS, REPLICATION CLIENT ON *.* TO `m`@`localhost`",
            "GRANT SHOW_ROUTINE ON *.* TO `m`@`localhost`",
            "GRANT SELECT, LOCK TABLES, SHOW VIEW, EVENT, TRIGGER ON `bou\\_tique`.* TO `m`@`localhost`",
            "GRANT `r`@`%` TO `m`@`localhost`",
            "GRANT SELECT (`a`) ON `bou_tique`.`t` TO `m`@`localhost`",
        ];
        assert_eq!(rights(&all).missing("bou_tique"), []);
        let named = |missing: Vec<Right>| missing.iter().map(|right| right.names[0]).collect::<Vec<_>>();
        assert_eq!(
            named(rights(&all).missing("bouxtique")),
            ["SELECT", "LOCK TABLES", "SHOW VIEW", "TRIGGER", "EVENT"]
        );
        assert_eq!(named(rights(&all[..1]).missing("b")).last(), Some(&"SHOW_ROUTINE"));
        assert_eq!(
            rights(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"]).missing("b"),
            []
        );
        assert_eq!(named(rights(&["GRANT ALL PRIVILEGES ON `b%`.* TO `m`@`%`"]).missing("bou")).len(), 3);
    }
}
