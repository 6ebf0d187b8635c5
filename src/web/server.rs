//! The server: few connections, short requests, and no connection stays open for ever.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
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
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::published::Published;
use super::{exposition, guard, healthz, metrics, status_json};
use crate::error::{Result, ResultExt};

/// How many connections there are at a time. More wait in the kernel, which refuses them when they are too many.
const CONNECTIONS: usize = 32;
/// How long a client may take for the head of a request, and be silent before the next one.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may last, whatever its client does: one that sends a byte now and then, or never reads its
/// answer, must not occupy a slot for ever.
const CONNECTION_WITHIN: Duration = Duration::from_secs(120);
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
    let address = listener.local_addr().or_internal("read the address of the web server")?;
    tracing::info!("metrics, health and status are at http://{address}/");
    let router = router(published, hosts.into());
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accept => accepted,
            () = cancel.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, cancel) = (router.clone(), cancel.clone());
                connections.spawn(async move {
                    connection(stream, router, &cancel).await;
                    drop(place);
                });
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
async fn connection(stream: TcpStream, router: Router, cancel: &CancellationToken) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS);
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    tokio::select! {
        _ = served.as_mut() => {}
        () = tokio::time::sleep(CONNECTION_WITHIN) => {}
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
