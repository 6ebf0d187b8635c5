//! What `doctor` says about a database.

use tokio_util::sync::CancellationToken;

use super::accounts;
use super::connect::Connector;
use super::definitions;
use super::rights::{self, Rights};
use super::session::{Failure, Session};
use super::tables;
use crate::error::{Error, Result};
use crate::model::check::{Check, CheckState};
use crate::model::engine_kind::EngineKind;
use crate::model::human;

fn check(name: &str, state: CheckState, found: impl Into<String>, remedy: Option<String>) -> Check {
    Check { name: name.to_owned(), state, found: found.into(), remedy }
}

fn failed(name: &str, e: &Error) -> Check {
    check(name, CheckState::Fail, e.to_string(), e.remedy_text().map(str::to_owned))
}

/// Looks at the server, the rights and the tables, without changing or locking anything.
pub(super) async fn check_all(connector: &Connector, refuse: bool, cancel: &CancellationToken) -> Vec<Check> {
    const CONNECTION: &str = "connection";
    let mut session = match connector.connect(cancel).await {
        Ok(session) => session,
        Err(e) => return vec![failed(CONNECTION, &e)],
    };
    let found = format!("{} {}, {}", connector.kind().title(), session.version(), connector.describe());
    let mut checks = vec![check(CONNECTION, CheckState::Ok, found, None)];
    for found in [
        rights(connector, &mut session).await,
        tables(connector, &mut session, refuse).await,
        objects(connector, &mut session).await,
    ] {
        match found {
            Ok(more) => checks.extend(more),
            Err(e) => checks.push(failed("reading", &e)),
        }
    }
    checks
}

/// What the user lacks.
async fn rights(connector: &Connector, session: &mut Session) -> Result<Vec<Check>> {
    const NAME: &str = "rights";
    let rights = Rights::read(session, connector.kind()).await?;
    let missing = rights.missing(connector.database());
    let mut checks: Vec<Check> = missing
        .iter()
        .map(|right| {
            let state = if right.required { CheckState::Fail } else { CheckState::Warn };
            let found = format!("{} is missing, {}", rights.name(right), right.purpose);
            check(NAME, state, found, Some(rights::remedy(rights.name(right), right, connector)))
        })
        .collect();
    if checks.is_empty() {
        checks.push(check(NAME, CheckState::Ok, "the user may read everything", None));
    }
    let user = super::quote::ident(connector.user());
    let accounts = accounts::read(session, connector.database(), connector.kind()).await?;
    checks.push(match accounts.warning {
        None => {
            let number = accounts.accounts.len() as u64;
            let what = human::counted(number, "user or role has rights", "users and roles have rights");
            check("users", CheckState::Ok, format!("{what} in the database"), None)
        }
        Some(why) => {
            let state = match connector.kind() {
                // It shows no routine to whoever may not read this.
                EngineKind::MariaDb => CheckState::Fail,
                _ => CheckState::Warn,
            };
            check("users", state, why, Some(format!("Run: GRANT SELECT ON mysql.* TO {user}@…;")))
        }
    });
    Ok(checks)
}

async fn tables(connector: &Connector, session: &mut Session, refuse: bool) -> Result<Vec<Check>> {
    const NAME: &str = "tables";
    let all = tables::read(session, connector.database()).await?;
    let list = |of: Vec<&tables::Table>| {
        let names: Vec<String> = of.iter().map(|table| table.what()).collect();
        human::first_few(&names, 5)
    };
    let mut unread = Vec::new();
    for table in all.iter().filter(|table| table.has_rows) {
        let sql =
            format!("SELECT 1 FROM {} LIMIT 0", super::quote::qualified(connector.database(), &table.name));
        match session.rows(&sql).await {
            Ok(_) => {}
            Err(Failure::Server(e)) => unread.push(format!("{}: {}", table.name.escape_debug(), e.cause())),
            Err(e) => return Err(session.failed("open a table", e)),
        }
    }
    let mut checks = vec![match unread.is_empty() {
        true => check(NAME, CheckState::Ok, human::counted(all.len() as u64, "table", "tables"), None),
        false => check(
            NAME,
            CheckState::Fail,
            format!("cannot be read: {}", human::first_few(&unread, 5)),
            Some("Grant SELECT on the database to the user of marbre, or repair the tables.".to_owned()),
        ),
    }];
    let others: Vec<&tables::Table> = all.iter().filter(|table| table.is_read_locked()).collect();
    if !others.is_empty() {
        let (state, what) = match refuse {
            true => (CheckState::Fail, "no snapshot while these know no transactions"),
            false => {
                (CheckState::Warn, "writers wait while these are read, because they know no transactions")
            }
        };
        let remedy = "Convert them: ALTER TABLE … ENGINE = InnoDB.".to_owned();
        checks.push(check("transactions", state, format!("{what}: {}", list(others)), Some(remedy)));
    }
    let elsewhere: Vec<&tables::Table> = all.iter().filter(|table| !table.has_rows).collect();
    if !elsewhere.is_empty() {
        let what = format!("rows that belong to other tables or servers are not saved: {}", list(elsewhere));
        checks.push(check(
            "rows elsewhere",
            CheckState::Warn,
            what,
            Some("Save them where they are.".to_owned()),
        ));
    }
    Ok(checks)
}

async fn objects(connector: &Connector, session: &mut Session) -> Result<Vec<Check>> {
    let found = definitions::read(session, connector.database(), connector.kind()).await?;
    let what = human::counted(found.len() as u64, "object", "objects");
    Ok(vec![check("definitions", CheckState::Ok, format!("{what} can be read"), None)])
}
