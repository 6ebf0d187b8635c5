//! All that a snapshot holds while it is read, and how it comes to hold it.
//!
//! A lock that is asked for late queues behind everybody who waits for one of ours, so that a snapshot could wait for itself.
//! Therefore every session takes all its locks at the start, and what asks the server for locks on its own account,
//! `pg_dump` and the functions that print definitions, is done before the first row is read. Between the first lock and the
//! last one somebody can still come in between: then everything is released, and begun again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::connect::{Connector, Session};
use super::definitions::{self, Definitions};
use super::dump::{self, Dump, Part, Snapshot};
use super::lock_watch::{self, LockWatch, Ours};
use super::readers::{self, Readers, SLOTS};
use super::relations::{self, Sequence, Table};
use super::tools::Tools;
use super::{rows, table_locks};
use crate::error::{Error, Result};

/// How often everything is released and begun again.
const ATTEMPTS: usize = 5;
/// What whoever came in between is given, so that it comes first.
const PAUSE: Duration = Duration::from_millis(500);

/// How a snapshot is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// How many sessions read rows.
    pub jobs: usize,
    /// How long others may wait for the snapshot's locks.
    pub give_way_after: Duration,
}

/// An open snapshot, with every lock that reading it needs.
pub(crate) struct Held {
    /// The session that holds the snapshot.
    pub coordinator: Session,
    name: String,
    /// All tables as of that snapshot.
    pub tables: Vec<Table>,
    /// The encoding of the database.
    pub encoding: String,
    /// Settings that decide how values become text.
    pub settings: BTreeMap<String, String>,
    /// Where the sequences stand.
    pub sequences: Vec<Sequence>,
    /// How everything is defined.
    pub definitions: Definitions,
    /// Who reads the rows.
    pub readers: Readers,
    /// The schema's archive: all of it was read, and waits in `pg_dump`.
    pub schema: Option<Dump>,
    /// Looks on, to see who waits.
    pub watch: LockWatch,
}

impl Held {
    /// The exported snapshot's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The snapshot, for another dump of it.
    pub(super) fn snapshot<'a>(&'a self, connector: &'a Connector, tools: &'a Tools) -> Snapshot<'a> {
        let name = &self.name;
        Snapshot { connector, tools, coordinator: &self.coordinator, name, encoding: &self.encoding }
    }
}

/// Takes the snapshot with all its locks.
pub(crate) async fn take(
    connector: &Connector,
    tools: &Tools,
    reading: Reading,
    cancel: &CancellationToken,
) -> Result<Held> {
    let watcher = connector.connect(cancel).await?;
    let mut between = String::new();
    for _ in 0..ATTEMPTS {
        let coordinator = connector.connect(cancel).await?;
        let ours = Ours::default();
        ours.add(coordinator.pid);
        let application = dump::application(coordinator.pid);
        let taken = tokio::select! {
            taken = attempt(connector, tools, reading.jobs, coordinator, &ours, cancel) => Ok(taken?),
            between = lock_watch::entangled(&watcher, &ours, &application) => Err(between),
        };
        match taken {
            Ok(taken) => return Ok(taken.watched(LockWatch::start(watcher, ours, reading.give_way_after))),
            Err(who) => between = who,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Error::database("the tables could not be locked for all sessions: others keep coming in between")
        .cause(between)
        .remedy("Take the snapshot at a time when no job changes, truncates or drops tables."))
}

/// What an attempt has taken.
struct Taken {
    coordinator: Session,
    locked: table_locks::Locked,
    encoding: String,
    settings: BTreeMap<String, String>,
    catalogue: (Vec<Sequence>, Definitions),
    readers: Readers,
    schema: Dump,
}

impl Taken {
    fn watched(self, watch: LockWatch) -> Held {
        let (sequences, definitions) = self.catalogue;
        Held {
            coordinator: self.coordinator,
            name: self.locked.snapshot,
            tables: self.locked.tables,
            encoding: self.encoding,
            settings: self.settings,
            sequences,
            definitions,
            readers: self.readers,
            schema: Some(self.schema),
            watch,
        }
    }
}

/// Dropping this releases everything.
async fn attempt(
    connector: &Connector,
    tools: &Tools,
    jobs: usize,
    coordinator: Session,
    ours: &Ours,
    cancel: &CancellationToken,
) -> Result<Taken> {
    let locked = table_locks::hold(connector, &coordinator, cancel).await?;
    let sql = format!(
        "SELECT pg_encoding_to_char(encoding)::text, {SLOTS} FROM pg_database WHERE datname = current_database()"
    );
    let rows = coordinator.query(&sql, &[]).await?;
    let (encoding, slots): (String, i64) =
        rows.first().map_or((String::new(), 0), |row| (row.get(0), row.get(1)));
    let settings = rows::settings(&encoding);
    let snapshot =
        Snapshot { connector, tools, coordinator: &coordinator, name: &locked.snapshot, encoding: &encoding };
    let schema = async {
        let dump = Dump::start(snapshot, Part::Schema).await?.has_read(cancel).await;
        match dump {
            Err(e) if e.to_string().contains("55P03") => {
                let oids: Vec<u32> = locked.tables.iter().map(|table| table.oid).collect();
                Err(table_locks::blocked(connector, &oids, cancel).await)
            }
            dump => dump,
        }
    };
    let count = readers::how_many(jobs, locked.tables.len(), slots.unsigned_abs());
    let what = (locked.snapshot.as_str(), locked.tables.as_slice());
    let readers = Readers::open(count, connector, &settings, what, ours, cancel);
    let catalogue =
        async { Ok((relations::sequences(&coordinator).await?, definitions::read(&coordinator).await?)) };
    let (readers, schema, catalogue) = tokio::try_join!(readers, schema, catalogue)?;
    Ok(Taken { encoding, settings, catalogue, readers, schema, coordinator, locked })
}
