//! Once a week: how everything stands, for people.

use jiff::Timestamp;

use super::{Dispatcher, RoutedChannel};
use crate::error::Result;
use crate::model::condition::{Condition, Severity};
use crate::model::digest::{DatabaseDigest, Digest, Standing};
use crate::model::id::{ChannelName, DatabaseId};
use crate::model::notice::Notice;
use crate::model::route::Role;
use crate::state::Post;

impl Dispatcher {
    /// Queues a digest, if one is due. The first is due at the first slot after the agent began to count. After a downtime
    /// one is enough.
    pub(crate) fn digest(&self, standings: &[(DatabaseId, Option<Standing>)], now: Timestamp) -> Result<()> {
        let Some((schedule, zone)) = &self.settings.digest else { return Ok(()) };
        let rule = schedule.rule(zone);
        let (since, last) = match self.state.digest_accounted(&rule)? {
            Some((at, last)) if at <= now => (at, last),
            accounted => {
                let last = accounted.and_then(|(_, last)| last);
                return self.state.account_digest(&rule, now, last.as_ref(), None);
            }
        };
        if schedule.next(since, zone).is_none_or(|slot| slot > now) {
            return Ok(());
        }
        let digest = self.summarize(standings, last.as_ref(), since, now)?;
        let channels = self.digest_readers(&digest);
        let notice = Notice::Digest(Box::new(digest.clone()));
        let post = Post { notice, at: now, channels, supersedes: false };
        let post = Some(&post).filter(|post| !post.channels.is_empty());
        self.state.account_digest(&rule, now, Some(&digest), post)
    }

    fn summarize(
        &self,
        standings: &[(DatabaseId, Option<Standing>)],
        last: Option<&Digest>,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Digest> {
        let incidents = self.state.incidents(since)?;
        let databases = standings.iter().map(|(database, now)| {
            let of_it = incidents.iter().filter(|i| i.condition.databases().any(|other| other == database));
            let hits = |condition: &Condition| {
                condition.database.as_ref() == Some(database)
                    || condition.hit().any(|hit| hit.database == *database)
            };
            let open = of_it.clone().filter(|incident| incident.is_open() && hits(&incident.condition));
            DatabaseDigest {
                database: database.clone(),
                now: now.clone(),
                before: last.and_then(|last| last.standing(database)).cloned(),
                incidents: of_it.count(),
                open: open.map(|incident| incident.condition.summary.clone()).collect(),
            }
        });
        let known = |database: &DatabaseId| standings.iter().any(|(other, _)| other == database);
        let before = last.into_iter().flat_map(|last| &last.databases).map(|of| &of.database);
        let gone = before.filter(|database| !known(database)).cloned().collect();
        Ok(Digest { since, until, databases: databases.collect(), gone })
    }

    /// Who gets it: people who hear of everything, not whoever is only called for what is critical.
    fn digest_readers(&self, digest: &Digest) -> Vec<ChannelName> {
        let wants = |channel: &&RoutedChannel| {
            let route = &channel.route;
            let is_reader = route.role == Role::Main && route.floor == Severity::Warning;
            is_reader
                && channel.channel.is_read_by_people()
                && !digest.narrowed(&route.audience).databases.is_empty()
        };
        self.settings.channels.iter().filter(wants).map(|channel| channel.route.name.clone()).collect()
    }
}
