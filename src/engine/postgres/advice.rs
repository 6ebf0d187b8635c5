//! What to do where a server cannot be reached, or does not know the user.

use super::url::Server;
use crate::error::Origin;

/// The server as that which has to be repaired.
pub(super) fn origin(server: &Server) -> Origin {
    Origin::Server(format!("{}:{}", server.host, server.port))
}

/// The role as that which is not let in: often by many databases of one server.
pub(super) fn login(server: &Server, user: &str) -> Origin {
    Origin::Login(format!("{}:{} as {}", server.host, server.port, user.escape_debug()))
}

/// Nobody answers there.
pub(super) fn unreachable(server: &Server) -> String {
    if server.is_socket() {
        return format!(
            "Check that the server runs (`systemctl status postgresql`), that its socket is in {} and its port is {}. \
             Where there is none yet: `sudo apt-get install postgresql`, then `sudo -u postgres createuser NAME` for the \
             role that reads. For a server elsewhere name its host in `url`.",
            server.host, server.port
        );
    }
    format!(
        "Check that the server runs (`systemctl status postgresql` there), that host and port in `url` are right, and that \
         it listens for others than its own host (`listen_addresses`): `pg_isready -h {} -p {}` tells.",
        server.host, server.port
    )
}

/// Whether the server knows no such role, or one that may not log in. Its text is in its own language; the place in its
/// source is not.
pub(super) fn is_unknown_role(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().and_then(|e| e.routine()) == Some("InitializeSessionUserId")
}

/// What to do then.
pub(super) fn unknown_role(user: &str) -> String {
    let user = user.escape_debug().to_string();
    let make = match user.as_str() {
        // Nobody wants a role of this name.
        "root" => {
            "make a role for marbre (`sudo -u postgres createuser marbre`) and name it there".to_owned()
        }
        name => format!("make it: `sudo -u postgres createuser {name}`"),
    };
    format!(
        "The server has no role {user} that may log in. Without a user in `url` the role is that of the user who runs marbre: \
         run it as one who has a role (`sudo -u postgres marbre …`, `sudo -u marbre marbre …`), name the role in `url` \
         (`postgres://ROLE@host/db`, `user=ROLE`), or {make}."
    )
}

/// What to do where the server knows the role and does not let it in.
pub(super) fn refused_login(server: &Server, user: &str) -> String {
    let (host, port, user) = (&server.host, server.port, user.escape_debug());
    format!(
        "Check the user in `url`, the password (in the file that `password_file` names, else in PGPASSWORD or `.pgpass` of the \
         user who runs marbre) and `pg_hba.conf` of the server: `psql -h {host} -p {port} -U {user}` tells. A new password is \
         set with `\\password {user}` in psql, and then goes into that file."
    )
}

/// Whether the connection itself failed, before the server said anything.
pub(super) fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut below = std::error::Error::source(error);
    while let Some(e) = below {
        if e.is::<std::io::Error>() {
            return true;
        }
        below = e.source();
    }
    error.is_closed()
}
