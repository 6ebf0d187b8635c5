//! The marker of a place: one small object with a random identity, written once, by whoever finds none (see
//! `docs/FORMAT.md`). By it a target is known again under another name, and two targets are known to be one place.

use std::collections::BTreeMap;

use bytes::BytesMut;
use futures_util::TryStreamExt;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::model::id::TargetName;
use crate::model::object::{ObjectKey, VersionId};
use crate::model::place::{Mark, PlaceId, Root};
use crate::repository::canonical;
use crate::repository::manifest::FORMAT;
use crate::state::{State, noted};
use crate::targets::{NamedTarget, PutOutcome, Target, TargetError, TargetErrorKind, Upload};

/// Its key, below the target's prefix and beside the publishers' folders.
const KEY: &str = "place.json";
/// It is smaller than this.
const LIMIT: usize = 4 << 10;

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marker {
    /// Format version.
    format: u32,
    /// What it is; `place`.
    kind: MarkerKind,
    /// The identity.
    place: Mark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum MarkerKind {
    Place,
}

/// What is known of the place of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It has this mark.
    Marked(Mark),
    /// It has none.
    Unmarked,
    /// It cannot be asked; this is what was last seen there.
    Unknown(Option<PlaceId>),
}

/// The place of one target.
#[derive(Debug, Clone)]
struct Place {
    sight: Sight,
    root: Option<Root>,
}

/// The places of several targets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(BTreeMap<TargetName, Place>);

/// A target that is the place of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Twin {
    /// The target.
    pub name: TargetName,
    /// The one whose place it is.
    pub of: TargetName,
    /// Only their marker says so: what one holds may be a copy of all that the other holds.
    pub may_be_copy: bool,
}

impl Places {
    /// Notes what was seen of a target.
    pub(crate) fn note(&mut self, target: &NamedTarget, sight: Sight) {
        self.0.insert(target.name.clone(), Place { sight, root: target.target.root() });
    }

    /// The identity of a target's place, where it is known.
    pub(crate) fn of(&self, name: &TargetName) -> Option<PlaceId> {
        let place = self.0.get(name)?;
        match &place.sight {
            Sight::Marked(mark) => Some(mark.place(place.root)),
            Sight::Unmarked => None,
            Sight::Unknown(last) => last.clone(),
        }
    }

    /// Whether the target could be asked and has no marker: then it is none of the places that had one.
    pub(crate) fn is_unmarked(&self, name: &TargetName) -> bool {
        self.0.get(name).is_some_and(|place| place.sight == Sight::Unmarked)
    }

    fn needs_mark(&self, name: &TargetName) -> bool {
        self.0.get(name).is_some_and(|place| matches!(place.sight, Sight::Unmarked | Sight::Unknown(None)))
    }

    /// Of targets in this order, those that are the place of an earlier one.
    pub(crate) fn twins<'n>(&self, names: impl IntoIterator<Item = &'n TargetName>) -> Vec<Twin> {
        let mut firsts: Vec<(&TargetName, &Place)> = Vec::new();
        let mut twins = Vec::new();
        for name in names {
            let Some(place) = self.0.get(name) else { continue };
            match firsts.iter().find(|(_, first)| first.is_same(place)) {
                None => firsts.push((name, place)),
                Some((of, first)) => twins.push(Twin {
                    name: name.clone(),
                    of: (*of).clone(),
                    may_be_copy: first.root.is_none() || first.root != place.root,
                }),
            }
        }
        twins
    }
}

impl Place {
    fn is_same(&self, other: &Self) -> bool {
        let same_root = self.root.is_some() && self.root == other.root;
        let same_mark = matches!((&self.sight, &other.sight), (Sight::Marked(a), Sight::Marked(b)) if a == b);
        same_root || same_mark
    }
}

impl Twin {
    /// What is wrong: a fragment.
    pub(crate) fn problem(&self) -> String {
        format!("it is the same place as target {}, so what it holds is no further copy", self.of)
    }

    /// What to do.
    pub(crate) fn remedy(&self) -> String {
        let Self { name, of, may_be_copy } = self;
        let alias = format!(
            "Give {name} a place of its own (another directory, bucket or prefix), or take it out of `targets`."
        );
        match may_be_copy {
            false => alias,
            true => format!(
                "Both have one marker. If one was made by copying all that the other holds, remove the object {KEY} of the copy: \
                 the next snapshot gives it a marker of its own. If {name} and {of} are two ways to one place: {alias}"
            ),
        }
    }
}

/// The mark of a place. Where a delete marker lies over it, the first version counts.
async fn read(target: &dyn Target, cancel: &CancellationToken) -> Result<Option<Mark>, TargetError> {
    let key = key(target)?;
    match version(target, &key, None, cancel).await {
        Ok(mark) => Ok(Some(mark)),
        Err(e) if e.kind == TargetErrorKind::NotFound => {
            // Who may not list versions sees none.
            let versions = target.versions(&key, cancel).await.unwrap_or_default();
            let first = versions.into_iter().find_map(|found| found.version);
            let Some(first) = first else { return Ok(None) };
            Ok(version(target, &key, Some(&first), cancel).await.ok())
        }
        Err(e) => Err(e),
    }
}

/// What one version of the marker says. It is asked for once: a target that is down must not take longer for it than for its
/// lists.
async fn version(
    target: &dyn Target,
    key: &ObjectKey,
    version: Option<&VersionId>,
    cancel: &CancellationToken,
) -> Result<Mark, TargetError> {
    let mut stream = target.get(key, version, cancel).await?;
    let mut bytes = BytesMut::new();
    while let Some(piece) = stream.try_next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > LIMIT {
            break;
        }
    }
    // What is too long is not what was written either.
    let marker: Result<Marker> = canonical::from_bytes(&bytes);
    marker.map(|marker| marker.place).map_err(|e| {
        let operation = format!("read {KEY} of {}", target.describe());
        TargetError::caused_by(TargetErrorKind::Corrupt, operation, e)
    })
}

/// What can be seen of a place. `last`: what was seen there before.
pub(crate) async fn look(
    target: &dyn Target,
    last: Option<PlaceId>,
    cancel: &CancellationToken,
) -> Result<Sight, TargetError> {
    match read(target, cancel).await {
        Ok(Some(mark)) => Ok(Sight::Marked(mark)),
        Ok(None) => Ok(Sight::Unmarked),
        Err(e) if e.kind == TargetErrorKind::Cancelled => Err(e),
        Err(_) => Ok(Sight::Unknown(last)),
    }
}

/// Marks a place that has no marker, or may have one that these credentials cannot read. `None` where it has such a one.
async fn mark(
    target: &dyn Target,
    random: [u8; 16],
    cancel: &CancellationToken,
) -> Result<Option<Mark>, TargetError> {
    let mark = Mark::new(random);
    let marker = Marker { format: FORMAT, kind: MarkerKind::Place, place: mark.clone() };
    let invalid =
        |e: Error| TargetError::caused_by(TargetErrorKind::Unsupported, "make the marker of a place", e);
    let bytes = canonical::to_bytes(&marker).map_err(invalid)?;
    match target.put(&key(target)?, &Upload::memory(bytes), cancel).await? {
        PutOutcome::Created { .. } => Ok(Some(mark)),
        // Somebody was faster, or we may not look.
        PutOutcome::Exists => match read(target, cancel).await {
            Err(e) if e.kind == TargetErrorKind::Denied => Ok(None),
            found => found,
        },
    }
}

/// Marks the places of these targets that have no marker, and remembers them. Gives the places as they are then, and the names of
/// targets that are other places than before. One that cannot be marked stays as it was seen: what is put there next will
/// show what is wrong with it.
pub(crate) async fn settle(
    mut places: Places,
    targets: &[NamedTarget],
    state: &State,
    cancel: &CancellationToken,
) -> Result<(Places, Vec<TargetName>)> {
    let open = targets.iter().filter(|target| places.needs_mark(&target.name));
    let marks = open.map(async |target| (target, mark(&*target.target, rand::random(), cancel).await));
    for (target, marked) in join_all(marks).await {
        match marked {
            Ok(Some(mark)) => places.note(target, Sight::Marked(mark)),
            Err(e) if e.kind == TargetErrorKind::Cancelled => return Err(Error::interrupted()),
            Ok(None) | Err(_) => {}
        }
    }
    let mut moved = Vec::new();
    for NamedTarget { name, target } in targets {
        let seen = places.of(name);
        match state.bind_place(name, &target.describe(), seen.as_ref()) {
            Ok(true) => moved.push(name.clone()),
            bound => noted(bound.map(drop)),
        }
    }
    Ok((places, moved))
}

fn key(target: &dyn Target) -> Result<ObjectKey, TargetError> {
    let invalid = |e| {
        TargetError::new(TargetErrorKind::Unsupported, format!("name the marker of {}", target.describe()), e)
    };
    KEY.parse().map_err(invalid)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::targets::memory::MemoryTarget;

    fn place(mark: u8, root: Option<(u64, u64)>) -> Place {
        let root = root.map(|(device, inode)| Root { device, inode, lasts: true });
        Place { sight: Sight::Marked(Mark::new([mark; 16])), root }
    }

    fn name(name: &str) -> TargetName {
        name.parse().unwrap()
    }

    /// The twins among a, b, c …: whose place each is, and whether it may be a copy.
    fn twins(places: Vec<Place>) -> Vec<(String, String, bool)> {
        let names: Vec<TargetName> =
            (b'a'..).take(places.len()).map(|n| name(&char::from(n).to_string())).collect();
        let places = Places(names.iter().cloned().zip(places).collect());
        let twins = places.twins(&names).into_iter();
        twins.map(|twin| (twin.name.to_string(), twin.of.to_string(), twin.may_be_copy)).collect()
    }

    #[test]
    fn one_place_under_two_names_is_found() {
        let twin = |name: &str, of: &str, copy| (name.to_owned(), of.to_owned(), copy);
        assert_eq!(twins(vec![place(1, None), place(2, None)]), []);
        assert_eq!(twins(vec![place(1, None), place(1, None)]), [twin("b", "a", true)]);
        assert_eq!(twins(vec![place(1, Some((1, 1))), place(2, Some((1, 2)))]), []);
        assert_eq!(twins(vec![place(1, Some((1, 1))), place(1, Some((1, 1)))]), [twin("b", "a", false)]);
        let copied = vec![place(1, Some((1, 1))), place(3, None), place(1, Some((2, 9)))];
        assert_eq!(twins(copied), [twin("c", "a", true)]);
        // Where no marker can be read, the directory itself tells.
        let bare = || Place { sight: Sight::Unmarked, root: Some(Root { device: 1, inode: 1, lasts: true }) };
        assert_eq!(twins(vec![bare(), bare()]), [twin("b", "a", false)]);
        let unknown = || Place { sight: Sight::Unknown(None), root: None };
        assert_eq!(twins(vec![unknown(), unknown()]), [], "what is not known is no finding");
    }

    #[tokio::test]
    async fn a_place_is_marked_once() {
        let (target, cancel) = (Arc::new(MemoryTarget::versioned()), CancellationToken::new());
        assert_eq!(look(&*target, None, &cancel).await.unwrap(), Sight::Unmarked);
        let first = mark(&*target, [1; 16], &cancel).await.unwrap().unwrap();
        assert_eq!(mark(&*target, [2; 16], &cancel).await.unwrap().unwrap(), first);
        // A delete marker does not make it another place.
        target.tamper(&key(&*target).unwrap(), None);
        assert_eq!(look(&*target, None, &cancel).await.unwrap(), Sight::Marked(first));
        target.tamper(&key(&*target).unwrap(), Some(Bytes::from_static(b"{}")));
        assert_eq!(look(&*target, None, &cancel).await.unwrap(), Sight::Unknown(None));
    }
}
