//! The folders of this host that the agent works in.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::model::check::{Check, CheckState};
use crate::model::condition::{Condition, ConditionKind, Severity};
use crate::model::human;
use crate::model::id::TargetName;
use crate::system::disk;
use crate::targets::TargetUrl;

use super::{check, ok};

/// Less than two full packs: no snapshot can be taken.
const LEAST_SPOOL: u64 = 128 << 20;

/// How long a file system may take to say what it is.
const ANSWER: Duration = Duration::from_secs(5);

/// Below this there may soon be no room for the state, its log and the reports of drills.
const ROOM_FOR_STATE: u64 = 256 << 20;

/// The folders, and the room for the spool.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    vec![
        folder("state folder", &config.state_dir, 0o077),
        folder("spool folder", &config.spool_dir, 0o077),
        room(&config.spool_dir, config.spool_limit),
        // Where marbre is root, the user of a throwaway server must be able to reach its own folder in there.
        folder("scratch folder", &config.scratch_dir, 0o066),
        folder("report folder", &config.report_dir, 0o077),
    ]
}

/// The device of the file system that a path is on. One that does not answer in time is not known.
pub(super) fn device(path: &Path) -> Option<u64> {
    answer(path, |path| Ok(std::fs::metadata(path)?.dev()))
}

/// What a file system says of a path, if it answers in time.
fn answer<T: Send + 'static>(path: &Path, ask: fn(&Path) -> std::io::Result<T>) -> Option<T> {
    let (answer, asked) = std::sync::mpsc::channel();
    let path = path.to_owned();
    std::thread::spawn(move || answer.send(ask(&path).ok()));
    asked.recv_timeout(ANSWER).ok()?
}

/// Whether the file system of a directory target keeps modes: `put` makes files that only marbre's user can read.
pub(super) fn modes(config: &Config, target: &TargetName) -> Option<Check> {
    let TargetUrl::Directory(path) = config.targets.get(target)?.url.parse().ok()? else { return None };
    // A new file: the mode of one that is there may have been changed since.
    let mode = answer(&path, |path| {
        Ok(tempfile::NamedTempFile::new_in(path)?.as_file().metadata()?.permissions().mode())
    })?;
    (mode & 0o077 != 0).then(|| {
        check(
            "modes",
            CheckState::Warn,
            format!("{}: its file system keeps no modes (a file of mode 0600 got 0{:o})", path.display(), mode & 0o777),
            Some(
                "Every user of this host may be able to delete what is there. Mount it with `uid=` of marbre's user and \
                 `umask=077` (for SMB: `file_mode=0600,dir_mode=0700`), and let no other host write there.",
            ),
        )
    })
}

/// Whether a folder can be written, and gives others none of the rights in `private`.
fn folder(name: &str, path: &Path, private: u32) -> Check {
    let there = nearest(path);
    let shown = path.display();
    // A file that never has a name: it is gone when it is closed, whatever happens.
    if let Err(e) = tempfile::tempfile_in(&there) {
        let remedy =
            "Make it writable for the user that runs marbre, or name another folder in the configuration.";
        return check(
            name,
            CheckState::Fail,
            format!("{} cannot be written: {e}", there.display()),
            Some(remedy),
        );
    }
    if std::path::absolute(path).is_ok_and(|path| there != path) {
        return ok(name, format!("{shown} will be created below {}", there.display()));
    }
    match std::fs::metadata(path).map(|m| m.permissions().mode() & 0o777) {
        Ok(mode) if mode & private == 0 => ok(name, shown.to_string()),
        Ok(mode) => {
            let remedy = format!("Run `chmod 700 '{shown}'`.");
            check(
                name,
                CheckState::Warn,
                format!("{shown} is open to others (mode {mode:04o})"),
                Some(&remedy),
            )
        }
        Err(e) => check(name, CheckState::Skipped, format!("{shown}: {e}"), None),
    }
}

fn room(spool: &Path, limit: u64) -> Check {
    const NAME: &str = "spool space";
    let free = match free(spool) {
        Ok(free) => free,
        Err(e) => return check(NAME, CheckState::Skipped, format!("{}: {e}", spool.display()), None),
    };
    let found = format!("{} free, spool_limit is {}", human::bytes(free), human::bytes(limit));
    let remedy = "Free space, name another `spool_dir`, or lower `spool_limit`.";
    if free < LEAST_SPOOL {
        check(NAME, CheckState::Fail, found, Some(remedy))
    } else if free < limit {
        check(NAME, CheckState::Warn, found, Some(remedy))
    } else {
        ok(NAME, found)
    }
}

/// What is wrong with the room that the agent has: the same as `doctor` says, for a daemon that looks again and again.
/// Folders on one disk are one condition, named by the first.
pub(crate) fn conditions(config: &Config) -> Vec<Condition> {
    let mut disks: Vec<(Option<u64>, Room)> = Vec::new();
    let folders = [
        ("state", config.state_dir.as_path(), ROOM_FOR_STATE),
        ("spool", &config.spool_dir, config.spool_limit),
    ];
    for (name, path, wanted) in folders {
        let disk = device(&nearest(path));
        match disks.iter_mut().find(|(known, _)| known.is_some() && *known == disk) {
            Some((_, room)) => room.join(name, path, wanted),
            None => disks.push((disk, Room { names: vec![name], paths: vec![path], wanted })),
        }
    }
    disks.iter().filter_map(|(_, room)| room.condition()).collect()
}

/// The room that the folders on one disk should have.
struct Room<'a> {
    names: Vec<&'static str>,
    paths: Vec<&'a Path>,
    /// In bytes.
    wanted: u64,
}

impl<'a> Room<'a> {
    fn join(&mut self, name: &'static str, path: &'a Path, wanted: u64) {
        self.names.push(name);
        self.paths.push(path);
        self.wanted = self.wanted.max(wanted);
    }

    fn condition(&self) -> Option<Condition> {
        let free = free(self.paths.first()?).ok()?;
        let severity = match free {
            free if free < self.wanted.min(LEAST_SPOOL) => Severity::Critical,
            free if free < self.wanted => Severity::Warning,
            _ => return None,
        };
        let names = self.names.join(" and ");
        let folder = if self.names.len() == 1 { "folder" } else { "folders" };
        let paths: Vec<String> = self.paths.iter().map(|path| path.display().to_string()).collect();
        let (free, wanted) = (human::bytes(free), human::bytes(self.wanted));
        let summary = format!("The disk of the {names} {folder} has {free} left, and should have {wanted}.");
        let remedy = format!("Free space on the disk of {}, or name another folder.", paths.join(" and "));
        Some(Condition::new(ConditionKind::DiskLow, severity, summary).object(self.names[0]).remedy(remedy))
    }
}

/// How many bytes this user can still write below a path, which need not exist.
pub(super) fn free(path: &Path) -> std::io::Result<u64> {
    disk::free(&nearest(path))
}

/// The folder itself, or the nearest one above it that exists.
fn nearest(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_on_one_disk_are_one_condition() {
        let (spool, state) = (Path::new("/srv/spool"), Path::new("/srv/state"));
        let mut room = Room { names: vec!["state"], paths: vec![state], wanted: 1 };
        room.join("spool", spool, u64::MAX);
        let found = room.condition().unwrap();
        assert_eq!(found.object.as_deref(), Some("state"));
        assert!(
            found.summary.starts_with("The disk of the state and spool folders has "),
            "{}",
            found.summary
        );
        assert_eq!(
            found.remedy,
            "Free space on the disk of /srv/state and /srv/spool, or name another folder."
        );
    }
}
