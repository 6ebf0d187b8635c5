//! The long story: databases, targets and mail are cut off in turn and come back. People hear of the beginning and the
//! end of each, in words that help, and what was missed is caught up without anybody's doing.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::harness::{Daemon, Site};
use crate::support::postgres::{Cluster, Version};
use crate::support::s3::{ADMIN, SeaweedFs};
use crate::support::sinks::{Mail, PASSWORD, Sink};
use crate::support::sqlite_setup::{SECRET, files};

/// What must not be in a log, a mail or a webhook.
const TOKEN: &str = "T0KEN-OF-THE-WEBHOOK";
const DATABASE_PASSWORD: &str = "hunter2-DATABASE-SECRET";
const HIDDEN: [&str; 6] = [PASSWORD, TOKEN, DATABASE_PASSWORD, "adminsecret", SECRET, "AGE-SECRET-KEY"];

struct Story {
    site: Site,
    cluster: Cluster,
    bucket: SeaweedFs,
    mail: Mail,
    hook: Sink,
    daemon: Daemon,
}

impl Story {
    async fn begins() -> Self {
        let (site, cluster, bucket) =
            (Site::new(200, 300), Cluster::start(Version::V15), SeaweedFs::start().await);
        let (mail, hook) = (Mail::start("starttls"), Sink::start());
        let database = cluster.create_db("abonnes");
        database.sql("CREATE TABLE login (id int PRIMARY KEY, name text)");
        database.sql(&format!("INSERT INTO login SELECT i, '{SECRET}' FROM generate_series(1, 500) i"));
        let schedule = |name: &str, second: u32| {
            format!(
                "targets = [\"vault\", \"nas\"]\nrpo = \"1h\"\n[database.{name}.schedule]\n\
                 snapshot = \"{second}/5 * * * * *\"\nsync = \"*/3 * * * * *\"\ndrill = \"{second}/10 * * * * *\"\n"
            )
        };
        let sources = format!(
            "[database.abonnes]\npublisher = \"gazette\"\nengine = \"postgres\"\nurl = {:?}\npassword_file = {:?}\n\
             bin_dir = {:?}\nlock_timeout = \"5s\"\n{}\
             [database.boutique]\npublisher = \"gazette\"\nengine = \"sqlite\"\npath = {:?}\n{}",
            database.url(),
            site.secret("database.password", DATABASE_PASSWORD),
            Version::V15.bin(),
            schedule("abonnes", 0),
            site.setup.database(),
            schedule("boutique", 2)
        );
        let name = bucket.locking_bucket().await;
        let targets = format!(
            "[target.vault]\nurl = {:?}\nlock = \"compliance\"\nlock_for = \"1d\"\ndomain = \"cloud\"\noffsite = true\n\
             [target.nas]\nurl = {:?}\ndomain = \"cellar\"\n",
            bucket.url(&name, ADMIN),
            site.path("nas")
        );
        fs::create_dir(site.path("nas")).unwrap();
        let channels = format!(
            "[alert.ops]\ntype = \"email\"\nhost = \"localhost\"\nport = {}\nca_file = {:?}\nuser = \"marbre\"\n\
             password_file = {:?}\nfrom = \"marbre@provider.example\"\nto = [\"ops@provider.example\"]\n\
             [alert.hook]\ntype = \"webhook\"\nurl = {:?}\ntoken_file = {:?}\nallow_private = true\n",
            mail.port,
            mail.authority(),
            site.secret("mail.password", PASSWORD),
            hook.url("/hook"),
            site.secret("hook.token", TOKEN)
        );
        site.configure("parallel_jobs = 6", &[targets, sources, channels].concat());
        let daemon = site.daemon();
        Self { site, cluster, bucket, mail, hook, daemon }
    }

    /// The mail of an event, as its reader sees it; waits until it has arrived.
    #[track_caller]
    fn mailed(&self, event: &str, key: &str) -> String {
        let marks = [format!("Event: {event}\n"), format!("Incident: {key}\n")];
        self.daemon.until(&format!("a mail says {key} {event}"), || {
            let mails = self.mail.mails();
            let mut read = mails.iter().rev().map(|mail| readable(mail));
            read.find(|mail| marks.iter().all(|mark| mail.contains(mark)))
        })
    }

    /// What the webhook got of an event; waits until it has arrived.
    #[track_caller]
    fn hooked(&self, event: &str, key: &str) -> Value {
        self.daemon.until(&format!("the webhook says {key} {event}"), || {
            let requests = self.hook.requests();
            let mut said = requests.iter().rev().filter_map(|r| serde_json::from_str::<Value>(&r.body).ok());
            said.find(|said| said["event"] == event && said["key"] == key)
        })
    }

    /// Waits until `/healthz` answers so.
    #[track_caller]
    fn health(&self, code: u16) -> String {
        let what = format!("/healthz answers {code}");
        self.daemon.until(&what, || self.daemon.get("/healthz").filter(|(found, _)| *found == code)).1
    }

    #[track_caller]
    fn metric(&self, line: &str) {
        self.daemon.until(&format!("the metrics say {line}"), || {
            self.daemon.get("/metrics")?.1.lines().any(|found| found == line).then_some(())
        });
    }

    /// A target is away: people hear of it, and snapshots go on without it. Returns how much the log held before.
    #[track_caller]
    fn while_away(&self, target: &str) -> usize {
        let cut = self.daemon.log().len();
        let mail = self.mailed("opened", &format!("target-failing {target}"));
        has(&mail, &["Severity: warning\n", &format!("Concerns: {target}\n"), "Error: ", "What to do: "]);
        // Whichever met it within the moment for which messages are gathered; the others join the incident without a message.
        let met = |database: &&str| mail.contains(&format!("Database gazette/{database}: "));
        assert!(["abonnes", "boutique"].iter().any(met), "{mail}");
        has(&mail, &["last proven snapshot: "]);
        assert!(!mail.contains("last proven snapshot: none"), "{mail}");
        self.up(target, false);
        let known = self.daemon.log().len();
        for database in ["abonnes", "boutique"] {
            // The first may have begun before; of the second the target can have nothing.
            self.daemon.until("snapshots go on", || {
                let log = self.daemon.log().split_off(known);
                (log.matches(&format!("snapshot of gazette/{database}: done")).count() >= 2).then_some(())
            });
        }
        cut
    }

    /// Waits until a look has seen a target, or has not.
    #[track_caller]
    fn up(&self, target: &str, up: bool) {
        for database in ["abonnes", "boutique"] {
            let labels = format!("publisher=\"gazette\",database=\"{database}\",target=\"{target}\"");
            self.metric(&format!("marbre_target_up{{{labels}}} {}", u8::from(up)));
        }
    }

    /// It is back: people hear of that too, and it is caught up.
    #[track_caller]
    fn comes_back(&self, target: &str, cut: usize) {
        self.up(target, true);
        let key = format!("target-failing {target}");
        has(&self.mailed("resolved", &key), &[&format!("Target {target} works again.")]);
        self.hooked("resolved", &key);
        for database in ["abonnes", "boutique"] {
            self.daemon.until("it is caught up", || {
                let found = self.daemon.database(database)?;
                let of = found["targets"].as_array()?.iter().find(|t| t["name"] == target)?.clone();
                (of["behind"] == 0).then_some(())
            });
            let copied = |line: &str| {
                line.contains(&format!("sync of gazette/{database}: done")) && line.contains("objects copied")
            };
            // A snapshot beside it may have had a look taken before the sync itself has ended.
            self.daemon.until("the sync has ended", || {
                self.daemon.log().split_off(cut).lines().any(copied).then_some(())
            });
        }
    }

    fn starts(&self) {
        for database in ["abonnes", "boutique"] {
            self.daemon.until("a snapshot is proven", || {
                let found = self.daemon.database(database)?;
                let proven = found["targets"].as_array()?.iter().any(|t| t["restored"].is_object());
                (proven && found["last_drill"]["passed"] == true).then_some(())
            });
            self.metric(&format!("marbre_rpo_met{{publisher=\"gazette\",database=\"{database}\"}} 1"));
            self.metric(&format!(
                "marbre_drill_last_passed{{publisher=\"gazette\",database=\"{database}\"}} 1"
            ));
        }
        self.health(200);
    }

    fn the_server_goes_away(&self) {
        // Between two snapshots: one that is at work would tell of a connection that was closed.
        let taken = || self.daemon.log().matches("snapshot of gazette/abonnes: done").count();
        let before = taken();
        self.daemon.until("another one is done", || (taken() > before).then_some(()));
        self.cluster.stop();
        let key = &self.daemon.until("the incident is open", || {
            let open = self.daemon.status()?["incidents"].as_array()?.clone();
            let of = open.iter().find(|incident| incident["kind"] == "server-failing")?;
            Some(of["key"].as_str()?.to_owned())
        });
        let mail = self.mailed("opened", key);
        has(
            &mail,
            &[
                "Subject: [marbre db1] critical: The database server ",
                "Severity: critical\n",
                "Database gazette/abonnes: snapshot-failed; last proven snapshot: ",
                "Error: No such file or directory",
                " old (it holds the state of ",
                "What to do: Check that the server runs",
            ],
        );
        let said = self.hooked("opened", key);
        let whose = (&said["publisher"], &said["database"]);
        assert_eq!(whose, (&"gazette".into(), &"gazette/abonnes".into()), "{said:#}");
        assert!(self.health(503).contains("server-failing"));
        self.metric(
            "marbre_incidents_open{publisher=\"gazette\",database=\"abonnes\",severity=\"critical\"} 1",
        );
        self.cluster.resume();
        self.mailed("resolved", key);
        self.hooked("resolved", key);
        self.health(200);
    }

    fn the_mail_goes_away(&mut self) {
        self.mail.stop();
        let (database, hidden) = (self.site.setup.database(), self.site.path("hidden.db"));
        fs::rename(&database, &hidden).unwrap();
        let key = "snapshot-failed gazette/boutique";
        self.hooked("opened", key);
        fs::rename(&hidden, &database).unwrap();
        self.hooked("resolved", key);
        assert!(!self.mail.mails().iter().any(|mail| readable(mail).contains(key)));
        // What was said while it was away arrives, in its order.
        self.mail.resume();
        self.mailed("opened", key);
        self.mailed("resolved", key);
    }
}

/// A mail with its lines unfolded.
fn readable(mail: &str) -> String {
    mail.replace("\r\n", "\n").replace("\n ", " ").replace("=\n", "").replace("=3D", "=")
}

#[track_caller]
fn has(mail: &str, all: &[&str]) {
    for words in all {
        assert!(mail.contains(words), "no {words:?} in\n{mail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_cut_and_restored_in_turn() {
    let mut story = Story::begins().await;
    story.starts();
    story.the_server_goes_away();
    let (nas, away) = (story.site.path("nas"), story.site.path("nas-away"));
    fs::rename(&nas, &away).unwrap();
    let cut = story.while_away("nas");
    fs::rename(&away, &nas).unwrap();
    story.comes_back("nas", cut);
    story.bucket.stop();
    let cut = story.while_away("vault");
    story.bucket.resume().await;
    story.comes_back("vault", cut);
    story.the_mail_goes_away();
    story.health(200);

    let Story { site, mail, hook, daemon, cluster: _cluster, bucket: _bucket } = story;
    daemon.signal(Signal::HUP);
    daemon.says("the configuration was read again");
    let log = daemon.stop().stderr;
    site.setup.provider(&["verify"]).success();
    site.nothing_is_left();
    let said = hook.requests().into_iter().map(|request| request.body);
    let texts = said.chain(mail.mails()).chain([log]).collect::<Vec<String>>();
    for text in &texts {
        for hidden in HIDDEN {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
    // Nothing readable lies at the targets, and none was told twice of a beginning.
    for file in files(&site.path("nas")) {
        let bytes = fs::read(file).unwrap();
        assert!(memchr::memmem::find(&bytes, SECRET.as_bytes()).is_none());
    }
    let ids: Vec<String> = mail
        .mails()
        .iter()
        .filter_map(|mail| mail.lines().find(|line| line.starts_with("Message-ID:")).map(str::to_owned))
        .collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:#?}");
}
