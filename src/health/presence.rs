//! Whether the daemon of a state is there: it holds the lock of the state while it runs, and gives signs of life.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// A daemon that runs gives a sign of life twice a minute. One that has given none for so long hangs.
const SILENT: SignedDuration = SignedDuration::from_mins(5);

/// What is known of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Presence {
    /// It runs.
    pub running: bool,
    /// Since when; `null` where it does not run.
    pub since: Option<Timestamp>,
    /// Its last sign of life; `null` where there never was one.
    pub last_seen: Option<Timestamp>,
    /// It runs, but has given no sign of life for five minutes.
    pub hangs: bool,
}

/// The file that the daemon of a state locks while it runs. Written when it starts, and then no more.
pub(crate) fn lock_file(state_dir: &Path) -> PathBuf {
    state_dir.join("locks").join("daemon")
}

fn sign_file(state_dir: &Path) -> PathBuf {
    state_dir.join("locks").join("daemon-seen")
}

/// A sign of life of the daemon. One that cannot be given is missed by whoever looks, and by nobody else.
pub(crate) fn give_sign(state_dir: &Path) {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(sign_file(state_dir));
    let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
}

/// Looks at `now` whether the daemon of a state is there.
pub(crate) fn look(state_dir: &Path, now: Timestamp) -> Presence {
    let lock = lock_file(state_dir);
    // For a moment this keeps a daemon from starting, which therefore tries again.
    let running =
        File::open(&lock).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)));
    let since = written(&lock);
    let last_seen = written(&sign_file(state_dir)).max(since);
    let hangs = running && last_seen.is_some_and(|seen| now.duration_since(seen) > SILENT);
    Presence { running, since: since.filter(|_| running), last_seen, hangs }
}

fn written(file: &Path) -> Option<Timestamp> {
    let at = std::fs::metadata(file).ok()?.modified().ok()?;
    Timestamp::try_from(at).ok()?.round(jiff::Unit::Second).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_there_while_it_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let nothing = Presence { running: false, since: None, last_seen: None, hangs: false };
        assert_eq!(look(folder.path(), now), nothing);
        std::fs::create_dir(folder.path().join("locks")).unwrap();
        let lock = File::create(lock_file(folder.path())).unwrap();
        lock.try_lock().unwrap();
        give_sign(folder.path());
        let seen = look(folder.path(), now);
        assert!(seen.running && !seen.hangs && seen.since.is_some(), "{seen:?}");
        assert!(look(folder.path(), now + SignedDuration::from_mins(7)).hangs);
        drop(lock);
        let mode = std::fs::metadata(sign_file(folder.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let gone = look(folder.path(), now + SignedDuration::from_mins(7));
        assert!(!gone.running && !gone.hangs && gone.since.is_none() && gone.last_seen.is_some(), "{gone:?}");
    }
}
