//! A target that fails as it is told. It lives beside the contract it breaks, so that everything above it can be
//! shown to survive it: in tests, and in a drill that sabotages its own copy.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::model::place::Root;
use crate::targets::wrapper::{Answer, Call, Wrapper};
use crate::targets::{ObjectPages, ObjectStream, Target, TargetError, TargetErrorKind};

/// An operation of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// [`Target::put`].
    Put,
    /// [`Target::head`].
    Head,
    /// [`Target::get`].
    Get,
    /// [`Target::list`].
    List,
    /// [`Target::versions`].
    Versions,
    /// [`Target::delete`].
    Delete,
}

impl Operation {
    fn of(call: &Call<'_>) -> Self {
        match call {
            Call::Put { .. } => Self::Put,
            Call::Head { .. } => Self::Head,
            Call::Get { .. } => Self::Get,
            Call::List { .. } => Self::List,
            Call::Versions { .. } => Self::Versions,
            Call::Delete { .. } => Self::Delete,
        }
    }
}

/// What goes wrong.
#[cfg_attr(not(test), expect(dead_code, reason = "a drill flips bits, tests need the rest"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operation does nothing and fails in this way.
    Fail(TargetErrorKind),
    /// The operation is done, but its answer is lost: it fails as [`TargetErrorKind::Unavailable`].
    FailAfter,
    /// A get breaks off, with an error item, after so many bytes; a list after so many pages.
    Break(u64),
    /// A get ends after so many bytes as if that were all.
    Truncate(u64),
    /// A get has one bit of the byte at this offset inverted.
    FlipBit(u64),
    /// A list shows nothing.
    Conceal,
}

/// When it goes wrong.
#[derive(Debug, Clone)]
struct Rule {
    operation: Operation,
    /// Only keys that contain this.
    key_contains: String,
    /// Of the calls that match, which; the first is 1.
    calls: RangeInclusive<u64>,
    fault: Fault,
    matched: u64,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    calls: BTreeMap<Operation, u64>,
}

/// A target with a plan of faults around it.
pub(crate) struct Faulty<T> {
    inner: T,
    state: Mutex<State>,
}

impl<T: fmt::Debug> fmt::Debug for Faulty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<T: Target> Faulty<T> {
    /// A target without faults yet.
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Adds a fault of some calls of an operation, counted from 1. The first rule that fits decides.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with(self, operation: Operation, calls: RangeInclusive<u64>, fault: Fault) -> Self {
        self.with_key(operation, "", calls, fault)
    }

    /// The same for keys that contain `key_contains`; only calls for such keys count.
    #[must_use]
    pub(crate) fn with_key(
        self,
        operation: Operation,
        key_contains: &str,
        calls: RangeInclusive<u64>,
        fault: Fault,
    ) -> Self {
        self.lock().rules.push(Rule {
            operation,
            key_contains: key_contains.to_owned(),
            calls,
            fault,
            matched: 0,
        });
        self
    }

    /// How often an operation was called.
    #[cfg(test)]
    pub(crate) fn calls(&self, operation: Operation) -> u64 {
        self.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, operation: Operation, key: &str) -> Option<Fault> {
        let mut state = self.lock();
        *state.calls.entry(operation).or_default() += 1;
        let mut fault = None;
        for rule in &mut state.rules {
            if rule.operation == operation && key.contains(&rule.key_contains) {
                rule.matched += 1;
                if fault.is_none() && rule.calls.contains(&rule.matched) {
                    fault = Some(rule.fault);
                }
            }
        }
        fault
    }
}

fn lost(operation: Operation) -> TargetError {
    let operation = format!("{operation:?}").to_lowercase();
    TargetError::new(TargetErrorKind::Unavailable, operation, "injected fault: done, but its answer was lost")
}

/// A list that breaks off after so many pages.
fn broken(pages: ObjectPages, limit: u64) -> ObjectPages {
    let whole = usize::try_from(limit).unwrap_or(usize::MAX);
    pages.take(whole).chain(stream::once(async { Err(lost(Operation::List)) })).boxed()
}

/// The stream with its fault.
fn damaged(inner: ObjectStream, fault: Option<Fault>) -> ObjectStream {
    let limit = match fault {
        Some(Fault::Break(n) | Fault::Truncate(n)) => n,
        Some(Fault::FlipBit(_)) => u64::MAX,
        _ => return inner,
    };
    stream::unfold(Some((inner, 0_u64)), move |state| async move {
        let (mut inner, at) = state?;
        if at == limit {
            return match fault {
                Some(Fault::Break(_)) => Some((Err(lost(Operation::Get)), None)),
                _ => None,
            };
        }
        let bytes = match inner.next().await? {
            Ok(bytes) => bytes,
            Err(e) => return Some((Err(e), None)),
        };
        let kept = usize::try_from(limit - at).unwrap_or(usize::MAX);
        let bytes = bytes.slice(..bytes.len().min(kept));
        let end = at + bytes.len() as u64;
        Some((Ok(flipped(bytes, at, fault)), Some((inner, end))))
    })
    .boxed()
}

fn flipped(bytes: Bytes, at: u64, fault: Option<Fault>) -> Bytes {
    let Some(Fault::FlipBit(offset)) = fault else {
        return bytes;
    };
    let place = offset.checked_sub(at).and_then(|n| usize::try_from(n).ok());
    match place {
        Some(place) if place < bytes.len() => {
            let mut changed = BytesMut::from(&bytes[..]);
            changed[place] ^= 1;
            changed.freeze()
        }
        _ => bytes,
    }
}

#[async_trait]
impl<T: Target> Wrapper for Faulty<T> {
    fn description(&self) -> String {
        self.inner.describe()
    }

    fn root_identity(&self) -> Option<Root> {
        self.inner.root()
    }

    async fn call(&self, call: Call<'_>, cancel: &CancellationToken) -> Result<Answer, TargetError> {
        let (operation, key) = (Operation::of(&call), call.key());
        let fault = self.fault(operation, key);
        if let Some(Fault::Fail(kind)) = fault {
            let name = format!("{operation:?} {key}").to_lowercase();
            return Err(TargetError::new(kind, name, "injected fault"));
        }
        let answer = call.run(&self.inner, cancel).await?;
        match fault {
            Some(Fault::FailAfter) => Err(lost(operation)),
            _ => Ok(match (answer, fault) {
                (Answer::List(pages), Some(Fault::Break(n))) => Answer::List(broken(pages, n)),
                (Answer::List(_), Some(Fault::Conceal)) => Answer::List(stream::empty().boxed()),
                (answer, _) => answer.map_stream(|stream| damaged(stream, fault)),
            }),
        }
    }
}
