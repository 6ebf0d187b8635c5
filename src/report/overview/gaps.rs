//! What is not proven of a database, and why.

use jiff::Timestamp;

use super::{Known, last_proof, proven_age};
use crate::health::status::{DatabaseStatus, DrillProof, TargetStatus};
use crate::report::words::Words;

/// One sentence for each, the target's first.
pub(super) fn gaps(
    database: &DatabaseStatus,
    known: &Known,
    now: Timestamp,
    words: Words<'_>,
) -> Vec<String> {
    if database.snapshot.is_none() {
        return vec![words.no_snapshot_yet().to_owned()];
    }
    let mut gaps: Vec<String> =
        database.targets.iter().filter_map(|target| of_target(target, now, words)).collect();
    if let Some(proof) = last_proof(database).filter(|proof| is_too_old(database, proof, now)) {
        let every = database.drill_every_seconds.unwrap_or_default();
        let age = now.duration_since(proof.at).as_secs_f64();
        gaps.push(words.proof_too_old(words.duration(age), words.duration(every as f64)));
    }
    if known.no_key {
        gaps.push(words.agent_cannot().to_owned());
    }
    if database.targets.iter().all(|target| target.owner_restored.is_none()) {
        gaps.push(words.owner_never_drilled().to_owned());
    }
    if database.last_drill.as_ref().is_some_and(|drill| !drill.passed) {
        gaps.push(words.drill_failed_since().to_owned());
    }
    let checks = known.last_drill.iter().flat_map(|report| &report.checks);
    let not_run: Vec<String> = checks
        .filter_map(|check| Some(words.with_reason(&check.name, words.why_not_run(check.result)?)))
        .collect();
    if !not_run.is_empty() {
        gaps.push(words.checks_not_run(not_run.join(", ")));
    }
    gaps
}

/// Whether a proof is older than was agreed. It counts from the drill.
pub(super) fn is_too_old(database: &DatabaseStatus, proof: &DrillProof, now: Timestamp) -> bool {
    let age = now.duration_since(proof.at).as_secs();
    database.drill_every_seconds.is_some_and(|every| age > 0 && age.unsigned_abs() > every)
}

fn of_target(target: &TargetStatus, now: Timestamp, words: Words<'_>) -> Option<String> {
    let name = &target.name;
    let proofs = target.restored.iter().chain(&target.owner_restored);
    let proof = proofs.max_by_key(|proof| proof.snapshot.time());
    if target.levels.damaged.is_some() {
        return Some(words.copy_damaged(name));
    }
    if target.error.is_some() {
        return Some(words.target_silent(name));
    }
    if target.snapshot.is_none() {
        return Some(words.target_empty(name));
    }
    let Some(proof) = proof else { return Some(words.never_restored_from(name)) };
    if proof.older_versions > 0 {
        return Some(words.older_versions(name, words.objects(proof.older_versions)));
    }
    let is_newest = target.snapshot.as_ref() == Some(&proof.snapshot);
    (!is_newest).then(|| {
        let (at, age) = (words.moment(proof.snapshot.time()), words.duration(proven_age(proof, now)));
        words.newest_not_restored(name, at, age)
    })
}
