//! The trials: each does its worst, and then looks at what is there.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;

use super::{LOCK, Probe, SHORTER};
use crate::model::guarantee::Outcome;
use crate::model::object::{ObjectKey, VersionId};
use crate::model::object_lock::{Lock, LockMode};
use crate::targets::{PutOutcome, TargetError, TargetErrorKind as Kind, Upload};

/// How many create one object at the same moment.
const RACERS: usize = 8;
/// No object of a probe is larger.
const LIMIT: usize = 4096;

/// An object that is attacked.
pub(super) struct Victim {
    key: ObjectKey,
    version: Option<VersionId>,
    bytes: Bytes,
}

/// What is there after an attack.
enum Seen {
    /// The bytes that were put first.
    Intact,
    /// Something else, or nothing: what.
    Harmed(&'static str),
    /// Nobody knows.
    Unknown(TargetError),
}

fn content(of: &str) -> Bytes {
    format!("marbre uses this object ({of}) to test whether this target keeps what it is given. It can be deleted.\n")
        .into()
}

/// The failures that end a probe, and all others as what they are.
fn unless_cancelled<T>(result: Result<T, TargetError>) -> Result<Result<T, TargetError>, TargetError> {
    match result {
        Err(e) if e.kind == Kind::Cancelled => Err(e),
        other => Ok(other),
    }
}

/// Whether a target that gave this error has decided anything.
fn undecided(e: &TargetError) -> bool {
    matches!(e.kind, Kind::Unavailable)
}

impl Probe<'_> {
    /// Puts an object that is to be attacked. This must work: without it nothing can be found out.
    pub(super) async fn object(&mut self, name: &str, lock: Option<Lock>) -> Result<Victim, TargetError> {
        let (key, bytes) = (self.key(name)?, content(name));
        let upload = Upload { lock, ..Upload::memory(bytes.clone()) };
        match self.target.put(&key, &upload, self.cancel).await? {
            PutOutcome::Created { version, .. } => Ok(Victim { key, version, bytes }),
            PutOutcome::Exists => Err(TargetError::new(
                Kind::Unsupported,
                format!("put {key} to {}", self.target.describe()),
                "the target says that an object with a name made up just now is there already",
            )),
        }
    }

    /// What one version of an object holds now; `None` if it is gone.
    async fn read(&self, key: &ObjectKey, version: Option<&VersionId>) -> Result<Option<Bytes>, TargetError> {
        let mut stream = match self.target.get(key, version, self.cancel).await {
            Err(e) if e.kind == Kind::NotFound => return Ok(None),
            stream => stream?,
        };
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
            if bytes.len() > LIMIT {
                break;
            }
        }
        Ok(Some(bytes.into()))
    }

    async fn look(&self, victim: &Victim) -> Result<Seen, TargetError> {
        let read = self.read(&victim.key, victim.version.as_ref()).await;
        Ok(match unless_cancelled(read)? {
            Ok(Some(bytes)) if bytes == victim.bytes => Seen::Intact,
            Ok(Some(_)) => Seen::Harmed("its bytes were replaced"),
            Ok(None) => Seen::Harmed("it is gone"),
            Err(e) => Seen::Unknown(e),
        })
    }

    /// How an attack ended: by what is there, not by what was answered.
    async fn judge(&self, victim: &Victim, attack: Result<(), TargetError>) -> Result<Outcome, TargetError> {
        let answer = unless_cancelled(attack)?;
        Ok(match (self.look(victim).await?, answer) {
            (Seen::Harmed(what), Ok(())) => Outcome::Broken(what.to_owned()),
            (Seen::Harmed(what), Err(e)) => {
                Outcome::Broken(format!("{what}, although the target answered: {}", e.cause))
            }
            (_, Err(e)) if undecided(&e) => Outcome::Untested(e.cause),
            (Seen::Intact, Ok(())) => Outcome::Held("it is there, unchanged, as an older version".to_owned()),
            (Seen::Intact, Err(e)) => Outcome::Held(format!("refused: {}", e.cause)),
            (Seen::Unknown(e), _) => Outcome::Untested(format!("what is there cannot be read: {}", e.cause)),
        })
    }

    pub(super) async fn create_if_absent(&mut self) -> Result<Outcome, TargetError> {
        let first = self.object("first", None).await?;
        let second = self.target.put(&first.key, &Upload::memory(content("second")), self.cancel).await;
        Ok(match unless_cancelled(second)? {
            Ok(PutOutcome::Created { .. }) => {
                Outcome::Broken("the target said that it created an object whose key was taken".to_owned())
            }
            Err(e) => Outcome::Untested(e.cause),
            Ok(PutOutcome::Exists) => match self.look(&first).await? {
                Seen::Intact => Outcome::Held("the first object stayed".to_owned()),
                Seen::Harmed(what) => {
                    Outcome::Broken(format!("{what}, although the target said that the key was taken"))
                }
                Seen::Unknown(e) => Outcome::Untested(format!(
                    "the target said that the key was taken; what is there cannot be read: {}",
                    e.cause
                )),
            },
        })
    }

    pub(super) async fn race(&mut self) -> Result<Outcome, TargetError> {
        let key = self.key("race")?;
        let (target, cancel) = (self.target, self.cancel);
        let bodies: Vec<Bytes> = (0..RACERS).map(|n| content(&format!("racer {n}"))).collect();
        let uploads: Vec<Upload> = bodies.iter().cloned().map(Upload::memory).collect();
        let results = join_all(uploads.iter().map(|upload| target.put(&key, upload, cancel))).await;
        let mut winners = Vec::new();
        let mut failure = None;
        for (body, result) in bodies.iter().zip(results) {
            match unless_cancelled(result)? {
                Ok(PutOutcome::Created { .. }) => winners.push(body),
                Ok(PutOutcome::Exists) => {}
                Err(e) => failure = Some(e),
            }
        }
        Ok(match (winners.as_slice(), failure) {
            ([], Some(e)) => Outcome::Untested(e.cause),
            ([], None) => Outcome::Broken("nobody was told that they created it".to_owned()),
            ([winner], _) => match unless_cancelled(self.read(&key, None).await)? {
                Ok(Some(bytes)) if bytes == *winner => Outcome::Held(format!("one of {RACERS} created it")),
                Ok(_) => Outcome::Broken("it is not what its one creator put".to_owned()),
                Err(e) => Outcome::Untested(format!(
                    "one of {RACERS} was told that they created it; what is there cannot be read: {}",
                    e.cause
                )),
            },
            (many, _) => {
                Outcome::Broken(format!("{} of {RACERS} were told that they created it", many.len()))
            }
        })
    }

    /// An object with a lock, and whether the target shows that lock. `None` where it could not be put.
    pub(super) async fn locked(
        &mut self,
        mode: LockMode,
    ) -> Result<(Option<(Victim, Lock)>, Outcome), TargetError> {
        let lock = Lock { mode, until: self.now + LOCK };
        let object = match unless_cancelled(self.object("locked", Some(lock)).await)? {
            Ok(object) => object,
            Err(e) if undecided(&e) => return Err(e),
            Err(e) => return Ok((None, Outcome::Broken(format!("the target takes no locks: {}", e.cause)))),
        };
        let shown = self.target.lock_of(&object.key, object.version.as_ref(), self.cancel).await;
        let outcome = match unless_cancelled(shown)? {
            Ok(Some(shown)) if shown.mode == mode && !earlier(shown, lock) => {
                Outcome::Held(format!("{} until {}", mode.word(), shown.until))
            }
            Ok(Some(shown)) => Outcome::Broken(format!(
                "asked for {} until {}, the target set {} until {}",
                mode.word(),
                lock.until,
                shown.mode.word(),
                shown.until
            )),
            Ok(None) => Outcome::Broken("the target accepted a lock, and set none".to_owned()),
            Err(e) => Outcome::Untested(format!("the lock cannot be read back: {}", e.cause)),
        };
        Ok((Some((object, lock)), outcome))
    }

    pub(super) async fn overwrite(&self, victim: &Victim) -> Result<Outcome, TargetError> {
        let attack = self.target.overwrite(&victim.key, content("other"), self.cancel).await;
        self.judge(victim, attack).await
    }

    pub(super) async fn delete(&self, victim: &Victim) -> Result<Outcome, TargetError> {
        let attack = self.target.hide(&victim.key, self.cancel).await;
        self.judge(victim, attack).await
    }

    pub(super) async fn delete_version(&self, victim: &Victim) -> Result<Outcome, TargetError> {
        let attack = self.target.destroy(&victim.key, victim.version.as_ref(), self.cancel).await;
        self.judge(victim, attack).await
    }

    /// A refusal says something of the lock only where the same credentials can delete what has none.
    pub(super) async fn delete_locked_version(&mut self, victim: &Victim) -> Result<Outcome, TargetError> {
        let outcome = self.delete_version(victim).await?;
        if !matches!(outcome, Outcome::Held(_)) {
            return Ok(outcome);
        }
        let control = self.object("unlocked", None).await?;
        Ok(match self.delete_version(&control).await? {
            Outcome::Broken(_) => outcome,
            _ => Outcome::Untested(
                "these credentials may not delete what has no lock either, so the lock was not put to the test"
                    .to_owned(),
            ),
        })
    }

    pub(super) async fn shorten(&self, victim: &Victim, lock: Lock) -> Result<Outcome, TargetError> {
        self.change_lock(victim, lock, Lock { until: self.now + SHORTER, ..lock }).await
    }

    pub(super) async fn weaken(&self, victim: &Victim, lock: Lock) -> Result<Outcome, TargetError> {
        self.change_lock(victim, lock, Lock { mode: LockMode::Governance, ..lock }).await
    }

    async fn change_lock(&self, victim: &Victim, before: Lock, wanted: Lock) -> Result<Outcome, TargetError> {
        let (target, version) = (self.target, victim.version.as_ref());
        let answer = unless_cancelled(target.relock(&victim.key, version, wanted, self.cancel).await)?;
        let shown = unless_cancelled(target.lock_of(&victim.key, version, self.cancel).await)?;
        // Only what was attacked counts: the trial before may have changed the rest.
        let unchanged = |now: &Lock| match wanted.mode == before.mode {
            true => !earlier(*now, before),
            false => now.mode == before.mode,
        };
        Ok(match (shown, answer) {
            (_, Err(e)) if undecided(&e) => Outcome::Untested(e.cause),
            (Ok(Some(now)), answer) if unchanged(&now) => match answer {
                Ok(()) => Outcome::Held("the lock is as it was".to_owned()),
                Err(e) => Outcome::Held(format!("refused: {}", e.cause)),
            },
            (Ok(Some(now)), _) => {
                Outcome::Broken(format!("the lock is now {} until {}", now.mode.word(), now.until))
            }
            (Ok(None), _) => Outcome::Broken("there is no lock".to_owned()),
            (Err(e), _) => Outcome::Untested(format!("the lock cannot be read back: {}", e.cause)),
        })
    }
}

/// Whether one lock ends before another. Servers may keep whole seconds only.
fn earlier(one: Lock, other: Lock) -> bool {
    one.until.as_second() < other.until.as_second()
}
