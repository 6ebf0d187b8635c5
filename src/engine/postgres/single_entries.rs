//! Makes single entries of an archive by scripts of their own, in a session whose search path is known.
//!
//! `pg_restore` creates everything with an empty search path. What calls functions that look up names of their own fails with that: an
//! index, a check, a materialized view.

use tokio_util::sync::CancellationToken;

use super::archive::Archive;
use super::archive_load::{ArchiveLoad, Outcome, Unrestored};
use super::by_path::ByPath;
use super::complaints::subject;
use super::connect::Session;
use super::contents_list::Rights;
use super::details::Details;
use super::quote::{ident, idents};
use super::server_error::ends_a_session;
use super::session_settings::{SEARCH_PATH, of_role, set_path};
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

/// Makes entries of one archive.
pub(crate) struct SingleEntries<'a> {
    /// Restores the archive.
    pub load: &'a ArchiveLoad<'a>,
    /// The archive.
    pub archive: &'a Archive,
    /// What the snapshot says of its source.
    pub details: &'a Details,
    /// Ends it.
    pub cancel: &'a CancellationToken,
}

/// The statement of every script that empties the search path.
const EMPTY_PATH: &str = "SELECT pg_catalog.set_config('search_path', '', false);";

impl SingleEntries<'_> {
    /// Makes one entry. The outcome names it if that failed, or if it could only be made otherwise than it was.
    pub(super) async fn make(&self, mut entry: Unrestored, attempt: Attempt) -> Result<Outcome> {
        let script = self.load.script(self.archive, &[&entry.line], self.cancel).await?;
        let script = without_client_commands(&raw_text::decode(&script));
        let rights = match is_an_aggregate(&entry.line) && !script.contains("INITCOND") {
            // Nothing of it is evaluated, and only a superuser may make one whose state is of the type `internal`.
            true => Rights::User,
            false => entry.rights,
        };
        let (script, given) = self.without_stranger(script, &entry, rights);
        let session = self.session(rights).await?;
        let Err(error) = self.with_paths(&session, &entry, &script).await? else {
            return self.give(entry, given).await;
        };
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
        Ok(Outcome::failed(entry))
    }

    /// Runs a script with one search path after the other, until it works: the one that leads to the operators that the entry uses, where
    /// the path decides what it means; the empty one; the one of the entry's owner.
    async fn with_paths(
        &self,
        session: &Session,
        entry: &Unrestored,
        script: &str,
    ) -> Result<std::result::Result<(), tokio_postgres::Error>> {
        let operators =
            ByPath::of_line(&self.details.by_path, &entry.line).map(|by_path| idents(&by_path.schemas));
        let paths = [operators, Some(String::new()), self.path_of_owner(entry)];
        let mut tried = Ok(());
        for path in paths.into_iter().flatten() {
            let Some(set) = self.allowed(session, entry, &path).await? else { continue };
            tried = session.client.batch_execute(&script.replacen(EMPTY_PATH, &set, 1)).await;
            if tried.is_ok() {
                break;
            }
        }
        Ok(tried)
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

    /// The search path with which sessions of the entry's owner begin, as far as that is known.
    fn path_of_owner(&self, entry: &Unrestored) -> Option<String> {
        let (_, owner, _) = self.load.owners.named(&entry.line);
        let settings = of_role(&self.details.session, &self.details.globals.settings, owner.as_deref());
        let path = settings.get(SEARCH_PATH).filter(|_| !self.load.no_owners)?;
        Some(path.replace("\"$user\"", &owner.as_deref().map_or("\"$user\"".to_owned(), ident)))
    }

    /// The statement that sets this search path. Where a superuser is the entry's owner, so that functions run with a superuser's
    /// rights, it may only lead to what superusers have made.
    async fn allowed(&self, session: &Session, entry: &Unrestored, path: &str) -> Result<Option<String>> {
        let set = format!("{};", set_path(path));
        let (.., superuser) = self.load.owners.named(&entry.line);
        if path.is_empty() || !(superuser || self.load.no_owners) {
            return Ok(Some(set));
        }
        let leads_to_others = "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_roles r ON r.oid = p.proowner \
             JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
             WHERE n.nspname = ANY (pg_catalog.current_schemas(false)) AND NOT r.rolsuper)";
        session.batch(&set, "set the search path").await?;
        let rows = session.query(leads_to_others, &[]).await?;
        session.batch(&set_path(""), "set the search path").await?;
        let others = rows.first().is_none_or(|row| row.get(0));
        Ok((!others).then_some(set))
    }

    /// The script of an entry whose owner whoever makes it perhaps cannot act for, such as `pg_database_owner`, without the statement
    /// that gives it to that owner; and that statement.
    fn without_stranger(
        &self,
        script: String,
        entry: &Unrestored,
        rights: Rights,
    ) -> (String, Option<String>) {
        let (_, owner, _) = self.load.owners.named(&entry.line);
        let acts = match (rights, self.load.loader) {
            (_, None) => false,
            (Rights::Loader, Some(loader)) => owner.is_none_or(|owner| loader.acts_for(&owner)),
            _ => true,
        };
        if acts { (script, None) } else { without_owner(&script) }
    }

    /// Gives an entry that is there to its owner. Whoever is no superuser may lack the right to.
    async fn give(&self, mut entry: Unrestored, statement: Option<String>) -> Result<Outcome> {
        let Some(statement) = statement else { return Ok(Outcome::default()) };
        let session = self.load.session;
        let Err(error) = session.client.batch_execute(&statement).await else {
            return Ok(Outcome::default());
        };
        let reason = session.cause(&error);
        if self.load.loader.is_none() {
            let warnings = vec![format!("{}: {reason}", subject(&statement))];
            return Ok(Outcome { warnings, failed: Vec::new() });
        }
        (entry.made, entry.reason) = (true, reason);
        Ok(Outcome::failed(entry))
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

/// A script without its statement that changes an owner, and that statement.
fn without_owner(script: &str) -> (String, Option<String>) {
    let is_it =
        |line: &&str| line.starts_with("ALTER ") && line.contains(" OWNER TO ") && line.ends_with(';');
    let Some(statement) = script.lines().find(is_it) else { return (script.to_owned(), None) };
    (script.replacen(statement, "", 1), Some(statement.to_owned()))
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
    fn owners_are_told_from_the_rest() {
        let (script, statement) =
            without_owner("CREATE TABLE s.t ();\n\nALTER TABLE s.t OWNER TO pg_database_owner;\n");
        assert_eq!(script, "CREATE TABLE s.t ();\n\n\n");
        assert_eq!(statement.as_deref(), Some("ALTER TABLE s.t OWNER TO pg_database_owner;"));
        assert_eq!(without_owner("CREATE TABLE s.t ();\n").1, None);
    }

    #[test]
    fn nothing_of_a_script_is_for_psql_alone() {
        let script = "--\n\\restrict abc\nSELECT 1;\n\\unrestrict abc\n";
        assert_eq!(without_client_commands(script), "--\nSELECT 1;\n");
    }
}
