//! What surrounds the agent: databases that nobody protects, certificates that end, clocks that differ, a disk that is
//! full. Each is looked at by `doctor`, and told by a real daemon.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use marbre::internal::{Protocol, Server, Shown};
use rustix::process::Signal;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::support::free_ports;
use crate::support::marbre::Running;
use crate::support::postgres::{Cluster, Version, run};
use crate::support::setup::{Provider, Tmpfs};
use crate::support::sinks::{Mail, Sink};
use crate::support::sqlite_setup::Setup;

/// A snapshot every second, and a look every second.
const TOP: &str = "look_every = \"1s\"\n";
const SCHEDULE: &str = "[database.abonnes.schedule]\nsnapshot = \"* * * * * *\"\n";

fn webhook(sink: &Sink) -> String {
    format!(
        "[alert.ops]
type = \"webhook\"
url = \"{}\"
allow_private = true
[alerts]
settle = \"2s\"
gather = \"1s\"
\
         [web]
listen = \"none\"
",
        sink.url("/")
    )
}

/// Waits for a message about this incident, and returns it.
fn message(sink: &Sink, daemon: &Running, event: &str, key: &str) -> Value {
    wait_for(&format!("{event} {key}"), daemon, || {
        let bodies = sink.requests().into_iter().filter_map(|r| serde_json::from_str::<Value>(&r.body).ok());
        bodies.into_iter().find(|m| m["event"] == event && m["key"] == key)
    })
}

#[track_caller]
fn wait_for<T>(what: &str, daemon: &Running, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what}\n{}", daemon.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn checks<'a>(report: &'a Value, name: &str) -> Vec<&'a Value> {
    report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["name"].as_str().unwrap().starts_with(name))
        .collect()
}

#[test]
fn databases_that_nobody_protects_are_told_until_they_are_declared_or_ignored() {
    let cluster = Cluster::start(Version::V15);
    let abonnes = cluster.create_db("abonnes");
    abonnes.sql("CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t VALUES (1)");
    for other in ["boutique", "marbre_scratch_0123456789ab", "closed", "mould"] {
        cluster.create_db(other);
    }
    cluster
        .database("postgres")
        .sql("ALTER DATABASE closed ALLOW_CONNECTIONS false; ALTER DATABASE mould IS_TEMPLATE true");
    let sink = Sink::start();
    let mut provider = Provider::of(&abonnes);
    let tables = format!("{SCHEDULE}{}", webhook(&sink));
    provider.set_drills(&tables);
    provider.set_more(TOP);

    let report = provider.marbre(&["doctor"]).run().json();
    let found: Vec<&Value> = checks(&report, "database ");
    assert_eq!(found.len(), 1, "{report}");
    assert_eq!((&found[0]["name"], &found[0]["state"]), (&"database boutique".into(), &"warn".into()));
    assert!(found[0]["remedy"].as_str().unwrap().contains("ignore_databases"), "{report}");
    let one = provider.marbre(&["doctor", "abonnes"]).run().json();
    assert!(checks(&one, "database ").is_empty(), "of one database nobody can say what is declared: {one}");

    let daemon = provider.marbre(&["daemon"]).start();
    let key = format!("undeclared-database {} boutique", cluster.socket_dir().display());
    let opened = message(&sink, &daemon, "opened", &key);
    assert_eq!(opened["severity"], "warning");
    assert_eq!(opened["database"], "", "it is no publisher's business: {opened}");
    provider.set_more(&format!("{TOP}ignore_databases = [\"postgres\", \"boutique\"]\n"));
    daemon.signal(Signal::HUP);
    message(&sink, &daemon, "resolved", &key);
    let told = sink.requests().iter().filter(|r| r.body.contains("\"undeclared-database ")).count();
    assert_eq!(told, 2, "once opened, once resolved");
    let quiet = provider.marbre(&["doctor"]).run().json();
    assert_eq!(checks(&quiet, "databases")[0]["state"], "ok", "{quiet}");
}

/// A key and a certificate of its own, which ends so soon.
fn certificate(folder: &Path, days: u32) -> (PathBuf, PathBuf) {
    let (key, certificate) = (folder.join(format!("{days}.key")), folder.join(format!("{days}.crt")));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nas.example", "-days"]);
    run(openssl.arg(days.to_string()).arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    (key, certificate)
}

/// A web server with TLS. Gone when dropped.
struct Web(Child);

impl Web {
    fn start(port: u16, (key, certificate): &(PathBuf, PathBuf)) -> Self {
        let script = "import http.server, ssl, sys\n\
                      server = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)\n\
                      context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
                      context.load_cert_chain(sys.argv[2], sys.argv[3])\n\
                      server.socket = context.wrap_socket(server.socket, server_side=True)\n\
                      server.serve_forever()\n";
        let mut command = Command::new("python3");
        command.args(["-c", script, &port.to_string()]).arg(certificate).arg(key);
        let web = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the web server did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        web
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server(host: &str, port: u16, protocol: Protocol) -> Server {
    Server { host: host.to_owned(), port, protocol, allows: |_| true }
}

async fn look(host: &str, port: u16, protocol: Protocol) -> marbre::Result<Shown> {
    server(host, port, protocol).look(Duration::from_secs(10), &CancellationToken::new()).await
}

fn days_left(shown: &Shown) -> i64 {
    let left = shown.certificate_ends.unwrap().duration_since(Timestamp::now());
    (left.as_secs() + 60) / 86_400
}

#[tokio::test]
async fn every_protocol_shows_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let pair = certificate(folder.path(), 5);
    let [port] = free_ports();
    let web = Web::start(port, &pair);
    let shown = look("127.0.0.1", port, Protocol::Https).await.unwrap();
    assert_eq!(days_left(&shown), 5);
    assert!(shown.clock.unwrap().duration_since(Timestamp::now()).abs() < SignedDuration::from_secs(30));
    assert_eq!(look("127.0.0.1", port, Protocol::Tls).await.unwrap().clock, None);
    let guarded = Server { allows: |_| false, ..server("127.0.0.1", port, Protocol::Tls) };
    assert!(guarded.look(Duration::from_secs(10), &CancellationToken::new()).await.is_err());
    drop(web);
    assert!(look("127.0.0.1", port, Protocol::Tls).await.is_err());

    for (mode, protocol) in [("starttls", Protocol::Smtp), ("implicit", Protocol::Tls)] {
        let mail = Mail::start(mode);
        assert!(look("localhost", mail.port, protocol).await.unwrap().certificate_ends.is_some(), "{mode}");
    }
    // An address of its own, so that the port can be the usual one.
    let address = format!("127.{}.{}.2", rand::random::<u8>() % 200 + 10, rand::random::<u8>());
    let cluster = Cluster::start_with(Version::V15, &[&format!("listen_addresses={address}")]);
    assert_eq!(
        look(&address, 5432, Protocol::Postgres).await.unwrap(),
        Shown::default(),
        "it does not encrypt"
    );
    with_certificate(&cluster, &pair);
    assert_eq!(days_left(&look(&address, 5432, Protocol::Postgres).await.unwrap()), 5);

    let provider = Provider::new(crate::support::setup::postgres(&format!(
        "postgres://marbre@{address}/abonnes?sslmode=require"
    )));
    let report = provider.marbre(&["doctor"]).run().json();
    let found = checks(&report, &format!("certificate of the database server {address}"));
    assert_eq!(found[0]["state"], "warn", "{report}");
    ends_in(found[0], ["4 d 23 h", "5 d 0 h"]);
}

/// What is left is shown: of whole days, a second may have passed.
#[track_caller]
fn ends_in(check: &Value, spans: [&str; 2]) {
    let found = check["found"].as_str().unwrap();
    assert!(spans.iter().any(|span| found.starts_with(&format!("ends in {span}, at "))), "{check}");
}

/// The server encrypts from now on.
fn with_certificate(cluster: &Cluster, (key, certificate): &(PathBuf, PathBuf)) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let owner = fs::metadata(cluster.data_dir()).unwrap();
    for (from, name) in [(key, "server.key"), (certificate, "server.crt")] {
        let to = cluster.data_dir().join(name);
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let database = cluster.database("postgres");
    database.sql("ALTER SYSTEM SET ssl = on");
    database.sql("SELECT pg_reload_conf()");
    let deadline = Instant::now() + Duration::from_secs(20);
    while database.sql("SHOW ssl") != "on" {
        assert!(Instant::now() < deadline, "{}", cluster.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A web server whose clock is wrong.
fn wrong_clock(date: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let answer = format!(
                "HTTP/1.1 403 Forbidden\r\nDate: {date}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn what_ends_and_clocks_that_differ_are_told() {
    let setup = Setup::new(3, 10);
    let pair = certificate(&setup.path("tmp"), 2);
    let [port] = free_ports();
    let web = Web::start(port, &pair);
    let slow = wrong_clock("Wed, 25 Nov 2020 12:00:00 GMT");
    let file = setup.path("provider/credentials");
    let credentials = |ends: &str| {
        let text = format!("[default]\naws_access_key_id = x\naws_secret_access_key = y\n{ends}\n");
        fs::write(&file, text).unwrap();
    };
    credentials("x_security_token_expires = 2020-01-01T00:00:00Z");
    let url =
        |endpoint: String| format!("s3://bucket/p?endpoint={endpoint}&credentials_file={}", file.display());
    let (tls, off) = (url(format!("https://127.0.0.1:{port}")), url(format!("http://127.0.0.1:{slow}")));
    let targets: [(&str, &str); 3] = [("a", &setup.target("a")), ("tls", &tls), ("off", &off)];
    setup.configure(&targets, "", "");

    let report = setup.provider(&["doctor"]).run().json();
    let of = |name: &str| checks(&report, name)[0];
    assert_eq!(of("certificate of target tls")["state"], "warn", "{report}");
    ends_in(of("certificate of target tls"), ["1 d 23 h", "2 d 0 h"]);
    assert_eq!(of("clock of target tls")["state"], "ok", "{report}");
    assert_eq!(of("clock of target off")["state"], "warn", "{report}");
    assert_eq!(of("token of target tls")["state"], "warn", "{report}");

    // A target that cannot be reached makes a look slow; a channel shows its certificate as well.
    let sink = Sink::start();
    let channel = format!(
        "[alert.tls]\ntype = \"webhook\"\nurl = \"https://127.0.0.1:{port}/\"\nallow_private = true\n"
    );
    let tables = format!("{}{}{channel}", SCHEDULE, webhook(&sink));
    setup.configure(&[targets[0], targets[2]], TOP, &tables);
    let daemon = setup.provider(&["daemon"]).start();
    let key = format!("expiring certificate of alert channel tls (127.0.0.1:{port})");
    assert_eq!(message(&sink, &daemon, "opened", &key)["severity"], "critical");
    assert_eq!(message(&sink, &daemon, "opened", "expiring token of target off")["severity"], "critical");
    let skew = message(&sink, &daemon, "opened", "clock-skew off");
    assert!(skew["summary"].as_str().unwrap().contains("ahead of that of target off"), "{skew}");
    // A token is looked at every time; a server that is asked seldom is asked anew after a reload.
    credentials("");
    message(&sink, &daemon, "resolved", "expiring token of target off");
    drop(web);
    daemon.signal(Signal::HUP);
    std::thread::sleep(Duration::from_secs(8));
    let resolved = |sink: &Sink| {
        sink.requests().iter().any(|r| r.body.contains(&key) && r.body.contains("\"resolved\""))
    };
    assert!(!resolved(&sink), "of a server that is down nobody knows whether its certificate was renewed");
    let _web = Web::start(port, &certificate(&setup.path("tmp"), 90));
    daemon.signal(Signal::HUP);
    message(&sink, &daemon, "resolved", &key);
}

/// The state lies on a small disk of its own.
fn on_small_disk(setup: &Setup, sink: &Sink) -> (PathBuf, Tmpfs) {
    let folder = setup.path("provider/state");
    let disk = Tmpfs::mount(&folder, "300m");
    let targets: [(&str, &str); 1] = [("a", &setup.target("a"))];
    let top = format!("{TOP}spool_limit = \"64MiB\"\n");
    setup.configure(&targets, &top, &format!("{SCHEDULE}{}", webhook(sink)));
    (folder, disk)
}

#[test]
fn a_full_disk_does_not_silence_the_alert_about_it() {
    let setup = Setup::new(200, 1000);
    let sink = Sink::start();
    let (folder, _disk) = on_small_disk(&setup, &sink);
    let mut daemon = setup.provider(&["daemon"]).timeout(Duration::from_secs(300)).start();
    let ballast = folder.join("ballast");
    let length = || fs::metadata(&ballast).map_or(0, |m| m.len());
    wait_for("ballast", &daemon, || (length() == 4 << 20).then_some(()));
    let newest = || fs::read_dir(setup.path("a/gazette/abonnes/receipts")).map_or(0, Iterator::count);
    wait_for("snapshot", &daemon, || (newest() > 0).then_some(()));
    assert!(sink.requests().iter().all(|r| !r.body.contains("disk-low")), "there is room as yet");

    // The rest of the disk, to the last byte.
    let filler = folder.join("filler");
    fill(&filler);
    let opened = message(&sink, &daemon, "opened", "disk-low state");
    assert_eq!(opened["severity"], "critical", "{opened}");
    let first = length();
    assert!(first < 4 << 20, "the ballast was given up: {first}\n{}", daemon.stderr());
    // And what was given up, for which there is another piece.
    fill(&filler);
    wait_for("the next piece", &daemon, || (length() < first).then_some(()));
    assert!(daemon.is_running(), "{}", daemon.stderr());

    fs::remove_file(&filler).unwrap();
    message(&sink, &daemon, "resolved", "disk-low state");
    let before = newest();
    wait_for("new snapshot", &daemon, || (newest() > before).then_some(()));
    wait_for("new ballast", &daemon, || (length() == 4 << 20).then_some(()));
    let opened = sink
        .requests()
        .iter()
        .filter(|r| r.body.contains("\"disk-low state\"") && r.body.contains("\"opened\""))
        .count();
    assert_eq!(opened, 1, "what was told is not told again");
    daemon.signal(Signal::TERM);
    daemon.wait().expect_code(0);
}

fn fill(path: &Path) {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for size in [1 << 20, 4096] {
        let piece = vec![1; size];
        while file.write_all(&piece).is_ok() {}
    }
}

#[test]
fn root_leaves_the_state_of_another_user_alone() {
    let setup = Setup::new(3, 10);
    setup.configure_directories("");
    setup.snapshot().success();
    if !rustix::process::geteuid().is_root() {
        // Nobody but root can write into the folder of another user at all.
        return;
    }
    let state = setup.path("provider/state");
    let files = || fs::read_dir(&state).unwrap().count();
    let before = files();
    std::os::unix::fs::chown(&state, Some(65534), None).unwrap();
    for arguments in [&["snapshot", "abonnes"][..], &["drill", "abonnes"], &["status"]] {
        let said = setup.provider(arguments).fails_with(4).json().to_string();
        assert!(said.contains("belongs to user nobody, and this runs as root"), "{said}");
        assert!(said.contains("sudo -u nobody marbre"), "{said}");
    }
    assert_eq!(files(), before);
}
