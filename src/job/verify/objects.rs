//! Reading objects back: every byte is hashed, none is kept.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Damage;
use super::receipts::Gathered;
use super::versions::{Standing, hash, older, policy};
use crate::error::{Error, ErrorKind, Result};
use crate::model::id::{DatabaseId, Sha256, SnapshotId};
use crate::model::object::ObjectKey;
use crate::model::observer::Observer;
use crate::repository::layout;
use crate::repository::receipt::ObjectRef;
use crate::targets::NamedTarget;
use crate::targets::{TargetError, TargetErrorKind};

/// Objects that are read at the same time, per target.
const PARALLEL: usize = 4;

/// One target, whose objects are read.
#[derive(Clone)]
pub(super) struct ReadBack {
    pub database: DatabaseId,
    pub target: NamedTarget,
    pub gathered: Arc<Gathered>,
    pub observer: Arc<dyn Observer>,
}

/// What was found at one target.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Objects read to their end.
    pub objects: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Objects that are as the receipts say, by number.
    pub good: HashSet<u32>,
    /// Objects that are not, by number.
    pub damaged: Vec<(u32, Damage)>,
    /// Snapshots that were removed by a prune meanwhile.
    pub pruned: BTreeSet<SnapshotId>,
    /// Why not everything was looked at.
    pub error: Option<Error>,
}

/// What one object is.
enum Finding {
    Good,
    /// What is wrong, and how many bytes were read to know it.
    Damaged(String, Option<u64>),
    Unreachable(TargetError),
}

impl ReadBack {
    /// Reads these objects, some at a time. Stops where the target stops answering.
    pub(super) async fn run(self, numbers: Vec<u32>, cancel: &CancellationToken) -> Result<Findings> {
        let mut findings = Findings::default();
        let mut queue = numbers.into_iter();
        // Dropping the set stops what is still under way.
        let mut running = JoinSet::new();
        loop {
            while running.len() < PARALLEL
                && let Some(number) = queue.next()
            {
                let (this, cancel) = (self.clone(), cancel.clone());
                running.spawn(async move { (number, this.object(number, &cancel).await) });
            }
            let Some(done) = running.join_next().await else { break };
            let (number, finding) =
                done.map_err(|e| Error::internal("a task that reads objects died").cause(e))?;
            let object = &self.gathered.objects[number as usize];
            match finding? {
                Finding::Good => {
                    findings.objects += 1;
                    findings.bytes += object.size;
                    findings.good.insert(number);
                }
                Finding::Damaged(problem, read) => {
                    findings.objects += u64::from(read.is_some());
                    findings.bytes += read.unwrap_or(0);
                    let key = layout::key(&self.database, &object.key)?.to_string();
                    let damage = Damage { target: self.target.name.clone(), object: key, problem };
                    findings.damaged.push((number, damage));
                }
                Finding::Unreachable(e) => {
                    findings.error = Some(Error::from(e).with_kind(ErrorKind::Target));
                    break;
                }
            }
        }
        findings.damaged.sort_by_key(|(number, _)| *number);
        Ok(findings)
    }

    async fn object(&self, number: u32, cancel: &CancellationToken) -> Result<Finding> {
        let object = &self.gathered.objects[number as usize];
        let key = layout::key(&self.database, &object.key)?;
        let mut finding = self.newest(&key, object, cancel).await?;
        if let Finding::Damaged(problem, _) = &mut finding
            && let Standing::Older(version) = older(&*self.target.target, &key, object, cancel).await?
        {
            problem.push_str(&format!(
                "; its older version {} is good, so it can still be restored: somebody deleted or overwrote it",
                version.0
            ));
        }
        Ok(finding)
    }

    /// What lies under the key now. Whatever is wrong is looked at twice: bytes can be damaged on their way.
    async fn newest(
        &self,
        key: &ObjectKey,
        object: &ObjectRef,
        cancel: &CancellationToken,
    ) -> Result<Finding> {
        let target = &*self.target.target;
        // Enough to recognise any object of this database in the place of another.
        let limit = self.gathered.objects.iter().map(|o| o.size).max().unwrap_or(0);
        let seen = |n| self.observer.bytes(n);
        let mut finding = Finding::Good;
        for _ in 0..2 {
            let attempt = || hash(target, key, None, limit, &seen, cancel);
            finding = match policy().run(cancel, attempt).await {
                Ok((size, sha256)) if (size, sha256) == (object.size, object.sha256) => {
                    return Ok(Finding::Good);
                }
                Ok((size, sha256)) => Finding::Damaged(self.difference(object, size, sha256), Some(size)),
                Err(e) => match e.kind {
                    TargetErrorKind::Cancelled => return Err(Error::interrupted()),
                    TargetErrorKind::NotFound => {
                        return Ok(Finding::Damaged("it is missing".to_owned(), None));
                    }
                    TargetErrorKind::Corrupt => Finding::Damaged(e.cause, None),
                    // One object that cannot be read is damaged, where the target itself answers.
                    TargetErrorKind::Unavailable if target.head(key, cancel).await.is_ok() => {
                        Finding::Damaged(format!("it cannot be read: {}", e.cause), None)
                    }
                    _ => return Ok(Finding::Unreachable(e)),
                },
            };
        }
        Ok(finding)
    }

    fn difference(&self, object: &ObjectRef, size: u64, sha256: Sha256) -> String {
        let objects = &self.gathered.objects;
        if let Some(other) = objects.iter().find(|o| o.sha256 == sha256 && o.size == size) {
            return format!("it holds the bytes of {}", other.key);
        }
        match size.cmp(&object.size) {
            std::cmp::Ordering::Less => format!("it has {size} bytes, not {}", object.size),
            std::cmp::Ordering::Greater => format!("it has more than its {} bytes", object.size),
            std::cmp::Ordering::Equal => format!("its bytes were changed (their SHA-256 is {sha256})"),
        }
    }
}
