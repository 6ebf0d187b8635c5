//! The reports of drills that lie in a folder of this host: which there are, what they say, and when they go.

use std::fs;
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::report::CheckResult;
use crate::error::{Error, Result};
use crate::model::id::{DatabaseId, DrillId};
use crate::model::level::By;

/// How the names of a drill's files end, after its identifier.
pub(crate) const HTML: &str = "html";
pub(crate) const MARKDOWN: &str = "md";
pub(crate) const JSON: &str = "report.json";
/// All of them: also the page as it was sealed, and the receipt with its signature.
const ENDINGS: [&str; 6] = [HTML, MARKDOWN, JSON, "html.age", "json", "json.sig"];

/// The folder for the reports of one database.
pub(crate) fn folder(reports: &Path, database: &DatabaseId) -> PathBuf {
    reports.join(database.publisher.as_str()).join(database.database.as_str())
}

/// A file of a drill.
pub(crate) fn file(folder: &Path, drill: &DrillId, ending: &str) -> PathBuf {
    folder.join(format!("{drill}.{ending}"))
}

/// What a kept report says, as far as others need it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct KeptReport {
    /// Who ran the drill.
    pub by: By,
    /// The damage that it did to its own copy.
    sabotage: Option<IgnoredAny>,
    /// The measured recovery.
    pub rto_seconds: Option<f64>,
    /// Every check.
    pub checks: Vec<KeptCheck>,
}

/// A check of the restored data.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct KeptCheck {
    /// Its name.
    pub name: String,
    /// How it came out.
    pub result: CheckResult,
}

/// What the report of this drill says; `None` where there is none here that can be read.
pub(crate) fn read(folder: &Path, drill: &DrillId) -> Option<KeptReport> {
    serde_json::from_slice(&fs::read(file(folder, drill, JSON)).ok()?).ok()
}

/// The drills with a page here, oldest first.
///
/// # Errors
/// Kind `Preflight`, where the folder is there and cannot be read.
fn drills(folder: &Path) -> Result<Vec<DrillId>> {
    let mut found: Vec<DrillId> =
        files(folder)?.into_iter().filter(|file| file.ending == HTML).map(|file| file.drill).collect();
    found.sort_unstable();
    Ok(found)
}

/// The newest drill here that was no sabotage, which says something of the backup; where all were one, the newest.
///
/// # Errors
/// As [`drills`].
pub(crate) fn newest(folder: &Path) -> Result<Option<DrillId>> {
    Ok(newest_of(folder, &drills(folder)?).cloned())
}

fn newest_of<'a>(folder: &Path, drills: &'a [DrillId]) -> Option<&'a DrillId> {
    let is_drill = |drill: &&DrillId| read(folder, drill).is_some_and(|report| report.sabotage.is_none());
    drills.iter().rev().find(is_drill).or(drills.last())
}

/// Deletes the files of the agent's drills that started before this moment. Those of the newest drill stay, of the newest
/// one that was no sabotage, and of drills of the owner, who may have no other copy; and so does every file that has not
/// the name of one of a drill. Returns how many drills went.
///
/// # Errors
/// Kind `Preflight`, with the file that could not be deleted.
pub(crate) fn forget(folder: &Path, before: Timestamp) -> Result<usize> {
    let files = files(folder)?;
    let mut drills: Vec<DrillId> = files.iter().map(|file| file.drill.clone()).collect();
    drills.sort_unstable();
    drills.dedup();
    let stays = [drills.last(), newest_of(folder, &drills)];
    let goes = |drill: &DrillId| {
        let of_owner = || read(folder, drill).is_some_and(|report| report.by == By::Owner);
        drill.time() < before && !stays.contains(&Some(drill)) && !of_owner()
    };
    let gone: Vec<&DrillId> = drills.iter().filter(|drill| goes(drill)).collect();
    // What tells whose drill it was goes last, also where this is cut off.
    let (told, rest): (Vec<&Kept>, Vec<&Kept>) =
        files.iter().filter(|file| gone.contains(&&file.drill)).partition(|file| file.ending == JSON);
    for file in rest.into_iter().chain(told) {
        fs::remove_file(&file.path).map_err(|e| {
            Error::preflight(format!("failed to delete the old report {}", file.path.display()))
                .cause(e)
                .remedy("Delete it, or let the user that runs marbre do so.")
        })?;
    }
    Ok(gone.len())
}

/// A file of a drill.
struct Kept {
    drill: DrillId,
    ending: &'static str,
    path: PathBuf,
}

/// The files here that have the name of a drill's.
fn files(folder: &Path) -> Result<Vec<Kept>> {
    let failed = |e: std::io::Error| {
        Error::preflight(format!("failed to read the folder of reports {}", folder.display()))
            .cause(e)
            .remedy("Let the user that runs marbre read it: sudo -u marbre marbre …")
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some((drill, ending)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
        let ending = ENDINGS.into_iter().find(|known| *known == ending);
        // No drill of marbre's has an impossible date.
        let drill = drill.parse().ok().filter(|drill: &DrillId| drill.time() > Timestamp::MIN);
        if let (Some(drill), Some(ending), true) =
            (drill, ending, entry.file_type().map_err(failed)?.is_file())
        {
            found.push(Kept { drill, ending, path: entry.path() });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drill(name: &str) -> DrillId {
        name.parse().unwrap()
    }

    fn put(folder: &Path, name: &str, by: &str, sabotage: Option<&str>) {
        for ending in ENDINGS {
            fs::write(file(folder, &drill(name), ending), "{}").unwrap();
        }
        let report = serde_json::json!({
            "by": by, "sabotage": sabotage.map(|kind| serde_json::json!({"kind": kind})), "rto_seconds": 1.5,
            "checks": [{"name": "row-count", "result": "failed", "value": "3"}], "other": 1,
        });
        fs::write(file(folder, &drill(name), JSON), report.to_string()).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    const OLD: &str = "20250101T000000Z-00000001";
    const OWNERS: &str = "20250102T000000Z-00000002";
    const LAST: &str = "20250103T000000Z-00000003";
    const SABOTAGE: &str = "20250104T000000Z-00000004";

    #[test]
    fn old_reports_go_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        put(folder, OLD, "agent", None);
        put(folder, OWNERS, "owner", None);
        put(folder, LAST, "agent", None);
        put(folder, SABOTAGE, "agent", Some("row"));
        let others = [
            "20250101T000000Z-00000001.html.bak",
            "20250101T000000Z-00000001",
            "20259999T000000Z-00000001.html",
            "notes.html",
            "x-20250101T000000Z-00000001.html",
        ];
        others.iter().for_each(|name| fs::write(folder.join(name), "mine").unwrap());
        fs::create_dir(folder.join("20240101T000000Z-00000001.html")).unwrap();
        std::os::unix::fs::symlink("notes.html", folder.join("20240102T000000Z-00000001.html")).unwrap();

        let before = names(folder);
        assert_eq!(forget(folder, drill(OLD).time()).unwrap(), 0);
        assert_eq!(names(folder), before, "nothing is older");
        assert_eq!(forget(folder, "2026-12-01T00:00:00Z".parse().unwrap()).unwrap(), 1);
        let gone: Vec<String> = before.iter().filter(|name| !names(folder).contains(name)).cloned().collect();
        let mut expected = ENDINGS.map(|ending| format!("{OLD}.{ending}"));
        expected.sort_unstable();
        assert_eq!(gone, expected);
    }

    #[test]
    fn the_newest_says_something_of_the_backup() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(newest(&folder.join("nowhere")).unwrap(), None);
        put(folder, SABOTAGE, "agent", Some("row"));
        assert_eq!(newest(folder).unwrap(), Some(drill(SABOTAGE)));
        put(folder, LAST, "agent", None);
        assert_eq!(newest(folder).unwrap(), Some(drill(LAST)));
        let kept = read(folder, &drill(LAST)).unwrap();
        assert_eq!((kept.rto_seconds, kept.checks[0].result), (Some(1.5), CheckResult::Failed));
        assert_eq!(kept.checks[0].name, "row-count");
    }
}
