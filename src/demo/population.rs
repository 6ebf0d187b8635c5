//! Makes the subscriber base: the same file content for the same options, whenever it is made.

use std::path::Path;

use rusqlite::{Connection, params};

use super::plans::{PLANS, TODAY};
use super::writer::Writer;
use crate::error::{Error, Result, ResultExt};

const SCHEMA: &str = "
CREATE TABLE plans (
    id INTEGER PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    edition TEXT NOT NULL,
    price_cents INTEGER NOT NULL,
    months INTEGER NOT NULL
) STRICT;
CREATE TABLE subscribers (
    id INTEGER PRIMARY KEY,
    civility TEXT NOT NULL,
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    email TEXT NOT NULL,
    phone TEXT,
    birth_year INTEGER,
    created_on TEXT NOT NULL,
    optin_newsletter INTEGER NOT NULL,
    optin_partners INTEGER NOT NULL
) STRICT;
CREATE TABLE addresses (
    subscriber_id INTEGER PRIMARY KEY REFERENCES subscribers (id),
    line1 TEXT NOT NULL,
    line2 TEXT,
    postcode TEXT NOT NULL,
    city TEXT NOT NULL,
    since TEXT NOT NULL
) STRICT;
CREATE TABLE subscriptions (
    id INTEGER PRIMARY KEY,
    subscriber_id INTEGER NOT NULL REFERENCES subscribers (id),
    plan_id INTEGER NOT NULL REFERENCES plans (id),
    started_on TEXT NOT NULL,
    ended_on TEXT,
    status TEXT NOT NULL CHECK (status IN ('active', 'cancelled')),
    price_cents INTEGER NOT NULL
) STRICT;
CREATE TABLE payments (
    id INTEGER PRIMARY KEY,
    subscription_id INTEGER NOT NULL REFERENCES subscriptions (id),
    paid_on TEXT NOT NULL,
    amount_cents INTEGER NOT NULL,
    method TEXT NOT NULL,
    mandate TEXT,
    account_last4 TEXT
) STRICT;
CREATE TABLE suspensions (
    id INTEGER PRIMARY KEY,
    subscription_id INTEGER NOT NULL REFERENCES subscriptions (id),
    first_day TEXT NOT NULL,
    last_day TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE VIEW delivery_list AS
    SELECT s.civility, s.first_name, s.last_name, a.line1, a.line2, a.postcode, a.city, p.edition
    FROM subscriptions AS u
    JOIN subscribers AS s ON s.id = u.subscriber_id
    JOIN addresses AS a ON a.subscriber_id = s.id
    JOIN plans AS p ON p.id = u.plan_id
    WHERE u.status = 'active' AND p.edition <> 'numérique';
";

/// Made after the rows: filling a sorted index is much quicker.
const INDEXES: &str = "
CREATE UNIQUE INDEX subscribers_email ON subscribers (email);
CREATE INDEX subscriptions_subscriber ON subscriptions (subscriber_id);
CREATE INDEX payments_subscription ON payments (subscription_id);
CREATE INDEX suspensions_subscription ON suspensions (subscription_id);
";

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PopulationOptions {
    /// Number of subscribers.
    pub subscribers: u64,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Default for PopulationOptions {
    fn default() -> Self {
        Self { subscribers: 50_000, seed: 2016 }
    }
}

/// What was made: numbers of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    /// People.
    pub subscribers: u64,
    /// Subscriptions, running and ended.
    pub subscriptions: u64,
    /// Payments.
    pub payments: u64,
    /// Deliveries stopped for holidays.
    pub suspensions: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Makes the subscriber base in a new file, in WAL mode. Fails where the file exists.
pub(crate) fn create(path: &Path, options: &PopulationOptions) -> Result<Summary> {
    if path.exists() {
        return Err(Error::preflight(format!("{} exists already", path.display()))
            .remedy("Name a file that does not exist."));
    }
    let operation = format!("make the subscriber base {}", path.display());
    fill(path, options).or_internal(operation)
}

fn fill(path: &Path, options: &PopulationOptions) -> rusqlite::Result<Summary> {
    let mut db = Connection::open(path)?;
    // Every row that is referred to is made first; the check per row would double the time.
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = OFF;")?;
    let tx = db.transaction()?;
    tx.execute_batch(SCHEMA)?;
    for (i, (code, name, edition, cents, months)) in PLANS.iter().enumerate() {
        tx.execute(
            "INSERT INTO plans VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![i as i64 + 1, code, name, edition, cents, *months as i64],
        )?;
    }
    let mut summary =
        Summary { subscribers: options.subscribers, subscriptions: 0, payments: 0, suspensions: 0, bytes: 0 };
    let mut payments = Vec::new();
    {
        let mut writer = Writer::new(&tx, options.seed)?;
        for id in 1..=options.subscribers {
            // Half of them came in the last six years, the others in the twenty before.
            let age = if writer.random.chance(50) { 2190 } else { 9490 };
            let created = TODAY - writer.random.between(1, age) as usize;
            writer.subscriber(id, created)?;
            let ended_earlier = writer.random.chance(15);
            for current in [false, true] {
                if !current && !ended_earlier {
                    continue;
                }
                summary.subscriptions += 1;
                let started = created + writer.random.below((TODAY - created) as u64) as usize;
                let plan = writer.subscription(
                    summary.subscriptions,
                    id,
                    if current { started } else { created },
                    (!current).then_some(started),
                )?;
                if current {
                    let unpaid = summary.subscriptions;
                    writer.past_payments(unpaid, plan, started, &mut payments);
                    if writer.random.chance(20) {
                        summary.suspensions += 1;
                        writer.suspension(summary.suspensions, summary.subscriptions)?;
                    }
                }
            }
        }
        payments.sort_unstable();
        for &(day, subscription, plan) in &payments {
            summary.payments += 1;
            writer.payment(summary.payments, subscription, plan, day)?;
        }
    }
    tx.execute_batch(INDEXES)?;
    tx.commit()?;
    let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let page: i64 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
    db.close().map_err(|(_, e)| e)?;
    summary.bytes = (pages * page).unsigned_abs();
    Ok(summary)
}
