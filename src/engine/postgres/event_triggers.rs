//! Event triggers must not fire for what marbre does. Those of a login run before a session could switch them off, so the connection
//! itself asks for that; a server before 17 knows nothing of it, and only a superuser, or who was granted it, may.

/// What a connection asks for.
pub(super) const OFF: &str = "-c event_triggers=off";

/// The oldest server that can switch them off.
pub(super) const SINCE: u32 = 17;

/// What every later session of a role asks for. A superuser sets it for another role, which could not ask for it.
pub(super) const OFF_FOR_ROLE: &str = "SET event_triggers = off";

/// Whether the connection was refused for what it asked: the server does not know it, the user may not, or a pooler takes no
/// options.
pub(super) fn refused(error: &tokio_postgres::Error) -> bool {
    const CODES: [&str; 4] = ["42704", "42501", "08P01", "0A000"];
    error.code().is_some_and(|code| CODES.contains(&code.code()))
}

/// Whether code of the database has refused the connection: no other error of a login has a context.
pub(super) fn refused_by_code(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| db.where_().is_some())
}
