//! Where everything lies below a target's prefix (see `docs/FORMAT.md`).

use crate::error::{Error, Result};
use crate::model::id::{DatabaseId, DecisionId, DrillId, EpochId, PruneId, Sha256, SnapshotId};
use crate::model::object::ObjectKey;

/// Key of an object, relative to its database, e.g. `receipts/20261122T020000Z-1f3a9c4e.json`.
pub(crate) type RelativeKey = String;

/// `epochs/<epoch>/epoch.age`
pub(crate) fn epoch(epoch: &EpochId) -> RelativeKey {
    format!("epochs/{epoch}/epoch.age")
}

/// `epochs/<epoch>/packs/<sha256>.zst.age`
pub(crate) fn pack(epoch: &EpochId, sha256: &Sha256) -> RelativeKey {
    format!("epochs/{epoch}/packs/{sha256}.zst.age")
}

/// `epochs/<epoch>/packs`
pub(crate) fn packs(epoch: &EpochId) -> RelativeKey {
    format!("epochs/{epoch}/packs")
}

/// The pack of this epoch that lies under a key of `database`, if it is such a key.
pub(crate) fn pack_of(database: &DatabaseId, epoch: &EpochId, key: &ObjectKey) -> Option<Sha256> {
    let file = key.as_str().strip_prefix(&format!("{database}/{}/", packs(epoch)))?;
    file.strip_suffix(".zst.age")?.parse().ok()
}

/// `epochs/<epoch>/manifests/<snapshot>.json.zst.age`
pub(crate) fn manifest(epoch: &EpochId, snapshot: &SnapshotId) -> RelativeKey {
    format!("epochs/{epoch}/manifests/{snapshot}.json.zst.age")
}

/// `receipts/<snapshot>.json`
pub(crate) fn receipt(snapshot: &SnapshotId) -> RelativeKey {
    format!("receipts/{snapshot}.json")
}

/// `receipts/<snapshot>.json.sig`
pub(crate) fn signature(snapshot: &SnapshotId) -> RelativeKey {
    format!("receipts/{snapshot}.json.sig")
}

/// `drills/<drill>.json`
pub(crate) fn drill(drill: &DrillId) -> RelativeKey {
    format!("drills/{drill}.json")
}

/// `drills/<drill>.json.sig`
pub(crate) fn drill_signature(drill: &DrillId) -> RelativeKey {
    format!("drills/{drill}.json.sig")
}

/// `drills/<drill>.html.age`
pub(crate) fn drill_page(drill: &DrillId) -> RelativeKey {
    format!("drills/{drill}.html.age")
}

/// `prunes/<prune>.json`
pub(crate) fn prune(prune: &PruneId) -> RelativeKey {
    format!("prunes/{prune}.json")
}

/// `prunes/<prune>.json.sig`
pub(crate) fn prune_signature(prune: &PruneId) -> RelativeKey {
    format!("prunes/{prune}.json.sig")
}

/// `decisions/<decision>.json`
pub(crate) fn decision(decision: &DecisionId) -> RelativeKey {
    format!("decisions/{decision}.json")
}

/// `decisions/<decision>.json.sig`
pub(crate) fn decision_signature(decision: &DecisionId) -> RelativeKey {
    format!("decisions/{decision}.json.sig")
}

/// `claims/<succession>/<sequence>.json`
pub(crate) fn claim(succession: u64, sequence: u64) -> RelativeKey {
    format!("claims/{succession}/{sequence}.json")
}

/// `agents/<n>-<hash>.json`, for the record with this SHA-256
pub(crate) fn succession(number: u64, sha256: &Sha256) -> RelativeKey {
    format!("agents/{number}-{}.json", &sha256.to_string()[..8])
}

/// `agents/<n>-<hash>.json.sig`
pub(crate) fn succession_signature(number: u64, sha256: &Sha256) -> RelativeKey {
    format!("{}.sig", succession(number, sha256))
}

/// The number and the relative key of the succession that lies under this key of `database`, if it is such a key.
pub(crate) fn succession_of(database: &DatabaseId, key: &ObjectKey) -> Option<(u64, RelativeKey)> {
    let (found, file) = split(key, "agents")?;
    (found == *database).then_some(())?;
    let (number, hash) = file.strip_suffix(".json")?.split_once('-')?;
    let plain = hash.len() == 8 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let number: u64 = number.parse().ok()?;
    (plain && *file == *format!("{number}-{hash}.json")).then(|| (number, format!("agents/{file}")))
}

/// The prune whose record lies under this key of `database`, if it is such a key.
pub(crate) fn prune_of(database: &DatabaseId, key: &ObjectKey) -> Option<PruneId> {
    let (found, file) = split(key, "prunes")?;
    (found == *database).then_some(())?;
    file.strip_suffix(".json")?.parse().ok()
}

/// The decision that lies under this key of `database`, if it is such a key.
pub(crate) fn decision_of(database: &DatabaseId, key: &ObjectKey) -> Option<DecisionId> {
    let (found, file) = split(key, "decisions")?;
    (found == *database).then_some(())?;
    file.strip_suffix(".json")?.parse().ok()
}

/// The drill whose receipt lies under this key of `database`, if it is such a key.
pub(crate) fn drill_of(database: &DatabaseId, key: &ObjectKey) -> Option<DrillId> {
    let (found, file) = split(key, "drills")?;
    (found == *database).then_some(())?;
    file.strip_suffix(".json")?.parse().ok()
}

/// The snapshot whose receipt lies under this key of `database`, if it is a receipt's key.
pub(crate) fn snapshot_of(database: &DatabaseId, key: &ObjectKey) -> Option<SnapshotId> {
    let (found, file) = split(key, "receipts")?;
    (found == *database).then_some(())?;
    file.strip_suffix(".json")?.parse().ok()
}

/// The database below whose prefix a receipt's key lies.
pub(crate) fn database_of(key: &ObjectKey) -> Option<DatabaseId> {
    split(key, "receipts").map(|(database, _)| database)
}

fn split<'k>(key: &'k ObjectKey, wanted: &str) -> Option<(DatabaseId, &'k str)> {
    let mut parts = key.as_str().split('/');
    let publisher = parts.next()?.parse().ok()?;
    let database = parts.next()?.parse().ok()?;
    let (folder, file) = (parts.next()?, parts.next()?);
    (folder == wanted && parts.next().is_none()).then_some((DatabaseId { publisher, database }, file))
}

/// The full key of something relative to its database. Fails only for a relative key that came from
/// outside and is not well-formed.
pub(crate) fn key(database: &DatabaseId, relative: &str) -> Result<ObjectKey> {
    format!("{database}/{relative}")
        .parse()
        .map_err(|e| Error::verification("an object's key is not well-formed").cause(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_receipts_are_receipts() {
        let db: DatabaseId = "gazette/abonnes".parse().unwrap();
        let key = |k: &str| k.parse::<ObjectKey>().unwrap();
        let id = "20261122T020000Z-1f3a9c4e";
        assert_eq!(
            snapshot_of(&db, &key(&format!("gazette/abonnes/receipts/{id}.json"))).unwrap().as_str(),
            id
        );
        for other in [
            format!("gazette/abonnes/receipts/{id}.json.sig"),
            format!("gazette/autre/receipts/{id}.json"),
            format!("gazette/abonnes/receipts/x/{id}.json"),
            format!("gazette/abonnes/epochs/{id}/epoch.age"),
        ] {
            assert_eq!(snapshot_of(&db, &key(&other)), None, "{other}");
        }
        assert!(super::key(&db, "../x").is_err());
    }
}
