//! Users and roles that have rights in one database: nobody else's, and no passwords.

use serde::{Deserialize, Serialize};

use super::definitions::requalified;
use super::quote::{ident, literal};
use super::session::{Failure, Session};
use crate::error::Result;
use crate::model::engine_kind::EngineKind;

/// A user or a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Account {
    /// Its name.
    pub user: String,
    /// From where it may come; empty for a role of MariaDB.
    pub host: String,
    /// What it may do here, as the server writes it.
    pub grants: Vec<String>,
}

impl Account {
    /// As it is written in statements.
    pub(super) fn name(&self) -> String {
        match self.host.is_empty() {
            true => ident(&self.user),
            false => format!("{}@{}", ident(&self.user), ident(&self.host)),
        }
    }
}

/// What was found.
pub(super) struct Found {
    /// All that have rights in the database.
    pub accounts: Vec<Account>,
    /// Why they are not known.
    pub warning: Option<String>,
}

/// Reads who may do what in the database.
pub(super) async fn read(session: &mut Session, database: &str, kind: EngineKind) -> Result<Found> {
    let name = literal(database);
    let sql = format!(
        "SELECT User, Host FROM mysql.db WHERE Db = {name} OR {name} LIKE Db \
         UNION SELECT User, Host FROM mysql.tables_priv WHERE Db = {name} \
         UNION SELECT User, Host FROM mysql.columns_priv WHERE Db = {name} \
         UNION SELECT User, Host FROM mysql.procs_priv WHERE Db = {name} ORDER BY 1, 2"
    );
    let hidden = |why: String| Found {
        accounts: Vec::new(),
        warning: Some(format!(
            "users and their rights in the database are not in the snapshot: {why}; grant SELECT on mysql.* to the user of marbre"
        )),
    };
    let rows = match session.rows(&sql).await {
        Ok(rows) => rows,
        Err(Failure::Server(e)) if e.is_denied() => return Ok(hidden(e.cause())),
        Err(e) => return Err(session.failed("read who may do what", e)),
    };
    let mut accounts = Vec::new();
    for row in rows {
        let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let mut account = Account { user: text(0), host: text(1), grants: Vec::new() };
        // MariaDB's PUBLIC is everybody.
        if kind == EngineKind::MariaDb && account.user == "PUBLIC" && account.host.is_empty() {
            continue;
        }
        let shown = match session.rows(&format!("SHOW GRANTS FOR {}", account.name())).await {
            Ok(shown) => shown,
            // A right of somebody who is not there any more.
            Err(Failure::Server(e)) if e.code == 1141 => continue,
            Err(Failure::Server(e)) if e.is_denied() => return Ok(hidden(e.cause())),
            Err(e) => return Err(session.failed("read the rights of a user", e)),
        };
        let all = shown.into_iter().filter_map(|row| row.into_iter().next().flatten());
        account.grants = all.filter(|grant| concerns(grant, database)).collect();
        if !account.grants.is_empty() {
            accounts.push(account);
        }
    }
    Ok(Found { accounts, warning: None })
}

/// A database's name as a pattern that only it matches.
fn pattern(database: &str) -> String {
    database.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%")
}

/// A grant in another database, also where it names it by a pattern.
pub(super) fn renamed(grant: &str, from: &str, to: &str) -> String {
    requalified(&requalified(grant, &pattern(from), &pattern(to)), from, to)
}

/// A grant as it can be compared: with the database's own name where it is written as a pattern that matches no other, and with
/// columns in the order of their names, which servers keep in no order.
pub(super) fn plain(grant: &str, database: &str) -> String {
    let grant = requalified(grant, &pattern(database), database);
    let parts = grant.split('(').map(|part| match part.split_once(')') {
        Some((columns, rest)) => {
            let mut columns: Vec<&str> = columns.split(", ").collect();
            columns.sort_unstable();
            format!("{}){rest}", columns.join(", "))
        }
        None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("(")
}

/// Whether a grant is one in this database.
fn concerns(grant: &str, database: &str) -> bool {
    [database, &pattern(database)].iter().any(|name| {
        let name = ident(name);
        [" ON ", " ON FUNCTION ", " ON PROCEDURE ", " ON PACKAGE ", " ON PACKAGE BODY ", " ON TABLE "]
            .iter()
            .any(|on| grant.contains(&format!("{on}{name}.")))
    })
}

/// A script for people, without passwords.
pub(super) fn script(accounts: &[Account]) -> String {
    let mut script = String::from(
        "-- Users and roles with rights in this database. Passwords are not among what a snapshot holds: set them.\n",
    );
    for account in accounts {
        let role = if account.host.is_empty() { "ROLE" } else { "USER" };
        script += &format!("CREATE {role} IF NOT EXISTS {};\n", account.name());
        for grant in &account.grants {
            script += &format!("{grant};\n");
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_columns_does_not_count() {
        let of = |columns: &str, name: &str| {
            plain(&format!("GRANT SELECT ({columns}), UPDATE (`v`) ON `{name}`.`t` TO `u`@`%`"), "a_b")
        };
        assert_eq!(of("`b`, `a`", "a\\_b"), of("`a`, `b`", "a_b"));
        assert_ne!(of("`a`", "a_b"), of("`a`, `b`", "a_b"));
    }

    #[test]
    fn only_rights_in_the_database_count() {
        for grant in [
            "GRANT SELECT ON `a_b`.* TO `u`@`%`",
            "GRANT SELECT ON `a\\_b`.* TO `u`@`%`",
            "GRANT SELECT (`x`) ON `a_b`.`t` TO `u`@`%`",
            "GRANT EXECUTE ON FUNCTION `a_b`.`f` TO `u`@`%`",
        ] {
            assert!(concerns(grant, "a_b"), "{grant}");
        }
        for grant in ["GRANT USAGE ON *.* TO `u`@`%`", "GRANT SELECT ON `other`.* TO `a_b`@`%`"] {
            assert!(!concerns(grant, "a_b"), "{grant}");
        }
    }
}
