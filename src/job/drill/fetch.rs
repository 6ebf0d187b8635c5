//! Fetching everything that a snapshot needs, from one target.

use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result, ResultExt};
use crate::job::restore::open::Fetcher;
use crate::model::human;
use crate::model::observer::Observer;
use crate::repository::layout;
use crate::repository::receipt::{ObjectRef, Receipt};
use crate::system::disk;
use crate::targets::NamedTarget;
use crate::targets::wrapper::faulty::{Fault, Faulty, Operation};

/// Objects that are fetched at the same time.
const PARALLEL: usize = 3;

/// Why not everything could be fetched.
pub(super) struct Failed {
    /// The object that has failed; none where it did not come to that.
    pub object: Option<ObjectRef>,
    /// Why.
    pub error: Error,
}

/// Fetches every object of the receipt into `folder`, under its hash, and checks size and hash of each.
/// Returns how many there were.
pub(super) async fn everything(
    fetcher: &Fetcher,
    receipt: &Receipt,
    folder: &Path,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> std::result::Result<u64, Failed> {
    has_room(folder, receipt.size()).map_err(|error| Failed { object: None, error })?;
    observer.expect(receipt.size());
    let fetches: Vec<_> = receipt
        .objects
        .iter()
        .map(|object| async move {
            let path = folder.join(object.sha256.to_string());
            let fetched = fetcher.fetch(object, &path, observer, cancel).await;
            fetched.map_err(|error| Failed { object: Some(object.clone()), error })?;
            observer.bytes(object.size);
            Ok::<u64, Failed>(1)
        })
        .collect();
    let mut fetches = stream::iter(fetches).buffer_unordered(PARALLEL);
    let mut fetched = 0;
    while let Some(one) = fetches.try_next().await? {
        fetched += one;
    }
    Ok(fetched)
}

fn has_room(folder: &Path, needed: u64) -> Result<()> {
    let free = disk::free(folder).or_internal(format!("look at the space in {}", folder.display()))?;
    if free >= needed {
        return Ok(());
    }
    Err(Error::preflight(format!(
        "{} has {} free, and the snapshot's objects alone need {}",
        folder.display(),
        human::bytes(free),
        human::bytes(needed)
    ))
    .remedy("Free some space, or name another `scratch_dir`. The restored database needs room there too."))
}

/// The same target, with one bit of one object of the snapshot inverted whenever it is read. Says of which.
pub(super) fn flip_one_bit(target: &NamedTarget, receipt: &Receipt) -> Result<(NamedTarget, String)> {
    let of_kind = |folder: &str| receipt.objects.iter().find(|o| o.key.contains(folder));
    let object = of_kind("/packs/")
        .or_else(|| of_kind("/manifests/"))
        .ok_or_else(|| Error::internal("a receipt without objects"))?;
    let fault = Fault::FlipBit(object.size / 2);
    let key = layout::key(&receipt.database_id(), &object.key)?;
    let faulty =
        Faulty::new(target.target.clone()).with_key(Operation::Get, key.as_str(), 1..=u64::MAX, fault);
    let target = NamedTarget { name: target.name.clone(), target: Arc::new(faulty) };
    Ok((target, object.key.clone()))
}
