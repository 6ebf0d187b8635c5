//! Alerts that arrive: through a real mail server and a small HTTP sink, with each failing in turn.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use marbre::internal::{
    Audience, Channel, Condition, ConditionKind, Dispatcher, DispatcherSettings, Email, EmailSettings,
    Encryption, HttpSettings, PayloadFormat, Policy, Role, Route, RoutedChannel, Severity, State, Webhook,
};
use secrecy::SecretString;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::support::marbre::Outcome;
use super::support::sinks::{Answer, Mail, PASSWORD, Sink};
use super::support::sqlite_setup::Setup;

/// Stands in every URL that is a secret.
const SECRET: &str = "T0PSECRET";

/// A file that only its owner can read.
fn secret(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// A configuration with these alert tables.
fn with_alerts(alerts: &str) -> Setup {
    let setup = Setup::new(3, 10);
    setup.configure_directories(alerts);
    setup
}

fn mail_table(name: &str, mail: &Mail, tls: &str, more: &str, password: &str) -> String {
    let login = format!("user = \"marbre\"\npassword_file = \"{password}\"\n");
    format!(
        "[alert.{name}]\ntype = \"email\"\nhost = \"localhost\"\nport = {}\ntls = \"{tls}\"\n\
         from = \"marbre@provider.example\"\nto = [\"ops@provider.example\"]\ntimeout = \"5s\"\n{login}{more}\n",
        mail.port
    )
}

/// Runs `alert test`, and holds everything that it says against the secrets.
fn run_test(setup: &Setup, args: &[&str], code: i32) -> Value {
    let outcome = setup.provider(&[&["alert", "test"], args].concat()).env("MARBRE_LOG", "trace").run();
    for hidden in [PASSWORD, SECRET, "@provider.example"] {
        assert!(!format!("{outcome}").contains(hidden), "{hidden} in {outcome}");
    }
    outcome.expect_code(code).json()
}

fn found<'a>(report: &'a Value, name: &str) -> (bool, &'a str) {
    let channels = report["channels"].as_array().unwrap();
    let channel = channels.iter().find(|c| c["channel"] == name).unwrap_or_else(|| panic!("{report}"));
    (channel["ok"].as_bool().unwrap(), channel["found"].as_str().unwrap())
}

#[test]
fn mail_goes_through_every_kind_of_server() {
    let folder = tempfile::tempdir().unwrap();
    let password = secret(folder.path(), "password", PASSWORD);
    let wrong = secret(folder.path(), "wrong", "wrong-hunter2-MAIL-SECRET");
    let (starttls, implicit) = (Mail::start("starttls"), Mail::start("implicit"));
    let ca = |mail: &Mail| format!("ca_file = \"{}\"", mail.authority().display());
    let alerts = [
        mail_table("good", &starttls, "starttls", &ca(&starttls), &password),
        mail_table("implicit", &implicit, "implicit", &ca(&implicit), &password),
        mail_table("untrusted", &starttls, "starttls", "", &password),
        mail_table("other-ca", &implicit, "implicit", &ca(&starttls), &password),
        mail_table("denied", &starttls, "starttls", &ca(&starttls), &wrong),
        mail_table("short", &starttls, "starttls", &format!("helo = \"db1\"\n{}", ca(&starttls)), &password),
        mail_table("no-file", &starttls, "starttls", &ca(&starttls), "/nowhere/password"),
        mail_table("some", &starttls, "starttls", &ca(&starttls), &password)
            .replace("[\"ops@", "[\"unknown@provider.example\", \"ops@"),
    ]
    .concat();
    let setup = with_alerts(&alerts);
    let report = run_test(&setup, &[], 8);
    assert_eq!(found(&report, "good"), (true, "took the message"), "{report}");
    assert_eq!(found(&report, "implicit"), (true, "took the message"), "{report}");
    for (name, why) in [
        ("untrusted", "the certificate of localhost is not trusted"),
        ("other-ca", "the certificate of localhost is not trusted"),
        ("denied", "535"),
        ("short", "504"),
        ("no-file", "/nowhere/password"),
        (
            "some",
            "1 of 2 recipients were refused: localhost: permanent error (550): 5.1.1 … is not known here",
        ),
    ] {
        let (ok, says) = found(&report, name);
        assert!(!ok && says.contains(why), "{name}: {says}");
    }
    let short = report["channels"].as_array().unwrap().iter().find(|c| c["channel"] == "short").unwrap();
    assert!(short["remedy"].as_str().unwrap().starts_with("Set `helo` of this channel"), "{report}");
    let mails = starttls.mails();
    assert_eq!((mails.len(), implicit.mails().len()), (2, 1), "{mails:?}");
    for header in
        ["Subject: [marbre ", "Message-ID: <", "Date: ", "Auto-Submitted: auto-generated", "X-To: ops@"]
    {
        assert!(mails[0].contains(header), "{header}: {}", mails[0]);
    }
    // One that is not there any more, and one that is busy.
    starttls.answers(Some("451 4.3.0 busy"));
    assert!(found(&run_test(&setup, &["good"], 8), "good").1.contains("451"));
    starttls.answers(Some("554 5.7.1 no <ops@provider.example>"));
    assert!(found(&run_test(&setup, &["good"], 8), "good").1.contains("554"));
    drop(implicit);
    assert!(!found(&run_test(&setup, &["implicit"], 8), "implicit").0);
    // Doctor looks, and sends nothing.
    starttls.answers(None);
    let doctor: Outcome = setup.provider(&["doctor"]).run().expect_code(4);
    let checks = doctor.json()["checks"].clone();
    let state = |group: &str| {
        let found =
            checks.as_array().unwrap().iter().find(|c| c["group"].as_str().unwrap().starts_with(group));
        found.unwrap_or_else(|| panic!("{group} in {checks}"))["state"].clone()
    };
    assert_eq!(
        (state("alert good "), state("alert denied "), state("alert no-file ")),
        ("ok".into(), "fail".into(), "fail".into())
    );
    assert_eq!(starttls.mails().len(), 2);
}

#[test]
fn what_is_sent_over_http_and_where_it_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let url = |name: &str, url: &str| secret(folder.path(), name, url);
    let chat = url("chat", &sink.url(&format!("/services/{SECRET}")));
    let key = url("key", SECRET);
    let table = |name: &str, kind: &str, more: &str| {
        format!("[alert.{name}]\ntype = \"{kind}\"\ntimeout = \"3s\"\n{more}\n")
    };
    let private = "allow_private = true";
    let mut alerts = String::new();
    for kind in ["slack", "teams", "mattermost", "discord"] {
        alerts += &table(kind, kind, &format!("url_file = \"{chat}\"\n{private}"));
    }
    let base = sink.url("");
    alerts +=
        &table("fields", "webhook", &format!("url = \"{base}/fields\"\ntoken_file = \"{key}\"\n{private}"));
    let template = "template = '{\"a\": [\"{{event}}\"], \"b\": \"{{subject}}\"}'\nheader = \"X-Token\"";
    alerts += &table(
        "own",
        "webhook",
        &format!("url = \"{base}/own\"\n{template}\ntoken_file = \"{key}\"\n{private}"),
    );
    alerts += &table("pd", "pagerduty", &format!("url = \"{base}/pd\"\nkey_file = \"{key}\"\n{private}"));
    alerts += &table("phone", "ntfy", &format!("url = \"{base}/\"\ntopic = \"ops\"\n{private}"));
    alerts += &table("alive", "ping", &format!("url_file = \"{}\"\n{private}", url("p", &sink.url("/uuid"))));
    let job = "database = \"abonnes\"\njob = \"snapshot\"";
    alerts += &table("job", "ping", &format!("url = \"{base}/jobs\"\n{job}\n{private}"));
    alerts += &table("refused", "webhook", &format!("url_file = \"{chat}\""));
    alerts += &table("metadata", "webhook", &format!("url = \"http://169.254.169.254/latest\"\n{private}"));
    alerts += &table("by-name", "webhook", "url = \"https://localhost/x\"");
    alerts += &table("wrapped", "webhook", &format!("url = \"http://[::ffff:a9fe:a9fe]/\"\n{private}"));
    alerts += &table("pager", "command", "command = [\"/bin/sh\", \"-c\", \"cat >/dev/null\"]");
    let setup = with_alerts(&alerts);
    let report = run_test(&setup, &[], 8);
    for name in
        ["slack", "teams", "mattermost", "discord", "fields", "own", "pd", "phone", "alive", "job", "pager"]
    {
        assert!(found(&report, name).0, "{name}: {report}");
    }
    for (name, why) in [
        ("refused", "does not begin with https://"),
        ("metadata", "169.254.169.254 is a link-local address, and alerts are not sent to such addresses"),
        ("by-name", "localhost is a private address, and alerts are not sent to such addresses"),
        ("wrapped", "is a link-local address, and alerts are not sent to such addresses"),
    ] {
        let (ok, says) = found(&report, name);
        assert!(!ok && says.contains(why), "{name}: {says}");
    }
    let requests = sink.requests();
    let body = |path: &str| -> Vec<Value> {
        let of = requests.iter().filter(|r| r.line == format!("POST {path} HTTP/1.1"));
        of.map(|r| serde_json::from_str(&r.body).unwrap_or_default()).collect()
    };
    assert_eq!(body(&format!("/services/{SECRET}")).len(), 4);
    assert_eq!(body("/own")[0]["a"][0], "test");
    assert_eq!(body("/fields")[0]["event"], "test");
    let actions: Vec<_> = body("/pd").iter().map(|b| b["event_action"].clone()).collect();
    assert_eq!(actions, ["trigger", "resolve"]);
    assert_eq!(
        (body("/")[0]["topic"].clone(), body("/uuid").len(), body("/jobs").len()),
        ("ops".into(), 1, 0)
    );
    let headers = |path: &str| {
        let of = requests.iter().find(|r| r.line.contains(path)).unwrap();
        of.headers.clone()
    };
    assert!(headers("/fields").contains(&format!("authorization: bearer {}", SECRET.to_lowercase())));
    assert!(headers("/own").contains(&format!("x-token: {}", SECRET.to_lowercase())));
    // Redirects are not followed, and who hangs or fails is not waited for.
    for (answer, why) in [
        (Answer::Redirect, "answered 302, a redirect, which is not followed"),
        (Answer::Status(500), "answered 500"),
        (Answer::Status(404), "answered 404"),
        (Answer::Hang, "did not answer within 3 s"),
    ] {
        sink.answers(answer);
        let report = run_test(&setup, &["slack"], 8);
        assert!(found(&report, "slack").1.contains(why), "{report}");
    }
    assert!(sink.requests().iter().all(|r| !r.line.contains("elsewhere")));
}

fn route(name: &str, role: Role, fallback: &[&str]) -> Route {
    Route {
        name: name.parse().unwrap(),
        role,
        audience: Audience::Everything,
        floor: Severity::Warning,
        quiet: None,
        fallback: fallback.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

fn mail(server: &Mail, to: &str) -> Arc<dyn Channel> {
    Arc::new(
        Email::new(&EmailSettings {
            host: "localhost".to_owned(),
            port: server.port,
            encryption: Encryption::StartTls,
            login: Some(("marbre".to_owned(), SecretString::from(PASSWORD))),
            ca_file: Some(server.authority()),
            from: "marbre@provider.example".to_owned(),
            to: vec![to.to_owned()],
            helo: Some("db1.provider.example".to_owned()),
            timeout: Duration::from_secs(5),
        })
        .unwrap(),
    )
}

fn hook(sink: &Sink) -> Arc<dyn Channel> {
    let settings = HttpSettings {
        url: SecretString::from(sink.url(&format!("/{SECRET}"))),
        headers: Vec::new(),
        allow_private: true,
        ca_file: None,
        timeout: Duration::from_secs(1),
    };
    Arc::new(Webhook::new(&settings, PayloadFormat::Fields).unwrap())
}

fn failed(database: &str) -> Condition {
    Condition {
        kind: ConditionKind::SnapshotFailed,
        severity: Severity::Critical,
        database: Some(database.parse().unwrap()),
        object: None,
        summary: "The snapshot failed.".to_owned(),
        stage: Some("read".to_owned()),
        error: Some("ERROR:  permission denied for table login".to_owned()),
        targets: vec![("nas".parse().unwrap(), "nothing stored".to_owned())],
        proven_at: Some(at(-90_000)),
        remedy: "Grant SELECT on it.".to_owned(),
        origin: None,
        affected: Vec::new(),
        due_at: None,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

/// Everything fails in turn, the dispatcher is opened anew at each step, and in the end everybody has heard of the beginning
/// and the end, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_arrive_whatever_fails_and_whoever_restarts() {
    let (ops, chat, boss) = (Mail::start("starttls"), Sink::start(), Sink::start());
    let folder = tempfile::tempdir().unwrap();
    let own = Audience::Publishers(BTreeSet::from(["gazette".parse().unwrap()]));
    let channels = vec![
        RoutedChannel {
            route: route("ops", Role::Main, &["chat"]),
            channel: mail(&ops, "ops@provider.example"),
        },
        RoutedChannel {
            route: Route { audience: own, ..route("gazette", Role::Main, &[]) },
            channel: mail(&ops, "it@gazette.example"),
        },
        RoutedChannel { route: route("chat", Role::Fallback, &[]), channel: hook(&chat) },
        RoutedChannel { route: route("boss", Role::Escalation, &[]), channel: hook(&boss) },
    ];
    let dispatcher = || {
        let settings = DispatcherSettings {
            agent: "db1".to_owned(),
            policy: Policy::default(),
            gather: Duration::ZERO,
            canary: None,
            digest: None,
            channels: channels.clone(),
        };
        Dispatcher::new(settings, State::open(folder.path()).unwrap())
    };
    let step = async |second: i64, seen: &[Condition]| {
        // Each step by another agent: the one before has died.
        dispatcher().observe(seen, &[], at(second)).unwrap();
        dispatcher().deliver(at(second), &CancellationToken::new()).await.unwrap()
    };
    let seen = [failed("gazette/abonnes"), failed("matin/abonnes")];
    ops.answers(Some("451 4.3.0 busy"));
    chat.answers(Answer::Hang);
    assert_eq!(step(0, &seen).await.sent, 0);
    for second in [30, 90] {
        assert_eq!(step(second, &seen).await.sent, 0);
    }
    // The third failure of the mail gives the messages to the chat, which hangs.
    chat.answers(Answer::Status(500));
    step(200, &seen).await;
    chat.answers(Answer::Status(200));
    step(300, &seen).await;
    let said: Vec<Value> =
        chat.requests().iter().map(|r| serde_json::from_str(&r.body).unwrap_or_default()).collect();
    let keys: BTreeSet<&str> = said.iter().filter_map(|m| m["key"].as_str()).collect();
    assert!(
        keys.contains("snapshot-failed gazette/abonnes") && keys.contains("snapshot-failed matin/abonnes"),
        "{keys:?}"
    );
    assert!(keys.contains("channel-failing ops"), "{keys:?}");
    assert!(!dispatcher().conditions().unwrap().is_empty());
    // Escalation, while the mail refuses.
    ops.answers(Some("554 5.7.1 no"));
    assert!(boss.requests().is_empty());
    step(3700, &seen).await;
    let escalated = boss.requests();
    assert!(escalated.iter().any(|r| r.body.contains("escalated")), "{escalated:?}");
    // It is well again: what it missed arrives, and the end of it for everybody.
    ops.answers(None);
    step(7400, &seen).await;
    step(7500, &[]).await;
    step(7900, &[]).await;
    step(8000, &[]).await;
    let mails = ops.mails();
    let readable = |mail: &String| mail.replace("\r\n", "\n").replace("=\n", "").replace("=3D", "=");
    let to = |to: &str| {
        mails.iter().filter(|m| m.contains(&format!("X-To: {to}"))).map(readable).collect::<Vec<_>>()
    };
    // What waited goes as one mail, with a part for each.
    let parts = |reader: &str| {
        let mails = to(reader);
        mails.iter().flat_map(|mail| mail.split("----\n")).map(str::to_owned).collect::<Vec<String>>()
    };
    let of = |reader: &str, words: &str| parts(reader).iter().filter(|part| part.contains(words)).count();
    for database in ["gazette/abonnes", "matin/abonnes"] {
        for event in ["opened", "resolved"] {
            let told = |reader: &str| {
                let (event, key) =
                    (format!("Event: {event}\n"), format!("Incident: snapshot-failed {database}\n"));
                parts(reader).iter().filter(|part| part.contains(&event) && part.contains(&key)).count()
            };
            assert_eq!(told("ops@"), 1, "{event} {database} in {mails:#?}");
            assert_eq!(
                told("it@gazette"),
                usize::from(database.starts_with("gazette")),
                "{event} {database}"
            );
        }
    }
    assert_eq!(of("it@gazette", "matin"), 0);
    assert_eq!(of("it@gazette", "channel"), 0, "what concerns the agent is no publisher's business");
    let parts = parts("ops@");
    let first = parts.iter().find(|part| part.contains("Incident: snapshot-failed gazette/abonnes")).unwrap();
    for line in [
        "Publisher: gazette",
        "Stage: read",
        "Error: ERROR: permission denied for table login",
        "Target nas: nothing stored",
        // As of its sending, two hours after it was found.
        "Last proven snapshot: 1 d 3 h old",
        "What to do: Grant SELECT on it.",
    ] {
        assert!(first.contains(line), "{line}: {first}");
    }
    for sink in [&chat, &boss] {
        assert!(sink.requests().iter().any(|r| r.body.contains("resolved")), "{:?}", sink.requests());
    }
    assert!(
        dispatcher().incidents().unwrap().iter().all(|i| i.condition.kind == ConditionKind::ChannelFailing)
    );
}

#[test]
fn open_incidents_are_listed() {
    let setup = with_alerts("");
    let list = || setup.provider(&["alert", "list"]).success().json();
    assert_eq!(list()["incidents"], serde_json::json!([]));
    let settings = DispatcherSettings {
        agent: "db1".to_owned(),
        policy: Policy::default(),
        gather: Duration::ZERO,
        canary: None,
        digest: None,
        channels: Vec::new(),
    };
    let dispatcher = Dispatcher::new(settings, State::open(&setup.path("provider/state")).unwrap());
    dispatcher.observe(&[failed("gazette/abonnes")], &[], at(0)).unwrap();
    assert_eq!(list()["incidents"][0]["key"], "snapshot-failed gazette/abonnes");
    let none = setup.provider(&["alert", "test"]).fails_with(5);
    assert!(none.json()["error"].as_str().unwrap().contains("nobody would be told"), "{none}");
}
