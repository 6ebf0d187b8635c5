//! Roles and the database's own properties at a destination. What cannot be set becomes a warning.

use std::collections::BTreeSet;

use super::connect::{Session, cause};
use super::globals::{Globals, Role};
use crate::error::Result;

/// Creates the missing roles, and memberships that involve them. Existing roles are left as they are.
pub(crate) async fn create(session: &Session, globals: &Globals) -> Result<Vec<String>> {
    let rows = session.query("SELECT rolname::text FROM pg_roles", &[]).await?;
    let there: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut warnings = Vec::new();
    let mut created = BTreeSet::new();
    for role in globals.roles.iter().filter(|role| !there.contains(&role.name)) {
        if create_role(session, role, &mut warnings).await {
            created.insert(role.name.as_str());
        }
    }
    for membership in &globals.memberships {
        let is_new = |name: &String| created.contains(name.as_str());
        if is_new(&membership.role) || is_new(&membership.member) {
            let sql = membership.grant(session.version.major);
            attempt(session, &sql, &sql, &mut warnings).await;
        }
    }
    // Their settings in all databases are part of the roles that were created.
    for setting in globals.settings.iter().filter(|s| !s.in_database) {
        if setting.role.as_deref().is_some_and(|role| created.contains(role)) {
            let sql = setting.alter("");
            attempt(session, &sql, &sql, &mut warnings).await;
        }
    }
    Ok(warnings)
}

async fn create_role(session: &Session, role: &Role, warnings: &mut Vec<String>) -> bool {
    let name = role.name.escape_debug();
    if let Err(e) = session.client.batch_execute(&role.create(true)).await {
        if let Err(e) = session.client.batch_execute(&role.create(false)).await {
            warnings.push(format!("role \"{name}\" was not created: {}", cause(&e)));
            return false;
        }
        warnings.push(format!("role \"{name}\" was created without its special attributes: {}", cause(&e)));
    }
    if let Some(sql) = role.comment_on() {
        attempt(session, &sql, &format!("comment on role \"{name}\""), warnings).await;
    }
    true
}

/// Gives the database its owner, rights and settings. Its comment is the mark, until the restore is finished.
pub(crate) async fn settle(session: &Session, globals: &Globals, database: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for setting in globals.settings.iter().filter(|s| s.in_database) {
        let sql = setting.alter(database);
        let what = format!("setting {} of the database", setting.name.escape_debug());
        attempt(session, &sql, &what, &mut warnings).await;
    }
    for sql in globals.database.alter(database) {
        attempt(session, &sql, &sql, &mut warnings).await;
    }
    warnings
}

/// Runs a statement. `what` is for people, and holds no secret.
async fn attempt(session: &Session, sql: &str, what: &str, warnings: &mut Vec<String>) {
    if let Err(e) = session.client.batch_execute(sql).await {
        warnings.push(format!("could not set {what}: {}", cause(&e)));
    }
}
