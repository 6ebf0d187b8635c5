//! What PostgreSQL's tools write to stderr, without data.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::known::Known;
use super::server_error::words_of_text;
use crate::error::Error;

/// What a tool wrote to stderr, as far as it is needed.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    /// The first error, in our words.
    pub first: Option<String>,
    /// Failed statements: the reason in our words, and the beginning of the statement, which must not be told.
    pub statements: Vec<(String, String)>,
    /// There were more failed statements than are kept.
    pub overflow: bool,
    /// The number of error lines: more than failed statements, if something else failed too.
    pub errors: u64,
    in_statement: bool,
}

const LINE_BYTES: usize = 2048;
const STATEMENTS: usize = 2000;

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
                last.1 = command.to_owned();
                self.in_statement = true;
            }
            return;
        }
        if self.in_statement && !line.starts_with("pg_restore: ") {
            // Names can contain line feeds, and what follows them says what the statement does.
            if let Some(last) = self.statements.last_mut().filter(|s| s.1.len() < LINE_BYTES) {
                last.1.push('\n');
                last.1.push_str(line);
            }
            return;
        }
        self.in_statement = false;
        let Some(message) = ERRORS.iter().find_map(|start| line.strip_prefix(start)) else {
            return;
        };
        let words = words_of_text(message, known);
        self.errors += 1;
        if message.starts_with("could not execute query: ") {
            if self.statements.len() == STATEMENTS {
                self.overflow = true;
            } else {
                self.statements.push((words.clone(), String::new()));
            }
        }
        self.first.get_or_insert(words);
    }

    /// The failure of one statement of the tool.
    pub(super) fn error_of(&self, name: &str, reason: &str, statement: &str) -> Error {
        Error::database(format!("{name} failed"))
            .cause(format!("{}: {reason}", subject(statement)))
            .remedy("Fix what the cause names, and run the command again. The server's log may say more.")
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
            pg_restore: error: could not execute query: ERROR:  must be owner of table a\n\
            Command was: ALTER TABLE public.a OWNER TO b;\n\
            \n\
            pg_restore: error: COPY failed for table \"x\": ERROR:  invalid input syntax for type integer: \"Dupont\"\n\
            CONTEXT:  COPY x, line 1, column i: \"Dupont\"\n\
            DETAIL:  pg_restore: error: Dupont\n\
            pg_restore: error: could not execute query: ERREUR:  la relation « Dupont » n'existe pas\n";
        let known = Known::default();
        known.learn(["public.a"]);
        let complaints = Complaints::read(stderr.as_bytes(), &known).await;
        assert_eq!((complaints.errors, complaints.statements.len()), (3, 2));
        let (reason, statement) = &complaints.statements[0];
        assert!(reason.ends_with("somebody else is the owner: \"a\""), "{reason}");
        assert!(statement.starts_with("ALTER TABLE"));
        assert!(!format!("{complaints:?}").contains("Dupont"));
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
