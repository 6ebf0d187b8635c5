//! What happens to the subscriber base in a night, and the morning on which it is lost.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rusqlite::{Connection, Transaction, params};

use super::plans::TODAY;
use super::writer::Writer;
use crate::error::{Result, ResultExt};

/// What a night changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NightSummary {
    /// People with a new address: one in a hundred.
    pub moved: u64,
    /// New people, each with a subscription.
    pub new_subscribers: u64,
    /// New subscriptions, those of people who were known before included; each with its first payment.
    pub new_subscriptions: u64,
    /// Subscriptions that were cancelled.
    pub cancelled: u64,
    /// Payments: the first ones of the new subscriptions. Direct debits are collected on another day.
    pub payments: u64,
    /// Deliveries stopped for holidays.
    pub suspensions: u64,
}

/// Lets a night pass: some hundred small changes anywhere in the file, and new rows at the ends of tables.
pub(crate) fn night(path: &Path, seed: u64) -> Result<NightSummary> {
    change(path, seed).or_internal(format!("change the subscriber base {}", path.display()))
}

fn change(path: &Path, seed: u64) -> rusqlite::Result<NightSummary> {
    let mut db = Connection::open(path)?;
    let tx = db.transaction()?;
    let subscribers = last_id(&tx, "subscribers")?;
    let mut subscriptions = last_id(&tx, "subscriptions")?;
    let payments_before = last_id(&tx, "payments")?;
    let mut payments = payments_before;
    let suspensions = last_id(&tx, "suspensions")?;
    let mut done = NightSummary::default();
    // One more day: payments, moves and new subscriptions bear the date of the night.
    let today = TODAY + 1;
    {
        let mut writer = Writer::new(&tx, seed)?;
        let mut movers = HashSet::new();
        while (movers.len() as u64) < subscribers / 100 {
            let mover = writer.random.between(1, subscribers);
            if movers.insert(mover) {
                writer.address(mover, today)?;
            }
        }
        done.moved = movers.len() as u64;
        done.new_subscribers = subscribers / 400;
        done.new_subscriptions = subscribers / 280 + done.new_subscribers / 8;
        for n in 0..done.new_subscriptions {
            let subscriber = if n < done.new_subscribers {
                writer.subscriber(subscribers + 1 + n, today)?;
                subscribers + 1 + n
            } else {
                writer.random.between(1, subscribers)
            };
            subscriptions += 1;
            payments += 1;
            let plan = writer.subscription(subscriptions, subscriber, today, None)?;
            writer.payment(payments, subscriptions, plan, today)?;
        }
        let mut cancel = tx.prepare(
            "UPDATE subscriptions SET status = 'cancelled', ended_on = ?2 WHERE id = ?1 AND status = 'active'",
        )?;
        for _ in 0..subscribers / 400 {
            let id = writer.random.between(1, subscriptions);
            done.cancelled += cancel.execute(params![id as i64, writer.days[today]])? as u64;
        }
        done.suspensions = subscribers / 500;
        for n in 1..=done.suspensions {
            let id = writer.random.between(1, subscriptions);
            writer.suspension(suspensions + n, id)?;
        }
        done.payments = payments - payments_before;
    }
    tx.commit()?;
    db.close().map_err(|(_, e)| e)?;
    Ok(done)
}

fn last_id(tx: &Transaction<'_>, table: &str) -> rusqlite::Result<u64> {
    let sql = format!("SELECT coalesce(max(id), 0) FROM {table}");
    tx.query_row(&sql, [], |row| Ok(row.get::<_, i64>(0)?.unsigned_abs()))
}

/// The disaster: the beginning of the file is overwritten, its end cut off, its log deleted.
pub(crate) fn destroy(path: &Path) -> Result<()> {
    let operation = format!("destroy {}", path.display());
    let ruin = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.set_len(file.metadata()?.len() / 3)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[0xff; 64 * 1024])?;
        file.sync_all()?;
        for suffix in ["-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            match fs::remove_file(&name) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    };
    ruin().or_internal(operation)
}
