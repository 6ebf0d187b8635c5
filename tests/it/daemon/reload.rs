//! A new configuration under a daemon that works, and configurations with which none can.

use std::fs;
use std::net::TcpListener;

use marbre::internal::JobKind;
use rustix::process::Signal;

use super::harness::{ALWAYS, NEVER, Site};

#[test]
fn a_bad_configuration_is_refused_and_a_good_one_taken() {
    let site = Site::new(50, 50);
    site.scheduled("", &format!("snapshot = \"{ALWAYS}\""));
    let file = site.path("provider/marbre.toml");
    let daemon = site.daemon();
    daemon.until("there is a snapshot", || daemon.database("abonnes")?["snapshot"].as_str().map(drop));
    let good = fs::read_to_string(&file).unwrap();
    for (bad, why) in [
        (good.replace(&format!("\"{ALWAYS}\""), "\"61 * * * *\""), "is not a schedule"),
        (good.replace("state_dir = \"state\"", "state_dir = \"other\""), "`state_dir` was"),
        (good.split("[database.abonnes.schedule]").next().unwrap().to_owned(), "nothing is scheduled"),
        ("rubbish".to_owned(), "marbre.toml"),
    ] {
        let before = daemon.log().len();
        fs::write(&file, bad).unwrap();
        daemon.signal(Signal::HUP);
        daemon.until(&format!("the log says {why}"), || {
            let log = daemon.log().split_off(before);
            (log.contains("the new configuration is refused, the old one stays") && log.contains(why))
                .then_some(())
        });
        daemon.opens("config-refused");
        let (_, metrics) = daemon.get("/metrics").unwrap();
        assert!(metrics.contains("marbre_config_last_reload_successful 0\n"), "{metrics}");
        // The old plan goes on.
        let before = site.slots(JobKind::Snapshot).len();
        daemon.until("slots go on", || (site.slots(JobKind::Snapshot).len() > before + 1).then_some(()));
    }
    // A new schedule works, and the old one is gone.
    fs::write(
        &file,
        good.replace("snapshot = ", "verify = \"* * * * * *\"\nsnapshot = ")
            .replace(ALWAYS, NEVER)
            .replace(&format!("verify = \"{NEVER}\""), &format!("verify = \"{ALWAYS}\"")),
    )
    .unwrap();
    daemon.signal(Signal::HUP);
    daemon.says("the configuration was read again");
    daemon.resolves("config-refused");
    daemon.until("the new job runs", || (!site.slots(JobKind::Verify).is_empty()).then_some(()));
    let (_, metrics) = daemon.get("/metrics").unwrap();
    assert!(metrics.contains("marbre_config_last_reload_successful 1\n"), "{metrics}");
    let snapshots = site.slots(JobKind::Snapshot).len();
    let verified = site.slots(JobKind::Verify).len();
    daemon.until("it goes on", || (site.slots(JobKind::Verify).len() > verified + 2).then_some(()));
    assert_eq!(site.slots(JobKind::Snapshot).len(), snapshots);
    daemon.stop();
}

#[test]
fn a_web_address_that_is_taken_does_not_keep_it_from_working() {
    let site = Site::new(50, 50);
    site.scheduled("", &format!("snapshot = \"{ALWAYS}\""));
    let _taken = TcpListener::bind(site.web_address()).unwrap();
    let daemon = site.daemon();
    daemon.until("there is a snapshot", || {
        let status = site.setup.provider(&["status"]).run().json();
        status["databases"][0]["snapshot"].as_str().map(drop)
    });
    let told = daemon.until("people are told", || {
        let list = site.setup.provider(&["alert", "list"]).success().json();
        list["incidents"].as_array()?.iter().find(|i| i["key"] == "config-refused web").cloned()
    });
    let summary = told["summary"].as_str().unwrap();
    assert!(summary.contains(&site.web_address()), "{told:#}");
    assert!(!told["remedy"].as_str().unwrap().is_empty(), "{told:#}");
    daemon.stop();
}

#[test]
fn a_configuration_without_any_schedule_is_refused() {
    let site = Site::new(5, 5);
    site.configure("", &site.one_directory("", ""));
    let said = site.run().fails_with(3).json();
    assert!(said["error"].as_str().unwrap().starts_with("nothing is scheduled in "), "{said}");
    assert!(said["remedy"].as_str().unwrap().contains("[database.NAME.schedule]"), "{said}");
}
