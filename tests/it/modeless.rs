//! File systems that keep neither modes nor links: a memory card, a disk that is shared with Windows.

use rusqlite::Connection;

use crate::support::setup::Exfat;
use crate::support::sqlite_setup::Setup;

#[test]
fn exfat_holds_copies_and_restored_databases() {
    let setup = Setup::new(50, 100);
    let _disk = Exfat::mount(&setup.path("disk"), "64M");
    let target = setup.path("disk/copies").display().to_string();
    std::fs::create_dir(&target).unwrap();
    setup.configure(&[("card", &target)], "", "");
    let doctor = setup.provider(&["doctor"]).run().to_string();
    assert!(doctor.contains("keeps no modes"), "{doctor}");
    setup.snapshot().success();
    setup.change(5);
    setup.snapshot().success();
    let snapshots = setup.provider(&["list"]).success();
    assert_eq!(snapshots.json()["snapshots"].as_array().map(Vec::len), Some(2), "{snapshots}");
    setup.provider(&["verify", "abonnes"]).success();

    let back = setup.path("disk/back.db");
    let restore = || setup.restore("latest", &[&target], back.to_str().unwrap());
    let restored = restore().success();
    assert!(restored.to_string().contains("keeps no modes: the restored database has mode"), "{restored}");
    let rows = |path| -> i64 {
        let database = Connection::open(path).unwrap();
        database.query_one("SELECT count(*) FROM subscriber", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(rows(back.clone()), rows(setup.database()));
    restore().fails_with(4);
    restore().arg("--overwrite").success();
    assert_eq!(rows(back.clone()), rows(setup.database()));
    // Nothing lies beside what was restored.
    let folder = std::fs::read_dir(setup.path("disk")).unwrap();
    let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["back.db", "copies"]);
}
