//! Very many large objects: what a snapshot stores, a drill and a restore take.

use std::time::Duration;

use crate::support::postgres::{Cluster, Version};
use crate::support::setup::Provider;
use crate::support::short_or_long;

const PATIENCE: Duration = Duration::from_secs(900);

#[test]
fn many_large_objects_come_back() {
    let cluster = Cluster::start(Version::V15);
    let database = cluster.create_db("abonnes");
    let number = short_or_long(3_000, 100_000);
    // Some have a comment and rights of their own.
    database.sql(&format!(
        "CREATE ROLE reader; CREATE TABLE photo (id int PRIMARY KEY, object oid);
         CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$ BEGIN
           FOR batch IN 1 .. {number} / 1000 LOOP
             INSERT INTO photo SELECT n, lo_from_bytea(0, decode(md5(n::text), 'hex'))
             FROM generate_series(1000 * (batch - 1) + 1, 1000 * batch) n;
             COMMIT;
           END LOOP; END $$;
         CALL fill();
         DO $$ DECLARE o oid; BEGIN FOR o IN SELECT object FROM photo WHERE id % 1000 = 7 LOOP
           EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO reader', o);
           EXECUTE format('COMMENT ON LARGE OBJECT %s IS %L', o, 'a face');
         END LOOP; END $$"
    ));
    let provider = Provider::of(&database);
    let snapshot = provider.snapshot().timeout(PATIENCE).success();
    let drill = provider.drill().timeout(PATIENCE).success();
    assert_eq!(drill.json()["passed"], true, "{drill}");
    let back = cluster.create_db("back");
    back.sql("CREATE TABLE precious (i int)");
    let restore = provider.restore("nas", &back.url()).args(["--prove", "--overwrite"]);
    let restored = restore.timeout(PATIENCE).success();
    println!(
        "{number} large objects: snapshot {:.0} s, drill {:.0} s, restore {:.0} s",
        snapshot.seconds, drill.seconds, restored.seconds
    );
    assert_eq!(restored.json()["verdict"], "proven");
    let sum = "SELECT count(*), sum(hashtext(encode(lo_get(object), 'hex'))), (SELECT count(*) FROM pg_largeobject_metadata),
                 (SELECT count(*) FROM pg_largeobject_metadata WHERE lomacl IS NOT NULL),
                 (SELECT count(*) FROM pg_description WHERE classoid = 'pg_largeobject'::regclass) FROM photo";
    assert_eq!(back.sql(sum), database.sql(sum));
    assert!(back.sql(sum).starts_with(&format!("{number}|")));
}
