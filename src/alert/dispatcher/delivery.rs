//! Sends what is queued: all channels at the same time, each in the order of its messages.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batches::Batch;
use super::{Dispatcher, FAILURES, RoutedChannel, is_failing};
use crate::alert::{ChannelError, ChannelErrorKind, Sent};
use crate::error::{Error, Result};
use crate::model::condition::Severity;
use crate::model::id::ChannelName;
use crate::model::notice::Notice;
use crate::model::route::Route;
use crate::state::{ChannelHealth, Waiting, Which};

/// The first pause after a failure; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// After so long a message is given up on a channel that does not take it. If its incident is still open, people have
/// been reminded of it by then.
const GIVE_UP: Duration = Duration::from_secs(3 * 86_400);
/// How long closed incidents and sent messages are remembered.
const REMEMBER: Duration = Duration::from_secs(90 * 86_400);
/// How many messages of a channel one round handles, and after how many refusals it ends.
const ROUND: u32 = 50;
const REFUSALS: u32 = 5;
/// After so long a slow channel continues in the next round, so that the others are not held up.
const LONGEST_ROUND: Duration = Duration::from_secs(30);
/// How many sent messages are remembered in memory.
const REMEMBERED: usize = 1000;
/// How many waiting messages of a failing channel are offered to its fallbacks: more than three days produce.
const WAITING: u32 = 5000;

/// What a call of [`Dispatcher::deliver`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivered {
    /// Messages that channels took.
    pub sent: u32,
    /// Attempts that failed.
    pub failed: u32,
    /// Messages that were given to a fallback channel.
    pub forwarded: u32,
}

impl Delivered {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.failed += other.failed;
        self.forwarded += other.forwarded;
    }
}

fn pause(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}

fn later(now: Timestamp, time: Duration) -> Timestamp {
    now.checked_add(time).unwrap_or(Timestamp::MAX)
}

fn earlier(now: Timestamp, time: Duration) -> Timestamp {
    now.checked_sub(time).unwrap_or(Timestamp::MIN)
}

/// Whether a pause still lasts. One that exceeds the longest was set while the clock was ahead, and does not count.
fn lasts(until: Option<Timestamp>, now: Timestamp) -> bool {
    until.is_some_and(|until| until > now && until <= later(now, LONGEST_PAUSE))
}

/// The last message of a batch, as one of its own.
fn last_alone(mut batch: Batch) -> Option<Batch> {
    batch.pop().map(|message| vec![message])
}

impl Dispatcher {
    fn sent(&self, number: i64, channel: &ChannelName) -> bool {
        let sent = self.sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sent.contains(&(number, channel.clone()))
    }

    fn remember_sent(&self, number: i64, channel: &ChannelName) {
        let mut sent = self.sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if sent.len() >= REMEMBERED {
            sent.pop_first();
        }
        sent.insert((number, channel.clone()));
    }

    /// Sends everything that is due. It takes half a minute, or as long as the slowest channel may take for two messages.
    /// A channel that fails is counted in the result, and is not an error.
    ///
    /// # Errors
    /// Where the state cannot be read or written, and kind `Interrupted`.
    pub async fn deliver(&self, now: Timestamp, cancel: &CancellationToken) -> Result<Delivered> {
        self.deliver_due(now, false, cancel).await
    }

    /// Sends everything, without waiting for more that could go with it: the agent ends.
    pub async fn deliver_last(&self, now: Timestamp, cancel: &CancellationToken) -> Result<Delivered> {
        self.deliver_due(now, true, cancel).await
    }

    async fn deliver_due(
        &self,
        now: Timestamp,
        hurry: bool,
        cancel: &CancellationToken,
    ) -> Result<Delivered> {
        let _one = self.delivering.lock().await;
        self.canary(now)?;
        self.adopt(now)?;
        let mut all = Delivered::default();
        // What a channel refuses goes to its first fallback at once, and if need be to the one after that.
        for _ in 0..=self.settings.channels.len() {
            let rounds = self.settings.channels.iter().map(|channel| self.round(channel, now, hurry, cancel));
            let mut forwarded = 0;
            for round in join_all(rounds).await {
                let round = round?;
                forwarded += round.forwarded;
                all.add(round);
            }
            if forwarded == 0 {
                break;
            }
        }
        self.state.forget_alerts(earlier(now, REMEMBER))?;
        if cancel.is_cancelled() { Err(Error::interrupted()) } else { Ok(all) }
    }

    /// Sends what is due on one channel until it fails, and gives its fallbacks what a failing channel does not take.
    async fn round(
        &self,
        channel: &RoutedChannel,
        now: Timestamp,
        hurry: bool,
        cancel: &CancellationToken,
    ) -> Result<Delivered> {
        let (route, mut done) = (&channel.route, Delivered::default());
        let mut health = self.state.channel_health(&route.name)?;
        let urgent = route.waits_until(Severity::Warning, now).is_some();
        let due = Which { urgent, held: Some((now, later(now, LONGEST_PAUSE))), limit: ROUND };
        if !lasts(health.retry_at, now) {
            let queue = self.state.waiting(&route.name, due)?;
            let batches = self.batches(channel, queue, &health, now, hurry);
            self.send(channel, batches, &mut health, &mut done, now, cancel).await?;
        }
        if health.failures >= FAILURES {
            for message in self.state.waiting(&route.name, Which { held: None, limit: WAITING, ..due })? {
                done.forwarded += u32::from(self.fall_back(route, &message)?);
            }
            if health.failing_since.is_some_and(|since| since < earlier(now, GIVE_UP)) {
                self.state.give_up_before(earlier(now, GIVE_UP), &route.name, now)?;
            }
        }
        Ok(done)
    }

    /// Sends these one after the other.
    async fn send(
        &self,
        channel: &RoutedChannel,
        mut queue: VecDeque<Batch>,
        health: &mut ChannelHealth,
        done: &mut Delivered,
        now: Timestamp,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let route = &channel.route;
        let (started, mut refusals, mut asked_another) = (Instant::now(), 0, false);
        while let Some(batch) = queue.pop_front() {
            let Some(batch) = self.without_sent(batch, route, now)? else { continue };
            let text = self.message(&batch, &route.audience, now)?;
            match channel.channel.send(&text, cancel).await {
                Ok(sent) => {
                    let lacking = match &sent {
                        Sent::All => None,
                        Sent::Some(lacking) => Some(lacking.as_str()),
                    };
                    for message in &batch {
                        self.remember_sent(message.number, &route.name);
                        self.state.delivered(message.number, &route.name, lacking, now)?;
                    }
                    *health = ChannelHealth::default();
                    done.sent += 1;
                }
                Err(e) if e.kind == ChannelErrorKind::Cancelled => return Ok(()),
                // A service that limits how much it takes is no service that fails: it is given the time that it asks for.
                Err(ChannelError { wait: Some(wait), .. }) if started.elapsed() + wait < LONGEST_ROUND => {
                    queue.push_front(batch);
                    tokio::select! {
                        () = cancel.cancelled() => return Ok(()),
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                Err(e) => {
                    done.failed += 1;
                    // A service counts its wait from its answer.
                    let from = if e.wait.is_some() { later(now, started.elapsed()) } else { now };
                    self.failed(route, &batch, &e, health, from)?;
                    if e.is_permanent() {
                        for message in &batch {
                            done.forwarded += u32::from(self.fall_back(route, message)?);
                        }
                        refusals += 1;
                        // What is refused may be one of them only, or that they are so many.
                        if batch.len() > 1 {
                            queue.extend(last_alone(batch));
                        }
                    } else if asked_another || batch.iter().all(|message| message.attempts + 1 < FAILURES) {
                        return Ok(());
                    } else {
                        // A message that the channel can never take must not hold up all others: the last one is tried as
                        // well, alone, and if it is taken, the channel works.
                        asked_another = true;
                        let last = queue.pop_back().or_else(|| (batch.len() > 1).then_some(batch));
                        queue.clear();
                        queue.extend(last.and_then(last_alone));
                    }
                }
            }
            if refusals >= REFUSALS || started.elapsed() >= LONGEST_ROUND {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What was sent and could not be marked as sent (a full disk) must not be sent again every half minute.
    fn without_sent(&self, batch: Batch, route: &Route, now: Timestamp) -> Result<Option<Batch>> {
        let (sent, left): (Batch, Batch) =
            batch.into_iter().partition(|message| self.sent(message.number, &route.name));
        for message in sent {
            self.state.delivered(message.number, &route.name, None, now)?;
        }
        Ok((!left.is_empty()).then_some(left))
    }

    fn failed(
        &self,
        route: &Route,
        batch: &[Waiting],
        e: &ChannelError,
        health: &mut ChannelHealth,
        now: Timestamp,
    ) -> Result<()> {
        tracing::warn!(channel = %route.name, error = %e, "an alert channel did not take a message");
        health.failures = health.failures.saturating_add(1);
        health.failing_since = Some(health.failing_since.unwrap_or(now).min(now));
        let pause = |failures| e.wait.unwrap_or_else(|| pause(failures)).min(LONGEST_PAUSE);
        health.retry_at = (!e.is_permanent()).then(|| later(now, pause(health.failures)));
        health.error = Some(e.to_string());
        for message in batch {
            let next_at = later(now, pause(message.attempts.saturating_add(1)));
            self.state.not_delivered(message.number, &route.name, next_at, health)?;
            if message.attempts > 0 && message.at < earlier(now, GIVE_UP) {
                self.state.give_up(message.number, &route.name, now)?;
            }
        }
        Ok(())
    }

    /// Gives a message to the first fallback that has not had it, unless one before that has taken it or is about to. True
    /// if another channel has it now.
    fn fall_back(&self, route: &Route, message: &Waiting) -> Result<bool> {
        let copies = self.state.copies_of(message.number)?;
        for name in &route.fallback {
            let Some(next) = self.channel(name) else { continue };
            // The configuration is checked for this too; here it holds even for messages from an earlier configuration.
            if !message.notice.is_for(&next.audience) {
                continue;
            }
            let Some(copy) = copies.iter().find(|copy| copy.channel == *name) else {
                self.state.forward(message.number, name)?;
                return Ok(true);
            };
            let fresh = !copy.done && copy.attempts == 0;
            if copy.delivered || (fresh && !is_failing(&self.state.channel_health(name)?)) {
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn channel(&self, name: &ChannelName) -> Option<&Route> {
        let routes = self.settings.channels.iter().map(|channel| &channel.route);
        routes.into_iter().find(|route| route.name == *name)
    }

    /// Messages for channels that are no longer configured go to those that want them now.
    fn adopt(&self, now: Timestamp) -> Result<()> {
        for orphaned in self.state.awaited_channels()? {
            if self.channel(&orphaned).is_some() {
                continue;
            }
            let all = Which { urgent: false, held: None, limit: WAITING };
            for message in self.state.waiting(&orphaned, all)? {
                if let Notice::Incident(event) = &message.notice {
                    for name in self.readers(event)? {
                        self.state.forward(message.number, &name)?;
                    }
                }
                self.state.give_up(message.number, &orphaned, now)?;
            }
        }
        Ok(())
    }
}
