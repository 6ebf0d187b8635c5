//! Incidents, and with each change the messages about it.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::outbox::{Post, save_post};
use super::{State, whole_second};
use crate::error::{Result, ResultExt};
use crate::model::digest::Digest;
use crate::model::incident::Incident;

impl State {
    /// Every open incident, and those that were resolved at this moment or later.
    pub(crate) fn incidents(&self, resolved_since: Timestamp) -> Result<Vec<Incident>> {
        let what = "read incidents from the state";
        let db = self.db();
        let mut statement = db
            .prepare_cached(
                "SELECT body FROM incident WHERE resolved_at IS NULL OR resolved_at >= ?1 ORDER BY name",
            )
            .or_internal(what)?;
        let rows = statement
            .query_map([whole_second(resolved_since)], |r| r.get::<_, String>(0))
            .or_internal(what)?;
        let mut incidents = Vec::new();
        for row in rows {
            // An incident of another version of marbre must not stop all alerting.
            match serde_json::from_str(&row.or_internal(what)?) {
                Ok(incident) => incidents.push(incident),
                Err(e) => tracing::warn!("an incident in the state cannot be read: {e}"),
            }
        }
        Ok(incidents)
    }

    /// Every open incident.
    pub(crate) fn open_incidents(&self) -> Result<Vec<Incident>> {
        let mut open = self.incidents(Timestamp::MAX)?;
        open.retain(Incident::is_open);
        Ok(open)
    }

    /// Saves changed incidents and queues the messages about them, atomically.
    pub(crate) fn save_incidents(&self, changed: &[Incident], posts: &[Post]) -> Result<()> {
        self.write("save incidents in the state", |db| {
            let transaction = db.transaction()?;
            for incident in changed {
                save_incident(&transaction, incident)?;
            }
            for post in posts {
                save_post(&transaction, post)?;
            }
            transaction.commit()
        })
    }

    /// Up to when the canaries of this rule are accounted for. `None` for a new rule.
    pub(crate) fn canary_accounted(&self, rule: &str) -> Result<Option<Timestamp>> {
        let at: Option<String> = self
            .db()
            .query_row("SELECT accounted FROM canary WHERE rule = ?1", [rule], |r| r.get(0))
            .optional()
            .or_internal("read the last canary from the state")?;
        at.as_deref().map(super::parse).transpose()
    }

    /// Accounts for the canaries up to this moment, and queues one if it is due, atomically.
    pub(crate) fn account_canary(&self, rule: &str, at: Timestamp, post: Option<&Post>) -> Result<()> {
        self.write("save a canary in the state", |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "INSERT OR REPLACE INTO canary (one, rule, accounted) VALUES (1, ?1, ?2)",
                [rule, &at.to_string()],
            )?;
            if let Some(post) = post {
                save_post(&transaction, post)?;
            }
            transaction.commit()
        })
    }

    /// Up to when the digests of this rule are accounted for, and the last one. `None` for a new rule.
    pub(crate) fn digest_accounted(&self, rule: &str) -> Result<Option<(Timestamp, Option<Digest>)>> {
        let stored: Option<(String, Option<String>)> = self
            .db()
            .query_row("SELECT accounted, body FROM digest WHERE rule = ?1", [rule], |r| {
                Ok((r.get(0)?, r.get(1)?))
            })
            .optional()
            .or_internal("read the last digest from the state")?;
        let Some((at, body)) = stored else { return Ok(None) };
        // One of another version of marbre is no reason to tell nothing.
        let last = body.and_then(|body| serde_json::from_str(&body).ok());
        Ok(Some((super::parse(&at)?, last)))
    }

    /// Accounts for the digests up to this moment, and queues one if it is due, atomically.
    pub(crate) fn account_digest(
        &self,
        rule: &str,
        at: Timestamp,
        last: Option<&Digest>,
        post: Option<&Post>,
    ) -> Result<()> {
        let body = last.map(serde_json::to_string).transpose().or_internal("serialise a digest")?;
        self.write("save a digest in the state", |db| {
            let transaction = db.transaction()?;
            transaction.execute(
                "INSERT OR REPLACE INTO digest (one, rule, accounted, body) VALUES (1, ?1, ?2, ?3)",
                params![rule, at.to_string(), body],
            )?;
            if let Some(post) = post {
                save_post(&transaction, post)?;
            }
            transaction.commit()
        })
    }

    /// Forgets incidents that were resolved before this moment, and older messages that are no longer pending.
    pub(crate) fn forget_alerts(&self, before: Timestamp) -> Result<()> {
        let before = whole_second(before);
        self.write("forget old incidents in the state", |db| {
            let transaction = db.transaction()?;
            transaction.execute("DELETE FROM incident WHERE resolved_at < ?1", [&before])?;
            transaction.execute(
                "DELETE FROM notice WHERE at < ?1
                 AND NOT EXISTS (SELECT 1 FROM outbox WHERE notice = notice.id AND done_at IS NULL)",
                [&before],
            )?;
            transaction.execute("DELETE FROM outbox WHERE notice NOT IN (SELECT id FROM notice)", [])?;
            transaction.commit()
        })
    }
}

fn save_incident(db: &Connection, incident: &Incident) -> rusqlite::Result<()> {
    let body =
        serde_json::to_string(incident).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
    db.execute(
        "INSERT OR REPLACE INTO incident (name, resolved_at, body) VALUES (?1, ?2, ?3)",
        params![incident.name(), incident.resolved_at.map(whole_second), body],
    )
    .map(drop)
}
