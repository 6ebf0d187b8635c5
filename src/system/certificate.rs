//! What a server shows of itself to anybody who connects: when its certificate ends, and what its clock says. Nothing is
//! verified here, and nothing secret is sent: those who work with a server find out whether it may be trusted.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lettre::transport::smtp;
use lettre::transport::smtp::client::{AsyncSmtpConnection, CertificateStore, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use x509_cert::der::{self, Decode};

use super::tls::{self, Verification};
use crate::error::{BoxError, Error, Result};

/// The most that is read of an answer.
const LONGEST_ANSWER: usize = 16 * 1024;
/// "Shall we encrypt?", in PostgreSQL's protocol: the length of the message, and the number of the question.
const POSTGRES_SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP without encryption: there is no certificate, but a clock.
    Http,
    /// HTTP inside TLS: both.
    Https,
    /// TLS from the first byte.
    Tls,
    /// PostgreSQL's protocol.
    Postgres,
    /// SMTP with STARTTLS.
    Smtp,
}

/// A server to look at.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Which addresses may be spoken to.
    pub allows: fn(IpAddr) -> bool,
}

/// What a server showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    /// The end of its certificate; `None` where it does not encrypt.
    pub certificate_ends: Option<Timestamp>,
    /// What its clock said, to the second.
    pub clock: Option<Timestamp>,
}

impl Server {
    /// Connects, and looks. The server has to answer within `patience`.
    ///
    /// # Errors
    /// Where it cannot be reached, does not answer in time, or does not speak its protocol.
    pub async fn look(&self, patience: Duration, cancel: &CancellationToken) -> Result<Shown> {
        let failed = || {
            let what = format!("look at the server {}:{}", self.host, self.port);
            Error::preflight(format!("failed to {what}")).remedy("Check that it is up and can be reached.")
        };
        tokio::select! {
            () = cancel.cancelled() => Err(Error::interrupted()),
            shown = tokio::time::timeout(patience, self.try_look()) => match shown {
                Ok(shown) => shown.map_err(|e| failed().cause(e)),
                Err(_) => Err(failed().cause(format!("no answer within {} s", patience.as_secs_f64()))),
            },
        }
    }

    async fn try_look(&self) -> Result<Shown, BoxError> {
        let mut stream = self.connect().await?;
        match self.protocol {
            Protocol::Http => {
                return Ok(Shown { clock: self.clock(&mut stream).await?, certificate_ends: None });
            }
            Protocol::Smtp => {
                let certificate = self.certificate_by_smtp(stream).await.map_err(without_answer)?;
                return Ok(Shown { certificate_ends: Some(ends(&certificate)?), clock: None });
            }
            Protocol::Postgres => {
                stream.write_all(&POSTGRES_SSL_REQUEST).await?;
                if stream.read_u8().await? != b'S' {
                    return Ok(Shown::default());
                }
            }
            Protocol::Https | Protocol::Tls => {}
        }
        let name = ServerName::try_from(self.host.clone())?;
        let config = Arc::new(tls::config(Verification::Nothing)?);
        let mut stream = TlsConnector::from(config).connect(name, stream).await?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate_ends = leaf.map(|leaf| ends(leaf)).transpose()?;
        let clock = match self.protocol {
            // A server that shows its certificate and no clock has shown something.
            Protocol::Https => self.clock(&mut stream).await.unwrap_or_default(),
            _ => None,
        };
        Ok(Shown { certificate_ends, clock })
    }

    /// Asks a mail server to encrypt.
    async fn certificate_by_smtp(&self, stream: TcpStream) -> Result<Vec<u8>, smtp::Error> {
        let hello = ClientId::Domain("marbre".to_owned());
        let parameters = TlsParameters::builder(self.host.clone())
            .certificate_store(CertificateStore::None)
            .dangerous_accept_invalid_certs(true)
            .dangerous_accept_invalid_hostnames(true)
            .build()?;
        let mut connection = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await?;
        connection.starttls(parameters, &hello).await?;
        connection.peer_certificate()
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        let allowed: Vec<SocketAddr> = found.filter(|address| (self.allows)(address.ip())).collect();
        TcpStream::connect(allowed.as_slice()).await
    }

    /// Asks for nothing in particular: every answer has the time in its head.
    async fn clock(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> std::io::Result<Option<Timestamp>> {
        let ask = format!(
            "HEAD / HTTP/1.1\r\nhost: {}:{}\r\nuser-agent: marbre\r\nconnection: close\r\n\r\n",
            self.host, self.port
        );
        stream.write_all(ask.as_bytes()).await?;
        stream.flush().await?;
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < LONGEST_ANSWER {
            if stream.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        Ok(date(&String::from_utf8_lossy(&head)))
    }
}

/// The time that stands in the head of an answer.
fn date(head: &str) -> Option<Timestamp> {
    let lines = head.lines().take_while(|line| !line.is_empty());
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let (_, value) = headers.find(|(name, _)| name.eq_ignore_ascii_case("date"))?;
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()
}

/// When a certificate ends.
fn ends(certificate: &[u8]) -> Result<Timestamp, der::Error> {
    let parsed = x509_cert::Certificate::from_der(certificate)?;
    let seconds = parsed.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
    let end = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    // A certificate may say that it has no good end: 9999-12-31T23:59:59Z.
    Ok(end.unwrap_or(Timestamp::MAX))
}

/// The error of a mail server without the text of its answer, which can be anything.
fn without_answer(e: smtp::Error) -> BoxError {
    match e.status() {
        Some(code) => format!("the mail server answers \"{code}\"").into(),
        None if e.is_response() => "what answers does not speak SMTP".into(),
        None => e.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_taken_from_the_head_alone() {
        let head = "HTTP/1.1 403 Forbidden\r\nServer: x\r\ndate: Wed, 25 Nov 2026 14:52:04 GMT\r\n\r\n";
        assert_eq!(date(head), Some("2026-11-25T14:52:04Z".parse().unwrap()));
        assert_eq!(date("HTTP/1.1 200 OK\r\n\r\nDate: Wed, 25 Nov 2026 14:52:04 GMT\r\n"), None);
        assert_eq!(date("HTTP/1.1 200 OK\r\nDate: tomorrow\r\n\r\n"), None);
        assert_eq!(date(""), None);
    }
}
