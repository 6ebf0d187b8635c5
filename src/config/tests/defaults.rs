//! `[defaults]`: what counts where a database or a target does not say otherwise.

use super::*;

const DEFAULTS: &str = "
[defaults.database]
publisher = \"p\"
targets = [\"t\"]
rpo = \"26h\"
lock_timeout = \"7s\"
[defaults.database.retention]
keep_daily = 30
[defaults.target]
offsite = true
";

fn with(databases: &str) -> String {
    format!(
        "{DEFAULTS}[publisher.p]\nrecipients = [\"{WORKING}\", \"{ESCROW}\"]\n[target.t]\nurl = \"/srv/t\"\n{databases}"
    )
}

const PLAIN: &str = "[database.a]\nengine = \"postgres\"\nurl = \"postgres:///a\"\n\
                     [database.b]\nengine = \"sqlite\"\npath = \"b.db\"\n";

#[test]
fn what_is_not_said_is_taken_from_the_defaults() {
    let own = "rpo = \"2h\"\n[database.b.retention]\nkeep_last = 3\n";
    let config = parse(&with(&format!("{PLAIN}{own}"))).unwrap();
    let [a, b] = &config.databases[..] else { panic!() };
    assert_eq!((a.rpo, b.rpo), (Some(Duration::from_secs(26 * 3600)), Some(Duration::from_secs(2 * 3600))));
    let kept = |database: &Database| {
        let policy = &database.retention.as_ref().unwrap().policy;
        (policy.daily, policy.last)
    };
    // A table of a database takes the place of the whole table.
    assert_eq!((kept(a), kept(b)), ((30, 0), (0, 3)));
    // A key that only one of the engines has is no mistake for the others.
    assert!(
        matches!(a.source, Source::Postgres { lock_timeout, .. } if lock_timeout == Duration::from_secs(7))
    );
    assert!(config.targets.values().all(|target| target.offsite));
    assert_eq!(config.warnings, Vec::<String>::new());

    let shown = &config.effective["database"];
    let line = |name: &str, key: &str| (shown[name][key].value.as_str(), shown[name][key].by_default);
    assert_eq!(line("a", "rpo"), ("\"26h\"", true));
    assert_eq!(line("b", "rpo"), ("\"2h\"", false));
    assert_eq!(line("a", "retention.keep_daily"), ("30", true));
    assert!(!shown["b"].contains_key("retention.keep_daily") && !shown["b"].contains_key("lock_timeout"));
    assert!(shown["a"]["rpo"].at.ends_with("marbre.toml:5"), "{:?}", shown["a"]["rpo"]);
}

#[test]
fn one_way_to_a_password_takes_the_place_of_all_defaults() {
    let own = PLAIN.replace("postgres:///a\"\n", "postgres:///a\"\npassword_env = \"OWN\"\n");
    let text = with(&own).replace("rpo = \"26h\"\n", "password_credential = \"all\"\n");
    let config = parse(&text).unwrap();
    assert!(!config.effective["database"]["a"].contains_key("password_credential"));
}

#[test]
fn one_without_retention_among_others_is_a_warning() {
    let text = small()
        + "[database.e]\npublisher = \"p\"\nengine = \"sqlite\"\npath = \"e.db\"\ntargets = [\"t\"]\n[database.e.retention]\nkeep_last = 1\n";
    let config = parse(&text).unwrap();
    assert!(
        config.warnings.iter().any(|text| text.starts_with("no retention for d:")),
        "{:?}",
        config.warnings
    );
}
