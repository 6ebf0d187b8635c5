//! The places for connections. There are few, and a new connection always gets one: where all are taken, the connection that
//! has been silent for longest makes room. So clients that connect and say nothing delay nobody, however many they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The places that are taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    /// By number of the connection.
    slots: HashMap<u64, Use>,
    /// What happens has a number, too: later ones are higher.
    events: u64,
}

#[derive(Debug)]
struct Use {
    /// When its client was last heard: that it connected, or asked for something.
    heard: u64,
    /// Ends the connection.
    end: CancellationToken,
}

impl Taken {
    fn next(&mut self) -> u64 {
        self.events += 1;
        self.events
    }
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    number: u64,
    /// Fires when another connection needs the place.
    pub end: CancellationToken,
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection, one of at most `most`.
    pub(super) fn take(&self, most: usize) -> Slot {
        let mut taken = self.lock();
        if taken.slots.len() >= most
            && let Some(oldest) =
                taken.slots.iter().min_by_key(|(_, slot)| slot.heard).map(|(number, _)| *number)
            && let Some(slot) = taken.slots.remove(&oldest)
        {
            slot.end.cancel();
        }
        let (number, end) = (taken.next(), CancellationToken::new());
        taken.slots.insert(number, Use { heard: number, end: end.clone() });
        drop(taken);
        Slot { slots: self.clone(), number, end }
    }
}

impl Slot {
    /// Says that the client has asked for something.
    pub(super) fn heard(&self) {
        let mut taken = self.slots.lock();
        let now = taken.next();
        if let Some(slot) = taken.slots.get_mut(&self.number) {
            slot.heard = now;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.lock().slots.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_silent_for_longest_makes_room() {
        let slots = Slots::default();
        let first = slots.take(2);
        let second = slots.take(2);
        first.heard();
        let third = slots.take(2);
        let ended = || [&first, &second, &third].map(|slot| slot.end.is_cancelled());
        assert_eq!(ended(), [false, true, false]);
        // Nobody makes room where there is some.
        drop(third);
        let third = slots.take(2);
        assert_eq!([&first, &second, &third].map(|slot| slot.end.is_cancelled()), [false, true, false]);
    }
}
