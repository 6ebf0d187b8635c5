//! An external monitor, which reports pings that do not arrive: in the manner of healthchecks
//! (<https://healthchecks.io/docs/http_api/>), or told by a parameter, as Uptime Kuma and others are.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use reqwest::{Method, Url};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::alert::http::{Endpoint, HttpSettings, Reply};
use crate::alert::ping_urls::PingUrls;
use crate::alert::{Channel, ChannelError, Message, Purpose, Sent};
use crate::error::{Error, ErrorKind, Result};
use crate::model::notice::Phase;

/// How a monitor is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PingMethod {
    /// By POST, which may carry words; by GET where the service does not know that.
    Either,
    /// By GET only.
    Get,
    /// By POST only.
    Post,
}

/// The channel.
#[derive(Debug)]
pub(crate) struct Ping {
    endpoint: Endpoint,
    /// Speaks to the host of `fail_url`, where there is one.
    failures: Option<Endpoint>,
    urls: PingUrls,
    method: PingMethod,
    /// The service was seen to take GET and no POST.
    takes_get: AtomicBool,
}

impl Ping {
    /// Makes the channel, without connecting. `fail` is where failures go, if that does not follow from the URL.
    ///
    /// # Errors
    /// Those of [`Endpoint::new`], and kind `Config` where nobody knows how a failure is told.
    pub(crate) fn new(
        settings: &HttpSettings,
        method: PingMethod,
        fail: Option<SecretString>,
    ) -> Result<Self> {
        let endpoint = Endpoint::new(settings)?;
        let elsewhere = |url| Endpoint::new(&HttpSettings { url, ..settings.clone() });
        let failures = fail.map(elsewhere).transpose()?;
        let fail = failures.as_ref().map(|endpoint| endpoint.url().clone());
        let urls = PingUrls::of(endpoint.url().clone(), fail).ok_or_else(|| {
            let what = format!("how the monitor at {} is told of a failure is not known", endpoint.host());
            Error::new(ErrorKind::Config, what)
                .cause("the URL of a success has a query, which a failure must not carry")
                .remedy(
                    "Put the URL for failures in a file that only its owner can read, and name it with `fail_url_file`.",
                )
        })?;
        Ok(Self { endpoint, failures, urls, method, takes_get: AtomicBool::new(false) })
    }

    async fn ask(&self, url: Url, message: &Message, cancel: &CancellationToken) -> Result<(), ChannelError> {
        let other = self.failures.as_ref().filter(|failures| *failures.url() == url);
        let endpoint = other.unwrap_or(&self.endpoint);
        let get = || endpoint.request(Method::GET, url.clone(), None, cancel);
        if self.method == PingMethod::Get || self.takes_get.load(Ordering::Relaxed) {
            return endpoint.judge(&get().await?);
        }
        let body = ("text/plain; charset=utf-8", message.text.clone());
        let posted = endpoint.request(Method::POST, url.clone(), Some(body), cancel).await?;
        let unknown = matches!(posted.status.as_u16(), 404 | 405 | 501);
        if !unknown || self.method == PingMethod::Post {
            return endpoint.judge(&posted);
        }
        // Some services know no POST of this path, and call that "not found".
        let got = get().await?;
        match got.status.is_success() && !got.is_page {
            true => {
                self.takes_get.store(true, Ordering::Relaxed);
                Ok(())
            }
            false => endpoint.judge(&posted).map_err(|e| with_get(e, &got)),
        }
    }
}

/// The refusal of a POST, with what became of the GET after it.
fn with_get(refusal: ChannelError, got: &Reply) -> ChannelError {
    let code = got.status.as_u16();
    match got.status.is_success() {
        // Web servers answer so to anything; that is no sign that a monitor took the ping.
        true => ChannelError::refused(
            format!("{} to POST, and a page for people to GET", refusal.cause),
            "Check the URL: the page is none of a monitor. If it is, set `method = \"get\"`.",
        ),
        false => ChannelError { cause: format!("{} to POST, and {code} to GET", refusal.cause), ..refusal },
    }
}

#[async_trait]
impl Channel for Ping {
    fn describe(&self) -> String {
        format!("ping at {}", self.endpoint.host())
    }

    async fn send(&self, message: &Message, cancel: &CancellationToken) -> Result<Sent, ChannelError> {
        let Purpose::Ping(phase) = message.purpose else {
            let cause = "a ping can only report how a job is going";
            return Err(ChannelError::refused(cause, "Use another type of channel for messages."));
        };
        let words = if phase == Phase::Start { "started" } else { &message.subject };
        match self.urls.told(phase, words) {
            Some(url) => self.ask(url, message, cancel).await?,
            None => tracing::debug!(host = self.endpoint.host(), "this monitor is not told of starts"),
        }
        Ok(Sent::All)
    }

    async fn check(&self, cancel: &CancellationToken) -> Result<String, ChannelError> {
        if let Some(failures) = &self.failures {
            failures.check(cancel).await?;
        }
        self.endpoint.check(cancel).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;
    use std::time::Duration;

    use jiff::Timestamp;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::job::JobKind;
    use crate::model::notice::Notice;

    /// A monitor that answers each method so, and the requests that it got.
    async fn monitor(post: &'static str, get: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let noted = seen.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    request.push(client.read_u8().await.unwrap());
                }
                let line = String::from_utf8_lossy(&request).lines().next().unwrap().to_owned();
                let answer = if line.starts_with("POST") { post } else { get };
                noted.lock().unwrap().push(line.trim_end_matches(" HTTP/1.1").to_owned());
                let rest = "content-length: 0\r\nconnection: close\r\n\r\n";
                client.write_all(format!("HTTP/1.1 {answer}\r\n{rest}").as_bytes()).await.unwrap();
                client.shutdown().await.unwrap();
                let _ = client.read_to_end(&mut request).await;
            }
        });
        (format!("http://{address}"), seen)
    }

    fn ping(url: String, method: PingMethod) -> Ping {
        let settings = HttpSettings {
            url: SecretString::from(url),
            headers: Vec::new(),
            allow_private: true,
            ca_file: None,
            timeout: Duration::from_secs(10),
        };
        Ping::new(&settings, method, None).unwrap()
    }

    async fn send(ping: &Ping, phase: Phase) -> Result<Sent, ChannelError> {
        let notice =
            Notice::Job { database: "gazette/abonnes".parse().unwrap(), kind: JobKind::Snapshot, phase };
        let message = Message::of(&notice, 1, "db1", Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        ping.send(&message, &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn a_monitor_that_takes_get_is_asked_so_and_told_of_failures() {
        for refusal in ["404 Not Found", "405 Method Not Allowed"] {
            let (base, seen) = monitor(refusal, "200 OK").await;
            let url = format!("{base}/api/push/K?status=up&msg=OK&ping=");
            let channel = ping(url.clone(), PingMethod::Either);
            for phase in [Phase::Start, Phase::Success, Phase::Fail] {
                send(&channel, phase).await.unwrap();
            }
            let up = "/api/push/K?status=up&msg=OK&ping=";
            let seen = std::mem::take(&mut *seen.lock().unwrap());
            assert_eq!(seen[..2], [format!("POST {up}"), format!("GET {up}")]);
            assert!(seen.len() == 3 && seen[2].starts_with("GET /api/push/K?status=down&msg="), "{seen:?}");
            let told = send(&ping(url, PingMethod::Post), Phase::Success).await.unwrap_err();
            assert!(told.is_permanent(), "{told:?}");
        }
    }

    #[tokio::test]
    async fn a_page_is_no_sign_that_a_ping_was_taken() {
        let (base, seen) = monitor("404 Not Found", "200 OK\r\ncontent-type: text/html; charset=utf-8").await;
        let told = send(&ping(format!("{base}/x"), PingMethod::Either), Phase::Success).await.unwrap_err();
        assert!(told.is_permanent() && told.remedy.contains("`method = \"get\"`"), "{told:?}");
        // Unless somebody says so.
        send(&ping(format!("{base}/x"), PingMethod::Get), Phase::Start).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), ["POST /x", "GET /x", "GET /x/start"]);
    }

    #[tokio::test]
    async fn a_service_says_when_it_wants_to_be_asked_again() {
        let (base, _) = monitor("429 Too Many Requests\r\nretry-after: 7", "200 OK").await;
        let told = send(&ping(format!("{base}/x"), PingMethod::Either), Phase::Success).await.unwrap_err();
        assert_eq!((told.is_permanent(), told.wait), (false, Some(Duration::from_secs(7))), "{told:?}");
        assert!(told.cause.ends_with("answered 429, and asks to wait 7 s"), "{told:?}");
    }

    #[test]
    fn a_query_that_nobody_knows_needs_a_word_on_failures() {
        let settings = HttpSettings {
            url: SecretString::from("https://monitor.example/x?result=good"),
            headers: Vec::new(),
            allow_private: false,
            ca_file: None,
            timeout: Duration::from_secs(10),
        };
        let refused = Ping::new(&settings, PingMethod::Either, None).unwrap_err();
        assert!(refused.remedy_text().unwrap().contains("`fail_url_file`"), "{refused}");
        let fail = Some(SecretString::from("https://monitor.example/bad"));
        assert!(Ping::new(&settings, PingMethod::Either, fail).is_ok());
    }
}
