//! What a server shows of itself to anybody who connects: when its certificate ends, and what its clock says. Nothing is
//! verified here, and nothing secret is sent: whether a server may be trusted is found out by those who work with it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use x509_cert::der::Decode;

use crate::error::{Error, ErrorKind, Result, ResultExt};

/// How long a server may take to show itself.
const PATIENCE: Duration = Duration::from_secs(10);
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
    /// Connects, and looks.
    ///
    /// # Errors
    /// Where it cannot be reached, does not answer in time, or does not speak its protocol.
    pub async fn look(&self, cancel: &CancellationToken) -> Result<Shown> {
        let failed = || {
            let what = format!("look at the server {}:{}", self.host, self.port);
            Error::preflight(format!("failed to {what}")).remedy("Check that it is up and can be reached.")
        };
        tokio::select! {
            () = cancel.cancelled() => Err(Error::interrupted()),
            shown = tokio::time::timeout(PATIENCE, self.try_look()) => match shown {
                Ok(shown) => shown.map_err(|e| failed().cause(e)),
                Err(_) => Err(failed().cause(format!("no answer within {} s", PATIENCE.as_secs()))),
            },
        }
    }

    async fn try_look(&self) -> std::io::Result<Shown> {
        let mut stream = self.connect().await?;
        match self.protocol {
            Protocol::Http => {
                return Ok(Shown { clock: self.clock(&mut stream).await?, certificate_ends: None });
            }
            Protocol::Postgres => {
                stream.write_all(&POSTGRES_SSL_REQUEST).await?;
                if stream.read_u8().await? != b'S' {
                    return Ok(Shown::default());
                }
            }
            Protocol::Smtp => start_tls(&mut stream).await?,
            Protocol::Https | Protocol::Tls => {}
        }
        let invalid = |e: String| std::io::Error::new(std::io::ErrorKind::InvalidData, e);
        let name = ServerName::try_from(self.host.clone()).map_err(|e| invalid(e.to_string()))?;
        let config = config().map_err(|e| invalid(e.to_string()))?;
        let mut stream = TlsConnector::from(config).connect(name, stream).await?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate_ends = leaf.map(ends).transpose().map_err(invalid)?;
        let clock = match self.protocol {
            // A server that shows its certificate and no clock has shown something.
            Protocol::Https => self.clock(&mut stream).await.unwrap_or_default(),
            _ => None,
        };
        Ok(Shown { certificate_ends, clock })
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
fn ends(certificate: &CertificateDer<'_>) -> Result<Timestamp, String> {
    let parsed = x509_cert::Certificate::from_der(certificate).map_err(|e| e.to_string())?;
    let seconds = parsed.tbs_certificate.validity.not_after.to_unix_duration().as_secs();
    i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok()).map_or(
        // A certificate may say that it has no good end: 9999-12-31T23:59:59Z.
        Ok(Timestamp::MAX),
        Ok,
    )
}

/// Asks a mail server to encrypt.
async fn start_tls(stream: &mut TcpStream) -> std::io::Result<()> {
    expect(stream, "220").await?;
    stream.write_all(b"EHLO marbre\r\n").await?;
    expect(stream, "250").await?;
    stream.write_all(b"STARTTLS\r\n").await?;
    expect(stream, "220").await
}

/// Reads one reply, which may have several lines: the last one has a space after its number. It is read byte by byte,
/// so that nothing of what follows is taken.
async fn expect(stream: &mut TcpStream, code: &str) -> std::io::Result<()> {
    let (mut line, mut read) = (Vec::new(), 0);
    loop {
        let byte = stream.read_u8().await?;
        read += 1;
        if read > LONGEST_ANSWER {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the answer does not end"));
        }
        if byte != b'\n' {
            line.push(byte);
            continue;
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        line.clear();
        if text.as_bytes().get(3) == Some(&b'-') {
            continue;
        }
        if text.starts_with(code) {
            return Ok(());
        }
        let what =
            format!("the mail server answers {:?}", text.trim_end().chars().take(3).collect::<String>());
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
    }
}

fn config() -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .or_kind(ErrorKind::Internal, "set up TLS")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes any certificate: keeps listeners out, not impostors. It is libpq's `require` without a root certificate.
#[derive(Debug)]
pub struct Unverified(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
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
