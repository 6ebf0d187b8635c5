//! Where the accepted history of a catalogue ends, and what is not of it.

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::keys::signing;
use crate::model::id::{DatabaseId, Sha256};
use crate::repository::agents::KnownSuccession;
use crate::repository::catalog::{Catalog, Entry};
use crate::repository::chain::Link;
use crate::repository::deletion::Deletion;
use crate::repository::history::{self, Member, Origin, Resolved};
use crate::repository::reader::Reader;
use crate::repository::remembered::Remembered as _;
use crate::repository::succession::Seen;

impl Reader<'_> {
    /// The links of receipts that the state remembers and that no target shows, as far as they matter for where the history
    /// ends.
    pub(super) async fn remembered(
        &self,
        catalog: &Catalog,
        cancel: &CancellationToken,
    ) -> Result<Vec<Link>> {
        let Some(state) = self.state else { return Ok(Vec::new()) };
        let agents = self.agents(cancel).await?;
        let mut links = Vec::new();
        let newest = state.head(self.database)?.map_or(0, |head| head.sequence);
        let settled = match agents.last() {
            Some(last) => last.record.after.sequence,
            // Where no target shows anything and there is one agent, nothing competes with the newest.
            None if catalog.entries.is_empty() => newest.saturating_sub(1),
            None => 0,
        };
        for snapshot in state.snapshots_after(self.database, settled)? {
            if catalog.entries.contains_key(&snapshot) {
                continue;
            }
            let Some(signed) = state.receipt(self.database, &snapshot)? else { continue };
            let signer = signing::signer_of(signed.signature.as_bytes())?;
            if agents.check_receipt(&signed.receipt, &signer, self.trust).is_ok() {
                links.push(Link::of(&signed.receipt, signed.hash()));
            }
        }
        Ok(links)
    }
}

impl Catalog {
    /// Tells the accepted history from other branches, and finds out where it ends.
    pub(super) fn resolve(&mut self, remembered: Vec<Link>) {
        let member = |e: &Entry| Member {
            link: e.link.clone(),
            origin: Origin::of(&e.receipt, e.signer.fingerprint()),
        };
        let members: Vec<Member> = self.entries.values().map(member).collect();
        let mut links: Vec<Link> = self.prunes.links().chain(remembered).collect();
        // Where the archive was deleted, the next receipt follows the last one; where that still is somewhere, it says more.
        let known =
            |hash| members.iter().any(|m| m.link.hash == hash) || links.iter().any(|l| l.hash == hash);
        let deleted = self.decisions.deleted().and_then(Deletion::link).filter(|link| !known(link.hash));
        links.extend(deleted);
        let Resolved { heads, aside } = history::resolve_all(&self.agents.lines(), &members, &links);
        self.heads = heads;
        self.prunes.branches = aside.clone();
        let (aside, entries) =
            std::mem::take(&mut self.entries).into_iter().partition(|(_, e)| aside.contains(&e.link.hash));
        (self.aside, self.entries) = (aside, entries);
    }

    /// Whether a receipt, seen before, is of a branch that the history did not go on with.
    pub(super) fn is_aside(&self, hash: &Sha256) -> bool {
        let named = |s: &KnownSuccession| s.signed.record.set_aside.iter().any(|seen| seen.receipt == *hash);
        self.aside.values().any(|e| e.link.hash == *hash) || self.agents.accepted().any(named)
    }

    /// Fails where it cannot be told which snapshot is the newest: nothing may choose one silently.
    pub(crate) fn require_one_head(&self, database: &DatabaseId) -> Result<()> {
        if self.heads.len() < 2 {
            return Ok(());
        }
        let named = |head: &Seen| {
            let entry = self.entries.get(&head.snapshot);
            let signer = entry.map(|e| format!(", by {}", e.signer.fingerprint())).unwrap_or_default();
            format!("{} (number {}{signer})", head.snapshot, head.sequence)
        };
        let heads: Vec<String> = self.heads.iter().map(named).collect();
        Err(Error::key(format!("{} snapshots of {database} claim to be the newest", heads.len()))
            .cause(heads.join(" and "))
            .remedy(format!(
                "Find out which host wrote which, and stop the one that must not write. To read one of them, name it; \
                 `--of-agent SHA256:…` takes the newest of one agent. To go on after one of them, run `marbre adopt {} \
                 --after SNAPSHOT` where the agent runs: it sets the others aside, and deletes nothing.",
                database.database
            )))
    }
}
