//! A second attempt at entries of an archive that were not restored: after everything else, and with the search path of the source's
//! own sessions.
//!
//! `pg_restore` creates everything with an empty search path. What calls functions that look up names of their own fails
//! with that: an index, a check, a materialized view. Other things depend on rows of other tables, of which an archive knows nothing.

use tokio_util::sync::CancellationToken;

use super::archive::Archive;
use super::archive_load::{ArchiveLoad, Unrestored};
use super::connect::Session;
use super::contents_list::Rights;
use super::globals::Setting;
use super::quote::ident;
use super::server_error::ends_a_session;
use super::session_settings::{SEARCH_PATH, SessionSettings, of_role, set_path};
use crate::error::Result;
use crate::model::raw_text;

/// How much may be done for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It is made as it was.
    AsItWas,
    /// A constraint that the rows break is made for new rows only.
    ForNewRows,
}

/// Tries entries again.
pub(crate) struct SecondAttempt<'a> {
    /// Restores the archive.
    pub load: &'a ArchiveLoad<'a>,
    /// The archive.
    pub archive: &'a Archive,
    /// The settings of the source's sessions.
    pub session_settings: &'a SessionSettings,
    /// What roles have set for themselves.
    pub settings: &'a [Setting],
    /// Ends it.
    pub cancel: &'a CancellationToken,
}

/// The statement of every script that empties the search path.
const EMPTY_PATH: &str = "SELECT pg_catalog.set_config('search_path', '', false);";

impl SecondAttempt<'_> {
    /// Tries all of them once. Returns what is still not restored.
    pub(super) async fn all(&self, failed: Vec<Unrestored>, attempt: Attempt) -> Result<Vec<Unrestored>> {
        if failed.iter().all(|entry| entry.made) {
            return Ok(failed);
        }
        let loader = self.load.loader;
        if let Some(loader) = loader {
            loader.open_schemas(self.load.session).await?;
            loader.open_tables(self.load.session).await?;
        }
        let mut left = Vec::new();
        for entry in failed {
            left.extend(if entry.made { Some(entry) } else { self.one(entry, attempt).await? });
        }
        if let Some(loader) = loader {
            loader.close(self.load.session).await?;
        }
        Ok(left)
    }

    async fn one(&self, mut entry: Unrestored, attempt: Attempt) -> Result<Option<Unrestored>> {
        let script = self.load.script(self.archive, &[&entry.line], self.cancel).await?;
        let script = without_client_commands(&raw_text::decode(&script));
        let rights = match is_an_aggregate(&entry.line) && !script.contains("INITCOND") {
            // Nothing of it is evaluated, and only a superuser may make one whose state is of the type `internal`.
            true => Rights::User,
            false => entry.rights,
        };
        let session = self.session(rights).await?;
        let Err(mut error) = session.client.batch_execute(&script).await else { return Ok(None) };
        if let Some(path) = self.path(&session, &entry).await? {
            let with_path = script.replacen(EMPTY_PATH, &path, 1);
            match session.client.batch_execute(&with_path).await {
                Ok(()) => return Ok(None),
                Err(other) => error = other,
            }
        }
        if ends_a_session(&error) {
            return Err(session.failed("restore what had failed", &error));
        }
        entry.reason = session.cause(&error);
        entry.elsewhere = reads_elsewhere(&error);
        if attempt == Attempt::ForNewRows
            && let Some(script) = for_new_rows(&script)
            && session.client.batch_execute(&script).await.is_ok()
        {
            entry.made = true;
            entry.reason = format!("it holds for new rows only (NOT VALID): {}", entry.reason);
        }
        Ok(Some(entry))
    }

    /// A session with the rights of an entry.
    async fn session(&self, rights: Rights) -> Result<Session> {
        if let (Rights::Loader, Some(loader)) = (rights, self.load.loader) {
            return loader.session(None, self.cancel).await;
        }
        let session = self.load.connector.connect(self.cancel).await?;
        if let (Rights::User, Some(maker)) = (rights, &self.load.maker) {
            session.batch(&format!("SET ROLE {}", ident(maker)), "act as another role").await?;
        }
        Ok(session)
    }

    /// The statement that sets the search path of the entry's owner. Where a superuser is the owner, so that functions run with a
    /// superuser's rights, it may only lead to what superusers have made. `None` where it cannot be had.
    async fn path(&self, session: &Session, entry: &Unrestored) -> Result<Option<String>> {
        if self.load.no_owners {
            return Ok(None);
        }
        let (_, owner, superuser) = self.load.owners.named(&entry.line);
        let settings = of_role(self.session_settings, self.settings, owner.as_deref());
        let Some(path) = settings.get(SEARCH_PATH) else { return Ok(None) };
        let set = format!("{};", set_path(path));
        let leads_to_others = "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_roles r ON r.oid = p.proowner \
             JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
             WHERE n.nspname = ANY (pg_catalog.current_schemas(false)) AND NOT r.rolsuper)";
        session.batch(&set, "set the search path").await?;
        let rows = session.query(leads_to_others, &[]).await?;
        session.batch(&set_path(""), "set the search path").await?;
        let others = rows.first().is_none_or(|row| row.get(0));
        Ok((!superuser || !others).then_some(set))
    }
}

/// Whether a line of the list is about an aggregate itself.
fn is_an_aggregate(line: &str) -> bool {
    line.split("; ").nth(1).and_then(|entry| entry.split(' ').nth(2)) == Some("AGGREGATE")
}

/// Whether another server could not be reached: connection exceptions, errors of foreign data wrappers, and their refusal to let
/// anybody but a superuser connect without a password (2F003).
fn reads_elsewhere(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else { return false };
    ["08", "HV", "2F003"].iter().any(|start| code.code().starts_with(start))
}

/// The script without what only `psql` understands: recent releases put it between two commands with a random word.
fn without_client_commands(script: &str) -> String {
    let Some(word) = script.lines().find_map(|line| line.strip_prefix("\\restrict ")) else {
        return script.to_owned();
    };
    let commands = [format!("\\restrict {word}"), format!("\\unrestrict {word}")];
    let lines = script.lines().filter(|line| !commands.iter().any(|command| line == command));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The script of a foreign key or a check, for new rows only.
fn for_new_rows(script: &str) -> Option<String> {
    let (start, constraint) = script.split_at(script.find("\n    ADD CONSTRAINT ")?);
    let (constraint, rest) = constraint.split_at(constraint.rfind(";\n")?);
    let kind = [" FOREIGN KEY (", " CHECK ("].iter().any(|kind| constraint.contains(kind));
    (kind && !constraint.ends_with(" NOT VALID")).then(|| format!("{start}{constraint} NOT VALID{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_made_for_new_rows() {
        let key = "-- Name: c; Type: FK CONSTRAINT\n\nALTER TABLE ONLY s.t\n    ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES s.p(id) DEFERRABLE;\n\n--\n";
        let made = for_new_rows(key).unwrap();
        assert!(made.contains("REFERENCES s.p(id) DEFERRABLE NOT VALID;\n"), "{made}");
        assert_eq!(for_new_rows(&made), None);
        for other in [
            "CREATE INDEX i ON s.t (f(a));\n",
            "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT k UNIQUE (a);\n",
            "",
        ] {
            assert_eq!(for_new_rows(other), None, "{other}");
        }
    }

    #[test]
    fn aggregates_are_known_by_their_lines() {
        assert!(is_an_aggregate("215; 1255 16400 AGGREGATE public a(integer) app"));
        assert!(!is_an_aggregate("216; 0 0 COMMENT public AGGREGATE a(integer) app"));
    }

    #[test]
    fn nothing_of_a_script_is_for_psql_alone() {
        let script = "--\n\\restrict abc\nSELECT 1;\n\\unrestrict abc\n";
        assert_eq!(without_client_commands(script), "--\nSELECT 1;\n");
    }
}
