//! Messages to deliver: each notice once, with one copy for each channel that it goes to.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{State, parse, whole_second};
use crate::error::{Result, ResultExt};
use crate::model::condition::Severity;
use crate::model::id::ChannelName;
use crate::model::notice::Notice;

/// A notice to queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Post {
    /// The content.
    pub notice: Notice,
    /// When the event was found.
    pub at: Timestamp,
    /// The channels it goes to.
    pub channels: Vec<ChannelName>,
    /// It replaces earlier notices to these channels: once a job has ended, its start need not be announced.
    pub supersedes: bool,
}

/// A message that a channel has not accepted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// The number of its notice.
    pub number: i64,
    /// The content.
    pub notice: Notice,
    /// When the event was found.
    pub at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
}

/// Selects messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Which {
    /// Only critical ones.
    pub urgent: bool,
    /// Without those whose retry falls into this period: after the first moment, up to the second.
    pub held: Option<(Timestamp, Timestamp)>,
    /// The maximum number.
    pub limit: u32,
}

/// The state of a notice at one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    /// The channel.
    pub channel: ChannelName,
    /// The channel has accepted it.
    pub delivered: bool,
    /// It is not retried any more.
    pub done: bool,
    /// How often it was tried.
    pub attempts: u32,
}

/// The health of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ChannelHealth {
    /// How often it has failed since it last accepted a message.
    pub failures: u32,
    /// Since when.
    pub failing_since: Option<Timestamp>,
    /// When it may be tried again.
    pub retry_at: Option<Timestamp>,
    /// Why it failed last.
    pub error: Option<String>,
    /// The recipients that did not get the last message that it accepted.
    pub lacking: Option<String>,
    /// When it last accepted a message.
    pub last_delivery: Option<Timestamp>,
}

const READ: &str = "read messages from the state";
const SAVE: &str = "save messages in the state";

impl State {
    /// Queues a notice.
    pub(crate) fn post(&self, post: &Post) -> Result<()> {
        self.save_incidents(&[], std::slice::from_ref(post))
    }

    /// The oldest messages that a channel has not accepted.
    pub(crate) fn waiting(&self, channel: &ChannelName, which: Which) -> Result<Vec<Waiting>> {
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT id, body, at, attempts FROM outbox JOIN notice ON id = notice
                 WHERE channel = ?1 AND done_at IS NULL AND (urgent OR NOT ?2)
                 AND (next_at IS NULL OR next_at NOT BETWEEN ?3 AND ?4)
                 ORDER BY id LIMIT ?5",
            )
            .or_internal(READ)?;
        let stored = |r: &Row<'_>| -> rusqlite::Result<(i64, String, String, u32)> {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))
        };
        // Up to the second after it, a time is that of its second.
        let (from, to) = which.held.map_or((String::new(), String::new()), |(from, to)| {
            (whole_second(from) + "~", whole_second(to) + "~")
        });
        let values = params![channel.as_str(), which.urgent, from, to, which.limit];
        let rows = statement.query_map(values, stored).or_internal(READ)?;
        let mut waiting = Vec::new();
        for row in rows {
            let (number, body, at, attempts) = row.or_internal(READ)?;
            // As with incidents, one of another version of marbre is skipped.
            match serde_json::from_str(&body) {
                Ok(notice) => waiting.push(Waiting { number, notice, at: parse(&at)?, attempts }),
                Err(e) => tracing::warn!("message {number} in the state cannot be read: {e}"),
            }
        }
        Ok(waiting)
    }

    /// The channels for which messages wait.
    pub(crate) fn awaited_channels(&self) -> Result<Vec<ChannelName>> {
        let db = self.db();
        let mut statement = db
            .prepare_cached("SELECT DISTINCT channel FROM outbox WHERE done_at IS NULL")
            .or_internal(READ)?;
        let rows = statement.query_map([], |r| r.get::<_, String>(0)).or_internal(READ)?;
        rows.map(|row| parse(&row.or_internal(READ)?)).collect()
    }

    /// The state of a notice at each of its channels.
    pub(crate) fn copies_of(&self, number: i64) -> Result<Vec<Copy>> {
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT channel, delivered, done_at IS NOT NULL, attempts FROM outbox WHERE notice = ?1",
            )
            .or_internal(READ)?;
        let stored = |r: &Row<'_>| -> rusqlite::Result<(String, bool, bool, u32)> {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))
        };
        let rows = statement.query_map([number], stored).or_internal(READ)?;
        rows.map(|row| {
            let (channel, delivered, done, attempts) = row.or_internal(READ)?;
            Ok(Copy { channel: parse(&channel)?, delivered, done, attempts })
        })
        .collect()
    }

    /// The channels that were notified of an incident, or will be.
    pub(crate) fn channels_told_of(&self, incident: &str) -> Result<Vec<ChannelName>> {
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT DISTINCT channel FROM outbox JOIN notice ON id = notice WHERE incident = ?1",
            )
            .or_internal(READ)?;
        let rows = statement.query_map([incident], |r| r.get::<_, String>(0)).or_internal(READ)?;
        rows.map(|row| parse(&row.or_internal(READ)?)).collect()
    }

    /// Queues a notice for one more channel, unless that channel already has it.
    pub(crate) fn forward(&self, number: i64, channel: &ChannelName) -> Result<()> {
        self.write(SAVE, |db| save_copy(db, number, channel))
    }

    /// Records, atomically, that a channel has accepted a message.
    pub(crate) fn delivered(
        &self,
        number: i64,
        channel: &ChannelName,
        lacking: Option<&str>,
        at: Timestamp,
    ) -> Result<()> {
        let health = ChannelHealth {
            lacking: lacking.map(str::to_owned),
            last_delivery: Some(at),
            ..ChannelHealth::default()
        };
        self.write(SAVE, |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "UPDATE outbox SET attempts = attempts + 1, done_at = ?3, delivered = 1, error = NULL
                 WHERE notice = ?1 AND channel = ?2",
                params![number, channel.as_str(), whole_second(at)],
            )?;
            save_health(&transaction, channel, &health)?;
            transaction.commit()
        })
    }

    /// Records that a channel accepted a test, which is not queued: it is healthy, so waiting messages are due at once.
    pub(crate) fn channel_works(&self, channel: &ChannelName, at: Timestamp) -> Result<()> {
        let health = ChannelHealth { last_delivery: Some(at), ..ChannelHealth::default() };
        let mut db = self.db();
        let mut write = || -> rusqlite::Result<()> {
            let transaction = db.transaction()?;
            transaction.execute(
                "UPDATE outbox SET next_at = NULL WHERE channel = ?1 AND done_at IS NULL",
                [channel.as_str()],
            )?;
            save_health(&transaction, channel, &health)?;
            transaction.commit()
        };
        write().or_internal(SAVE)
    }

    /// Records that a channel has not accepted a message, and the health of the channel.
    pub(crate) fn not_delivered(
        &self,
        number: i64,
        channel: &ChannelName,
        next_at: Timestamp,
        health: &ChannelHealth,
    ) -> Result<()> {
        self.write(SAVE, |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "UPDATE outbox SET attempts = attempts + 1, next_at = ?3, error = ?4
                 WHERE notice = ?1 AND channel = ?2",
                params![number, channel.as_str(), whole_second(next_at), health.error],
            )?;
            save_health(&transaction, channel, health)?;
            transaction.commit()
        })
    }

    /// Gives up messages from before this moment on this channel.
    pub(crate) fn give_up_before(
        &self,
        before: Timestamp,
        channel: &ChannelName,
        at: Timestamp,
    ) -> Result<()> {
        self.write(SAVE, |db| {
            db.execute(
                "UPDATE outbox SET done_at = ?3 WHERE channel = ?2 AND done_at IS NULL
                 AND notice IN (SELECT id FROM notice WHERE at < ?1)",
                params![whole_second(before), channel.as_str(), whole_second(at)],
            )
        })
        .map(drop)
    }

    /// Gives up a message.
    pub(crate) fn give_up(&self, number: i64, channel: &ChannelName, at: Timestamp) -> Result<()> {
        self.write(SAVE, |db| {
            db.execute(
                "UPDATE outbox SET done_at = ?3 WHERE notice = ?1 AND channel = ?2 AND done_at IS NULL",
                params![number, channel.as_str(), whole_second(at)],
            )
        })
        .map(drop)
    }

    /// The health of a channel. One that has never been used is healthy.
    pub(crate) fn channel_health(&self, channel: &ChannelName) -> Result<ChannelHealth> {
        type Stored = (u32, Option<String>, Option<String>, Option<String>, Option<String>, Option<String>);
        let stored = |r: &Row<'_>| -> rusqlite::Result<Stored> {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?))
        };
        let row = self
            .db()
            .query_row(
                "SELECT failures, failing_since, retry_at, error, lacking, last_delivery FROM channel WHERE name = ?1",
                [channel.as_str()],
                stored,
            )
            .optional()
            .or_internal("read an alert channel from the state")?;
        let Some((failures, failing_since, retry_at, error, lacking, last_delivery)) = row else {
            return Ok(ChannelHealth::default());
        };
        let time = |text: Option<String>| text.as_deref().map(parse).transpose();
        Ok(ChannelHealth {
            failures,
            failing_since: time(failing_since)?,
            retry_at: time(retry_at)?,
            error,
            lacking,
            last_delivery: time(last_delivery)?,
        })
    }
}

fn save_health(db: &Connection, channel: &ChannelName, health: &ChannelHealth) -> rusqlite::Result<()> {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    db.execute(
        "INSERT OR REPLACE INTO channel (name, failures, failing_since, retry_at, error, lacking, last_delivery)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            channel.as_str(),
            health.failures,
            time(health.failing_since),
            time(health.retry_at),
            health.error,
            health.lacking,
            time(health.last_delivery)
        ],
    )
    .map(drop)
}

/// Queues a notice with a copy for each channel, in the caller's transaction.
pub(super) fn save_post(db: &Connection, post: &Post) -> rusqlite::Result<()> {
    let body = serde_json::to_string(&post.notice)
        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
    let incident = match &post.notice {
        Notice::Incident(event) => Some(event.incident.name()),
        Notice::Job { .. } | Notice::Canary { .. } | Notice::Digest(_) => None,
    };
    db.execute(
        "INSERT INTO notice (at, incident, urgent, body) VALUES (?1, ?2, ?3, ?4)",
        params![whole_second(post.at), incident, post.notice.severity() == Severity::Critical, body],
    )?;
    let number = db.last_insert_rowid();
    for channel in &post.channels {
        if post.supersedes {
            db.execute(
                "UPDATE outbox SET done_at = ?2 WHERE channel = ?1 AND done_at IS NULL",
                [channel.as_str(), &whole_second(post.at)],
            )?;
        }
        save_copy(db, number, channel)?;
    }
    Ok(())
}

fn save_copy(db: &Connection, number: i64, channel: &ChannelName) -> rusqlite::Result<()> {
    db.execute(
        "INSERT OR IGNORE INTO outbox (notice, channel) VALUES (?1, ?2)",
        params![number, channel.as_str()],
    )
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::notice::Phase;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    const WHICH: Which = Which { urgent: false, held: None, limit: 10 };

    fn post(second: i64, phase: Phase, supersedes: bool) -> Post {
        let database = "gazette/abonnes".parse().unwrap();
        let notice = Notice::Job { database, kind: crate::model::job::JobKind::Snapshot, phase };
        Post { notice, at: at(second), channels: vec!["hc".parse().unwrap()], supersedes }
    }

    #[test]
    fn what_is_put_down_stays_until_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let hc: ChannelName = "hc".parse().unwrap();
        let state = State::open(folder.path()).unwrap();
        state.post(&post(0, Phase::Start, false)).unwrap();
        state.post(&post(1, Phase::Success, false)).unwrap();
        drop(state);
        let state = State::open(folder.path()).unwrap();
        let waiting = state.waiting(&hc, WHICH).unwrap();
        assert_eq!(waiting.iter().map(|w| w.at).collect::<Vec<_>>(), [at(0), at(1)]);
        let failing =
            ChannelHealth { failures: 1, error: Some("down".to_owned()), ..ChannelHealth::default() };
        state.not_delivered(waiting[0].number, &hc, at(30), &failing).unwrap();
        assert_eq!(state.channel_health(&hc).unwrap(), failing);
        let held = |second| Which { held: Some((at(second), at(second + 3600))), ..WHICH };
        assert_eq!(state.waiting(&hc, held(29)).unwrap()[0].at, at(1));
        assert_eq!(state.waiting(&hc, held(30)).unwrap()[0].at, at(0));
        assert_eq!(state.waiting(&hc, held(-86_400)).unwrap()[0].at, at(0), "by a clock that was ahead");
        state.delivered(waiting[0].number, &hc, None, at(31)).unwrap();
        assert_eq!(state.channel_health(&hc).unwrap().last_delivery, Some(at(31)));
        assert_eq!(state.waiting(&hc, WHICH).unwrap().len(), 1);
        assert!(state.copies_of(waiting[0].number).unwrap()[0].delivered);
        // A newer ping replaces an older one.
        state.post(&post(2, Phase::Fail, true)).unwrap();
        let left: Vec<Timestamp> = state.waiting(&hc, WHICH).unwrap().iter().map(|w| w.at).collect();
        assert_eq!(left, [at(2)]);
    }

    #[test]
    fn only_what_nobody_waits_for_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let hc: ChannelName = "hc".parse().unwrap();
        let state = State::open(folder.path()).unwrap();
        (0..3).for_each(|n| state.post(&post(n, Phase::Start, false)).unwrap());
        let first = state.waiting(&hc, WHICH).unwrap()[0].number;
        state.give_up(first, &hc, at(9)).unwrap();
        state.forget_alerts(at(100)).unwrap();
        assert_eq!(state.waiting(&hc, WHICH).unwrap().len(), 2);
        assert!(state.copies_of(first).unwrap().is_empty());
    }
}
