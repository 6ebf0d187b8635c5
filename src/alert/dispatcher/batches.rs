//! Which messages go together: people get those of one minute as one, and each says how things stand when it is sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;

use jiff::Timestamp;

use super::{Dispatcher, FAILURES, RoutedChannel};
use crate::alert::Message;
use crate::error::Result;
use crate::model::condition::Condition;
use crate::model::incident::{Event, Incident};
use crate::model::notice::Notice;
use crate::model::route::Audience;
use crate::state::{ChannelHealth, Waiting};

/// Messages that are sent as one.
pub(super) type Batch = Vec<Waiting>;

impl Dispatcher {
    /// What of this queue is sent now, and what of it together. A message waits for others, unless `hurry`; what was
    /// tried before has waited.
    pub(super) fn batches(
        &self,
        channel: &RoutedChannel,
        mut queue: Vec<Waiting>,
        health: &ChannelHealth,
        now: Timestamp,
        hurry: bool,
    ) -> VecDeque<Batch> {
        let gather = jiff::SignedDuration::try_from(self.settings.gather).unwrap_or_default();
        let waited =
            |message: &Waiting| message.attempts > 0 || now.duration_since(message.at).abs() >= gather;
        if !hurry && !queue.iter().filter(|message| is_for_people(message)).any(waited) {
            queue.retain(|message| !is_for_people(message));
        }
        // What failed often while the channel took others may be what it can never take.
        let fits = |message: &Waiting| health.failures > 0 || message.attempts < FAILURES;
        let mut batches: VecDeque<Batch> = VecDeque::new();
        let mut shared: Option<usize> = None;
        for message in queue {
            let together = channel.channel.is_read_by_people() && is_for_people(&message) && fits(&message);
            match shared.filter(|_| together).and_then(|place| batches.get_mut(place)) {
                Some(batch) => batch.push(message),
                None => {
                    if together {
                        shared = Some(batches.len());
                    }
                    batches.push_back(vec![message]);
                }
            }
        }
        batches
    }

    /// A batch as the message that these readers get.
    pub(super) fn message(&self, batch: &[Waiting], audience: &Audience, now: Timestamp) -> Result<Message> {
        let mut open: BTreeMap<String, Incident> = BTreeMap::new();
        if batch.iter().any(is_for_people) {
            open.extend(self.state.open_incidents()?.into_iter().map(|incident| (incident.name(), incident)));
        }
        let messages = batch.iter().map(|waiting| {
            let notice = match &waiting.notice {
                Notice::Incident(event) => Notice::Incident(Box::new(self.as_of_now(event, &open, audience))),
                Notice::Digest(digest) => Notice::Digest(Box::new(digest.narrowed(audience))),
                other => other.clone(),
            };
            Message::of(&notice, waiting.number, &self.settings.agent, waiting.at, now)
        });
        Ok(Message::several(messages.collect()))
    }

    /// An event as it is told now: whom it hits by now, what is proven by now, and nothing that is not for these readers.
    fn as_of_now(&self, event: &Event, open: &BTreeMap<String, Incident>, audience: &Audience) -> Event {
        let mut event = event.clone();
        let newest = open.get(&event.incident.name()).map(|incident| &incident.condition);
        let condition = &mut event.incident.condition;
        if let Some(newest) = newest.filter(|newest| !newest.affected.is_empty()) {
            condition.affected.clone_from(&newest.affected);
        }
        if narrow(condition, audience) {
            event.incident.before = None;
        }
        let condition = &mut event.incident.condition;
        let proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        for affected in &mut condition.affected {
            affected.proven_at = proven.get(&affected.database).copied().or(affected.proven_at);
        }
        let now = condition.database.as_ref().and_then(|database| proven.get(database).copied());
        condition.proven_at = now.or(condition.proven_at);
        event
    }
}

/// Whether it is read by people, and so can wait for others of its kind.
fn is_for_people(message: &Waiting) -> bool {
    matches!(message.notice, Notice::Incident(_))
}

/// Takes out of a condition what is not for these readers: other publishers' databases, and what was said of them. False
/// where all of it is for them.
fn narrow(condition: &mut Condition, audience: &Audience) -> bool {
    if matches!(audience, Audience::Everything) || condition.affected.is_empty() {
        return false;
    }
    condition.affected.retain(|affected| audience.may_hear_of(Some(&affected.database)));
    condition.error = condition.affected.iter().find_map(|affected| affected.error.clone());
    true
}
