//! Where a restore may go.

use crate::support::mysql::{Flavor, assert_same};

use super::{DATABASE, restore, shop};

with_both!(only_into_an_empty_place);

fn only_into_an_empty_place(flavor: Flavor) {
    let (server, provider) = shop(flavor);
    provider.snapshot().success();
    let said = restore(&provider, &server, "copy").arg("--dry-run").success().json();
    assert_eq!(said["verdict"], "dry-run", "{said}");
    let there = "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE 'copy%'";
    assert_eq!(server.sql("", there), "0");

    server.create_db("copy");
    server.sql("copy", "CREATE TABLE precious (id int PRIMARY KEY); INSERT INTO precious VALUES (7)");
    let before = server.picture("copy");
    for more in [&[][..], &["--dry-run"][..]] {
        let said = restore(&provider, &server, "copy").args(more).fails_with(4).json();
        assert!(said["error"].as_str().unwrap().contains("is not empty"), "{said}");
    }
    // Neither server can rename a database, so nothing is put in its place.
    let said = restore(&provider, &server, "copy").args(["--prove", "--overwrite"]).fails_with(4).json();
    assert!(said["cause"].as_str().unwrap().contains("does not replace"), "{said}");
    assert_eq!(server.picture("copy"), before);

    // An empty one is taken as it is, a view alone does not make it one.
    server.create_db("empty");
    restore(&provider, &server, "empty").arg("--prove").success();
    assert_same((&server, DATABASE), (&server, "empty"));
    server.create_db("with_view");
    server.sql("with_view", "CREATE VIEW v AS SELECT 1 AS one");
    restore(&provider, &server, "with_view").fails_with(4);
}
