//! What PostgreSQL's tools write to stderr, without data.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::known::Known;
use super::server_error::{ends_everything, words_of_text};
use crate::error::Error;

/// A statement of a tool that failed.
#[derive(Debug, Default)]
pub(crate) struct FailedStatement {
    /// The number of its entry in the archive, if the tool named it.
    pub entry: Option<u32>,
    /// Why, in our words.
    pub reason: String,
    /// Its beginning, which must not be told.
    pub statement: String,
}

/// What a tool wrote to stderr, as far as it is needed.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    /// The first error, in our words.
    pub first: Option<String>,
    /// Failed statements.
    pub statements: Vec<FailedStatement>,
    /// The number of the last entry that the tool named: it names one as soon as something of it fails.
    entry: Option<u32>,
    /// All those numbers. Of two jobs that fail at once, the lines can come mixed.
    pub entries: Vec<u32>,
    /// Something failed that makes everything after it fail too: the connection is lost, a disk is full.
    pub fatal: bool,
    /// There were more failed statements than are kept.
    pub overflow: bool,
    /// The number of error lines: more than failed statements, if something else failed too.
    pub errors: u64,
    /// The tool says that it has gone on without what failed. It does so last, if it came to the end.
    pub went_on: bool,
    at: At,
}

/// What a line goes on with.
#[derive(Debug, Default, PartialEq)]
enum At {
    #[default]
    Nothing,
    /// The server's message of a failed statement. Code of the database writes it, over as many lines as it likes.
    Message,
    /// A failed statement.
    Statement,
}

const LINE_BYTES: usize = 2048;
const STATEMENTS: usize = 2000;

/// How a line of a script begins that has the number of the entry that follows.
const NUMBER: &str = "\n-- TOC entry ";

/// How the message of a failed statement begins.
const FAILED: &str = "could not execute query: ";

/// How the line begins that names an entry, with its number, of which something failed.
const ENTRY: &str = "pg_restore: from TOC entry ";

/// How the line begins that says how much has failed: with several jobs, it counts more than there is.
const WENT_ON: &str = "pg_restore: warning: errors ignored on restore: ";

/// How the lines begin that say what failed.
const ERRORS: [&str; 5] =
    ["pg_restore: error: ", "pg_restore: fatal: ", "pg_dump: error: ", "pg_dump: fatal: ", "setpriv: "];

impl Complaints {
    /// Reads to the end. What is known to be a name may be told.
    pub(super) async fn read(mut stderr: impl AsyncRead + Unpin, known: &Known) -> Self {
        let mut complaints = Self::default();
        let mut line: Vec<u8> = Vec::new();
        let mut buffer = vec![0; 8192];
        while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
            for &byte in &buffer[..n] {
                if byte == b'\n' {
                    complaints.line(&String::from_utf8_lossy(&line), known);
                    line.clear();
                } else if line.len() < LINE_BYTES {
                    line.push(byte);
                }
            }
        }
        complaints.line(&String::from_utf8_lossy(&line), known);
        complaints
    }

    fn line(&mut self, line: &str, known: &Known) {
        if let Some(command) = line.strip_prefix("Command was: ") {
            if let Some(last) = self.statements.last_mut() {
                last.statement = command.to_owned();
                self.at = At::Statement;
            }
            return;
        }
        if self.at == At::Statement && !line.starts_with("pg_restore: ") {
            // Names can contain line feeds, and what follows them says what the statement does.
            if let Some(last) = self.statements.last_mut().filter(|s| s.statement.len() < LINE_BYTES) {
                last.statement.push('\n');
                last.statement.push_str(line);
            }
            return;
        }
        // Two jobs that fail at once write into each other's lines.
        let mixed = line.find(FAILED).filter(|_| line.starts_with("pg_restore:")).map(|at| &line[at..]);
        if self.at == At::Message && mixed.is_none() {
            return;
        }
        self.at = At::Nothing;
        if line.starts_with(WENT_ON) {
            self.went_on = true;
            return;
        }
        if let Some(entry) = line.strip_prefix(ENTRY) {
            self.entry = entry.split(';').next().and_then(|number| number.parse().ok());
            self.entries.extend(self.entry);
            return;
        }
        let Some(message) = ERRORS.iter().find_map(|start| line.strip_prefix(start)).or(mixed) else {
            return;
        };
        let words = words_of_text(message, known);
        self.errors += 1;
        self.went_on = false;
        self.fatal |= ends_everything(message);
        if message.starts_with(FAILED) {
            self.at = At::Message;
            if self.statements.len() == STATEMENTS {
                self.overflow = true;
            } else {
                let failed =
                    FailedStatement { entry: self.entry, reason: words.clone(), statement: String::new() };
                self.statements.push(failed);
            }
        }
        self.first.get_or_insert(words);
    }

    /// Whether every failure is among the failed statements, and the tool came to the end.
    pub(super) fn are_all_statements(&self) -> bool {
        let statements = self.statements.len() as u64;
        statements > 0 && statements == self.errors && self.went_on && !self.fatal && !self.overflow
    }

    /// Finds out which entries the failed statements belong to, from the script of the same entries, in which the tool was asked to
    /// write their numbers.
    pub(super) fn attribute(&mut self, script: &str) {
        for failed in self.statements.iter_mut().filter(|failed| failed.entry.is_none()) {
            let statement = failed.statement.trim_end();
            // Of a long one only the beginning is known, and lines of other jobs may have come into it.
            let known = &statement[..statement.floor_char_boundary(LINE_BYTES - 1)];
            let two_lines = known.match_indices('\n').nth(1).map_or(known, |(end, _)| &known[..end]);
            let beginnings = [known, two_lines].into_iter().filter(|known| !known.is_empty());
            let at = beginnings.filter_map(|known| script.find(known)).next();
            let before = at.and_then(|at| script[..at].rfind(NUMBER).map(|n| &script[n + NUMBER.len()..at]));
            failed.entry = before.and_then(|number| number.split(' ').next()?.parse().ok());
        }
    }

    /// The failure of the tool.
    pub(super) fn error(&self, name: &str, status: &str) -> Error {
        let failed = Error::database(format!("{name} failed ({status})"))
            .remedy("The server's log may say more. Run the command again when the cause is gone.");
        match &self.first {
            Some(first) => failed.cause(first.as_str()),
            None => failed,
        }
    }
}

/// The most characters of a statement that are told.
const SUBJECT: usize = 120;

/// What a statement of an archive is about, on one line and without what may be data: its keywords and names, up to the
/// first literal, expression or list. Statements about rights are names throughout.
pub(super) fn subject(statement: &str) -> String {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let rights = ["GRANT ", "REVOKE ", "ALTER DEFAULT PRIVILEGES "].iter().any(|s| statement.starts_with(s));
    for c in statement.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | ')' if rights => {}
            '\'' | '$' | '(' | '=' | ';' => break,
            c if c.is_whitespace() => {
                words.push(std::mem::take(&mut word));
                continue;
            }
            c if c.is_ascii_digit() && word.is_empty() && !rights => break,
            _ => {}
        }
        word.push(if c.is_whitespace() { ' ' } else { c });
    }
    words.push(word);
    let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches(" IS").trim_end_matches(" CONNECTION");
    let mut short: String = line.chars().take(SUBJECT).collect();
    if line.chars().nth(SUBJECT).is_some() {
        short.push('…');
    }
    format!("could not run {short}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn complaints_keep_no_values() {
        let stderr = "pg_restore: while PROCESSING TOC:\n\
            pg_restore: from TOC entry 215; 1259 16400 TABLE a Dupont\n\
            pg_restore: error: could not execute query: ERROR:  must be owner of table a\n\
            Command was: ALTER TABLE public.a OWNER TO b;\n\
            \n\
            pg_restore: error: COPY failed for table \"x\": ERROR:  invalid input syntax for type integer: \"Dupont\"\n\
            CONTEXT:  COPY x, line 1, column i: \"Dupont\"\n\
            DETAIL:  pg_restore: error: Dupont\n\
            pg_restore: error: could not execute query: ERREUR:  la relation « Dupont » n'existe pas\n\
            pg_restore: error: Dupont\n";
        let known = Known::default();
        known.learn(["public.a"]);
        let complaints = Complaints::read(stderr.as_bytes(), &known).await;
        assert_eq!((complaints.errors, complaints.statements.len()), (3, 2));
        let FailedStatement { entry, reason, statement } = &complaints.statements[0];
        assert_eq!((entry, &complaints.entries[..], complaints.fatal), (&Some(215), &[215][..], false));
        assert!(reason.ends_with("somebody else is the owner: \"a\""), "{reason}");
        assert!(statement.starts_with("ALTER TABLE"));
        assert!(!format!("{complaints:?}").contains("Dupont"));
    }

    #[tokio::test]
    async fn all_failures_are_statements_only_if_the_tool_came_to_the_end() {
        let failed = "pg_restore: error: could not execute query: ERROR:  a\npg_restore: error: b\nCommand was: SELECT 1;\n\n";
        let went_on = format!("{WENT_ON}1\n");
        let other = "pg_restore: error: a worker process died unexpectedly\n";
        for (stderr, all) in [
            (format!("{failed}{went_on}"), true),
            (format!("{failed}{failed}{went_on}"), true),
            (failed.to_owned(), false),
            (format!("{failed}{other}{went_on}"), false),
            (format!("{failed}{went_on}{other}"), false),
            (
                format!(
                    "{failed}pg_restore: error: could not execute query: FATAL:  terminating connection due to administrator command\n{went_on}"
                ),
                false,
            ),
            (went_on.clone(), false),
        ] {
            let complaints = Complaints::read(stderr.as_bytes(), &Known::default()).await;
            assert_eq!(complaints.are_all_statements(), all, "{stderr}");
        }
    }

    #[test]
    fn statements_are_found_in_the_script_that_numbers_them() {
        let script = "--\n\n--\n-- TOC entry 7 (class 1259 OID 1)\n-- Name: i; Type: INDEX\n--\n\nCREATE INDEX i ON s.t USING btree (a);\n\n\n\
            --\n-- TOC entry 12 (class 2606 OID 2)\n--\n\nALTER TABLE ONLY s.t\n    ADD CONSTRAINT k CHECK (a);\n\n";
        let failed =
            |statement: &str| FailedStatement { statement: statement.into(), ..FailedStatement::default() };
        let statements = [
            "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT k CHECK (a);\n\n",
            "CREATE INDEX i ON s.t USING btree (a);\n",
            "ALTER TABLE ONLY s.t\n    ADD CONSTRAINT k CHECK (a);\nWARNING: of another job\n",
            "SET transaction_timeout = 0",
            "",
        ];
        let mut complaints =
            Complaints { statements: statements.map(failed).into(), ..Complaints::default() };
        complaints.attribute(script);
        let entries: Vec<Option<u32>> = complaints.statements.iter().map(|failed| failed.entry).collect();
        assert_eq!(entries, [Some(12), Some(7), Some(12), None, None]);
    }

    #[test]
    fn of_statements_only_keywords_and_names_are_told() {
        for (statement, told) in [
            ("ALTER TABLE public.\"my; t\"\n OWNER TO b;\n", "ALTER TABLE public.\"my; t\" OWNER TO b"),
            (
                "GRANT ALL ON FUNCTION public.f(integer, text) TO b;",
                "GRANT ALL ON FUNCTION public.f(integer, text) TO b",
            ),
            ("COMMENT ON EXTENSION x IS 'Dupont';", "COMMENT ON EXTENSION x"),
            ("CREATE SUBSCRIPTION s CONNECTION 'password=Dupont' PUBLICATION p;", "CREATE SUBSCRIPTION s"),
            (
                "ALTER TABLE ONLY public.t ALTER COLUMN c SET DEFAULT 33612345678;",
                "ALTER TABLE ONLY public.t ALTER COLUMN c SET DEFAULT",
            ),
            (
                "ALTER TABLE ONLY public.t ADD CONSTRAINT k CHECK ((c <> 'Dupont'))",
                "ALTER TABLE ONLY public.t ADD CONSTRAINT k CHECK",
            ),
            ("CREATE FUNCTION public.f() RETURNS text AS $$Dupont$$", "CREATE FUNCTION public.f"),
            ("SET x = Dupont;", "SET x"),
        ] {
            assert_eq!(subject(statement), format!("could not run {told}"));
        }
        assert_eq!(subject(&format!("CREATE VIEW {} AS", "é".repeat(200))).chars().count(), 14 + SUBJECT + 1);
    }
}
