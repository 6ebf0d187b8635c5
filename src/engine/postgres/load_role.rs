//! The role that loads whatever may run the database's own code: functions in checks, domains, generated columns, keys of partitions,
//! casts in foreign keys. It is no superuser, so that such code gets no other rights than those of the database's owners.
//!
//! `SET ROLE` alone would not do: code that runs in a superuser's session takes those rights back with `RESET ROLE`. So the role
//! logs in itself, with a password that lives as long as the load. It is a member of the roles that own the objects, and acts as
//! the owner of a table while its rows are loaded.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Session};
use super::event_triggers;
use super::globals::Globals;
use super::quote::{ident, idents, literal, qualified};
use super::relations::OWN_SCHEMA;
use crate::error::{ErrorKind, Result};

/// The role, while a database is loaded.
pub(crate) struct LoadRole {
    name: String,
    /// The database, as a superuser.
    admin: Connector,
    /// The database, as this role; `None` if the server does not let it in.
    own: Option<Connector>,
    /// The roles that it is a member of.
    owners: BTreeSet<String>,
    /// Objects that were opened to it, with their rights before.
    opened: Mutex<Vec<Opened>>,
    /// Statements that take back what other roles may do for a while.
    stand_ins: Mutex<Vec<String>>,
}

/// The server's roles that may read and write everything, since 14.
const ALL_DATA: [&str; 2] = ["pg_read_all_data", "pg_write_all_data"];

impl LoadRole {
    /// The role's name for a database. A load that was killed leaves it, and the next one replaces it.
    pub(super) fn name(database: &str) -> String {
        format!("marbre_load_{}", &blake3::hash(database.as_bytes()).to_hex()[..12])
    }

    /// Makes the role. `session` is a superuser's, in the database that `admin` names. Roles that are superusers here are
    /// nobody's to act for.
    pub(super) async fn create(
        session: &Session,
        admin: &Connector,
        globals: &Globals,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let name = Self::name(admin.database());
        let password: SecretString = hex::encode(rand::random::<[u8; 32]>()).into();
        let role = ident(&name);
        // Row security must not hide a row from a check of a foreign key; triggers must not fire for rows that are loaded.
        let create = format!(
            "DROP ROLE IF EXISTS {role}; \
             CREATE ROLE {role} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS PASSWORD {}; \
             ALTER ROLE {role} SET session_replication_role = replica{}",
            literal(password.expose_secret()),
            match session.version.major {
                event_triggers::SINCE.. => format!("; ALTER ROLE {role} {}", event_triggers::OFF_FOR_ROLE),
                _ => String::new(),
            }
        );
        session.batch(&create, "make a role that loads without a superuser's rights").await?;
        let rows = session.query("SELECT rolname::text FROM pg_roles WHERE NOT rolsuper", &[]).await?;
        let plain: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        let of_snapshot = globals.roles.iter().map(|role| &role.name);
        let owners: BTreeSet<String> =
            of_snapshot.filter(|name| plain.contains(*name) && !name.starts_with("pg_")).cloned().collect();
        let all_data = ALL_DATA.into_iter().filter(|name| plain.contains(*name));
        let member_of: Vec<String> = owners.iter().cloned().chain(all_data.map(str::to_owned)).collect();
        if !member_of.is_empty() {
            let grant = format!("GRANT {} TO {role}", idents(&member_of));
            session.batch(&grant, "let the loading role act for the owners").await?;
        }
        let own = admin.with_user(&name, password);
        let own = match own.connect(cancel).await {
            Ok(_) => Some(own),
            Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
            Err(_) => None,
        };
        Ok(Self {
            name,
            admin: admin.clone(),
            own,
            owners,
            opened: Mutex::default(),
            stand_ins: Mutex::default(),
        })
    }

    /// Lets roles that were superusers at the source, and were created without that, do in this database what they could: a
    /// materialized view of theirs is filled with their rights. Members of theirs cannot be members the other way round.
    pub(super) async fn stand_in(
        &self,
        session: &Session,
        globals: &Globals,
        created: &BTreeSet<String>,
    ) -> Result<()> {
        let superusers = globals.roles.iter().filter(|role| role.superuser && created.contains(&role.name));
        for superuser in superusers.filter(|role| self.owners.contains(&role.name)) {
            let others = self.owners.iter().filter(|name| **name != superuser.name).map(String::as_str);
            for other in ALL_DATA.into_iter().chain(others) {
                let has = "SELECT pg_has_role($1, $2, 'MEMBER') OR pg_has_role($2, $1, 'MEMBER')
                           WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = $2)";
                let rows = session.query(has, &[&superuser.name, &other]).await?;
                if rows.first().is_none_or(|row| row.get::<_, bool>(0)) {
                    continue;
                }
                let (group, member) = (ident(other), ident(&superuser.name));
                session
                    .batch(&format!("GRANT {group} TO {member}"), "let a role stand in for a superuser")
                    .await?;
                let back = format!("REVOKE {group} FROM {member}");
                self.stand_ins.lock().unwrap_or_else(PoisonError::into_inner).push(back);
            }
        }
        Ok(())
    }

    /// What people should know.
    pub(super) fn warning(&self) -> Option<String> {
        self.own.is_none().then(|| {
            format!(
                "the server lets no role in by a password at {}: code of the database that does so on purpose could take the rights of {} \
                 back while it is loaded. Restore with a URL that takes passwords (host=127.0.0.1), or as a role that is no superuser",
                self.admin.describe(),
                self.admin.user().escape_debug(),
            )
        })
    }

    /// Whether it may act as this role.
    pub(super) fn acts_for(&self, owner: &str) -> bool {
        self.owners.contains(owner)
    }

    /// The connection for client tools, and the role that they must switch to.
    pub(super) fn connector(&self) -> (&Connector, Option<&str>) {
        match &self.own {
            Some(own) => (own, None),
            None => (&self.admin, Some(&self.name)),
        }
    }

    /// A session that acts as `owner`, or as the role itself.
    pub(super) async fn session(&self, owner: Option<&str>, cancel: &CancellationToken) -> Result<Session> {
        let (connector, switch) = self.connector();
        let session = connector.connect(cancel).await?;
        for role in switch.into_iter().chain(owner) {
            session.batch(&format!("SET ROLE {}", ident(role)), "act as the owner").await?;
        }
        Ok(session)
    }

    /// Lets the role make tables in every schema, and give them to their owners: for that, an owner must be able to make
    /// some there. The rights of the snapshot are set later.
    pub(super) async fn open_schemas(&self, session: &Session) -> Result<()> {
        let sql = format!(
            "SELECT n.oid, n.nspname::text, n.nspacl::text, pg_get_userbyid(n.nspowner)::text FROM pg_namespace n WHERE {OWN_SCHEMA}"
        );
        for row in session.query(&sql, &[]).await? {
            let (schema, owner): (String, String) = (row.get(1), row.get(3));
            let others = self.owners.iter().chain([&self.name]).filter(|name| **name != owner);
            let others: Vec<String> = others.cloned().collect();
            self.open(
                session,
                Opened {
                    rights: "USAGE, CREATE",
                    object: format!("SCHEMA {}", ident(&schema)),
                    to: idents(&others),
                    exactly: exactly("pg_namespace", "nspacl", row.get(0), row.get(2)),
                },
            )
            .await?;
        }
        for (catalogue, name, rights, object) in [
            ("pg_foreign_server", "srv", "USAGE", "FOREIGN SERVER"),
            ("pg_tablespace", "spc", "CREATE", "TABLESPACE"),
        ] {
            let sql = format!(
                "SELECT oid, {name}name::text, {name}acl::text FROM {catalogue} WHERE {name}name !~ '^pg_'"
            );
            for row in session.query(&sql, &[]).await? {
                let to = ident(&self.name);
                let exactly = exactly(catalogue, &format!("{name}acl"), row.get(0), row.get(2));
                let object = format!("{object} {}", ident(&row.get::<_, String>(1)));
                self.open(session, Opened { rights, object, to, exactly }).await?;
            }
        }
        Ok(())
    }

    /// Lets the role refer to every table, as a foreign key must: its owner may have given that right away.
    pub(super) async fn open_tables(&self, session: &Session) -> Result<()> {
        let sql = format!(
            "SELECT c.oid, n.nspname::text, c.relname::text, c.relacl::text
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p') AND {OWN_SCHEMA} AND NOT has_table_privilege($1, c.oid, 'REFERENCES')"
        );
        for row in session.query(&sql, &[&self.name]).await? {
            let (schema, table): (String, String) = (row.get(1), row.get(2));
            self.open(
                session,
                Opened {
                    rights: "REFERENCES",
                    object: format!("TABLE {}", qualified(&schema, &table)),
                    to: ident(&self.name),
                    exactly: exactly("pg_class", "relacl", row.get(0), row.get(3)),
                },
            )
            .await?;
        }
        Ok(())
    }

    async fn open(&self, session: &Session, object: Opened) -> Result<()> {
        if self.opened().iter().any(|opened| opened.object == object.object) {
            return Ok(());
        }
        let grant = format!("GRANT {} ON {} TO {}", object.rights, object.object, object.to);
        session.batch(&grant, "open an object to the loading role").await?;
        self.opened().push(object);
        Ok(())
    }

    /// Takes back what was opened: everything has exactly the rights that it had.
    pub(super) async fn close(&self, session: &Session) -> Result<()> {
        let opened = std::mem::take(&mut *self.opened());
        for Opened { rights, object, to, exactly } in opened {
            let sql = format!("REVOKE {rights} ON {object} FROM {to}; {exactly}");
            session.batch(&sql, "close an object to the loading role").await?;
        }
        Ok(())
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Vec<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the role that makes what only a superuser can, where everything will belong to another role than the user: of the
    /// server's first superuser nobody can say what is theirs.
    pub(super) async fn make_maker(&self, session: &Session) -> Result<()> {
        let sql = format!("{}; CREATE ROLE {} SUPERUSER NOLOGIN", self.drop_maker(), ident(&self.maker()));
        session.batch(&sql, "make a role that owns for a while").await
    }

    /// The name of that role.
    pub(super) fn maker(&self) -> String {
        self.name.replacen("marbre_load", "marbre_make", 1)
    }

    fn drop_maker(&self) -> String {
        format!("DROP ROLE IF EXISTS {}", ident(&self.maker()))
    }

    /// Gives what both roles have made, and what was given to no other, to `owner`, or to the user of the session.
    pub(super) async fn give_up(&self, session: &Session, owner: Option<&str>) -> Result<()> {
        let to = owner.map_or("CURRENT_USER".to_owned(), ident);
        let mut from = vec![self.name.clone()];
        from.extend(owner.map(|_| self.maker()));
        let sql = format!("REASSIGN OWNED BY {} TO {to}", idents(&from));
        session.batch(&sql, "give the objects to their owner").await
    }

    /// Removes the role. Returns what people should know.
    pub(super) async fn remove(&self, session: &Session) -> Option<String> {
        let stand_ins = std::mem::take(&mut *self.stand_ins.lock().unwrap_or_else(PoisonError::into_inner));
        for sql in stand_ins {
            // Where it fails, the role itself is gone.
            let _gone = session.client.batch_execute(&sql).await;
        }
        let sql = format!("{}; DROP ROLE {}", self.drop_maker(), ident(&self.name));
        let removed = session.batch(&sql, "remove the loading role").await;
        removed.err().map(|e| {
            format!(
                "the role {}, which loaded the database, could not be removed ({e}): look at what it owns, which code of the database made",
                self.name
            )
        })
    }
}

/// Rights that the role, or others with it, were given for a while.
struct Opened {
    rights: &'static str,
    object: String,
    to: String,
    /// The statement that sets the object's rights to exactly what they were: otherwise what was not set would now be set to
    /// what it is without being set.
    exactly: String,
}

fn exactly(catalogue: &str, column: &str, oid: u32, rights: Option<String>) -> String {
    let rights = rights.map_or("NULL".to_owned(), |rights| format!("{}::aclitem[]", literal(&rights)));
    format!("UPDATE {catalogue} SET {column} = {rights} WHERE oid = {oid}")
}
