//! Reads from the source what is outside the database but belongs to it.

use super::connect::Session;
use super::database_properties::{Database, DatabaseGrant};
use super::globals::{Globals, Membership, ParameterGrant, Role, Setting};
use super::row::Row;
use crate::error::Result;

/// The relevant roles: those that this database refers to or that have settings in it, its owner and the first
/// superuser; the members of all these (people log in as members); and whatever any of them is a member of.
const ROLE_OIDS: &str = "
WITH RECURSIVE db AS (SELECT oid, datdba FROM pg_database WHERE datname = current_database()),
named(oid) AS (
  SELECT s.refobjid FROM pg_shdepend s, db WHERE s.refclassid = 'pg_authid'::regclass
    AND (s.dbid = db.oid OR (s.dbid = 0 AND s.classid = 'pg_database'::regclass AND s.objid = db.oid))
  UNION SELECT b.subowner FROM pg_subscription b, db WHERE b.subdbid = db.oid
  UNION SELECT datdba FROM db
  UNION SELECT 10::oid
  UNION SELECT s.setrole FROM pg_db_role_setting s, db WHERE s.setdatabase = db.oid AND s.setrole <> 0),
down(oid) AS (
  SELECT oid FROM named
  UNION SELECT m.member FROM down d JOIN pg_roles r ON r.oid = d.oid AND r.rolname !~ '^pg_'
    JOIN pg_auth_members m ON m.roleid = d.oid),
up(oid) AS (
  SELECT oid FROM down UNION SELECT m.roleid FROM up u JOIN pg_auth_members m ON m.member = u.oid)
SELECT array_agg(oid) FROM up";

/// Reads all this under the session's snapshot.
pub(crate) async fn all(session: &Session) -> Result<Globals> {
    let rows = session.query(ROLE_OIDS, &[]).await?;
    let oids: Vec<u32> = rows.first().and_then(|row| row.get::<_, Option<Vec<u32>>>(0)).unwrap_or_default();
    let rows = session.query("SELECT has_table_privilege('pg_authid', 'SELECT')", &[]).await?;
    let passwords = rows.first().is_some_and(|row| row.get(0));
    Ok(Globals {
        roles: roles(session, &oids, passwords).await?,
        memberships: memberships(session, &oids).await?,
        settings: settings(session, &oids).await?,
        parameter_grants: parameter_grants(session, &oids).await?,
        database: database(session).await?,
        passwords,
    })
}

async fn roles(session: &Session, oids: &Vec<u32>, passwords: bool) -> Result<Vec<Role>> {
    let (source, password) = match passwords {
        true => ("pg_authid", "r.rolpassword"),
        false => ("pg_roles", "NULL::text"),
    };
    let sql = format!(
        "SELECT r.rolname::text, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin,
                rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil::text, {password},
                shobj_description(r.oid, 'pg_authid')
         FROM {source} r WHERE r.oid = ANY ($1) AND r.rolname !~ '^pg_' ORDER BY 1"
    );
    let rows = session.query(&sql, &[oids]).await?;
    let role = |row: &Row| Role {
        name: row.get(0),
        superuser: row.get(1),
        inherit: row.get(2),
        create_role: row.get(3),
        create_db: row.get(4),
        login: row.get(5),
        replication: row.get(6),
        bypass_rls: row.get(7),
        connection_limit: row.get(8),
        valid_until: row.get(9),
        password: row.get(10),
        comment: row.get(11),
    };
    Ok(rows.iter().map(role).collect())
}

async fn memberships(session: &Session, oids: &Vec<u32>) -> Result<Vec<Membership>> {
    let options = match session.version.major {
        0..=15 => "NULL::bool, NULL::bool",
        _ => "bool_or(m.inherit_option), bool_or(m.set_option)",
    };
    let sql = format!(
        "SELECT g.rolname::text, r.rolname::text, bool_or(m.admin_option), {options}
         FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
         WHERE m.member = ANY ($1) AND m.roleid = ANY ($1) GROUP BY 1, 2 ORDER BY 1, 2"
    );
    let rows = session.query(&sql, &[oids]).await?;
    let membership = |row: &Row| Membership {
        role: row.get(0),
        member: row.get(1),
        admin: row.get(2),
        inherit: row.get(3),
        set: row.get(4),
    };
    Ok(rows.iter().map(membership).collect())
}

async fn settings(session: &Session, oids: &Vec<u32>) -> Result<Vec<Setting>> {
    let rows = session
        .query(
            "SELECT r.rolname::text, s.setdatabase <> 0, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
             FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
             CROSS JOIN LATERAL unnest(s.setconfig) WITH ORDINALITY u(c, pos)
             WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
               AND (s.setrole = ANY ($1) OR s.setrole = 0)
             ORDER BY 1 NULLS FIRST, 2, u.pos",
            &[oids],
        )
        .await?;
    let setting = |row: &Row| Setting {
        role: row.get(0),
        in_database: row.get(1),
        name: row.get(2),
        value: row.get(3),
    };
    Ok(rows.iter().map(setting).collect())
}

async fn parameter_grants(session: &Session, oids: &Vec<u32>) -> Result<Vec<ParameterGrant>> {
    if session.version.major < 15 {
        return Ok(Vec::new());
    }
    let sql = "SELECT p.parname, r.rolname::text, a.privilege_type, bool_or(a.is_grantable)
               FROM pg_parameter_acl p CROSS JOIN LATERAL aclexplode(p.paracl) a JOIN pg_roles r ON r.oid = a.grantee
               WHERE r.oid = ANY ($1) AND NOT r.rolsuper GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
    let rows = session.query(sql, &[oids]).await?;
    let grant = |row: &Row| ParameterGrant {
        parameter: row.get(0),
        grantee: row.get(1),
        privilege: row.get(2),
        grantable: row.get(3),
    };
    Ok(rows.iter().map(grant).collect())
}

async fn database(session: &Session) -> Result<Database> {
    let (provider, locale, rules, version) = match session.version.major {
        0..=14 => ("'c'", "NULL::text", "NULL::text", "NULL::text"),
        15 => ("datlocprovider", "daticulocale", "NULL::text", "datcollversion"),
        16 => ("datlocprovider", "daticulocale", "daticurules", "datcollversion"),
        _ => ("datlocprovider", "datlocale", "daticurules", "datcollversion"),
    };
    let sql = format!(
        "SELECT datname::text, pg_get_userbyid(datdba)::text, pg_encoding_to_char(encoding)::text,
                datcollate::text, datctype::text,
                CASE {provider}::text WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
                {locale}, {rules}, {version}, datconnlimit, shobj_description(oid, 'pg_database'),
                datacl IS NOT NULL, datistemplate,
                (SELECT spcname::text FROM pg_tablespace t WHERE t.oid = dattablespace AND spcname <> 'pg_default')
         FROM pg_database WHERE datname = current_database()"
    );
    let rows = session.query(&sql, &[]).await?;
    let Some(row) = rows.first() else {
        return Ok(Database::default());
    };
    let grants = match row.get::<_, bool>(11) {
        true => Some(database_grants(session).await?),
        false => None,
    };
    Ok(Database {
        name: row.get(0),
        owner: row.get(1),
        encoding: row.get(2),
        collate: row.get(3),
        ctype: row.get(4),
        locale_provider: row.get(5),
        locale: row.get(6),
        icu_rules: row.get(7),
        collation_version: row.get(8),
        connection_limit: row.get(9),
        comment: row.get(10),
        template: row.get(12),
        tablespace: row.get(13),
        grants,
    })
}

async fn database_grants(session: &Session) -> Result<Vec<DatabaseGrant>> {
    let rows = session
        .query(
            "SELECT CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee)::text END,
                    a.privilege_type, bool_or(a.is_grantable)
             FROM pg_database d CROSS JOIN LATERAL aclexplode(d.datacl) a
             WHERE d.datname = current_database() GROUP BY 1, 2 ORDER BY 1 NULLS FIRST, 2",
            &[],
        )
        .await?;
    let grant =
        |row: &Row| DatabaseGrant { grantee: row.get(0), privilege: row.get(1), grantable: row.get(2) };
    Ok(rows.iter().map(grant).collect())
}
