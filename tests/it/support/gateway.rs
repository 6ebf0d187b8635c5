//! A gateway before an S3 server, with the habits of services that are not AWS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::proxy::read_head;

/// The path below which the server lies.
pub const PATH: &str = "/storage/v1/s3";

/// A token that ends in the middle of a job.
#[derive(Debug, Clone)]
pub struct Expiry {
    /// The access key that is not good for packs any more.
    pub access_key: String,
    /// The credentials file, into which somebody writes other ones when the first request has failed.
    pub file: PathBuf,
    /// These.
    pub fresh: String,
}

/// The gateway; stops when it is dropped. It serves below [`PATH`], encodes every character of the names in listings that
/// may be encoded, slashes too, and also serves as a proxy.
pub struct Gateway {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Gateway {
    pub async fn start(upstream: SocketAddr, expiry: Option<Expiry>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (expiry, noted) = (expiry.clone(), noted.clone());
                // A connection that breaks is the client's to tell.
                tokio::spawn(async move { serve(client, upstream, expiry, &noted).await.ok() });
            }
        });
        Self { address, seen, task }
    }

    /// The endpoint for who asks the gateway itself.
    pub fn endpoint(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// The first lines of all requests.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    expiry: Option<Expiry>,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let head = String::from_utf8(read_head(&mut client).await?).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    seen.lock().unwrap().push(line.to_owned());
    if let Some(expiry) = expiry
        && line.starts_with("PUT ")
        && line.contains("/packs/")
        && headers.contains(&format!("Credential={}/", expiry.access_key))
    {
        std::fs::write(&expiry.file, &expiry.fresh)?;
        return refuse(client).await;
    }
    let (method, rest) = line.split_once(' ').unwrap();
    // Who uses it as a proxy names the whole URL.
    let path = rest.split_once("://").map_or(rest, |(_, url)| &url[url.find('/').unwrap()..]);
    let path = path.strip_prefix(PATH).expect("a path below that of the endpoint");
    let head = format!("{method} {path}\r\nX-Forwarded-Prefix: {PATH}\r\n{headers}");
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(head.as_bytes()).await?;
    if !line.contains("encoding-type=url") {
        return copy_bidirectional(&mut client, &mut server).await.map(drop);
    }
    let mut answer = String::new();
    server.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let is_chunked = |line: &str| line.to_ascii_lowercase().starts_with("transfer-encoding:");
    let body = if head.lines().any(is_chunked) { unchunked(body) } else { body.to_owned() };
    let body = encoded(body);
    let kept = |line: &&str| !is_chunked(line) && !line.to_ascii_lowercase().starts_with("content-length:");
    let head: Vec<&str> = head.lines().filter(kept).collect();
    let answer = format!("{}\r\nContent-Length: {}\r\n\r\n{body}", head.join("\r\n"), body.len());
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

async fn refuse(mut client: TcpStream) -> std::io::Result<()> {
    let body =
        "<?xml version=\"1.0\"?><Error><Code>ExpiredToken</Code><Message>It has expired.</Message></Error>";
    let length = body.len();
    let head = format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    client.write_all(format!("{head}{body}").as_bytes()).await?;
    client.shutdown().await?;
    // Closing with unread bytes would reset the connection, and the answer with it.
    let mut rest = Vec::new();
    let drain = client.read_to_end(&mut rest);
    tokio::time::timeout(std::time::Duration::from_secs(2), drain).await.ok();
    Ok(())
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length.split(';').next().unwrap().trim(), 16).unwrap();
        if length == 0 {
            break;
        }
        whole += &rest[..length];
        body = &rest[length + 2..];
    }
    whole
}

/// The names of a listing, with everything encoded that is no letter or digit.
fn encoded(mut body: String) -> String {
    for tag in ["Key", "Prefix", "KeyMarker", "NextKeyMarker", "StartAfter"] {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let mut parts = body.split(&open);
        let mut whole = parts.next().unwrap().to_owned();
        for part in parts {
            let (name, rest) = part.split_once(&close).unwrap();
            // What the server has encoded already stays.
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '%';
            let name: String = name
                .chars()
                .map(|c| if plain(c) { c.to_string() } else { format!("%{:02X}", u32::from(c)) })
                .collect();
            whole += &format!("{open}{name}{close}{rest}");
        }
        body = whole;
    }
    body
}
