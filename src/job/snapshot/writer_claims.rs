//! The claim of a receipt's number: of two agents that write at the same time, or of two that take themselves for the
//! same one, the store lets only one write the receipt (invariant I14).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::keys::Signer;
use crate::model::id::{DatabaseId, SnapshotId, TargetName};
use crate::model::object::ObjectKey;
use crate::repository::agents::KnownSuccession;
use crate::repository::claim::{CLAIM_LIMIT, Claim, ClaimKind};
use crate::repository::layout;
use crate::repository::manifest::FORMAT;
use crate::repository::next_place::NextPlace;
use crate::state::{State, noted};
use crate::targets::{NamedTarget, PutOutcome, TargetErrorKind, TargetExt, Upload};

/// The claims of one run: made once for all targets, in one order, before the first receipt is written.
pub(super) struct Claims {
    database: DatabaseId,
    /// By name, so that all agents claim in the same order and none of two is stopped by the other.
    targets: Vec<NamedTarget>,
    state: State,
    place: NextPlace,
    own: String,
    /// The bytes of the claim: those of a run that was cut off, if there was one.
    body: Bytes,
    /// The records that say who writes; every target that gets a receipt has them.
    successions: Vec<KnownSuccession>,
    cancel: CancellationToken,
    /// Targets that this run has given up: they get no receipt, and must not hold up the others.
    given_up: Mutex<BTreeSet<TargetName>>,
    made: OnceCell<Result<Made>>,
}

/// What became of the claim at each target.
type Made = BTreeMap<TargetName, Result<()>>;

impl Claims {
    /// The claim for the snapshot of this run. Nothing is put anywhere yet.
    pub(super) fn prepare(
        database: &DatabaseId,
        (snapshot, place, own): (&SnapshotId, NextPlace, &Signer),
        targets: &[NamedTarget],
        successions: Vec<KnownSuccession>,
        state: &State,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let own = own.fingerprint();
        let body = match state.claim(database, place.succession, place.sequence)? {
            Some(body) => body,
            None => {
                let claim = Claim {
                    format: FORMAT,
                    kind: ClaimKind::Claim,
                    publisher: database.publisher.clone(),
                    database: database.database.clone(),
                    succession: place.succession,
                    sequence: place.sequence,
                    signer: own.clone(),
                    snapshot: snapshot.clone(),
                };
                claim.to_bytes()?
            }
        };
        let mut targets = targets.to_vec();
        targets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            database: database.clone(),
            targets,
            state: state.clone(),
            place,
            own,
            body: body.into(),
            successions,
            cancel: cancel.clone(),
            given_up: Mutex::default(),
            made: OnceCell::new(),
        })
    }

    /// Waits until the number is claimed everywhere. `Ok` means that this run may write its receipt at this target. An error of
    /// the kind [`ErrorKind::Conflict`] is that of all targets: somebody else has claimed the number.
    pub(super) async fn win(&self, target: &TargetName) -> Result<()> {
        match self.made.get_or_init(|| self.make()).await {
            Ok(made) => match made.get(target) {
                Some(made) => made.clone(),
                None => Err(Error::internal("a target without a claim")),
            },
            Err(e) => Err(e.clone()),
        }
    }

    /// Leaves a target out that has failed.
    pub(super) fn give_up(&self, target: &TargetName) {
        self.given_up().insert(target.clone());
    }

    fn given_up(&self) -> MutexGuard<'_, BTreeSet<TargetName>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self) -> Result<Made> {
        // Before the first one is put: a run that is cut off now must know its own claim again. Where it cannot be noted, that
        // run is refused, with a remedy.
        noted(self.state.remember_claim(&self.database, self.number(), &self.body));
        let mut made = Made::new();
        for target in &self.targets {
            if self.given_up().contains(&target.name) {
                continue;
            }
            match self.claim(target).await {
                Err(e) if matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Interrupted) => return Err(e),
                outcome => {
                    made.insert(target.name.clone(), outcome);
                }
            }
        }
        Ok(made)
    }

    fn number(&self) -> (u64, u64) {
        (self.place.succession, self.place.sequence)
    }

    async fn claim(&self, target: &NamedTarget) -> Result<()> {
        for known in self.successions.iter().filter(|known| !known.targets.contains(&target.name)) {
            let (number, hash) = (known.signed.record.number, known.signed.hash());
            let objects = [
                (layout::succession_signature(number, &hash), known.signed.signature.clone().into_bytes()),
                (layout::succession(number, &hash), known.signed.bytes.clone()),
            ];
            for (relative, bytes) in objects {
                let key = layout::key(&self.database, &relative)?;
                self.put_record(target, &key, bytes).await?;
            }
        }
        let key = layout::key(&self.database, &layout::claim(self.place.succession, self.place.sequence))?;
        let put = target.target.put(&key, &Upload::memory(self.body.clone()), &self.cancel).await;
        match put.map_err(of_target)? {
            PutOutcome::Created { .. } => {
                noted(self.state.claim_created(&self.database, self.number(), &target.name));
                Ok(())
            }
            PutOutcome::Exists => self.compare(target, &key).await,
        }
    }

    /// Puts a record that the target may have already. Credentials that may only put cannot look what is there.
    async fn put_record(&self, target: &NamedTarget, key: &ObjectKey, bytes: Vec<u8>) -> Result<()> {
        let upload = Upload::memory(bytes);
        match target.target.put(key, &upload, &self.cancel).await.map_err(of_target)? {
            PutOutcome::Created { .. } => Ok(()),
            PutOutcome::Exists => match target.target.compare(key, &upload, &self.cancel).await {
                Err(e) if e.kind == TargetErrorKind::Denied => Ok(()),
                compared => compared.map(drop).map_err(of_target),
            },
        }
    }

    /// The number is claimed: by this agent in an earlier run, which is as good, or by somebody else.
    async fn compare(&self, target: &NamedTarget, key: &ObjectKey) -> Result<()> {
        let found = match target.target.fetch_small(key, CLAIM_LIMIT, &self.cancel).await {
            Ok(found) if found == self.body => return Ok(()),
            Ok(found) => Claim::parse(&found).ok(),
            Err(e) if e.kind == TargetErrorKind::Denied => {
                return match self.state.is_claimed_at(&self.database, self.number(), &target.name)? {
                    true => Ok(()),
                    false => Err(self.lost(target, "its credentials may not read by whom", self.unread())),
                };
            }
            Err(e) => return Err(of_target(e)),
        };
        Err(match found {
            None => self.lost(target, "what lies there is no claim", self.others()),
            Some(claim) if claim.signer == self.own => {
                let why = format!(
                    "with this agent's own key, for snapshot {}, and this agent's state knows nothing of it",
                    claim.snapshot
                );
                self.lost(target, &why, self.cloned())
            }
            Some(claim) => {
                let why = format!("by {} for snapshot {}", claim.signer, claim.snapshot);
                self.lost(target, &why, self.others())
            }
        })
    }

    fn lost(&self, target: &NamedTarget, why: &str, remedy: String) -> Error {
        let number = self.place.sequence;
        let what = format!("receipt number {number} of {} is claimed by somebody else", self.database);
        Error::new(ErrorKind::Conflict, what)
            .cause(format!("at target {}: {why}", target.name))
            .remedy(remedy)
    }

    fn others(&self) -> String {
        format!(
            "Another agent is writing, or was cut off: run this again. If it stays so, make sure that the other agent is \
             stopped, then run `marbre adopt {}` here.",
            self.database.database
        )
    }

    fn cloned(&self) -> String {
        format!(
            "Another host has the same key (a clone of this one?), or this host's state is older than its last run. Stop the \
             other host. Then run this again; if it stays so, run `marbre adopt {}` here.",
            self.database.database
        )
    }

    fn unread(&self) -> String {
        format!(
            "If another host writes with these credentials, stop it. If this agent's state was lost, run `marbre adopt {} \
             --after RECEIPT.json` with the newest receipt and its .sig beside it, which whoever may read the target has.",
            self.database.database
        )
    }
}

fn of_target(e: crate::targets::TargetError) -> Error {
    let e = Error::from(e);
    match e.kind() {
        ErrorKind::Interrupted | ErrorKind::Internal => e,
        _ => e.with_kind(ErrorKind::Target),
    }
}
