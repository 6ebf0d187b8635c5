//! Roles and the database's own properties at a destination. What cannot be set becomes a warning.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::connect::Session;
use super::globals::{Globals, Membership, ParameterGrant, Role};
use super::quote::ident;
use crate::engine::{LoadReport, Roles};
use crate::error::Result;

/// Creates the missing roles, and memberships that involve them. Existing roles are left as they are. Returns those that were created.
pub(crate) async fn create(
    session: &Session,
    globals: &Globals,
    rule: &Roles,
    report: &mut LoadReport,
) -> Result<BTreeSet<String>> {
    if let Roles::None { .. } = rule {
        return Ok(BTreeSet::new());
    }
    let rows = session.query("SELECT rolname::text FROM pg_roles", &[]).await?;
    let there: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut created = BTreeSet::new();
    for role in globals.roles.iter().filter(|role| !there.contains(&role.name)) {
        let role = match rule {
            Roles::AsTheyWere => Cow::Borrowed(role),
            _ => Cow::Owned(role.plain()),
        };
        if create_role(session, &role, &mut report.warnings).await {
            created.insert(role.name.clone());
        }
    }
    let made = |name: &String| created.contains(name);
    let new = globals.memberships.iter().filter(|m| made(&m.role) || made(&m.member));
    for membership in new.filter(|m| is_made(m, rule)) {
        let sql = membership.grant(session.version.major);
        attempt(session, &sql, &sql, &mut report.warnings).await;
    }
    // Their settings in all databases are part of the roles that were created.
    for setting in globals.settings.iter().filter(|s| !s.in_database) {
        if setting.role.as_ref().is_some_and(made) {
            let sql = setting.alter("");
            let what = format!("setting {} of a role", setting.name.escape_debug());
            attempt(session, &sql, &what, &mut report.warnings).await;
        }
    }
    of_the_server(session, globals, rule, &made, report).await?;
    report.left_out.extend(left_out(globals, rule, |role| made(&role.name)));
    Ok(created)
}

/// Settings of all roles, and rights on parameters: they change the whole server, and what is set there already stays.
async fn of_the_server(
    session: &Session,
    globals: &Globals,
    rule: &Roles,
    made: &impl Fn(&String) -> bool,
    report: &mut LoadReport,
) -> Result<()> {
    let sql =
        "SELECT split_part(c, '=', 1) FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) c
               WHERE s.setdatabase = 0 AND s.setrole = 0";
    let rows = session.query(sql, &[]).await?;
    let there: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let everywhere = globals.settings.iter().filter(|s| s.role.is_none() && !s.in_database);
    // Values may be secrets, names are not.
    let everywhere = everywhere
        .filter(|s| !there.contains(&s.name))
        .map(|s| (format!("setting {} of all roles", s.name.escape_debug()), s.alter("")));
    let grants = globals.parameter_grants.iter().filter(|g| made(&g.grantee)).map(ParameterGrant::grant);
    for (what, sql) in everywhere.chain(grants.map(|sql| (sql.clone(), sql))) {
        match rule {
            Roles::AsTheyWere => attempt(session, &sql, &what, &mut report.warnings).await,
            _ => report.left_out.push(what),
        }
    }
    Ok(())
}

/// Whether a membership is made: those in the server's own roles (`pg_execute_server_program`, `pg_read_all_data`) are rights over
/// the whole server.
fn is_made(membership: &Membership, rule: &Roles) -> bool {
    *rule == Roles::AsTheyWere || !membership.role.starts_with("pg_")
}

/// What a rule leaves out of these roles, in words.
fn left_out(globals: &Globals, rule: &Roles, of: impl Fn(&Role) -> bool) -> Vec<String> {
    if *rule != Roles::Plain {
        return Vec::new();
    }
    let of_role = |role: &Role| {
        let mut without: Vec<String> = role.beyond_plain().iter().map(ToString::to_string).collect();
        let memberships = globals.memberships.iter().filter(|m| m.member == role.name && !is_made(m, rule));
        without.extend(memberships.map(|m| format!("membership in {}", m.role.escape_debug())));
        (!without.is_empty())
            .then(|| format!("role \"{}\": {}", role.name.escape_debug(), without.join(", ")))
    };
    globals.roles.iter().filter(|role| of(role)).filter_map(of_role).collect()
}

/// What would be made, in words.
pub(crate) fn plan(globals: &Globals, rule: &Roles) -> Vec<String> {
    let names = |roles: Vec<&Role>| {
        let names: Vec<String> =
            roles.iter().map(|role| format!("\"{}\"", role.name.escape_debug())).collect();
        names.join(", ")
    };
    if globals.roles.is_empty() {
        return Vec::new();
    }
    match rule {
        Roles::None { owner } => {
            let owner = owner.as_ref().map_or("the user of the destination".to_owned(), |name| {
                format!("role \"{}\"", name.escape_debug())
            });
            vec![format!("no role is made, everything belongs to {owner}, grants are left out")]
        }
        _ => {
            let mut lines = vec![format!(
                "roles that are made where they are missing: {}",
                names(globals.roles.iter().collect())
            )];
            lines.extend(left_out(globals, rule, |_| true).iter().map(|what| format!("left out: {what}")));
            lines
        }
    }
}

/// Gives everything of the database that is the user's own to another role. Returns what could not be given: an owner must be able
/// to make objects in their schema.
pub(crate) async fn give_everything(session: &Session, owner: &str, database: &str) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let owner = ident(owner);
    for row in session.query(OWNED, &[]).await? {
        let object: String = row.get(0);
        attempt(
            session,
            &format!("{object} OWNER TO {owner}"),
            &format!("the owner of {object}"),
            &mut warnings,
        )
        .await;
    }
    let of_database = format!("ALTER DATABASE {} OWNER TO {owner}", ident(database));
    attempt(session, &of_database, "the owner of the database", &mut warnings).await;
    Ok(warnings)
}

/// `ALTER … name` for every object that the user has made here, and that has an owner of its own. What belongs to another object
/// (the sequence of an identity column, the type of a table's rows, members of an extension) follows it.
const OWNED: &str = "SELECT format('ALTER %s %s', upper(i.type), i.identity)
    FROM pg_shdepend s CROSS JOIN LATERAL pg_identify_object(s.classid, s.objid, 0) i
    WHERE s.deptype = 'o' AND s.refclassid = 'pg_authid'::regclass
      AND s.refobjid = (SELECT oid FROM pg_roles WHERE rolname = current_user)
      AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE (d.classid, d.objid) = (s.classid, s.objid) AND d.deptype IN ('e', 'i', 'a'))
      AND i.type NOT IN ('default acl', 'user mapping', 'extension')
    ORDER BY s.classid <> 'pg_namespace'::regclass";

async fn create_role(session: &Session, role: &Role, warnings: &mut Vec<String>) -> bool {
    let name = role.name.escape_debug();
    if let Err(e) = session.client.batch_execute(&role.create(true)).await {
        if let Err(e) = session.client.batch_execute(&role.create(false)).await {
            warnings.push(format!("role \"{name}\" was not created: {}", session.cause(&e)));
            return false;
        }
        warnings.push(format!(
            "role \"{name}\" was created without its special attributes: {}",
            session.cause(&e)
        ));
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
    warnings.extend(globals.database.left());
    warnings
}

/// Runs a statement. `what` is for people, and holds no secret.
async fn attempt(session: &Session, sql: &str, what: &str, warnings: &mut Vec<String>) {
    if let Err(e) = session.client.batch_execute(sql).await {
        warnings.push(format!("could not set {what}: {}", session.cause(&e)));
    }
}
