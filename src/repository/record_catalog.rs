//! Records of one kind that lie in a folder of their own, each under its id: read from the targets, signature by signature.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::keys::Namespace;
use crate::model::id::{DatabaseId, TargetName};
use crate::model::object::ObjectKey;
use crate::repository::layout;
use crate::repository::oddity::{Oddity, Problem};
use crate::repository::reader::{BadRecord, Listed, PARALLEL, Reader};
use crate::repository::signed_record::{Depth, Signed, SignedBytes, SignedRecord};
use crate::state::{State, noted};
use crate::targets::{NamedTarget, TargetError, TargetErrorKind, TargetExt, Upload};

/// A kind of record by the agent.
pub(crate) trait Recorded: Sized {
    /// What tells them apart.
    type Id: Ord + Clone + Display;
    /// The folder, and what one is called in messages.
    const NAMES: (&'static str, &'static str);
    /// A record is smaller than this.
    const LIMIT: u64;
    /// What its signature says that it signs.
    const NAMESPACE: Namespace;
    /// The right that its signer must have.
    const RIGHT: Namespace;

    /// Its id.
    fn id(&self) -> &Self::Id;
    /// When it was decided.
    fn decided_at(&self) -> Timestamp;
    /// The keys of the record and of its signature, relative to the database.
    fn keys(id: &Self::Id) -> [String; 2];
    /// The id of the record that lies under this key, if it is such a key.
    fn id_of(database: &DatabaseId, key: &ObjectKey) -> Option<Self::Id>;
    /// Parses the record that was found at its place. The caller has checked the signature of `bytes`.
    fn parse(bytes: &[u8], database: &DatabaseId, id: &Self::Id) -> Result<Self>;
    /// Those that the state remembers.
    fn remembered(state: &State, database: &DatabaseId) -> Result<Vec<Signed<Self>>>;
    /// Lets the state remember one.
    fn remember(state: &State, database: &DatabaseId, signed: &Signed<Self>) -> Result<()>;
}

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Known<T> {
    /// The record.
    pub signed: Signed<T>,
    /// The targets that have it.
    pub targets: BTreeSet<TargetName>,
}

/// All records of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Records<T: Recorded> {
    /// Every one with a good signature in the state or on some target, oldest first.
    pub records: BTreeMap<T::Id, Known<T>>,
    /// Records that failed a check.
    pub bad: Vec<BadRecord>,
    /// Records that a target lists other than they were written.
    pub oddities: BTreeMap<TargetName, Vec<Oddity>>,
}

impl Reader<'_> {
    /// Reads the records of these targets, and those that the state remembers: the only target that has one may be away. A
    /// target that does not answer is passed over: whoever lists its receipts finds that out.
    pub(crate) async fn records<T: Recorded>(
        &self,
        targets: &[&NamedTarget],
        cancel: &CancellationToken,
    ) -> Result<Records<T>> {
        let mut found = Records::default();
        let remembered = self.state.map(|s| T::remembered(s, self.database)).transpose()?.unwrap_or_default();
        for signed in remembered {
            found.add(signed);
        }
        for target in targets {
            let listed = match self.list_folder(target, T::NAMES.0, T::id_of, cancel).await {
                Ok(listed) => listed,
                Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
                Err(_) => continue,
            };
            let new = found.note(target, listed, self.state.is_some());
            let mut fetched = stream::iter(new.into_iter().map(|id| async move {
                let record = self.record::<T>(target, &id, cancel).await;
                (id, record)
            }))
            .buffered(PARALLEL);
            while let Some((id, record)) = fetched.next().await {
                match record {
                    Ok(signed) => {
                        found.add(signed).targets.insert(target.name.clone());
                    }
                    Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                    Err(e) => found.bad.push(BadRecord {
                        target: target.name.clone(),
                        key: layout::key(self.database, &T::keys(&id)[0])?.to_string(),
                        error: e.context(format!("record of {} {id} at {}", T::NAMES.1, target.name)),
                    }),
                }
            }
        }
        Ok(found)
    }

    async fn record<T: Recorded>(
        &self,
        target: &NamedTarget,
        id: &T::Id,
        cancel: &CancellationToken,
    ) -> Result<Signed<T>> {
        let agents = self.agents(cancel).await?;
        let accept = |signed: &SignedBytes| {
            let record = T::parse(&signed.bytes, self.database, id)?;
            agents.check_record(&signed.signer, T::RIGHT, record.decided_at(), self.trust)?;
            Ok(record)
        };
        let record = SignedRecord {
            database: self.database,
            keys: T::keys(id),
            limit: T::LIMIT,
            namespace: T::NAMESPACE,
        };
        let (record, read) = record.read(target, Depth::AnyVersion, accept, cancel).await?;
        let signed = Signed::new(record, read);
        if let Some(state) = self.state {
            noted(T::remember(state, self.database, &signed));
        }
        Ok(signed)
    }
}

impl<T: Recorded> Default for Records<T> {
    fn default() -> Self {
        Self { records: BTreeMap::new(), bad: Vec::new(), oddities: BTreeMap::new() }
    }
}

impl<T: Recorded> Records<T> {
    /// Takes note of what a target lists. Returns what must be fetched: what is not known, and without a state everything.
    fn note(&mut self, target: &NamedTarget, listed: Vec<Listed<T::Id>>, has_state: bool) -> Vec<T::Id> {
        let mut new = Vec::new();
        for listed in listed {
            let known = self.records.get_mut(&listed.id).filter(|_| has_state);
            let oddity = listed.oddity(known.as_ref().map(|known| known.signed.sizes()));
            match known {
                Some(known) if oddity.as_ref().is_none_or(|odd| odd.problem == Problem::Hidden) => {
                    known.targets.insert(target.name.clone());
                }
                Some(_) => {}
                None => new.push(listed.id),
            }
            if let Some(oddity) = oddity {
                self.oddities.entry(target.name.clone()).or_default().push(oddity);
            }
        }
        new
    }

    fn add(&mut self, signed: Signed<T>) -> &mut Known<T> {
        let id = signed.record.id().clone();
        self.records.entry(id).or_insert_with(|| Known { signed, targets: BTreeSet::new() })
    }
}

/// Puts a record at a target: first its signature, since a record without one proves nothing.
pub(crate) async fn put_record<T: Recorded>(
    target: &NamedTarget,
    database: &DatabaseId,
    signed: &Signed<T>,
    cancel: &CancellationToken,
) -> Result<(), TargetError> {
    let [record, signature] = T::keys(signed.record.id());
    let objects = [(signature, signed.signature.clone().into_bytes()), (record, signed.bytes.clone())];
    for (relative, bytes) in objects {
        let key = layout::key(database, &relative).map_err(|e| {
            TargetError::caused_by(TargetErrorKind::Unsupported, format!("put {relative}"), e)
        })?;
        target.target.put_or_compare(&key, &Upload::memory(bytes), cancel).await?;
    }
    Ok(())
}
