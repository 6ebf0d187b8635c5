//! What all channels over HTTP share: a client that follows no redirects, uses no proxy, and never connects to a
//! forbidden address.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

pub(crate) use super::reply::Reply;
use super::{ChannelError, address, bounded};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::system::tls;

/// Where to, and how.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The URL. Its path and query can be secrets and are shown nowhere; its host may be shown.
    pub url: SecretString,
    /// Additional headers. Their values are shown nowhere.
    pub headers: Vec<(String, SecretString)>,
    /// Whether this host and private networks may be contacted, also without TLS.
    pub allow_private: bool,
    /// The authorities that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take.
    pub timeout: Duration,
}

/// A service that takes messages.
pub(crate) struct Endpoint {
    client: Client,
    url: Url,
    host: String,
    allow_private: bool,
    timeout: Duration,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.host).finish_non_exhaustive()
    }
}

const UP: &str = "Check that it is up and can be reached from this host.";

/// What helps where nobody answers. The addresses that are refused could not be told apart behind a proxy.
fn unreachable_remedy() -> &'static str {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"].into_iter().any(set) {
        true => {
            "Check that it is up and can be reached from this host directly: alerts do not use the proxy of the environment."
        }
        false => UP,
    }
}

impl Endpoint {
    /// Makes the client, without connecting.
    ///
    /// # Errors
    /// Kind `Config` for a URL that is not valid or lacks TLS where it is needed, and for unusable headers or
    /// certificates. None of them repeats a value.
    pub(crate) fn new(settings: &HttpSettings) -> Result<Self> {
        let wrong = |what: &str, remedy: &str| Error::new(ErrorKind::Config, what).remedy(remedy);
        let url: Url = settings.url.expose_secret().parse().map_err(|_| {
            wrong("the URL of an alert channel is not valid", "Give it as https://host/path.")
        })?;
        let host = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned).ok_or_else(|| {
            wrong("the URL of an alert channel has no host", "Give it as https://host/path.")
        })?;
        match url.scheme() {
            "https" => {}
            "http" if settings.allow_private => {}
            _ => {
                return Err(wrong(
                    &format!("the URL of an alert channel at {host} does not begin with https://"),
                    "Use https. Plain http is accepted only with `allow_private = true`, for a service on your own network.",
                ));
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let unusable =
                || wrong("a header of an alert channel cannot be sent", "Give it without line feeds.");
            let name = HeaderName::try_from(name).map_err(|_| unusable())?;
            let mut value = HeaderValue::try_from(value.expose_secret()).map_err(|_| unusable())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let client = Client::builder()
            .tls_backend_preconfigured(tls::client(settings.ca_file.as_deref())?)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("marbre/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .dns_resolver(Guarded { allow_private: settings.allow_private })
            .build()
            .map_err(reqwest::Error::without_url)
            .or_internal("set up HTTP")?;
        Ok(Self { client, url, host, allow_private: settings.allow_private, timeout: settings.timeout })
    }

    /// The host, for people.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The URL that was given.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Sends a body to the URL. `Ok` only for an answer of 200 to 299.
    pub(crate) async fn post(
        &self,
        content_type: &'static str,
        body: String,
        cancel: &CancellationToken,
    ) -> Result<(), ChannelError> {
        let reply = self.request(Method::POST, self.url.clone(), Some((content_type, body)), cancel).await?;
        self.judge(&reply)
    }

    /// Sends a request to a URL of this host, and takes whatever is answered.
    pub(crate) async fn request(
        &self,
        method: Method,
        url: Url,
        body: Option<(&'static str, String)>,
        cancel: &CancellationToken,
    ) -> Result<Reply, ChannelError> {
        let mut request = self.client.request(method, url);
        if let Some((content_type, body)) = body {
            request = request.header(CONTENT_TYPE, content_type).body(body);
        }
        self.answer(request.send(), cancel).await
    }

    /// Checks that the host resolves, may be contacted, and has a trusted certificate. It requests the root of the host,
    /// which is nobody's endpoint; any answer will do.
    pub(crate) async fn check(&self, cancel: &CancellationToken) -> Result<String, ChannelError> {
        let mut url = self.url.clone();
        url.set_path("/");
        url.set_query(None);
        let Reply { status, .. } = self.answer(self.client.head(url).send(), cancel).await?;
        let trusted = if self.url.scheme() == "https" { "its certificate is trusted" } else { "no TLS" };
        Ok(format!("{} answers ({}), {trusted}", self.host, status.as_u16()))
    }

    async fn answer(
        &self,
        request: impl Future<Output = reqwest::Result<reqwest::Response>>,
        cancel: &CancellationToken,
    ) -> Result<Reply, ChannelError> {
        // A host that is a literal address is not resolved, so it is checked here.
        if let Ok(literal) = self.host.trim_matches(['[', ']']).parse::<IpAddr>()
            && let Some(why) = address::refusal(literal, self.allow_private)
        {
            return Err(refused(&format!("{literal} is {why}")));
        }
        let work = async { request.await.map(|answer| Reply::of(&answer)).map_err(|e| self.error(&e)) };
        bounded(self.timeout, cancel, &self.host, work).await
    }

    /// Whether an answer means that the service has taken what was sent.
    pub(crate) fn judge(&self, reply: &Reply) -> Result<(), ChannelError> {
        let (code, host) = (reply.status.as_u16(), &self.host);
        let says = format!("{host} answered {code}");
        match code {
            200..=299 => Ok(()),
            300..=399 => Err(ChannelError::refused(
                format!("{says}, a redirect, which is not followed"),
                "Give the URL that it redirects to.",
            )),
            408 | 425 | 429 | 500..=599 => Err(match reply.wait {
                Some(wait) => {
                    let says = format!("{says}, and asks to wait {} s", wait.as_secs());
                    ChannelError::unavailable(says, "It is tried again then.").after(wait)
                }
                None => ChannelError::unavailable(says, UP),
            }),
            401 | 403 => Err(ChannelError::refused(says, "Check the secret of this channel.")),
            404 | 410 => Err(ChannelError::refused(
                says,
                "Check the URL: the service does not know it, or no longer does.",
            )),
            _ => Err(ChannelError::refused(says, "Check the URL and the format of the message.")),
        }
    }

    /// The part of an error that may be shown, which never is the URL.
    fn error(&self, e: &reqwest::Error) -> ChannelError {
        let mut deepest: &(dyn std::error::Error + 'static) = e;
        while let Some(source) = deepest.source() {
            if let Some(Refused(why)) = source.downcast_ref() {
                return refused(why);
            }
            deepest = source;
        }
        let host = &self.host;
        if tls::is_untrusted(e) {
            let cause = format!("the certificate of {host} is not trusted: {deepest}");
            return ChannelError::refused(cause, tls::UNTRUSTED);
        }
        // The outermost error shows the URL, those below it do not.
        let inner = std::error::Error::source(e).is_some();
        let why = if inner { deepest.to_string() } else { "the request failed".to_owned() };
        ChannelError::unavailable(format!("{host} cannot be reached: {why}"), unreachable_remedy())
    }
}

fn refused(why: &str) -> ChannelError {
    ChannelError::refused(
        format!("{why}, and alerts are not sent to such addresses"),
        "Give a URL on a public host. For a service on your own network, set `allow_private = true`; link-local \
         addresses and those of metadata services are always refused.",
    )
}

/// A forbidden address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// Resolves names, and drops forbidden addresses. The connection is made to exactly the addresses that were checked:
/// there is no second look-up that could give others.
#[derive(Debug)]
struct Guarded {
    allow_private: bool,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let mut why = None;
            let good: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| {
                    let refusal = address::refusal(address.ip(), allow_private);
                    why = why.or(refusal);
                    refusal.is_none()
                })
                .collect();
            match (good.is_empty(), why) {
                (true, Some(why)) => Err(Refused(format!("{name} is {why}")).into()),
                _ => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}
