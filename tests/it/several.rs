//! Snapshots of several databases by one command: all, or those of a pattern.

use std::fs;

use super::support::sqlite_setup::Setup;

/// Four databases of two publishers, of which one has lost its file.
fn configured() -> Setup {
    let setup = Setup::new(20, 10);
    let recipient = fs::read_to_string(setup.path("publisher/restore.pub")).unwrap();
    let recipient = recipient.lines().find(|line| line.starts_with("age1")).unwrap();
    let mut text = format!(
        "state_dir = \"state\"\nsigning_key = \"agent_ed25519\"\ntarget.a.url = {:?}\n\
         publisher.gazette.recipients = [{recipient:?}]\npublisher.tribune.recipients = [{recipient:?}]\n",
        setup.target("a")
    );
    for (publisher, name) in
        [("gazette", "shop-1"), ("gazette", "shop-2"), ("tribune", "forum"), ("tribune", "shop-3")]
    {
        let file = if name == "shop-2" { setup.path("gone.sqlite") } else { setup.database() };
        text += &format!(
            "[database.{name}]\npublisher = {publisher:?}\nengine = \"sqlite\"\npath = {file:?}\ntargets = [\"a\"]\n"
        );
    }
    fs::write(setup.path("provider/marbre.toml"), text).unwrap();
    setup
}

#[test]
fn what_is_wrong_with_one_database_does_not_keep_the_others_from_their_snapshot() {
    let setup = configured();
    let alone = setup.provider(&["snapshot", "shop-2"]).run().code().unwrap();
    assert_ne!(alone, 0);
    let all = setup.provider(&["snapshot", "--all"]).fails_with(alone);
    let document = all.json();
    let names = |list: &str| -> Vec<String> {
        let of = |one: &serde_json::Value| one["database"].as_str().unwrap().to_owned();
        document[list].as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(document["document"], "snapshots");
    assert_eq!((names("snapshots").len(), names("failed")), (3, vec!["shop-2".to_owned()]), "{all}");
    assert_eq!(document["failed"][0]["exit_code"], alone);
    assert!(all.stderr.contains("1 of 4 databases have no complete snapshot: gazette/shop-2"), "{all}");
    for (publisher, name, expected) in [
        ("gazette", "shop-1", 1),
        ("tribune", "forum", 1),
        ("tribune", "shop-3", 1),
        ("gazette", "shop-2", 0),
    ] {
        let receipts = setup.path("a").join(publisher).join(name).join("receipts");
        let found = fs::read_dir(receipts).map_or(0, |all| {
            all.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "json")).count()
        });
        assert_eq!(found, expected, "{publisher}/{name}");
    }
}

#[test]
fn a_pattern_chooses_by_name_and_by_publisher() {
    let setup = configured();
    let taken = |args: &[&str]| -> Vec<String> {
        let done = setup.provider(&[&["snapshot"], args].concat()).success().json();
        let of = |one: &serde_json::Value| one["database"].as_str().unwrap().to_owned();
        done["snapshots"].as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(taken(&["tribune/*"]), ["forum", "shop-3"]);
    assert_eq!(taken(&["*-3", "forum", "shop-1", "for?m"]), ["shop-1", "forum", "shop-3"]);
    setup.provider(&["snapshot", "shopp*"]).fails_with(5);
    setup.provider(&["snapshot"]).fails_with(2);
    setup.provider(&["snapshot", "--all", "forum"]).fails_with(2);
}
