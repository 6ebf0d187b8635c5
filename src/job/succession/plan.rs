//! What a succession says: which chain goes on, after which receipt, and what is set aside.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{After, Plan, SuccessionJob, Way, given};
use crate::error::{Error, ErrorKind, Result};
use crate::job::run_lock::Lock;
use crate::keys::TrustStore;
use crate::model::id::Sha256;
use crate::repository::catalog::Catalog;
use crate::repository::chain::Link;
use crate::repository::manifest::FORMAT;
use crate::repository::reader::Reader;
use crate::repository::signed_record::Signed;
use crate::repository::succession::{Action, AgentKey, Seen, Succession, SuccessionKind};
use crate::repository::{canonical, history};
use crate::targets::TargetErrorKind;

/// The chain that goes on.
struct Base {
    /// As whoever trusts its agent sees it.
    catalog: Catalog,
    /// The receipt that the next one follows.
    after: Seen,
    /// When that receipt's snapshot was finished, where it is known.
    finished_at: Option<Timestamp>,
    /// The signer of that receipt.
    signer: AgentKey,
}

impl SuccessionJob {
    /// Decides what will be written. Nothing is written yet.
    pub(crate) async fn plan(&self, now: Timestamp, cancel: &CancellationToken) -> Result<Plan> {
        let lock = Lock::take(&self.state.lock_file(&self.database), &self.database)?;
        let own = self.read(&self.trust, true, cancel).await?;
        self.require_readable(&own)?;
        let base = match &self.way {
            Way::Rotate(old) => {
                let catalog = self.read(&TrustStore::own(old.signer()), true, cancel).await?;
                catalog.require_agent(&self.database, &old.signer())?;
                self.at_its_end(catalog)?
            }
            Way::Adopt(None) => self.newest(&own, cancel).await?,
            Way::Adopt(Some(after)) => self.after(after, &own, cancel).await?,
        };
        let last = base.catalog.agents.last();
        if let Some(last) = last.filter(|last| base.after.sequence < last.record.after.sequence) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("snapshot {} is older than succession {}", base.after.snapshot, last.record.number),
            )
            .cause(format!("that one goes on after {}", last.record.after.snapshot))
            .remedy("Name a snapshot that was taken since."));
        }
        let from = last.map_or(base.signer.clone(), |last| last.record.to.clone());
        let to = AgentKey::of(&self.signing_key.signer());
        let action = match &self.way {
            Way::Adopt(_) => Action::Adopt,
            Way::Rotate(_) if from == to => {
                return Err(Error::new(ErrorKind::Usage, "the old key and the configured one are the same")
                    .remedy("Make a new key with `marbre keygen --agent`, and name it as `signing_key`."));
            }
            Way::Rotate(_) => Action::Rotate,
        };
        let earliest = base.finished_at.unwrap_or(Timestamp::MIN);
        let record = Succession {
            format: FORMAT,
            kind: SuccessionKind::Succession,
            publisher: self.database.publisher.clone(),
            database: self.database.database.clone(),
            number: own.agents.highest.max(base.catalog.agents.highest) + 1,
            previous: last.map(Signed::hash),
            action,
            from,
            to,
            set_aside: set_aside(&base, &own),
            after: base.after,
            reason: self.reason.clone(),
            decided_at: canonical::whole_second(now.max(earliest)),
            agent: concat!("marbre ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Ok(Plan { record, agents: base.catalog.agents, _lock: lock })
    }

    async fn read(&self, trust: &TrustStore, remember: bool, cancel: &CancellationToken) -> Result<Catalog> {
        let state = remember.then_some(&self.state);
        Reader::new(&self.database, &self.targets, trust, state).read(cancel).await
    }

    /// Without the receipt's name, the newest must be known: every target is read, or the agent knows the chain and its
    /// credentials may only put.
    fn require_readable(&self, own: &Catalog) -> Result<()> {
        let knows = self.state.knows_chain(&self.database)?;
        let hidden = own.unreachable.iter().find(|(_, e)| e.kind != TargetErrorKind::Denied || !knows);
        match hidden.filter(|_| !matches!(self.way, Way::Adopt(Some(_)))) {
            None => Ok(()),
            Some((target, e)) => Err(Error::new(
                ErrorKind::Target,
                format!("the newest snapshot of {} is not known: target {target} cannot be read", self.database),
            )
            .cause(e.to_string())
            .remedy(format!(
                "Make the target reachable. If that cannot be, say which receipt is the newest: `marbre adopt {} --after \
                 SNAPSHOT`, or `--after RECEIPT.json` where the credentials may not read.",
                self.database.database
            ))),
        }
    }

    /// The chain that is there, where there is only one.
    async fn newest(&self, own: &Catalog, cancel: &CancellationToken) -> Result<Base> {
        let Some(stranger) = own.strangers.iter().max_by_key(|s| s.receipt.sequence) else {
            return self.at_its_end(own.clone());
        };
        // Who may have taken the chain over comes first: that agent's record explains those before it.
        let rival = own.agents.rival().map(|known| known.signed.record.to.fingerprint.clone());
        let signer = stranger.signer.fingerprint();
        for agent in rival.iter().chain([&signer]).filter(|_| own.heads.is_empty()) {
            let catalog = self.of(agent, cancel).await?;
            if catalog.strangers.is_empty() && !catalog.heads.is_empty() {
                return self.at_its_end(catalog);
            }
        }
        let ours = own
            .heads
            .iter()
            .map(|head| format!("{} (number {}) of this agent's chain", head.snapshot, head.sequence));
        let theirs = &stranger.receipt;
        let theirs = format!("{} (number {}) by {signer}", theirs.snapshot, theirs.sequence);
        Err(Error::key(format!("there is more than one chain of {}", self.database))
            .cause(ours.chain([theirs]).collect::<Vec<_>>().join("; "))
            .remedy(format!(
                "Say which snapshot the chain goes on after: `marbre adopt {} --after SNAPSHOT`. The others are set aside, and \
                 stay where they are.",
                self.database.database
            )))
    }

    /// The chain of an agent that this one does not know, as who trusts it sees it.
    async fn of(&self, agent: &str, cancel: &CancellationToken) -> Result<Catalog> {
        self.read(&TrustStore::fingerprint(agent)?, false, cancel).await
    }

    fn at_its_end(&self, catalog: Catalog) -> Result<Base> {
        catalog.require_one_head(&self.database)?;
        let head = catalog.heads.first().cloned().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no snapshot of {} yet", self.database))
                .remedy("There is nothing to go on with: `marbre snapshot` begins the chain.")
        })?;
        self.base(catalog, head)
    }

    /// The chain that a named receipt belongs to.
    async fn after(&self, after: &After, own: &Catalog, cancel: &CancellationToken) -> Result<Base> {
        let snapshot = match after {
            After::Snapshot(snapshot) => snapshot,
            After::Receipt(path) => {
                let (signed, signer) = given::receipt(path, &self.database)?;
                let trust = TrustStore::fingerprint(&signer.fingerprint())?;
                let mut catalog = self.read(&trust, false, cancel).await?;
                self.add_given(path, &mut catalog.agents)?;
                catalog.agents.resolve(&trust);
                catalog.agents.check_receipt(&signed.receipt, &signer, &trust).map_err(|e| {
                    e.context(path.display()).remedy(
                        "Put the successions of the target (agents/*.json and *.json.sig) beside the receipt.",
                    )
                })?;
                let receipt = &signed.receipt;
                let after = Seen::of(&Link::of(receipt, signed.hash()));
                if let Some(newer) = catalog.heads.iter().find(|head| head.sequence > after.sequence) {
                    return Err(Error::verification(format!("{} is not the newest receipt", path.display()))
                        .cause(format!("a target shows {}, number {}", newer.snapshot, newer.sequence))
                        .remedy(format!("Give the newest, or name it: `--after {}`.", newer.snapshot)));
                }
                let finished_at = Some(receipt.finished_at);
                return Ok(Base { catalog, after, finished_at, signer: AgentKey::of(&signer) });
            }
        };
        let stranger = own.strangers.iter().find(|s| s.receipt.snapshot == *snapshot);
        let catalog = match (own.find(snapshot), stranger) {
            (None, Some(stranger)) => self.of(&stranger.signer.fingerprint(), cancel).await?,
            _ => own.clone(),
        };
        let link = match (catalog.find(snapshot), catalog.heads.iter().find(|h| h.snapshot == *snapshot)) {
            (Some(entry), _) => Seen::of(&entry.link),
            (None, Some(head)) => head.clone(),
            (None, None) => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("there is no snapshot {snapshot} of {} here", self.database),
                )
                .remedy("`marbre list` shows what there is."));
            }
        };
        self.base(catalog, link)
    }

    fn base(&self, catalog: Catalog, after: Seen) -> Result<Base> {
        let entry = catalog.find(&after.snapshot);
        let finished_at = entry.map(|e| e.receipt.finished_at);
        let known = catalog.agents.last().map(|last| last.record.to.clone());
        let signer = match (known, entry) {
            (Some(key), _) => key,
            (None, Some(entry)) => AgentKey::of(&entry.signer),
            // Only this agent's state remembers that receipt.
            (None, None) => AgentKey::of(&self.signing_key.signer()),
        };
        Ok(Base { catalog, after, finished_at, signer })
    }
}

/// Every receipt that was seen and that the one to go on after does not follow.
fn set_aside(base: &Base, own: &Catalog) -> Vec<Seen> {
    let ours = |c: &Catalog| -> Vec<Link> {
        c.entries.values().chain(c.aside.values()).map(|e| e.link.clone()).collect()
    };
    let own_line = [ours(&base.catalog), base.catalog.prunes.links().collect()].concat();
    let strangers = [own, &base.catalog].map(|c| c.strangers.iter().chain(c.superseded.values()));
    let strangers = strangers.into_iter().flatten().map(|s| Link::of(&s.receipt, s.hash));
    let all: BTreeMap<Sha256, Link> =
        own_line.iter().cloned().chain(ours(own)).chain(strangers).map(|link| (link.hash, link)).collect();
    let followed = history::followed(&base.after, &own_line);
    let counts = |link: &Link| base.catalog.entries.values().any(|e| e.link.hash == link.hash);
    let aside = |link: &&Link| match followed.get(&link.sequence) {
        Some(hash) => *hash != link.hash,
        // Below a gap, the receipts of the chain itself are taken as they are.
        None => link.sequence > base.after.sequence || !counts(link),
    };
    let named = |link: &&Link| base.catalog.agents.sets_aside(&link.id);
    let mut found: Vec<Seen> = all.values().filter(aside).filter(|link| !named(link)).map(Seen::of).collect();
    found.sort_by_key(|seen| (seen.sequence, seen.receipt));
    found
}
