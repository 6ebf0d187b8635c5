//! A standby that ends the reading of a snapshot, because replaying a change comes first there.

use super::connect::Connector;
use super::sqlstate;
use super::url::Server;
use crate::error::Error;

/// What keeps a standby from ending a long transaction.
const REMEDY: &str = "Set hot_standby_feedback = on on the standby, or raise max_standby_streaming_delay and \
     max_standby_archive_delay there above the time that a snapshot takes.";

/// What is said of a connection that was cut.
const CUT: [&str; 2] = ["connection closed", "the connection to the server was lost"];

/// Codes of the conflicts: with rows or locks that are to go, in a deadlock, with a database that is to go.
const CODES: [&str; 3] = ["40001", "40P01", "57P04"];

/// The server that ended the reading: another one would not have.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{cause}")]
struct Conflict {
    server: Server,
    cause: String,
}

/// The error, where it is a standby's that had to go on.
pub(super) fn explained(connector: &Connector, error: Error) -> Error {
    let text = error.to_string();
    let is_conflict = sqlstate::is_one_of(&error, &CODES);
    match connector.standby() {
        Some(server) if is_conflict => {
            let what =
                "the standby ended the reading, because it had to replay a change that it was in the way of";
            of(server, what, &error)
        }
        Some(server) if CUT.into_iter().any(|words| text.contains(words)) => {
            of(server, "the standby ended a session that was reading", &error)
        }
        _ => error,
    }
}

/// The error of a reading that was lost, and why.
pub(super) fn lost(connector: &Connector, error: Error) -> Error {
    let what = "the server ended the session that holds the snapshot";
    match connector.standby() {
        Some(server) => of(server, what, &error),
        None => Error::database(what)
            .cause(error)
            .remedy("See the server's log (on Debian in /var/log/postgresql), and take the snapshot again."),
    }
}

fn of(server: &Server, what: &str, error: &Error) -> Error {
    let conflict = Conflict { server: server.clone(), cause: error.to_string() };
    Error::database(what).cause(conflict).remedy(format!(
        "{REMEDY} Where the url names another server beside it, as the primary, a snapshot is taken again from there."
    ))
}

/// The standby that had to go on, if this is its error.
pub(super) fn server(error: &Error) -> Option<&Server> {
    let conflict: &Conflict = std::error::Error::source(error)?.downcast_ref()?;
    Some(&conflict.server)
}

/// What people should know of a snapshot that was read after this standby had ended an attempt.
pub(super) fn warning(connector: &Connector, standby: &Server) -> String {
    format!(
        "the standby {} ended the first attempt, because its recovery came first; this snapshot is of {}. {REMEDY}",
        standby.name(),
        connector.describe()
    )
}
