//! What S3 servers and the way to them say, in the words of the contract.
//!
//! The codes are those of AWS (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>) and of
//! the servers that speak its protocol.

use std::error::Error as StdError;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::targets::error::Source;
use crate::targets::{S3Location, TargetError, TargetErrorKind as Kind};

/// How sure it is that the server does not take the credentials (any more).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It says so.
    Certain,
    /// It refuses, and may mean that: an answer to HEAD has no words, and some servers have but one word for all.
    Possible,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) cause: String,
    /// The HTTP status, where there was an answer.
    pub(super) status: Option<u16>,
    /// The server's own code, where there was one.
    pub(super) code: Option<String>,
    pub(super) source: Option<Source>,
}

impl Failure {
    pub(super) fn new(kind: Kind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into(), status: None, code: None, source: None }
    }

    pub(super) fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "cancelled before it was done")
    }

    pub(super) fn stalled(idle: Duration) -> Self {
        let cause = format!("the server made no progress for {} s", idle.as_secs_f64());
        Self::new(Kind::Unavailable, cause)
    }

    pub(super) fn with_source(self, e: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(Source::from(e.into())), ..self }
    }

    /// Says where the credentials come from, where the server does not take them.
    pub(super) fn with_credentials_of(self, location: &S3Location) -> Self {
        let Some(file) = location.credentials_file.as_ref().filter(|_| self.kind == Kind::Denied) else {
            return self;
        };
        let profile = location.profile.as_deref().map(|name| format!(", profile {name}")).unwrap_or_default();
        Self { cause: format!("{} (credentials: {}{profile})", self.cause, file.display()), ..self }
    }

    pub(super) fn of(self, operation: &str) -> TargetError {
        TargetError { source: self.source, ..TargetError::new(self.kind, operation, self.cause) }
    }

    /// Whether this may come of credentials that were good once, and are not any more.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        match (self.status?, self.code.as_deref()) {
            (_, Some(code)) if CREDENTIALS.contains(&code) => Some(Doubt::Certain),
            (401 | 403, _) | (400, None) => Some(Doubt::Possible),
            _ => None,
        }
    }

    /// Reads the SDK's error. Of what the server sent, only its code and a short message are shown.
    pub(super) fn from_sdk<E>(e: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let failure = match &e {
            SdkError::ServiceError(e) => {
                let status = e.raw().status().as_u16();
                let code = e.err().code().unwrap_or("");
                answered(status, code, e.err().message().unwrap_or(""))
            }
            SdkError::TimeoutError(_) => Self::new(Kind::Unavailable, "the connection timed out"),
            SdkError::ResponseError(e) => Self {
                status: Some(e.raw().status().as_u16()),
                ..Self::new(Kind::Unavailable, "the server's answer broke off or made no sense")
            },
            SdkError::DispatchFailure(e) => {
                e.as_connector_error().map_or_else(|| unsent(&NoCause), |e| unsent(e))
            }
            other => unsent(other),
        };
        // What the SDK found, without the raw answer.
        match e.into_source() {
            Ok(source) => failure.with_source(source),
            Err(_) => failure,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the request could not be sent")]
struct NoCause;

/// The server answered, and said no.
fn answered(status: u16, code: &str, message: &str) -> Failure {
    let (kind, words) = by_code(code).unwrap_or_else(|| by_status(status));
    let cause = match (code, short(message)) {
        ("", _) => format!("{words} (status {status})"),
        // What is known by its code is said in our own words; anything else in the server's.
        (code, message) if by_code(code).is_some() || message.is_empty() => {
            format!("{words} ({code}, status {status})")
        }
        (code, message) => format!("{words}: {message} ({code}, status {status})"),
    };
    let code = Some(code.to_owned()).filter(|code| !code.is_empty());
    Failure { status: Some(status), code, ..Failure::new(kind, cause) }
}

/// The codes that speak of the credentials themselves.
const CREDENTIALS: [&str; 8] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
];

fn by_code(code: &str) -> Option<(Kind, &'static str)> {
    Some(match code {
        "NoSuchBucket" => (Kind::NotFound, "the bucket does not exist"),
        "NoSuchKey" => (Kind::NotFound, "the object does not exist"),
        "NoSuchVersion" => (Kind::NotFound, "this version of the object does not exist"),
        "InvalidAccessKeyId" | "InvalidClientTokenId" | "UnrecognizedClientException" => {
            (Kind::Denied, "the server does not know the access key")
        }
        "SignatureDoesNotMatch" => (Kind::Denied, "the secret key is wrong"),
        "RequestTimeTooSkewed" | "RequestExpired" => {
            (Kind::Denied, "this host's clock and the server's differ too much")
        }
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
            (Kind::Denied, "the session token has expired")
        }
        "InvalidToken" => (Kind::Denied, "the session token is wrong"),
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => {
            (Kind::Denied, "the credentials do not allow this")
        }
        "QuotaExceeded"
        | "QuotaExceededException"
        | "XMinioStorageFull"
        | "InsufficientStorage"
        | "XMinioAdminBucketQuotaExceeded" => (Kind::Full, "no space is left, or the quota is used up"),
        "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => {
            (Kind::Corrupt, "the server received other bytes than were sent")
        }
        "SlowDown" | "Throttling" | "ThrottlingException" | "TooManyRequests" | "RequestLimitExceeded" => {
            (Kind::Unavailable, "the server asks to slow down")
        }
        "InternalError" | "ServiceUnavailable" => (Kind::Unavailable, "the server has a problem"),
        "RequestTimeout" | "IncompleteBody" => {
            (Kind::Unavailable, "the server did not get the whole request")
        }
        "OperationAborted" | "ConditionalRequestConflict" => {
            (Kind::Unavailable, "another writer of the same object was at work")
        }
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => {
            (Kind::Unsupported, "the bucket is in another region or at another endpoint")
        }
        "InvalidBucketName" => (Kind::Unsupported, "the server does not accept the bucket's name"),
        "NotImplemented" | "MethodNotAllowed" => {
            (Kind::Unsupported, "the server does not support this request")
        }
        _ => return None,
    })
}

fn by_status(status: u16) -> (Kind, &'static str) {
    match status {
        401 | 403 => (Kind::Denied, "the server refuses the credentials, or they do not allow this"),
        404 => (Kind::NotFound, "there is no such thing at the server"),
        408 | 409 | 425 | 429 => (Kind::Unavailable, "the server asks to try again"),
        413 => (Kind::Unsupported, "the server does not accept objects of this size"),
        507 => (Kind::Full, "no space is left at the server"),
        501 | 505 => (Kind::Unsupported, "the server does not support this request"),
        500..=599 => (Kind::Unavailable, "the server has a problem"),
        _ => (Kind::Unsupported, "the server refuses this request; is it an S3 server?"),
    }
}

/// At most one short line of what a server wrote.
fn short(message: &str) -> String {
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    line.trim().to_owned()
}

/// There was no answer.
fn unsent(e: &(dyn StdError + 'static)) -> Failure {
    let chain = chain(e);
    for e in &chain {
        if let Some(tls) = e.downcast_ref::<rustls::Error>() {
            return match is_lasting(tls) {
                true => Failure::new(Kind::Unsupported, format!("TLS failed: {tls}")),
                false => Failure::new(Kind::Unavailable, format!("the TLS connection broke: {tls}")),
            };
        }
    }
    for e in &chain {
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && let Some(words) = by_io(io.kind())
        {
            return Failure::new(Kind::Unavailable, words);
        }
    }
    let deepest = chain.last().map_or_else(String::new, ToString::to_string);
    Failure::new(Kind::Unavailable, format!("no connection: {}", short(&deepest)))
}

/// Whether a failure of TLS says what the server is, and not what became of one connection: a certificate that is not
/// trusted stays so, while a handshake that breaks off (a server that starts, a proxy without its server) may not.
fn is_lasting(e: &rustls::Error) -> bool {
    use rustls::{AlertDescription as Alert, Error as Tls, InvalidMessage};
    match e {
        Tls::InvalidCertificate(_)
        | Tls::NoCertificatesPresented
        | Tls::UnsupportedNameType
        | Tls::PeerIncompatible(_)
        | Tls::NoApplicationProtocol
        // Something answers that speaks no TLS.
        | Tls::InvalidMessage(InvalidMessage::InvalidContentType) => true,
        Tls::AlertReceived(alert) => matches!(
            alert,
            Alert::HandshakeFailure
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::CertificateRequired
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::ProtocolVersion
                | Alert::InsufficientSecurity
                | Alert::UnrecognisedName
                | Alert::NoApplicationProtocol
        ),
        _ => false,
    }
}

fn by_io(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind as Io;
    Some(match kind {
        Io::ConnectionRefused => "the connection was refused",
        Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe | Io::UnexpectedEof => {
            "the connection broke"
        }
        Io::TimedOut => "the connection timed out",
        Io::HostUnreachable => "the host cannot be reached",
        Io::NetworkUnreachable | Io::NetworkDown => "the network cannot be reached",
        _ => return None,
    })
}

/// An error and everything below it, also what an I/O error wraps.
fn chain<'a>(e: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut found = Vec::new();
    let mut next = Some(e);
    while let Some(e) = next {
        found.push(e);
        let wrapped = e.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        next = match wrapped {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => e.source(),
        };
    }
    found
}

/// A failure to get credentials: the texts of the chain, none of which repeats a secret.
pub(super) fn no_credentials(e: &(dyn StdError + 'static)) -> Failure {
    let mut texts: Vec<String> = Vec::new();
    for e in chain(e) {
        let text = short(&e.to_string());
        if !texts.iter().any(|t| t.contains(&text)) {
            texts.push(text);
        }
    }
    Failure::new(Kind::Denied, format!("no usable credentials: {}", texts.join(": ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_right_kind_and_plain_words() {
        for (status, code, kind, words) in [
            (403, "InvalidAccessKeyId", Kind::Denied, "access key"),
            (403, "SignatureDoesNotMatch", Kind::Denied, "secret key"),
            (403, "RequestTimeTooSkewed", Kind::Denied, "clock"),
            (403, "", Kind::Denied, "403"),
            (404, "NoSuchBucket", Kind::NotFound, "bucket"),
            (507, "", Kind::Full, "no space"),
            (403, "QuotaExceeded", Kind::Full, "quota"),
            (503, "SlowDown", Kind::Unavailable, "slow down"),
            (500, "SomethingNew", Kind::Unavailable, "SomethingNew"),
            (429, "", Kind::Unavailable, "429"),
            (409, "ConditionalRequestConflict", Kind::Unavailable, "another writer"),
            (400, "BadDigest", Kind::Corrupt, "other bytes"),
            (301, "PermanentRedirect", Kind::Unsupported, "region"),
            (501, "NotImplemented", Kind::Unsupported, "not support"),
            (418, "", Kind::Unsupported, "418"),
        ] {
            let failure = answered(status, code, "a\nmessage");
            assert_eq!(failure.kind, kind, "{status} {code}");
            assert!(failure.cause.contains(words), "{}", failure.cause);
            assert!(!failure.cause.contains('\n'));
        }
    }
    #[test]
    fn a_certificate_lasts_and_a_broken_handshake_does_not() {
        use rustls::{AlertDescription, CertificateError, Error as Tls, InvalidMessage};
        let lasting = [
            Tls::InvalidCertificate(CertificateError::UnknownIssuer),
            Tls::InvalidMessage(InvalidMessage::InvalidContentType),
            Tls::AlertReceived(AlertDescription::ProtocolVersion),
        ];
        let passing = [
            Tls::AlertReceived(AlertDescription::InternalError),
            Tls::AlertReceived(AlertDescription::CloseNotify),
            Tls::InvalidMessage(InvalidMessage::MessageTooShort),
            Tls::DecryptError,
        ];
        let expected = lasting.map(|e| (e, Kind::Unsupported)).into_iter();
        for (e, kind) in expected.chain(passing.map(|e| (e, Kind::Unavailable))) {
            let failure = unsent(&std::io::Error::other(e));
            assert_eq!(failure.kind, kind, "{}", failure.cause);
            assert!(failure.cause.contains("TLS"), "{}", failure.cause);
        }
        let broken = unsent(&std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "tls handshake eof"));
        assert_eq!((broken.kind, broken.cause.as_str()), (Kind::Unavailable, "the connection broke"));
    }
}
