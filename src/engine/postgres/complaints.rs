//! What PostgreSQL's tools write to stderr, without row data.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::connect::without_values;
use crate::error::Error;

/// What a tool wrote to stderr, as far as it is needed.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    /// The first error line, without the values it may hold.
    pub first: Option<String>,
    /// Failed statements: the reason, and the beginning of the statement.
    pub statements: Vec<(String, String)>,
    /// There were more failed statements than are kept.
    pub overflow: bool,
    /// The number of error lines: more than failed statements, if something else failed too.
    pub errors: u64,
    in_statement: bool,
}

const LINE_BYTES: usize = 2048;
const STATEMENTS: usize = 2000;

impl Complaints {
    /// Reads to the end.
    pub(super) async fn read(mut stderr: impl AsyncRead + Unpin) -> Self {
        let mut complaints = Self::default();
        let mut line: Vec<u8> = Vec::new();
        let mut buffer = vec![0; 8192];
        while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
            for &byte in &buffer[..n] {
                if byte == b'\n' {
                    complaints.line(&String::from_utf8_lossy(&line));
                    line.clear();
                } else if line.len() < LINE_BYTES {
                    line.push(byte);
                }
            }
        }
        complaints.line(&String::from_utf8_lossy(&line));
        complaints
    }

    fn line(&mut self, line: &str) {
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
        let Some((_, message)) = line
            .split_once(": error: ")
            .or_else(|| line.split_once(": fatal: "))
            .or_else(|| line.split_once("setpriv: ").map(|(_, m)| ("", m)))
        else {
            return;
        };
        let message = without_values(message);
        self.errors += 1;
        if self.first.is_none() {
            self.first = Some(message.to_owned());
        }
        if let Some(reason) = message.strip_prefix("could not execute query: ") {
            if self.statements.len() == STATEMENTS {
                self.overflow = true;
            } else {
                self.statements.push((reason.to_owned(), String::new()));
            }
        }
    }

    /// The failure of one statement of the tool.
    pub(super) fn error_of(&self, name: &str, reason: &str) -> Error {
        Error::database(format!("{name} failed"))
            .cause(reason)
            .remedy("Fix what the cause names, and run the command again.")
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
            CONTEXT:  COPY x, line 1, column i: \"Dupont\"\n";
        let complaints = Complaints::read(stderr.as_bytes()).await;
        assert_eq!(complaints.statements.len(), 1);
        assert_eq!(complaints.statements[0].0, "ERROR:  must be owner of table a");
        assert!(complaints.statements[0].1.starts_with("ALTER TABLE"));
        assert!(!format!("{complaints:?}").contains("Dupont"));
    }
}
