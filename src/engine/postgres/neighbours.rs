//! Which databases the server holds.

use tokio_util::sync::CancellationToken;

use super::connect::Connector;
use super::scratch::DATABASE_PREFIX;
use crate::engine::Neighbours;
use crate::error::Result;

/// Asks the server.
pub(crate) async fn ask(connector: &Connector, cancel: &CancellationToken) -> Result<Neighbours> {
    let session = connector.connect(cancel).await?;
    let mut place = connector.place();
    // A connection pooler may use another name for it.
    let own = session.query("SELECT current_database()::text", &[]).await?;
    place.database = own.first().map_or(place.database, |row| row.get(0));
    // A database that was being dropped when the server died has the limit -2: nobody can connect to it.
    let rows = session
        .query(
            "SELECT datname FROM pg_database
             WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 ORDER BY datname",
            &[],
        )
        .await?;
    let names = rows.iter().map(|row| row.get::<_, String>(0));
    let databases = names.filter(|name| !is_of_a_drill(name)).collect();
    // Some providers do not allow this: then the address is used instead.
    let control = session.query("SELECT system_identifier::text FROM pg_control_system()", &[]).await;
    let identity = match control.ok().as_deref() {
        Some([row, ..]) => row.get(0),
        _ => format!("{}:{}", place.host, place.port),
    };
    Ok(Neighbours { identity, place, databases })
}

/// Whether a drill made this database: it has a random name, and is removed after the drill.
fn is_of_a_drill(name: &str) -> bool {
    let random = name.strip_prefix(DATABASE_PREFIX).and_then(|rest| rest.strip_prefix('_'));
    random.is_some_and(|r| r.len() == 12 && r.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_of_drills_are_known_by_their_whole_name() {
        assert!(is_of_a_drill("marbre_scratch_0123456789ab"));
        for other in [
            "marbre_scratch",
            "marbre_scratch_",
            "marbre_scratch_of_anna",
            "marbre",
            "xmarbre_scratch_0123456789ab",
        ] {
            assert!(!is_of_a_drill(other), "{other}");
        }
    }
}
