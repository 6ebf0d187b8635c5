//! A dump that hangs is killed with its children and told, and the daemon goes on.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use marbre::internal::{JobKind, SlotState};

use super::harness::{ALWAYS, Migration, NEVER, Site, postgres};
use crate::support::postgres::{Cluster, Version};
use crate::support::proxy::{FaultProxy, Mode};
use crate::support::s3::{ADMIN, SeaweedFs};
use crate::support::sinks::Sink;

/// The tools of PostgreSQL, with a `pg_dump` that says its version, and otherwise hangs with a child of its own.
fn tools(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let real = Version::V15.bin();
    for entry in fs::read_dir(&real).unwrap().flatten().filter(|entry| entry.file_name() != "pg_dump") {
        symlink(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec {}/pg_dump --version\n\
         sleep 3000 &\necho $$ $! >{}/pids.new && mv {1}/pids.new {1}/pids\nwait\n",
        real.display(),
        folder.display()
    );
    let path = folder.join("pg_dump");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whether a process runs. One that nobody has waited for yet has ended all the same.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

#[test]
fn a_hung_dump_is_killed_with_its_children_and_told() {
    let (site, cluster, sink) = (Site::new(20, 20), Cluster::start(Version::V15), Sink::start());
    let database = cluster.create_db("hung");
    database.sql("CREATE TABLE login (id int PRIMARY KEY)");
    let bin = site.path("bin");
    tools(&bin);
    let schedule = "snapshot = \"*/5 * * * * *\"";
    let hung = format!(
        "[database.hung]\npublisher = \"gazette\"\nengine = \"postgres\"\nurl = {:?}\nbin_dir = {bin:?}\n\
         targets = [\"a\"]\n[database.hung.schedule]\n{schedule}\n[database.hung.deadlines]\nstall = \"2s\"\n\
         [alert.hook]\ntype = \"webhook\"\nurl = {:?}\nallow_private = true\n",
        database.url(),
        sink.url("/hook")
    );
    let good = site.one_directory("", &format!("[database.abonnes.schedule]\n{schedule}"));
    site.configure("", &(good + &hung));
    let daemon = site.daemon();
    let pids = daemon.until("a dump hangs", || fs::read_to_string(bin.join("pids")).ok());
    let pids: Vec<&str> = pids.split_whitespace().collect();
    daemon.opens("snapshot-failed gazette/hung");
    daemon.until("it is killed with its child", || (!pids.iter().any(|pid| is_alive(pid))).then_some(()));
    let told = daemon.until("people are told", || {
        let told = sink.requests().into_iter().find(|r| r.body.contains("snapshot-failed gazette/hung"));
        told.map(|request| serde_json::from_str::<serde_json::Value>(&request.body).unwrap())
    });
    assert_eq!(
        (&told["event"], &told["severity"], &told["stage"]),
        (&"opened".into(), &"critical".into(), &"open".into())
    );
    for words in ["it stood still for 2.0 s, and was stopped", "Look at the database server"] {
        assert!(told["text"].as_str().unwrap().contains(words), "{words}: {told:#}");
    }
    // The other database does not suffer from it.
    let before = daemon.until("abonnes has a snapshot", || {
        daemon.database("abonnes")?["snapshot"].as_str().map(str::to_owned)
    });
    daemon.until("abonnes has another one", || {
        let snapshot = daemon.database("abonnes")?["snapshot"].as_str()?.to_owned();
        (snapshot != before).then_some(())
    });
    fs::remove_file(bin.join("pg_dump")).unwrap();
    symlink(Version::V15.program("pg_dump"), bin.join("pg_dump")).unwrap();
    daemon.resolves("snapshot-failed gazette/hung");
    daemon.until("the end is told", || {
        sink.requests()
            .iter()
            .any(|r| r.body.contains("\"resolved\"") && r.body.contains("gazette/hung"))
            .then_some(())
    });
    daemon.stop();
}

#[test]
fn a_stage_that_takes_too_long_is_ended_although_its_job_has_time() {
    let (site, cluster) = (Site::new(1, 1), Cluster::start(Version::V15));
    let database = cluster.create_db("locked");
    database.sql("CREATE TABLE login (id int PRIMARY KEY)");
    let tables = "[database.abonnes.schedule]\nsnapshot = \"*/5 * * * * *\"\n[database.abonnes.deadlines]\n\
                  stages = { open = \"2s\" }";
    postgres(&site, &database, "lock_timeout = \"10m\"", tables);
    let migration = Migration::begin(&database, "login");
    let daemon = site.daemon();
    let told = daemon.until("people are told", || {
        let list = site.setup.provider(&["alert", "list"]).success().json();
        let incidents = list["incidents"].as_array()?.clone();
        incidents.into_iter().find(|i| i["key"] == "snapshot-failed gazette/abonnes")
    });
    let failed = &told;
    assert_eq!(failed["stage"], "open", "{failed:#}");
    let all = failed.to_string();
    assert!(all.contains("its stage `open` took longer than 2.0 s, and was stopped"), "{failed:#}");
    assert!(failed["remedy"].as_str().unwrap().contains("`deadlines.stages.open`"), "{failed:#}");
    migration.end();
    daemon.resolves("snapshot-failed gazette/abonnes");
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_answers_slowly_does_not_stand_still() {
    let (site, server) = (Site::new(20, 20), SeaweedFs::shared().await);
    let bucket = server.bucket(false).await;
    let proxy = FaultProxy::start(server.address(), Mode::Pass).await;
    let url = server.url(&bucket, ADMIN).replace(&server.endpoint(), &proxy.endpoint());
    let schedules = |verify: &str| {
        format!(
            "[target.slow]\nurl = {url:?}\n[database.abonnes]\npublisher = \"gazette\"\nengine = \"sqlite\"\n\
             path = {:?}\ntargets = [\"slow\"]\n[database.abonnes.schedule]\nsnapshot = \"{NEVER}\"\n\
             verify = \"{verify}\"\n[database.abonnes.deadlines]\nstall = \"5s\"\n",
            site.setup.database()
        )
    };
    site.configure("", &schedules(ALWAYS));
    for _ in 0..3 {
        site.setup.snapshot().success();
    }
    // Each answer comes in time; a stage of many answers takes longer than a run may stand still.
    proxy.set(Mode::Delay(Duration::from_secs(2)));
    let daemon = site.daemon();
    let ended = |state: &SlotState| *state != SlotState::Running;
    let state = daemon.until("it has verified", || site.last_run(JobKind::Verify).filter(ended));
    assert_eq!(state, SlotState::Done, "{}", daemon.log());
    proxy.set(Mode::Pass);
    daemon.stop();
}
