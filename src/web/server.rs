//! The server: few connections, short requests, and no connection stays open for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::published::Published;
use super::slots::{Slot, Slots};
use super::{exposition, guard, healthz, metrics, status_json};
use crate::error::{Result, ResultExt};

/// What clients may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// How many connections there are at a time. For one more, that which was silent for longest is closed.
    connections: usize,
    /// How long a client may take for the head of a request, and be silent before the next one.
    head_within: Duration,
    /// How long a connection may last, whatever its client does: one that sends a byte now and then, or never reads its
    /// answer, must not occupy a slot for ever.
    connection_within: Duration,
}

const LIMITS: Limits = Limits {
    connections: 32,
    head_within: Duration::from_secs(10),
    connection_within: Duration::from_secs(120),
};
/// How long answers may still take after the daemon was told to stop.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(2);
/// How much the head of a request may hold.
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_FIELDS: usize = 64;
/// How long to wait after a connection could not be accepted (mostly because of too many open files).
const PAUSE: Duration = Duration::from_millis(200);

type Source = watch::Receiver<Arc<Published>>;

/// Answers requests until `cancel` fires. `hosts` are the names, besides addresses and `localhost`, by which this
/// server may be asked.
///
/// # Errors
/// Where the listener cannot be used any more.
pub async fn serve(
    listener: TcpListener,
    published: watch::Receiver<Arc<Published>>,
    hosts: Vec<String>,
    cancel: CancellationToken,
) -> Result<()> {
    serve_within(LIMITS, listener, published, hosts, cancel).await
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    published: Source,
    hosts: Vec<String>,
    cancel: CancellationToken,
) -> Result<()> {
    let address = listener.local_addr().or_internal("read the address of the web server")?;
    tracing::info!("metrics, health and status are at http://{address}/");
    let router = router(published, hosts.into());
    let slots = Slots::default();
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, cancel) = (router.clone(), cancel.clone());
                let slot = Arc::new(slots.take(limits.connections));
                connections.spawn(async move { connection(stream, router, limits, slot, &cancel).await });
            }
            Err(e) => {
                tracing::warn!("the web server could not accept a connection: {e}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Serves one connection. What goes wrong with it concerns only its client.
async fn connection(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    slot: Arc<Slot>,
    cancel: &CancellationToken,
) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_within)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS);
    let heard = Arc::clone(&slot);
    let router = router.layer(axum::middleware::map_request(move |request: Request| {
        heard.heard();
        std::future::ready(request)
    }));
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    tokio::select! {
        _ = served.as_mut() => {}
        () = tokio::time::sleep(limits.connection_within) => {}
        () = slot.end.cancelled() => {}
        () = cancel.cancelled() => {
            served.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(SHUTDOWN_WITHIN, served).await;
        }
    }
}

fn router(published: Source, hosts: Arc<[String]>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_answer))
        .route("/healthz", get(health_answer))
        .route("/status.json", get(status_answer))
        .fallback(async || (StatusCode::NOT_FOUND, "there are /metrics, /healthz and /status.json\n"))
        .layer(axum::middleware::from_fn_with_state(hosts, guard::guard))
        .with_state(published)
}

/// What was published last; the lock is not held while it is rendered.
fn newest(source: &Source) -> Arc<Published> {
    Arc::clone(&source.borrow())
}

async fn metrics_answer(State(source): State<Source>) -> Response {
    let text = metrics::metrics(&newest(&source), Timestamp::now());
    ([(CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response()
}

async fn health_answer(State(source): State<Source>) -> Response {
    let health = healthz::health(&newest(&source), Timestamp::now());
    let code = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(code, &health)
}

async fn status_answer(State(source): State<Source>) -> Response {
    json(StatusCode::OK, &status_json::status(&newest(&source), Timestamp::now()))
}

fn json(code: StatusCode, document: &impl Serialize) -> Response {
    match serde_json::to_vec_pretty(document) {
        Ok(mut text) => {
            text.push(b'\n');
            (code, [(CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(e) => {
            tracing::error!("the web server could not write its answer: {e}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::web::ConfigLoad;

    fn published() -> Published {
        let now = Timestamp::now();
        Published {
            started_at: now,
            config: ConfigLoad { loaded_at: now, refused_at: None },
            look_within: Duration::from_secs(900),
            databases: Vec::new(),
            incidents: Vec::new(),
        }
    }

    /// With limits that no test waits for: whatever is answered is answered because there is room.
    async fn server() -> (std::net::SocketAddr, watch::Sender<Arc<Published>>) {
        let listener = crate::web::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, published) = watch::channel(Arc::new(published()));
        let day = Duration::from_secs(86_400);
        let limits = Limits { head_within: day, connection_within: day, ..LIMITS };
        tokio::spawn(serve_within(limits, listener, published, Vec::new(), CancellationToken::new()));
        (address, sender)
    }

    async fn ask(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let (mut answer, mut block) = (String::new(), [0; 4096]);
        while !answer.contains('}') {
            let n = stream.read(&mut block).await.unwrap();
            assert!(n > 0, "{answer}");
            answer.push_str(&String::from_utf8_lossy(&block[..n]));
        }
        answer
    }

    #[tokio::test]
    async fn clients_that_say_nothing_delay_nobody() {
        let (address, _sender) = server().await;
        // A monitor that asked before stays connected: it was heard after all of those that are closed.
        let mut monitor = TcpStream::connect(address).await.unwrap();
        ask(&mut monitor).await;
        let mut stuck = Vec::new();
        for n in 0..200 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Half of them begin a request, and never end it.
            if n % 2 == 0 {
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await.unwrap();
            }
            stuck.push(stream);
            if n % 10 == 0 {
                ask(&mut monitor).await;
            }
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut client).await.starts_with("HTTP/1.1 "));
        // The oldest were closed for it. Of what they had sent something may be unread: then it is a reset.
        assert!(matches!(stuck[1].read(&mut [0]).await, Ok(0) | Err(_)));
        ask(&mut monitor).await;
    }
}
