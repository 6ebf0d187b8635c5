//! What the daemon shows over HTTP: over real connections, judged by Prometheus' own tool.

mod monitoring;
mod published;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use marbre::internal::{Published, bind, serve};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::support::schemas;
use published::{bad, good};

/// A server, which ends with the test.
struct Web {
    address: SocketAddr,
    publish: watch::Sender<Arc<Published>>,
    cancel: CancellationToken,
    served: JoinHandle<marbre::Result<()>>,
}

impl Web {
    async fn start(published: Published) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (publish, published) = watch::channel(Arc::new(published));
        let cancel = CancellationToken::new();
        let hosts = vec!["backup.example".to_owned()];
        let served = tokio::spawn(serve(listener, published, hosts, cancel.clone()));
        Self { address, publish, cancel, served }
    }

    /// Sends these bytes; gives everything that comes back until the server closes.
    async fn raw(&self, request: impl Into<Vec<u8>>) -> String {
        let (address, request) = (self.address, request.into());
        let talk = move || {
            let mut stream = connect(address);
            // The server may have refused before it has read all of it.
            let _ = stream.write_all(&request);
            read_all(&mut stream)
        };
        tokio::task::spawn_blocking(talk).await.unwrap()
    }

    /// The status code and the body of `GET path`.
    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.raw(request("GET", path, "localhost")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        (code(head), body.to_owned())
    }

    async fn end(self) {
        self.cancel.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.served).await.unwrap().unwrap().unwrap();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after a refusal is an end as well.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn request(method: &str, path: &str, host: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

#[track_caller]
fn code(answer: &str) -> u16 {
    let code = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

#[tokio::test]
async fn what_was_published_last_is_answered() {
    let web = Web::start(good(Timestamp::now())).await;
    let (status, text) = web.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("marbre_rpo_met{publisher=\"gazette\",database=\"abonnes\"} 1\n"), "{text}");
    let (status, body) = web.get("/healthz").await;
    assert_eq!((status, body.contains("\"healthy\": true")), (200, true), "{body}");

    web.publish.send(Arc::new(bad(Timestamp::now()))).unwrap();
    let (_, text) = web.get("/metrics").await;
    assert!(text.contains("marbre_rpo_met{publisher=\"gazette\",database=\"abonnes\"} 0\n"), "{text}");
    let (status, body) = web.get("/healthz").await;
    let health: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &health["healthy"]), (503, &Value::Bool(false)));
    let kinds: Vec<&str> =
        health["reasons"].as_array().unwrap().iter().map(|r| r["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["late", "not-looked", "snapshot-late"], "{body}");
    web.end().await;
}

#[tokio::test]
async fn what_has_ended_or_only_begun_is_no_reason() {
    let now = Timestamp::now();
    let mut published = bad(now);
    // It was added a moment ago, and its first look comes.
    published.databases.remove(0);
    published.config.loaded_at = now;
    let mut incidents = std::mem::take(&mut published.incidents);
    let web = Web::start(published.clone()).await;
    let (status, body) = web.get("/healthz").await;
    assert_eq!(status, 200, "{body}");
    published.incidents.clone_from(&incidents);
    web.publish.send(Arc::new(published.clone())).unwrap();
    assert_eq!(web.get("/healthz").await.0, 503);
    incidents.iter_mut().for_each(|incident| incident.gone = true);
    published.incidents = incidents;
    web.publish.send(Arc::new(published)).unwrap();
    let (status, body) = web.get("/healthz").await;
    assert_eq!(status, 200, "{body}");
    web.end().await;
}

#[tokio::test]
async fn a_daemon_that_has_stopped_is_not_healthy() {
    // It was well an hour ago, and published nothing since.
    let published = good(Timestamp::now() - SignedDuration::from_hours(1));
    let web = Web::start(published).await;
    let (status, body) = web.get("/healthz").await;
    assert_eq!(status, 503);
    assert!(body.contains("look-old") && body.contains("the daemon has stopped"), "{body}");
    web.end().await;
}

#[tokio::test]
async fn the_status_is_that_of_the_command_line_and_more() {
    let web = Web::start(bad(Timestamp::now())).await;
    let (status, body) = web.get("/status.json").await;
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    schemas::holds(&document, "").unwrap_or_else(|e| panic!("{e}\nof {body}"));
    let [first, second] = &document["databases"].as_array().unwrap()[..] else { panic!("{body}") };
    for key in [
        "publisher",
        "database",
        "snapshot",
        "age_seconds",
        "rpo_seconds",
        "late",
        "next_run",
        "targets",
        "incidents",
    ] {
        assert!(first.get(key).is_some(), "no {key} in {body}");
    }
    assert_eq!(first["late"], true, "time has passed since the look");
    assert_eq!(first["next_run"], first["jobs"][0]["next_run"]);
    assert_eq!(first["jobs"][0]["last_state"], "failed");
    assert_eq!((&second["database"], &second["looked_at"]), (&"boutique".into(), &Value::Null));
    assert_eq!(document["incidents"][0]["key"], "snapshot-late gazette/abonnes");
    web.end().await;
}

#[tokio::test]
async fn only_reading_by_our_own_name_is_answered() {
    let web = Web::start(good(Timestamp::now())).await;
    for (request, expected) in [
        (request("GET", "/metrics", "evil.example"), 421),
        (request("GET", "/metrics", "backup.example:9190"), 200),
        (request("GET", "/metrics", "127.0.0.1:9190"), 200),
        (request("POST", "/metrics", "localhost"), 405),
        (request("DELETE", "/status.json", "localhost"), 405),
        (request("OPTIONS", "/status.json", "localhost"), 405),
        (request("GET", "/", "localhost"), 404),
        (request("GET", "/metrics/../status.json", "localhost"), 404),
        ("GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(), 421),
        (
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
                .to_owned(),
            421,
        ),
        ("rubbish\r\n\r\n".to_owned(), 400),
    ] {
        let answer = web.raw(request.as_str()).await;
        assert_eq!(code(&answer), expected, "{request:?}: {answer}");
        if expected != 400 {
            for header in ["cache-control: no-store", "x-content-type-options: nosniff", "default-src 'none'"]
            {
                assert!(answer.contains(header), "no {header:?}: {answer}");
            }
        }
    }
    let head = web.raw(request("HEAD", "/metrics", "localhost")).await;
    assert_eq!(code(&head), 200);
    assert!(head.ends_with("\r\n\r\n"), "a HEAD has no body: {head}");
    web.end().await;
}

#[tokio::test]
async fn requests_and_patience_have_bounds() {
    let web = Web::start(good(Timestamp::now())).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(64 * 1024));
    let answer = web.raw(long).await;
    assert!(answer.is_empty() || [414, 431].contains(&code(&answer)), "{answer}");
    let many: String = (0..500).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = web.raw(format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")).await;
    assert!(answer.is_empty() || code(&answer) == 431, "{answer}");
    // A body that is announced and never comes holds nobody up.
    let answer = web.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n").await;
    assert_eq!(code(&answer), 200);

    // A client that sends its request a byte at a time is let go. Many that say nothing take all places, and make room for
    // those who come after them.
    let started = Instant::now();
    let address = web.address;
    let silent: Vec<TcpStream> = (0..40).map(|_| connect(address)).collect();
    let slow = tokio::task::spawn_blocking(move || {
        let mut stream = connect(address);
        for byte in
            b"GET /metrics HTTP/1.1\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        {
            if stream.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        read_all(&mut stream)
    });
    let (status, _) = web.get("/healthz").await;
    assert_eq!(status, 200);
    let answer = slow.await.unwrap();
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    drop(silent);
    web.end().await;
}

#[tokio::test]
async fn the_end_does_not_wait_for_clients() {
    let web = Web::start(good(Timestamp::now())).await;
    let mut open = connect(web.address);
    open.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n").unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let address = web.address;
    web.end().await;
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}
