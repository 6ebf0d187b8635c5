//! What many databases share is told once: whoever runs thirty of them gets one message for one problem.

use std::fs;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;

use super::harness::{Daemon, NEVER, Site};
use crate::support::sinks::{Mail, PASSWORD};

/// Databases that have snapshots, and those that come later.
const FIRST: usize = 6;
const ALL: usize = 35;

struct Story {
    site: Site,
    mail: Mail,
}

impl Story {
    /// So many copies of the database, of which the first have these schedules, and all others none that is due.
    fn configure(&self, databases: usize, schedules: &str) {
        let mut tables = format!(
            "[target.a]\nurl = {:?}\n[target.b]\nurl = {:?}\n",
            self.site.setup.target("a"),
            self.site.setup.target("b")
        );
        for n in 0..databases {
            let path = self.site.path(&format!("db{n}.sqlite"));
            if !path.exists() && n >= FIRST {
                fs::copy(self.site.setup.database(), &path).unwrap();
            }
            let schedules = if n < FIRST { schedules.to_owned() } else { format!("snapshot = \"{NEVER}\"") };
            tables += &format!(
                "[database.db{n}]\npublisher = \"gazette\"\nengine = \"sqlite\"\npath = {path:?}\ntargets = [\"a\", \"b\"]\n\
                 key_proof_every = \"90d\"\ndrills = {{ every = \"7d\" }}\n[database.db{n}.schedule]\n{schedules}\n"
            );
        }
        tables += &format!(
            "[alert.ops]\ntype = \"email\"\nhost = \"localhost\"\nport = {}\ntls = \"implicit\"\nca_file = {:?}\n\
             user = \"marbre\"\npassword_file = {:?}\nfrom = \"marbre@provider.example\"\nto = [\"ops@provider.example\"]\n",
            self.mail.port,
            self.mail.authority(),
            self.site.secret("mail.password", PASSWORD)
        );
        self.site.configure("parallel_jobs = 4", &tables);
    }

    /// The same while a daemon runs on it.
    fn reconfigure(&self, daemon: &Daemon, databases: usize, schedules: &str) {
        let before = daemon.log().matches("the configuration was read again").count();
        self.configure(databases, schedules);
        daemon.signal(Signal::HUP);
        daemon.until("it has read it", || {
            (daemon.log().matches("the configuration was read again").count() > before).then_some(())
        });
    }

    /// Waits until so many mails have come, and sees that no other one follows.
    #[track_caller]
    fn mails(&self, daemon: &Daemon, count: usize) -> Vec<String> {
        daemon
            .until(&format!("there are {count} mails"), || (self.mail.mails().len() >= count).then_some(()));
        std::thread::sleep(Duration::from_secs(5));
        let mails = self.mail.mails();
        let subjects: Vec<String> = mails.iter().map(|mail| subject(mail)).collect();
        assert_eq!(mails.len(), count, "{subjects:#?}\n{}", daemon.log());
        println!("{subjects:#?}");
        mails.iter().map(|mail| readable(mail)).collect()
    }
}

fn readable(mail: &str) -> String {
    mail.replace("\r\n", "\n").replace("\n ", " ").replace("=\n", "").replace("=3D", "=")
}

fn subject(mail: &str) -> String {
    let mail = readable(mail);
    mail.lines().find(|line| line.starts_with("Subject: ")).unwrap_or_default().to_owned()
}

/// A schedule that is due once, in so many seconds.
fn in_seconds(seconds: i64) -> String {
    let at = Timestamp::now() + SignedDuration::from_secs(seconds);
    at.strftime("%-S %-M %-H * * *").to_string()
}

/// Waits until so many databases are affected by an incident.
#[track_caller]
fn affects(daemon: &Daemon, key: &str, databases: usize, kind: &str) {
    daemon.until(&format!("{key} affects {databases}"), || {
        let incidents = daemon.status()?["incidents"].as_array()?.clone();
        let found = incidents.iter().find(|incident| incident["key"] == key)?;
        (found["affected"].as_array()?.len() == databases).then_some(())
    });
    if !kind.is_empty() {
        daemon.until(&format!("{kind} has failed"), || {
            (daemon.log().matches(&format!("{kind} of gazette/db")).count() >= 2 * FIRST).then_some(())
        });
    }
}

#[test]
fn thirty_databases_with_one_problem_are_one_message() {
    let story = Story { site: Site::new(20, 20), mail: Mail::start("implicit") };
    for n in 0..FIRST {
        let path = story.site.path(&format!("db{n}.sqlite"));
        fs::copy(story.site.setup.database(), path).unwrap();
    }
    // Nothing is wrong before the first slot.
    story.configure(FIRST, &format!("snapshot = \"{}\"", in_seconds(30)));
    let daemon = story.site.daemon();
    daemon.until("it looks", || daemon.database("db0")?["looked_at"].as_str().map(drop));
    assert_eq!(daemon.get("/healthz").unwrap().0, 200, "{}", daemon.get("/healthz").unwrap().1);
    for n in 0..FIRST {
        daemon.until("there are snapshots", || {
            daemon.database(&format!("db{n}"))?["snapshot"].as_str().map(drop)
        });
    }
    story.reconfigure(&daemon, ALL, &format!("snapshot = \"{NEVER}\""));
    daemon.until("it looks at all", || {
        let databases = daemon.status()?["databases"].as_array()?.clone();
        let looked = databases.iter().filter(|database| database["looked_at"].is_string()).count();
        (looked == ALL).then_some(())
    });
    story.mails(&daemon, 0);
    let status = daemon.status().unwrap();
    let late = status["databases"].as_array().unwrap().iter().filter(|of| of["late"] == true).count();
    assert_eq!(late, 0, "no snapshot is due yet: {status:#}");
    let shown = story.site.setup.provider(&["status"]).success().json();
    assert_eq!(shown["summary"]["new"], ALL - FIRST, "{shown:#}");
    assert_eq!(shown["summary"]["late"], 0, "{shown:#}");
    // Who asks for a snapshot of this age wants one.
    story.site.setup.provider(&["status", "--rpo", "26h"]).fails_with(9);
    assert_eq!(daemon.get("/healthz").unwrap().0, 200, "{}", daemon.get("/healthz").unwrap().1);

    // The agent's key is gone: no database can be looked at, and no job runs.
    let (key, hidden) = (story.site.path("provider/agent_ed25519"), story.site.path("hidden"));
    fs::rename(&key, &hidden).unwrap();
    story.reconfigure(&daemon, ALL, &format!("snapshot = \"{NEVER}\"\nverify = \"{}\"", in_seconds(15)));
    let incident = format!("key-failing {}", key.display());
    affects(&daemon, &incident, ALL, "verify");
    let mails = story.mails(&daemon, 1);
    for words in
        ["Event: opened", "What to do: Put it back from its copy", "Database gazette/db34: look-failed"]
    {
        assert!(mails[0].contains(words), "{words}: {}", mails[0]);
    }
    assert!(!mails[0].contains("keygen"), "{}", mails[0]);
    fs::rename(&hidden, &key).unwrap();
    story.reconfigure(&daemon, ALL, &format!("snapshot = \"{NEVER}\"\nverify = \"{}\"", in_seconds(15)));
    daemon.resolves(&incident);
    let mails = story.mails(&daemon, 2);
    assert!(subject(&mails[1]).contains("resolved: The agent's key"), "{}", mails[1]);
    assert!(subject(&mails[1]).contains("(35 databases)"), "{}", mails[1]);

    // A target is away for all of them.
    let (target, away) = (story.site.path("a"), story.site.path("a-away"));
    fs::rename(&target, &away).unwrap();
    let at = in_seconds(15);
    let both = format!("snapshot = \"{NEVER}\"\nverify = \"{at}\"\nprune = \"{at}\"");
    story.reconfigure(&daemon, ALL, &both);
    affects(&daemon, "target-failing a", ALL, "verify");
    daemon.until("prunes have failed", || {
        (daemon.log().matches("ERROR marbre::daemon::runs: prune of gazette/db").count() >= FIRST)
            .then_some(())
    });
    let mails = story.mails(&daemon, 3);
    assert!(subject(&mails[2]).contains("Target a fails (35 databases)"), "{}", mails[2]);
    fs::rename(&away, &target).unwrap();
    let at = in_seconds(15);
    let both = format!("snapshot = \"{NEVER}\"\nverify = \"{at}\"\nprune = \"{at}\"");
    story.reconfigure(&daemon, ALL, &both);
    daemon.resolves("target-failing a");
    let mails = story.mails(&daemon, 4);
    assert!(mails[3].contains("Target a works again."), "{}", mails[3]);

    // One database is away, then something else is in its place: that is news.
    let (file, hidden) = (story.site.path("db0.sqlite"), story.site.path("hidden"));
    fs::rename(&file, &hidden).unwrap();
    story.reconfigure(&daemon, ALL, &format!("snapshot = \"{}\"", in_seconds(15)));
    daemon.opens("snapshot-failed gazette/db0");
    story.mails(&daemon, 5);
    fs::write(&file, [b'x'; 5000]).unwrap();
    story.reconfigure(&daemon, ALL, &format!("snapshot = \"{}\"", in_seconds(15)));
    let mails = story.mails(&daemon, 6);
    assert!(subject(&mails[5]).contains("another cause, critical: gazette/db0: "), "{}", mails[5]);
    for words in ["Event: changed", "Before: ", "is not a"] {
        assert!(mails[5].contains(words), "{words}: {}", mails[5]);
    }
    fs::rename(&hidden, &file).unwrap();
    story.reconfigure(&daemon, ALL, &format!("snapshot = \"{}\"", in_seconds(15)));
    daemon.resolves("snapshot-failed gazette/db0");
    let mails = story.mails(&daemon, 7);
    assert!(subject(&mails[6]).contains("resolved: gazette/db0: Snapshots succeed again."), "{}", mails[6]);
    daemon.stop();
}

#[test]
fn a_good_week_is_told_to_each_about_their_own() {
    let (site, mail) = (Site::new(20, 20), Mail::start("implicit"));
    let database = |publisher: &str, name: &str| {
        format!(
            "[database.{name}]\npublisher = \"{publisher}\"\nengine = \"sqlite\"\npath = {:?}\ntargets = [\"a\"]\n\
             [database.{name}.schedule]\nsnapshot = \"{NEVER}\"\n",
            site.setup.database()
        )
    };
    let channel = |name: &str, to: &str, more: &str| {
        format!(
            "[alert.{name}]\ntype = \"email\"\nhost = \"localhost\"\nport = {}\ntls = \"implicit\"\nca_file = {:?}\n\
             user = \"marbre\"\npassword_file = {:?}\nfrom = \"marbre@provider.example\"\nto = [\"{to}\"]\n{more}\n",
            mail.port,
            mail.authority(),
            site.secret("mail.password", PASSWORD)
        )
    };
    let tables = [
        format!("[target.a]\nurl = {:?}\n", site.setup.target("a")),
        "[publisher.matin]\nrecipients_file = \"../publisher/restore.pub\"\n".to_owned(),
        database("gazette", "abonnes"),
        database("matin", "boutique"),
        channel("ops", "ops@provider.example", ""),
        channel("gazette", "it@gazette.example", "publishers = [\"gazette\"]"),
    ]
    .concat();
    site.configure("", &tables);
    let text = fs::read_to_string(site.path("provider/marbre.toml")).unwrap();
    let text = text.replace("agent = \"db1\"", "agent = \"db1\"\ndigest = \"*/5 * * * * *\"");
    fs::write(site.path("provider/marbre.toml"), text).unwrap();
    for name in ["abonnes", "boutique"] {
        site.setup.provider(&["snapshot", name]).success();
        site.setup.provider(&["drill", name]).success();
    }
    let daemon = site.daemon();
    let of = |to: &str| -> Vec<String> {
        let mails = mail.mails().into_iter().filter(|mail| mail.contains(&format!("X-To: {to}")));
        mails.map(|mail| readable(&mail)).collect()
    };
    daemon.until("both got two", || (of("ops@").len() >= 2 && of("it@gazette").len() >= 2).then_some(()));
    daemon.stop();
    for (to, databases) in [("ops@", "2 databases"), ("it@gazette", "1 database")] {
        let mails = of(to);
        let head = format!("summary: {databases}, everything proven and on time");
        assert!(subject(&mails[0]).contains(&head), "{}", mails[0]);
        assert!(
            mails[0].contains("gazette/abonnes: newest snapshot ") && mails[0].contains("; new"),
            "{}",
            mails[0]
        );
        assert!(mails[1].contains("recovers in ") && !mails[1].contains("; new"), "{}", mails[1]);
    }
    assert!(of("ops@")[0].contains("matin/boutique: ") && !of("it@gazette").concat().contains("matin"));
}
