//! A TCP proxy before an HTTP server that breaks connections as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the proxy does with requests that start from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Closes the connection at once.
    Close,
    /// Breaks the connection after so many bytes of the answer, head included.
    BreakAnswerAfter(u64),
    /// Breaks the connection after so many bytes of the request, head included.
    BreakRequestAfter(u64),
    /// Answers every nth request itself, with this status.
    StatusEvery(u64, u16),
    /// Waits before it passes a request on.
    Delay(Duration),
    /// Takes the request's head, and then neither reads nor answers.
    Hang,
    /// Passes so many bytes of the answer on, and then nothing, with the connection open.
    HangAnswerAfter(u64),
}

struct State {
    upstream: SocketAddr,
    mode: Mutex<Mode>,
    requests: AtomicU64,
}

/// The proxy; stops when it is dropped.
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free port of loopback.
    pub async fn start(upstream: SocketAddr, mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { upstream, mode: Mutex::new(mode), requests: AtomicU64::new(0) });
        let serving = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = serving.clone();
                // A connection that breaks is what this is for.
                tokio::spawn(async move { serve(client, &state).await.ok() });
            }
        });
        Self { address, state, task }
    }

    /// As an endpoint's URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the mode for requests that come later.
    pub fn set(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    /// How many requests came.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, state: &State) -> std::io::Result<()> {
    let head = read_head(&mut client).await?;
    let n = state.requests.fetch_add(1, Ordering::SeqCst) + 1;
    let mode = *state.mode.lock().unwrap();
    match mode {
        Mode::Close => return Ok(()),
        Mode::Hang => return std::future::pending().await,
        Mode::StatusEvery(every, status) if n.is_multiple_of(every) => {
            return answer(client, status).await;
        }
        Mode::Delay(wait) => tokio::time::sleep(wait).await,
        _ => {}
    }
    let mut upstream = TcpStream::connect(state.upstream).await?;
    upstream.write_all(&head).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = upstream.split();
    let request_limit = match mode {
        Mode::BreakRequestAfter(n) => n,
        _ => u64::MAX,
    };
    let answer_limit = match mode {
        Mode::BreakAnswerAfter(n) | Mode::HangAnswerAfter(n) => n,
        _ => u64::MAX,
    };
    // Whichever way reaches its limit or its end first ends both, except the request's own end.
    tokio::select! {
        () = copy(&mut from_client, &mut to_server, request_limit) => {}
        () = copy(&mut from_server, &mut to_client, answer_limit) => {
            if matches!(mode, Mode::HangAnswerAfter(_)) {
                std::future::pending::<()>().await;
            }
        }
    }
    Ok(())
}

/// Reads the head of a request, and makes it the only one of its connection.
pub(super) async fn read_head(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).await?;
        head.push(byte[0]);
    }
    head.truncate(head.len() - 2);
    head.extend_from_slice(b"Connection: close\r\n\r\n");
    Ok(head)
}

async fn answer(mut client: TcpStream, status: u16) -> std::io::Result<()> {
    let text = format!("HTTP/1.1 {status} Injected\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await?;
    // Closing with unread bytes would reset the connection, and the answer with it.
    let mut rest = vec![0; 64 * 1024];
    let drain = async { while client.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
    let _ = tokio::time::timeout(Duration::from_secs(2), drain).await;
    Ok(())
}

async fn copy(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin), limit: u64) {
    let mut buffer = vec![0; 16 * 1024];
    let mut left = limit;
    while left > 0 {
        let n = match from.read(&mut buffer).await {
            Ok(n) if n > 0 => n,
            _ => return,
        };
        let n = n.min(usize::try_from(left).unwrap_or(usize::MAX));
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
        left -= n as u64;
    }
    let _ = to.flush().await;
}
