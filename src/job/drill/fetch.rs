//! Fetching everything that a snapshot needs, from one target.

use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::job::restore::open::Fetcher;
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
/// Returns how many there were, and the keys of those of which only an older version was good.
pub(super) async fn everything(
    fetcher: &Fetcher,
    receipt: &Receipt,
    folder: &Path,
    observer: &dyn Observer,
    cancel: &CancellationToken,
) -> std::result::Result<(u64, Vec<String>), Failed> {
    disk::require(folder, receipt.size(), "the snapshot's objects alone").map_err(|error| Failed {
        object: None,
        error: error.remedy(
            "Free some space, or name another `scratch_dir`. The restored database needs room there too.",
        ),
    })?;
    observer.expect(receipt.size());
    let fetches: Vec<_> = receipt
        .objects
        .iter()
        .map(|object| async move {
            let path = folder.join(object.sha256.to_string());
            let fetched = fetcher.fetch(object, &path, observer, cancel).await;
            let fetched = fetched.map_err(|error| Failed { object: Some(object.clone()), error })?;
            observer.bytes(object.size);
            let older = fetched.instead.map(|_| format!("{}/{}", receipt.database_id(), object.key));
            Ok::<_, Failed>(older)
        })
        .collect();
    let mut fetches = stream::iter(fetches).buffer_unordered(PARALLEL);
    let mut fetched = 0;
    let mut older = Vec::new();
    while let Some(one) = fetches.try_next().await? {
        fetched += 1;
        older.extend(one);
    }
    Ok((fetched, older))
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
