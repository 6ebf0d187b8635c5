//! Where targets are: what was proven, put or claimed at a target is remembered by its place, not by its name.

use rusqlite::{Connection, OptionalExtension, params};

use super::{State, parse};
use crate::error::{Result, ResultExt};
use crate::model::id::TargetName;
use crate::model::level::Level;
use crate::model::place::PlaceId;

/// The tables whose rows belong to a place. Their column `target` holds it, or the name of a target whose place was never seen.
const OF_PLACES: [&str; 3] = ["proof", "version", "claimed"];

/// What stands in for the place of a target that has moved, while it cannot be seen where it is now. No name of a target and
/// no place looks like that.
fn somewhere(url: &str) -> String {
    format!("at {url}")
}

impl State {
    /// The place that was last seen at a target, if it is still at this URL.
    pub(crate) fn place(&self, target: &TargetName, url: &str) -> Result<Option<PlaceId>> {
        let bound = bound(&self.db(), target).or_internal("read the place of a target from the state")?;
        let place = bound.filter(|(at, place)| at == url && *place != somewhere(url)).map(|(_, place)| place);
        place.map(|place| parse(&place)).transpose()
    }

    /// Remembers what place a target is, as far as it can be seen. Says whether it was another one before.
    ///
    /// A new place at the URL of an old one was emptied or exchanged: what was stored is still expected there, and nothing
    /// else that was proven counts.
    pub(crate) fn bind_place(&self, target: &TargetName, url: &str, seen: Option<&PlaceId>) -> Result<bool> {
        let what = "save the place of a target in the state";
        let mut db = self.db();
        let before = bound(&db, target).or_internal(what)?;
        let place = match (seen, &before) {
            (Some(seen), _) => seen.to_string(),
            (None, Some((at, _))) if at != url => somewhere(url),
            (None, _) => return Ok(false),
        };
        if before.as_ref().is_some_and(|(at, was)| at == url && *was == place) {
            return Ok(false);
        }
        let mut change = || -> rusqlite::Result<()> {
            let transaction = db.transaction()?;
            match &before {
                None => {
                    for table in OF_PLACES {
                        let adopt = format!("UPDATE OR REPLACE {table} SET target = ?1 WHERE target = ?2");
                        transaction.execute(&adopt, [&place, target.as_str()])?;
                    }
                }
                Some((at, was)) if at == url => {
                    transaction.execute(
                        "INSERT OR IGNORE INTO proof (database, snapshot, target, level, at)
                         SELECT database, snapshot, ?1, level, at FROM proof WHERE target = ?2 AND level = ?3",
                        [&place, was, Level::Stored.word()],
                    )?;
                }
                Some(_) => {}
            }
            transaction.execute(
                "INSERT OR REPLACE INTO place (target, url, place) VALUES (?1, ?2, ?3)",
                params![target.as_str(), url, place],
            )?;
            transaction.commit()
        };
        change().or_internal(what)?;
        Ok(before.is_some_and(|(_, was)| was != place))
    }

    /// What stands for a target in the tables whose rows belong to places.
    pub(super) fn place_of(&self, target: &TargetName) -> Result<String> {
        let bound = bound(&self.db(), target).or_internal("read the place of a target from the state")?;
        Ok(bound.map_or_else(|| target.to_string(), |(_, place)| place))
    }
}

/// The URL and the place of a target, as they were last seen.
fn bound(db: &Connection, target: &TargetName) -> rusqlite::Result<Option<(String, String)>> {
    let mut statement = db.prepare_cached("SELECT url, place FROM place WHERE target = ?1")?;
    statement.query_row([target.as_str()], |r| Ok((r.get(0)?, r.get(1)?))).optional()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::place::Mark;

    const AT: &str = "2026-11-22T02:00:00Z";

    struct Site {
        _folder: tempfile::TempDir,
        state: State,
    }

    impl Site {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { state: State::open(folder.path()).unwrap(), _folder: folder }
        }

        fn prove(&self, target: &str, level: Level) {
            let (database, snapshot) =
                ("gazette/abonnes".parse().unwrap(), "20261122T020000Z-1f3a9c4e".parse().unwrap());
            let (target, at) = (target.parse().unwrap(), AT.parse().unwrap());
            self.state.prove(&database, &snapshot, &target, level, at).unwrap();
        }

        /// Whether the snapshot is known as stored, and as intact.
        fn levels(&self, target: &str) -> (bool, bool) {
            let (database, snapshot) =
                ("gazette/abonnes".parse().unwrap(), "20261122T020000Z-1f3a9c4e".parse().unwrap());
            let levels = self.state.levels(&database, &snapshot, &target.parse().unwrap()).unwrap();
            (levels.stored.is_some(), levels.intact.is_some())
        }

        fn bind(&self, target: &str, url: &str, place: Option<u8>) -> bool {
            let place = place.map(|n| Mark::new([n; 16]).place(None));
            self.state.bind_place(&target.parse().unwrap(), url, place.as_ref()).unwrap()
        }
    }

    #[test]
    fn proofs_follow_the_place() {
        let site = Site::new();
        site.prove("a", Level::Stored);
        site.prove("a", Level::Intact);
        // Seen for the first time, it is where it was.
        assert!(!site.bind("a", "s3://one", None) && !site.bind("a", "s3://one", Some(1)));
        assert_eq!(site.levels("a"), (true, true));
        // Under another name, by another URL.
        assert!(!site.bind("vault", "s3://alias", Some(1)));
        assert_eq!(site.levels("vault"), (true, true));
        // The name leads elsewhere, and back again.
        assert!(site.bind("a", "s3://two", Some(2)));
        assert_eq!(site.levels("a"), (false, false));
        site.prove("a", Level::Stored);
        assert!(site.bind("a", "s3://one", Some(1)));
        assert_eq!(site.levels("a"), (true, true));
    }

    #[test]
    fn a_place_that_cannot_be_seen_is_the_old_one_only_at_its_url() {
        let site = Site::new();
        site.bind("a", "s3://one", Some(1));
        site.prove("a", Level::Intact);
        assert!(!site.bind("a", "s3://one", None));
        assert_eq!(site.levels("a"), (false, true));
        let last = |url| site.state.place(&"a".parse().unwrap(), url).unwrap();
        assert_eq!((last("s3://one").is_some(), last("s3://two")), (true, None));
        assert!(site.bind("a", "s3://two", None));
        assert_eq!(site.levels("a"), (false, false));
        assert_eq!(last("s3://two"), None);
        assert!(!site.bind("a", "s3://two", None));
    }

    #[test]
    fn what_was_stored_is_expected_at_a_place_that_was_emptied() {
        let site = Site::new();
        site.bind("a", "s3://one", Some(1));
        site.prove("a", Level::Stored);
        site.prove("a", Level::Intact);
        assert!(site.bind("a", "s3://one", Some(2)));
        assert_eq!(site.levels("a"), (true, false));
    }
}
