//! What is claimed of targets.

use super::*;

fn with(target: &str, retention: &str) -> Config {
    let text = small().replace("url = \"/srv/t\"\n", &format!("url = \"s3://t\"\n{target}\n"));
    parse(&format!("{text}epoch = \"10d\"\n{retention}\n")).unwrap()
}

fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

#[test]
fn nothing_is_claimed_by_default() {
    let config = parse(&small()).unwrap();
    let target = &config.targets[&"t".parse().unwrap()];
    assert!(!target.required && !target.offsite);
    assert_eq!((&target.domain, target.owner, target.bandwidth, target.lock), (&None, None, None, None));
    assert_eq!(target.lock_term(&config.databases[0]), None);
}

#[test]
fn everything_that_can_be_claimed() {
    let lines = "required = true\ndomain = \" gra \"\nowner = \"third-party\"\noffsite = true\nbandwidth = \"20 MiB/s\"";
    let config = with(lines, "");
    let target = &config.targets[&"t".parse().unwrap()];
    assert!(target.required && target.offsite);
    assert_eq!((target.domain.as_deref(), target.owner), (Some("gra"), Some(Owner::ThirdParty)));
    assert_eq!(target.bandwidth, Some(20 << 20));
}

#[test]
fn a_lock_lasts_as_said_or_as_long_as_the_rules_keep() {
    for (lines, retention, mode, keep) in [
        (
            "lock = \"compliance\"\nlock_for = \"5d\"",
            "retention.keep_daily = 30",
            LockMode::Compliance,
            days(5),
        ),
        ("lock = \"governance\"", "retention.keep_daily = 30", LockMode::Governance, days(30)),
        ("lock = \"compliance\"\nlock_for = \"5d\"", "", LockMode::Compliance, days(5)),
    ] {
        let config = with(lines, retention);
        let term = config.targets[&"t".parse().unwrap()].lock_term(&config.databases[0]);
        assert_eq!(term, Some(LockTerm { mode, epoch: days(10), keep }));
    }
}
