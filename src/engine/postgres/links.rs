//! How a database reaches other servers: its subscriptions, and the options of its user mappings. Both hold passwords, so not
//! everybody may read them, and `pg_dump` leaves out what it may not read: marbre reads them itself, and adds at the destination what
//! the archive did not bring.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::connect::Session;
use super::quote::{ident_line, literal_line};
use super::row::Row;
use crate::engine::LoadReport;
use crate::error::Result;
use crate::model::omission::Omission;

/// Subscriptions and user mappings, as far as they could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Links {
    /// Subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// User mappings.
    pub user_mappings: Vec<UserMapping>,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscription {
    /// Name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// How its publisher is reached.
    pub connection: String,
    /// Its slot there.
    pub slot: Option<String>,
    /// What it subscribes to.
    pub publications: Vec<String>,
    /// Further options, each as `name = value`.
    pub options: Vec<String>,
    /// COMMENT.
    pub comment: Option<String>,
}

/// A user mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserMapping {
    /// The foreign server.
    pub server: String,
    /// Whose; none for PUBLIC.
    pub user: Option<String>,
    /// Its options, each as `name=value`.
    pub options: Vec<String>,
}

impl UserMapping {
    fn name(&self) -> String {
        mapping_name(&self.server, self.user.as_deref())
    }

    fn is_of(&self, other: &Self) -> bool {
        (&self.server, &self.user) == (&other.server, &other.user)
    }
}

fn mapping_name(server: &str, user: Option<&str>) -> String {
    format!("{} at {server}", user.unwrap_or("PUBLIC"))
}

/// What the session may read, and what it may not.
pub(crate) struct Read {
    /// What it may.
    pub links: Links,
    /// What it may not.
    pub omitted: Vec<Omission>,
}

/// The subscriptions of this database.
const HERE: &str = "s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Reads everything that this session may.
pub(crate) async fn read(session: &Session, user: &str) -> Result<Read> {
    let rows = session
        .query(
            "SELECT has_column_privilege('pg_subscription', 'subconninfo', 'SELECT'),
                    has_table_privilege('pg_user_mapping', 'SELECT')",
            &[],
        )
        .await?;
    let (may_subscriptions, may_mappings) =
        rows.first().map_or((false, false), |row| (row.get(0), row.get(1)));
    let mut read = Read { links: Links::default(), omitted: Vec::new() };
    let mut omit = |kind: &str, names: Vec<String>, why: &str, catalogue: &str| {
        if !names.is_empty() {
            let grant = format!("GRANT SELECT ON pg_catalog.{catalogue} TO {}", ident_line(user));
            let remedy = format!(
                "Run {grant} in this database as a superuser, or GRANT pg_read_all_data (14 and newer)."
            );
            read.omitted.push(Omission { kind: kind.into(), names, why: why.into(), remedy });
        }
    };
    match may_subscriptions {
        true => read.links.subscriptions = subscriptions(session).await?,
        false => omit(
            "subscription",
            hidden_subscriptions(session).await?,
            "how they reach their publishers may not be read, and without that pg_dump leaves them out",
            "pg_subscription",
        ),
    }
    match may_mappings {
        true => read.links.user_mappings = user_mappings(session).await?,
        false => omit(
            "options of a user mapping",
            hidden_mappings(session).await?,
            "they may not be read",
            "pg_user_mapping",
        ),
    }
    Ok(read)
}

async fn hidden_subscriptions(session: &Session) -> Result<Vec<String>> {
    let sql = format!("SELECT s.subname::text FROM pg_subscription s WHERE {HERE} ORDER BY 1");
    Ok(session.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Those whose options the view `pg_user_mappings` does not show this user: it says NULL, as for a mapping without options.
async fn hidden_mappings(session: &Session) -> Result<Vec<String>> {
    let sql = "SELECT m.srvname::text, NULLIF(m.usename, 'public')::text FROM pg_user_mappings m
               JOIN pg_foreign_server s ON s.oid = m.srvid
               WHERE m.umoptions IS NULL
                 AND NOT (m.umuser <> 0 AND m.usename = current_user
                   AND (pg_has_role(s.srvowner, 'USAGE') OR has_server_privilege(s.oid, 'USAGE')))
                 AND NOT (m.umuser = 0 AND pg_has_role(s.srvowner, 'USAGE')) ORDER BY 1, 2";
    let rows = session.query(sql, &[]).await?;
    let name = |row: &Row| mapping_name(&row.get::<_, String>(0), row.get::<_, Option<String>>(1).as_deref());
    Ok(rows.iter().map(name).collect())
}

/// Options of a subscription that have come with a major version; those that are as a new subscription has them are left out.
const OPTIONS: [(u32, &str); 9] = [
    (
        0,
        "CASE WHEN s.subsynccommit <> 'off' THEN 'synchronous_commit = ' || quote_literal(s.subsynccommit) END",
    ),
    (14, "CASE WHEN s.subbinary THEN 'binary = true' END"),
    (15, "CASE WHEN s.subtwophasestate <> 'd' THEN 'two_phase = true' END"),
    (15, "CASE WHEN s.subdisableonerr THEN 'disable_on_error = true' END"),
    (16, "CASE WHEN NOT s.subpasswordrequired THEN 'password_required = false' END"),
    (16, "CASE WHEN s.subrunasowner THEN 'run_as_owner = true' END"),
    (16, "CASE WHEN s.suborigin <> 'any' THEN 'origin = ' || quote_literal(s.suborigin) END"),
    // What is the default has changed in 18.
    (16, "'streaming = ' || CASE s.substream WHEN 't' THEN 'on' WHEN 'p' THEN 'parallel' ELSE 'off' END"),
    (17, "CASE WHEN s.subfailover THEN 'failover = true' END"),
];

async fn subscriptions(session: &Session) -> Result<Vec<Subscription>> {
    let major = session.version.major;
    let mut options: Vec<&str> =
        OPTIONS.iter().filter(|(since, _)| major >= *since).map(|(_, sql)| *sql).collect();
    if (14..16).contains(&major) {
        options.push("'streaming = ' || CASE WHEN s.substream THEN 'on' ELSE 'off' END");
    }
    let sql = format!(
        "SELECT s.subname::text, pg_get_userbyid(s.subowner)::text, s.subconninfo, s.subslotname::text, s.subpublications,
                obj_description(s.oid, 'pg_subscription'), array_remove(ARRAY[{}]::text[], NULL)
         FROM pg_subscription s WHERE {HERE} ORDER BY 1",
        options.join(", ")
    );
    let rows = session.query(&sql, &[]).await?;
    let subscription = |row: &Row| Subscription {
        name: row.get(0),
        owner: row.get(1),
        connection: row.get(2),
        slot: row.get(3),
        publications: row.get(4),
        comment: row.get(5),
        options: row.get(6),
    };
    Ok(rows.iter().map(subscription).collect())
}

async fn user_mappings(session: &Session) -> Result<Vec<UserMapping>> {
    let sql =
        "SELECT s.srvname::text, CASE m.umuser WHEN 0 THEN NULL ELSE pg_get_userbyid(m.umuser)::text END,
                      COALESCE(m.umoptions, '{}')
               FROM pg_user_mapping m JOIN pg_foreign_server s ON s.oid = m.umserver ORDER BY 1, 2";
    let rows = session.query(sql, &[]).await?;
    let mapping = |row: &Row| UserMapping { server: row.get(0), user: row.get(1), options: row.get(2) };
    Ok(rows.iter().map(mapping).collect())
}

impl Subscription {
    /// The statement that makes it, disabled: it connects nowhere.
    fn create(&self) -> String {
        let slot = self.slot.as_deref().map_or("NONE".to_owned(), literal_line);
        let publications: Vec<String> = self.publications.iter().map(|name| ident_line(name)).collect();
        let options: Vec<String> = ["connect = false".to_owned(), format!("slot_name = {slot}")]
            .into_iter()
            .chain(self.options.iter().cloned())
            .collect();
        format!(
            "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH ({})",
            ident_line(&self.name),
            literal_line(&self.connection),
            publications.join(", "),
            options.join(", ")
        )
    }
}

impl Subscription {
    fn shown(&self) -> impl std::fmt::Display {
        self.name.escape_debug()
    }

    /// The statement that sets its comment, and what that is.
    fn comment_on(&self) -> Option<(String, String)> {
        let comment = literal_line(self.comment.as_ref()?);
        let sql = format!("COMMENT ON SUBSCRIPTION {} IS {comment}", ident_line(&self.name));
        Some((format!("the comment on subscription {}", self.shown()), sql))
    }

    /// The statement that gives it to its owner, and what that is.
    fn give(&self) -> (String, String) {
        let sql =
            format!("ALTER SUBSCRIPTION {} OWNER TO {}", ident_line(&self.name), ident_line(&self.owner));
        (format!("the owner of subscription {}, {}", self.shown(), self.owner.escape_debug()), sql)
    }
}

impl UserMapping {
    /// The statement that gives it the options that one without these ones lacks.
    fn complete(&self, here: &[String]) -> Option<String> {
        let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
        let there: BTreeSet<String> = here.iter().map(|option| name(option)).collect();
        let missing = self.options.iter().filter(|option| !here.contains(option)).map(|option| {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let verb = if there.contains(name) { "SET" } else { "ADD" };
            format!("{verb} {} {}", ident_line(name), literal_line(value))
        });
        let missing: Vec<String> = missing.collect();
        let user = self.user.as_deref().map_or("PUBLIC".to_owned(), ident_line);
        (!missing.is_empty()).then(|| {
            format!(
                "ALTER USER MAPPING FOR {user} SERVER {} OPTIONS ({})",
                ident_line(&self.server),
                missing.join(", ")
            )
        })
    }
}

impl Links {
    /// All of it as a script for people, one statement per line. marbre itself never runs it.
    pub(super) fn script(&self) -> String {
        let mut statements: Vec<String> = self.user_mappings.iter().filter_map(|m| m.complete(&[])).collect();
        for subscription in &self.subscriptions {
            statements.push(subscription.create());
            statements.extend(subscription.comment_on().map(|(_, sql)| sql));
            statements.push(subscription.give().1);
        }
        statements.iter().map(|sql| format!("{sql};\n")).collect()
    }

    /// Makes what an archive did not bring, and gives subscriptions to their owners. What cannot be made is reported.
    pub(super) async fn complete(&self, session: &Session, report: &mut LoadReport) -> Result<()> {
        if self.subscriptions.is_empty() && self.user_mappings.is_empty() {
            return Ok(());
        }
        let here = read(session, "").await?.links;
        for subscription in &self.subscriptions {
            let there = here.subscriptions.iter().find(|s| s.name == subscription.name);
            let mut statements = Vec::new();
            if there.is_none() {
                statements.push((format!("subscription {}", subscription.shown()), subscription.create()));
                statements.extend(subscription.comment_on());
            }
            if there.is_none_or(|there| there.owner != subscription.owner) {
                match may_own(session, &subscription.owner).await? {
                    true => statements.push(subscription.give()),
                    false => report.left_out.push(format!(
                        "subscription {}: its owner {}, who is no superuser here",
                        subscription.shown(),
                        subscription.owner.escape_debug()
                    )),
                }
            }
            attempt_all(session, statements, &mut report.warnings).await;
        }
        for mapping in &self.user_mappings {
            let options = here.user_mappings.iter().find(|here| here.is_of(mapping)).map(|m| &m.options);
            let none = Vec::new();
            if let Some(sql) = mapping.complete(options.unwrap_or(&none)) {
                let what = format!("the options of user mapping {}", mapping.name().escape_debug());
                attempt_all(session, vec![(what, sql)], &mut report.warnings).await;
            }
        }
        Ok(())
    }

    /// What differs in a restored database, and what could not be compared, in words.
    pub(super) async fn differences(
        &self,
        session: &Session,
        source_major: u32,
    ) -> Result<(Vec<String>, Vec<String>)> {
        let same_release = session.version.major == source_major;
        let Read { links: here, omitted } = read(session, "").await?;
        let excused = omitted.iter().map(|o| format!("{} could not be compared", o.what())).collect();
        let unseen = |kind: &str| omitted.iter().any(|o| o.kind == kind);
        let mut differences = Vec::new();
        for was in self.subscriptions.iter().filter(|_| !unseen("subscription")) {
            let name = was.name.escape_debug();
            match here.subscriptions.iter().find(|is| is.name == was.name) {
                None => differences.push(format!("subscription {name} is missing")),
                // Who may own one depends on the roles that a restore makes: the load has reported it.
                Some(is) if is.same_as(was, same_release) => {}
                Some(_) => {
                    differences.push(format!("subscription {name} is defined differently from the snapshot"))
                }
            }
        }
        for was in self.user_mappings.iter().filter(|_| !unseen("options of a user mapping")) {
            let name = was.name();
            let options = |of: &UserMapping| of.options.iter().cloned().collect::<BTreeSet<String>>();
            let same =
                here.user_mappings.iter().find(|is| is.is_of(was)).map(|is| options(is) == options(was));
            if same != Some(true) {
                let what =
                    if same.is_none() { "is missing" } else { "has other options than in the snapshot" };
                differences.push(format!("user mapping {} {what}", name.escape_debug()));
            }
        }
        Ok((differences, excused))
    }
}

impl Subscription {
    /// Apart from its owner. Options have other defaults on a server of another release, and `pg_dump` does not say all of them.
    fn same_as(&self, other: &Self, same_release: bool) -> bool {
        let normal = |s: &Self| {
            let mut s = Self { owner: String::new(), ..s.clone() };
            s.publications.sort();
            s.options.sort();
            s.options.retain(|_| same_release);
            s
        };
        normal(self) == normal(other)
    }
}

/// Whether a role may own a subscription: before 16, only a superuser may.
async fn may_own(session: &Session, role: &str) -> Result<bool> {
    let rows = session.query("SELECT rolsuper FROM pg_roles WHERE rolname = $1::text", &[&role]).await?;
    Ok(rows.first().is_some_and(|row| session.version.major >= 16 || row.get(0)))
}

/// Runs statements until one fails. They hold secrets, so only what is meant is told.
async fn attempt_all(session: &Session, statements: Vec<(String, String)>, failed: &mut Vec<String>) {
    for (what, sql) in statements {
        if let Err(e) = session.client.batch_execute(&sql).await {
            failed.push(format!("could not set {what}: {}", session.cause(&e)));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_made_without_connecting() {
        let subscription = Subscription {
            name: "s\"".into(),
            owner: "o".into(),
            connection: "host=h password='it''s'".into(),
            slot: None,
            publications: vec!["p".into(), "Q".into()],
            options: vec!["binary = true".into()],
            comment: None,
        };
        assert_eq!(
            subscription.create(),
            "CREATE SUBSCRIPTION \"s\"\"\" CONNECTION 'host=h password=''it''''s''' PUBLICATION \"p\", \"Q\" \
             WITH (connect = false, slot_name = NONE, binary = true)"
        );
    }

    #[test]
    fn a_user_mapping_gets_what_it_lacks() {
        let mapping = UserMapping {
            server: "far".into(),
            user: None,
            options: vec!["user=u".into(), "password=a=b".into(), "x=".into()],
        };
        assert_eq!(
            mapping.complete(&["user=other".into()]).as_deref(),
            Some(
                "ALTER USER MAPPING FOR PUBLIC SERVER \"far\" OPTIONS (SET \"user\" 'u', ADD \"password\" 'a=b', ADD \"x\" '')"
            )
        );
        assert_eq!(mapping.complete(&mapping.options), None);
    }
}
