//! The place of the next receipt, or why there must not be one: there is one chain, whatever became of the agent's host
//! (invariant I14).

use crate::error::{Error, ErrorKind, Origin, Result};
use crate::keys::Signer;
use crate::model::id::{DatabaseId, Sha256};
use crate::repository::agents::Agents;
use crate::repository::catalog::Catalog;
use crate::targets::TargetErrorKind;

/// Where in the chain a receipt is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NextPlace {
    /// The succession under which it is written; 0 before the first.
    pub succession: u64,
    /// Its number.
    pub sequence: u64,
    /// SHA-256 of the receipt before it.
    pub previous: Option<Sha256>,
}

impl Agents {
    /// Fails if another agent has taken over from this key.
    pub(crate) fn require_current(&self, database: &DatabaseId, own: &str) -> Result<()> {
        if self.in_doubt() {
            let ends: Vec<&str> =
                self.lines().iter().filter_map(|line| Some(line.last()?.to.fingerprint.as_str())).collect();
            return Err(refusal(database, "two successions of one number go on with the chain")
                .cause(format!("to {}; this agent's key is {own}", ends.join(" and to ")))
                .remedy(format!(
                    "Find out which agent is to go on, stop the others, and run `marbre adopt {}` there.",
                    database.database
                )));
        }
        let Some(last) = self.last().filter(|last| last.record.to.fingerprint != own) else { return Ok(()) };
        let to = &last.record.to.fingerprint;
        Err(refusal(database, &format!("{to} has taken over, by succession {}", last.record.number))
            .cause(format!("this agent's key is {own}; reason given: {}", last.record.reason))
            .remedy(format!(
                "If the other agent runs, stop this one for good. If this one is to go on, stop the other first, then run \
                 `marbre adopt {}` here.",
                database.database
            )))
    }
}

fn refusal(database: &DatabaseId, why: &str) -> Error {
    Error::key(format!("this agent must not write for {database}: {why}"))
}

impl Catalog {
    /// Fails unless this key is the agent of the whole history that is there, and that history has one end.
    pub(crate) fn require_agent(&self, database: &DatabaseId, own: &Signer) -> Result<()> {
        let name = &database.database;
        let own = own.fingerprint();
        let refuse = |why: String| refusal(database, &why);
        self.agents.require_current(database, &own)?;
        let rival = self.agents.rival().map(|known| &known.signed.record);
        if let Some(stranger) = self.strangers.iter().max_by_key(|s| s.receipt.sequence) {
            let signer = stranger.signer.fingerprint();
            let since = rival
                .map(|s| format!("; by succession {} the chain is that of {}", s.number, s.to.fingerprint));
            return Err(refuse(format!("there are snapshots by {signer}, and nothing explains them"))
                .cause(format!(
                    "the newest is {}, number {}{}; this agent's key is {own}",
                    stranger.receipt.snapshot,
                    stranger.receipt.sequence,
                    since.unwrap_or_default()
                ))
                .remedy(three_ways(database)));
        }
        if let Some(other) = rival {
            return Err(refuse(format!(
                "by succession {}, {} goes on with the chain, and this agent does not know that key",
                other.number, other.to.fingerprint
            ))
            .cause(format!("this agent's key is {own}; reason given: {}", other.reason))
            .remedy(format!(
                "If the other agent is right, stop this one for good. If not, find out who wrote there, then run `marbre \
                 adopt {name}` here: it overrules that record."
            )));
        }
        self.require_one_head(database)
    }

    /// The place of the next receipt by this key. `remembers` says whether the agent's state knows any receipt of this
    /// database: without, a target that cannot be read may hold newer ones.
    pub(crate) fn next_place(
        &self,
        database: &DatabaseId,
        own: &Signer,
        remembers: bool,
    ) -> Result<NextPlace> {
        self.require_agent(database, own)?;
        if !remembers {
            self.require_readable(database)?;
        }
        let head = self.heads.first();
        Ok(NextPlace {
            succession: self.agents.last().map_or(0, |last| last.record.number),
            sequence: head.map_or(1, |head| head.sequence + 1),
            previous: head.map(|head| head.receipt),
        })
    }

    /// An agent that remembers nothing must see everything that a chain has, if there is one anywhere. Where its credentials
    /// may only put, the claim of the number decides: whoever wrote a receipt there has made it.
    fn require_readable(&self, database: &DatabaseId) -> Result<()> {
        let name = &database.database;
        let away = self.unreachable.iter().find(|(_, e)| e.kind != TargetErrorKind::Denied);
        if let Some((target, e)) = away.filter(|_| !self.heads.is_empty()) {
            return Err(Error::new(
                ErrorKind::Target,
                format!("the newest snapshot of {database} is not known: this agent remembers none, and target {target} cannot be read"),
            )
            .cause(e.to_string())
            .origin(Origin::Target(target.to_string()))
            .remedy(format!(
                "Make the target reachable: it may hold a chain that has to go on. If it is lost, take it out of the \
                 configuration; if another target shows the newest snapshot, run `marbre adopt {name} --after SNAPSHOT`."
            )));
        }
        let unread = self.bad.iter().find(|bad| bad.key.contains("/receipts/"));
        match unread.filter(|_| self.heads.is_empty()) {
            None => Ok(()),
            Some(bad) => Err(Error::verification(format!(
                "the newest snapshot of {database} is not known: this agent remembers none, and {} cannot be used",
                bad.key
            ))
            .cause(bad.error.to_string())
            .remedy(three_ways(database))),
        }
    }
}

/// What is to be done where an agent finds a chain that it does not know.
fn three_ways(database: &DatabaseId) -> String {
    let name = &database.database;
    format!(
        "If this host replaces the one that wrote them, make sure that the old one is stopped, and run `marbre adopt {name}`: \
         the chain goes on. If the agent's key was replaced on purpose, run `marbre rotate {name} --old-key FILE`. If these \
         snapshots are of another database, give the target another prefix."
    )
}
