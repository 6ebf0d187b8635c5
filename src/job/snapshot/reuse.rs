//! What of earlier snapshots of the epoch this one can refer to, and what a new layer of a stream goes over.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use futures_util::future::join_all;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{ErrorKind, Result};
use crate::job::snapshot::SnapshotJob;
use crate::job::snapshot::epoch::Epoch;
use crate::job::snapshot::stream_cache::{Basis, CachedLayer, CachedStream, StreamCache};
use crate::model::id::{DatabaseId, Sha256, TargetName};
use crate::model::stream::StreamKind;
use crate::pack::base::{Base, LocalScript, Lost};
use crate::pack::compose::{Composer, Origins};
use crate::pack::extent::Layer;
use crate::pack::script::ScriptReader;
use crate::pack::stream::Previous;
use crate::repository::layout::{self, RelativeKey};
use crate::repository::manifest::{MOST_LAYERS, PackRef};
use crate::repository::oddity::Oddity;
use crate::state::State;
use crate::targets::NamedTarget;

/// So many layers lie over each other before they are written once more, as one. A month of nights needs no such thing; of
/// 720 hourly snapshots, each change is sent twice, and at most 55 layers are read.
const LAYERS: usize = 32;

/// Keys of all packs that the next snapshot may refer to: retention keeps them, even if it deletes the snapshot that they
/// come from.
pub(crate) fn referable(state: &State, database: &DatabaseId) -> Vec<RelativeKey> {
    let packs = StreamCache::packs(&state.streams_folder(database));
    let keys = packs.map(|(epoch, packs)| {
        let packs = packs.iter().map(|pack| layout::pack(&epoch, &pack.sha256));
        packs.chain([layout::epoch(&epoch)]).collect()
    });
    keys.unwrap_or_default()
}

/// What is packed of an epoch that has no snapshot yet: runs that were cut off go on there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PackedSoFar {
    /// Complete packs.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How far the first snapshot of the current epoch is, if it was begun.
pub(crate) fn packed_so_far(state: &State, database: &DatabaseId) -> Result<Option<PackedSoFar>> {
    let Some(current) = state.epoch(database)?.map(|e| e.epoch) else { return Ok(None) };
    if state.newest_of_epoch(database, &current)?.is_some() {
        return Ok(None);
    }
    let packs = StreamCache::packs(&state.streams_folder(database));
    let packs = packs.filter(|(epoch, packs)| *epoch == current && !packs.is_empty());
    Ok(packs.map(|(_, packs)| PackedSoFar {
        packs: packs.len() as u64,
        bytes: packs.iter().map(|pack| pack.size).sum(),
    }))
}

/// What is known of the epoch's streams, as far as it can be referred to.
#[derive(Debug, Default)]
pub(crate) struct Reuse {
    /// The database, for people.
    database: String,
    cache: Option<StreamCache>,
    /// Place of each stream in the cache, by its identity.
    places: HashMap<String, usize>,
    /// Numbers of the packs that no target holds, or that failed a check.
    lost: HashSet<u32>,
    /// Packs that targets list other than they were put.
    odd: BTreeMap<TargetName, Vec<Oddity>>,
}

/// An earlier version of a stream.
pub(crate) struct Earlier {
    /// What the encoder needs.
    pub previous: Previous,
    /// The layers below the new one, as they are remembered.
    pub below: Vec<CachedLayer>,
    /// How many snapshots the new layer stands for.
    pub spans: u64,
    /// What the new layer goes over, should the run be cut off.
    pub basis: Basis,
}

impl Reuse {
    /// Loads what is remembered, and asks every target which packs it holds.
    pub(super) async fn find(
        job: &SnapshotJob,
        epoch: &Epoch,
        targets: &[NamedTarget],
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let folder = job.state.streams_folder(&job.database);
        let Some(cache) = StreamCache::load(&folder, &epoch.state.epoch) else {
            return Ok(Self { database: job.database.to_string(), ..Self::default() });
        };
        let presence = job.presence(&epoch.state.epoch);
        let looks = join_all(targets.iter().map(|target| presence.at(target, &cache.packs, cancel))).await;
        let mut present: HashSet<Sha256> = HashSet::new();
        let mut odd = BTreeMap::new();
        for (target, found) in targets.iter().zip(looks) {
            match found {
                Ok(held) => {
                    present.extend(held.packs);
                    odd.insert(target.name.clone(), held.odd);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => return Err(e),
                // Then it is not known what it holds; the upload will show what is wrong with it.
                Err(_) => {}
            }
        }
        for bad in job.state.lost_packs(&job.database)? {
            present.remove(&bad);
        }
        let numbered = cache.packs.iter().enumerate();
        let lost = numbered.filter(|(_, p)| !present.contains(&p.sha256)).map(|(n, _)| n as u32).collect();
        let places = cache.streams.iter().enumerate().map(|(n, s)| (s.identity.clone(), n)).collect();
        Ok(Self { database: job.database.to_string(), cache: Some(cache), places, lost, odd })
    }

    /// Packs that a target lists other than they were put.
    pub(super) fn odd_at(&self, target: &TargetName) -> &[Oddity] {
        self.odd.get(target).map_or(&[], Vec::as_slice)
    }

    /// All packs that are known, also those that nothing may refer to.
    pub(super) fn packs(&self) -> &[PackRef] {
        self.cache.as_ref().map_or(&[], |cache| &cache.packs)
    }

    /// The earlier version of the stream with this identity, if there is one that is worth a layer over it.
    pub(super) fn stream(&self, identity: &str, kind: StreamKind) -> Option<Earlier> {
        let cache = self.cache.as_ref()?;
        let stream = &cache.streams[*self.places.get(identity)?];
        if stream.kind != kind || stream.layers.is_empty() {
            return None;
        }
        if outweighed(&stream.layers) {
            tracing::info!(
                database = self.database,
                stream = identity,
                "more than half of what is stored of a stream is not needed any more: it is stored as a whole again"
            );
            return None;
        }
        let units = cache.open(&stream.units)?;
        let (below, ranges) = self.without_lost(stream);
        if below.len() >= MOST_LAYERS {
            tracing::info!(
                database = self.database,
                stream = identity,
                "a stream has too many layers: it is stored as a whole again"
            );
            return None;
        }
        let (kept, newer) = below.split_at(layers_to_keep(&below));
        let mut lost_scripts = Vec::new();
        for (number, layer) in kept.iter().enumerate().filter(|(_, l)| self.script_is_lost(l)) {
            lost_scripts.push((number, cache.scripts(std::slice::from_ref(layer))?.pop()?));
        }
        let mut base = Base::default();
        if ranges.iter().any(|of_layer| !of_layer.is_empty()) {
            base.lost = Some(Lost { origins: origins(cache, below.split_first()?)?, ranges });
        }
        let mut basis = Basis::Indexed(kept.to_vec());
        if !newer.is_empty() {
            tracing::info!(
                database = self.database,
                stream = identity,
                layers = newer.len(),
                "so many layers lie over each other that what they changed is stored as one"
            );
            base.older = Some(origins(cache, (kept.last()?, newer))?);
            basis = Basis::Older;
        }
        let spans = newer.iter().fold(1, |sum: u64, layer| sum.saturating_add(layer.spans));
        let layers: Vec<Layer> = kept.iter().map(|l| l.layer.clone()).collect();
        let previous = Previous { units, below: layers, base, lost_scripts };
        Some(Earlier { previous, below: kept.to_vec(), spans, basis })
    }

    /// The layers without references to lost packs, and the ranges of each layer's new bytes that were in these.
    fn without_lost(&self, stream: &CachedStream) -> (Vec<CachedLayer>, Vec<Vec<Range<u64>>>) {
        let mut layers = stream.layers.clone();
        let mut lost = Vec::new();
        for cached in &mut layers {
            let (mut at, mut ranges) = (0, Vec::new());
            for extent in &mut cached.layer.data {
                extent.pack = extent.pack.filter(|pack| !self.lost.contains(pack));
                if extent.pack.is_none() {
                    ranges.push(at..at + extent.length);
                }
                at += extent.length;
            }
            lost.push(ranges);
        }
        (layers, lost)
    }

    fn script_is_lost(&self, layer: &CachedLayer) -> bool {
        layer.layer.script.iter().any(|e| e.pack.is_none_or(|pack| self.lost.contains(&pack)))
    }
}

/// Where the bytes of the version that `newer` make over `lowest` come from.
fn origins(
    cache: &StreamCache,
    (lowest, newer): (&CachedLayer, &[CachedLayer]),
) -> Option<Origins<LocalScript>> {
    let scripts = cache.scripts(newer)?.into_iter().map(ScriptReader::new);
    Some(Origins::new(Composer::new(lowest.layer.length, scripts)))
}

/// Whether what is stored of the stream is more than twice what it needs: a restore would fetch all of it.
fn outweighed(layers: &[CachedLayer]) -> bool {
    let stored: u64 = layers.iter().map(|l| l.layer.new_bytes()).sum();
    layers.last().is_some_and(|top| stored / 2 > top.layer.length)
}

/// How many of the layers a new one goes over. When [`LAYERS`] of about the same age lie over each other, these are replaced
/// by one; when so many of such ones do, they are too.
fn layers_to_keep(layers: &[CachedLayer]) -> usize {
    let mut keep = layers.len();
    let mut limit = LAYERS as u64;
    loop {
        let young = layers.iter().take(keep).skip(1).rev().take_while(|l| l.spans < limit).count();
        if young < LAYERS {
            return keep;
        }
        keep -= young;
        limit = limit.saturating_mul(LAYERS as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(spans: u64) -> CachedLayer {
        CachedLayer { layer: Layer::default(), edits: None, spans }
    }

    /// However many snapshots an epoch has, few layers lie over each other, and each change is sent a few times at most.
    #[test]
    fn layers_stay_few() {
        let mut layers = vec![layer(0)];
        let (mut most, mut sent) = (0, 0);
        for snapshot in 1..=5_000u64 {
            let keep = layers_to_keep(&layers);
            let spans = 1 + layers[keep..].iter().map(|l| l.spans).sum::<u64>();
            layers.truncate(keep);
            layers.push(layer(spans));
            sent += spans;
            most = most.max(layers.len());
            match snapshot {
                32 => assert_eq!((most, sent), (33, 32)),
                720 => assert!(most <= 55 && sent <= 2 * 720, "{most} layers, {sent} sent"),
                _ => {}
            }
        }
        assert!(most <= 1 + 3 * LAYERS && sent <= 3 * 5_000, "{most} layers, {sent} sent");
    }

    #[test]
    fn a_stream_that_stores_twice_its_bytes_begins_anew() {
        let with = |new: u64| {
            let data = vec![crate::pack::extent::Extent { pack: Some(0), offset: 0, length: new }];
            CachedLayer { layer: Layer { length: 100, script: Vec::new(), data }, edits: None, spans: 1 }
        };
        assert!(!outweighed(&[with(100), with(50), with(50)]));
        assert!(outweighed(&[with(100), with(50), with(52)]));
    }
}
