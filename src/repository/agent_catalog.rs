//! Reading who wrote: the successions of a database from its targets, signature by signature.

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::keys::Namespace;
use crate::model::id::Sha256;
use crate::repository::agents::Agents;
use crate::repository::layout;
use crate::repository::reader::{BadRecord, Listed, Reader};
use crate::repository::remembered::Remembered as _;
use crate::repository::signed_record::{Depth, Signed, SignedBytes, SignedRecord};
use crate::repository::succession::{self, Action, Succession};
use crate::state::noted;
use crate::targets::{NamedTarget, TargetErrorKind};

/// A record is smaller than this: 4,000 receipts set aside.
const RECORD_LIMIT: u64 = 1 << 20;

impl Reader<'_> {
    /// The agents of the database. Read once.
    pub(crate) async fn agents(&self, cancel: &CancellationToken) -> Result<&Agents> {
        self.agents.get_or_try_init(|| self.read_agents(cancel)).await
    }

    async fn read_agents(&self, cancel: &CancellationToken) -> Result<Agents> {
        let mut agents = Agents::default();
        for signed in self.state.map(|s| s.successions(self.database)).transpose()?.unwrap_or_default() {
            agents.add(signed, None);
        }
        let lists = self.targets.iter().map(|t| self.list_folder(t, "agents", layout::succession_of, cancel));
        for (target, found) in self.targets.iter().zip(join_all(lists).await) {
            let found = match found {
                Ok(found) => found,
                Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
                // Whoever lists its receipts says so.
                Err(_) => continue,
            };
            for listed in found {
                if let Some(oddity) = listed.oddity(None) {
                    agents.oddities.entry(target.name.clone()).or_default().push(oddity);
                }
                let Listed { id: (number, relative), key, .. } = listed;
                agents.highest = agents.highest.max(number);
                match self.succession(target, number, relative, cancel).await {
                    Ok(signed) => agents.add(signed, Some(&target.name)),
                    Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                    Err(e) if e.kind() == ErrorKind::Target => break,
                    Err(e) => agents.bad.push(BadRecord {
                        target: target.name.clone(),
                        key: key.to_string(),
                        error: e.context(format!("succession {number} at {}", target.name)),
                    }),
                }
            }
        }
        agents.resolve(self.trust);
        self.note_untrusted(&mut agents)?;
        if let Some(state) = self.state {
            for known in agents.accepted() {
                noted(state.remember_succession(self.database, &known.signed));
            }
        }
        Ok(agents)
    }

    async fn succession(
        &self,
        target: &NamedTarget,
        number: u64,
        relative: String,
        cancel: &CancellationToken,
    ) -> Result<Signed<Succession>> {
        let record = SignedRecord {
            database: self.database,
            keys: [relative.clone(), format!("{relative}.sig")],
            limit: RECORD_LIMIT,
            namespace: Namespace::Succession,
        };
        let accept = |signed: &SignedBytes| {
            if layout::succession(number, &Sha256::of(&signed.bytes)) != relative {
                return Err(Error::verification(format!(
                    "the record at {relative} is not what its name says"
                ))
                .remedy("Somebody changed or moved it: use another target, and tell the publisher."));
            }
            let signers = succession::signers(&signed.signature, &signed.bytes)?;
            Succession::parse(&signed.bytes, &signers, self.database, number)
        };
        let (record, signed) = record.read(target, Depth::AnyVersion, accept, cancel).await?;
        Ok(Signed::new(record, signed))
    }

    /// A record that would go on with the history, if its new agent were trusted, is a thing to look at.
    fn note_untrusted(&self, agents: &mut Agents) -> Result<()> {
        let Some(known) = agents.rival() else { return Ok(()) };
        let Succession { number, action, from, to, after, reason, .. } = &known.signed.record;
        let done = match action {
            Action::Adopt => "adopted",
            Action::Rotate => "been handed",
        };
        let target = known.targets.first().or_else(|| self.targets.first().map(|t| &t.name));
        let Some(target) = target.cloned() else { return Ok(()) };
        let error = Error::key(format!(
            "{} has {done} the chain of {} after number {}, and nothing says that this key is trusted",
            to.fingerprint, from.fingerprint, after.sequence
        ))
        .cause(format!("reason given: {reason}"))
        .remedy(format!(
            "Compare the new key's fingerprint with the one that the provider gives you by another way (a call, the \
             contract). If it is the same, add the key to allowed_signers, or give `--accept-signer {}`. If not, somebody \
             else wrote this: do not use it.",
            to.fingerprint
        ));
        let key = layout::key(self.database, &layout::succession(*number, &known.signed.hash()))?.to_string();
        agents.bad.push(BadRecord { target, key, error });
        Ok(())
    }
}
