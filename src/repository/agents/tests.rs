//! Which successions are accepted, by whom a reader trusts.

use super::*;
use crate::error::ErrorKind;
use crate::model::id::Sha256;
use crate::repository::succession::testing::{signer, succession};

fn signed(record: Succession) -> Signed<Succession> {
    let bytes = record.to_bytes().unwrap();
    let signer = record.to.fingerprint.clone();
    Signed { record, bytes, signature: String::new(), signer }
}

/// A record that goes on from another.
fn after(number: u64, action: Action, from: &str, to: &str, previous: Option<&Succession>) -> Succession {
    let previous = previous.map(|record| Sha256::of(&record.to_bytes().unwrap()));
    Succession { action, previous, ..succession(number, from, to) }
}

/// The numbers of each accepted history, for who trusts this agent.
fn accepted(records: &[&Succession], trusted: &str) -> Vec<Vec<u64>> {
    let mut agents = Agents::default();
    for record in records {
        agents.add(signed((*record).clone()), None);
    }
    agents.resolve(&TrustStore::own(signer(trusted)));
    let mut lines: Vec<Vec<u64>> =
        agents.lines().iter().map(|line| line.iter().map(|record| record.number).collect()).collect();
    lines.sort();
    lines
}

#[test]
fn an_adoption_counts_for_who_trusts_the_new_agent_and_a_rotation_for_all() {
    let adopt = after(1, Action::Adopt, "a", "b", None);
    let rotate = after(2, Action::Rotate, "b", "c", Some(&adopt));
    let all = [&adopt, &rotate];
    assert_eq!(accepted(&all, "a"), [Vec::<u64>::new()], "the old agent says nothing of the new one");
    assert_eq!(accepted(&all, "b"), [[1, 2]]);
    assert_eq!(accepted(&all, "c"), [[1, 2]]);
    assert_eq!(accepted(&[&rotate], "c"), [Vec::<u64>::new()], "what it goes on from is not known");
    let first = after(1, Action::Rotate, "a", "b", None);
    assert_eq!(accepted(&[&first], "a"), [[1]]);
    assert_eq!(accepted(&[&first], "d"), [Vec::<u64>::new()]);
}

#[test]
fn what_a_key_signs_after_its_succession_does_not_count() {
    let rotate = after(1, Action::Rotate, "a", "b", None);
    // Whoever has stolen the old key hands it over once more.
    let stolen = after(2, Action::Rotate, "a", "thief", None);
    let later = after(3, Action::Rotate, "a", "thief", Some(&rotate));
    let all = [&rotate, &stolen, &later];
    for trusted in ["a", "b"] {
        assert_eq!(accepted(&all, trusted), [[1]], "{trusted}");
    }
    let adopt = after(4, Action::Adopt, "a", "thief", None);
    assert_eq!(accepted(&[&rotate, &adopt], "a"), [[1]]);
}

#[test]
fn two_of_one_number_are_in_doubt_until_a_higher_one_goes_on() {
    let one = after(1, Action::Rotate, "a", "b", None);
    let other = after(1, Action::Rotate, "a", "c", None);
    assert_eq!(accepted(&[&one, &other], "a"), [[1], [1]]);
    assert_eq!(accepted(&[&one, &other], "c"), [[1]]);
    let decided = after(2, Action::Rotate, "c", "d", Some(&other));
    assert_eq!(accepted(&[&one, &other, &decided], "d"), [[1, 2]]);
    // A number may be taken by something that means nothing.
    let next = after(7, Action::Adopt, "b", "e", Some(&one));
    assert_eq!(accepted(&[&one, &other, &next], "e"), [[1, 7]]);
}

#[test]
fn records_of_prunes_and_drills_count_while_their_agent_is_one() {
    let mut agents = Agents::default();
    agents.add(signed(after(1, Action::Adopt, "a", "b", None)), None);
    let trust = TrustStore::own(signer("b"));
    agents.resolve(&trust);
    let end: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
    let check = |name: &str, at: Timestamp| {
        agents.check_record(&signer(name), Namespace::PruneRecord, at, &trust).map_err(|e| e.kind())
    };
    let later = end + jiff::SignedDuration::from_secs(1);
    assert_eq!(check("a", end), Ok(()));
    assert_eq!(check("a", later), Err(ErrorKind::Verification));
    assert_eq!(check("b", later), Ok(()));
    assert_eq!(check("c", end), Err(ErrorKind::Key));
}
