//! Mail by SMTP. The messages of one incident form a thread.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use crate::alert::{Channel, ChannelError, Message, Sent, bounded};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::system::{host_name, tls};

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// How the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// The connection begins in clear and must change to TLS before anything is sent.
    StartTls,
    /// TLS from the first byte.
    Implicit,
    /// None, which is allowed only to this host.
    None,
}

/// Where mail goes.
#[derive(Debug, Clone)]
pub struct EmailSettings {
    /// The mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub encryption: Encryption,
    /// User name and password.
    pub login: Option<(String, SecretString)>,
    /// The authorities that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The sender.
    pub from: String,
    /// The recipients, at least one.
    pub to: Vec<String>,
    /// How this host names itself to the mail server; `None`: by its full name, or by its address where it has none.
    pub helo: Option<String>,
    /// How long one mail may take.
    pub timeout: Duration,
}

/// The channel.
pub struct Email {
    transport: AsyncSmtpTransportBuilder,
    helo: Option<String>,
    host: String,
    port: u16,
    from: Mailbox,
    to: Vec<Mailbox>,
    timeout: Duration,
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Email").field("host", &self.host).finish_non_exhaustive()
    }
}

const UP: &str = "Check that the mail server is up and can be reached from this host.";

/// Whether a host name means this host.
fn is_this_host(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Email {
    /// Makes the channel, without connecting.
    pub fn new(settings: &EmailSettings) -> Result<Self> {
        let mailbox = |text: &str| {
            text.parse::<Mailbox>().map_err(|_| {
                Error::new(ErrorKind::Config, "an email address of an alert channel is not valid")
                    .remedy("Give it as name@example.com.")
            })
        };
        let mut builder = Transport::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(encryption(settings)?)
            .timeout(Some(settings.timeout));
        if let Some((user, password)) = &settings.login {
            let password = password.expose_secret().to_owned();
            builder = builder.credentials(Credentials::new(user.clone(), password));
        }
        Ok(Self {
            transport: builder,
            helo: settings.helo.clone(),
            host: settings.host.clone(),
            port: settings.port,
            from: mailbox(&settings.from)?,
            to: settings.to.iter().map(|text| mailbox(text)).collect::<Result<_>>()?,
            timeout: settings.timeout,
        })
    }

    /// A Message-ID in the domain of the sender.
    fn name(&self, digits: &str) -> String {
        format!("<{digits}.marbre@{}>", self.from.email.domain())
    }

    fn mail(&self, message: &Message, to: &[Mailbox]) -> Result<lettre::Message, ChannelError> {
        let mut builder = MessageBuilder::new()
            .from(self.from.clone())
            .subject(message.subject.clone())
            .date(SystemTime::from(message.at))
            .message_id(Some(self.name(&message.id)))
            .header(ContentType::TEXT_PLAIN);
        for to in to {
            builder = builder.to(to.clone());
        }
        if message.id != message.thread {
            let first = self.name(&message.thread);
            builder = builder.in_reply_to(first.clone()).references(first);
        }
        // These ask other machines not to answer.
        for (name, value) in [("Auto-Submitted", "auto-generated"), ("X-Auto-Response-Suppress", "All")] {
            let name = HeaderName::new_from_ascii_str(name);
            builder = builder.raw_header(HeaderValue::new(name, value.to_owned()));
        }
        builder.body(message.text.clone()).map_err(|_| {
            let remedy = "Check `from` and `to` of the channel.";
            ChannelError::refused("the mail cannot be composed", remedy)
        })
    }

    /// How this host names itself. Many servers take no mail from a name without a domain; where there is no other, the
    /// address stands for it (RFC 5321, section 4.1.3).
    async fn hello(&self) -> ClientId {
        if let Some(name) = self.helo.clone().or_else(host_name::full) {
            return ClientId::Domain(name);
        }
        match host_name::address_towards(&self.host, self.port).await {
            Some(IpAddr::V4(address)) => ClientId::Ipv4(address),
            Some(IpAddr::V6(address)) => ClientId::Ipv6(address),
            None => ClientId::default(),
        }
    }

    async fn submit(&self, hello: &ClientId, message: &Message, to: &[Mailbox]) -> Result<(), ChannelError> {
        let mail = self.mail(message, to)?;
        let transport: Transport = self.transport.clone().hello_name(hello.clone()).build();
        transport.send(mail).await.map(drop).map_err(|e| self.error(&e, hello))
    }

    async fn submit_to_all(&self, message: &Message) -> Result<Sent, ChannelError> {
        let hello = &self.hello().await;
        let all = self.submit(hello, message, &self.to).await;
        let [_, _, ..] = &self.to[..] else { return all.map(|()| Sent::All) };
        let Err(refusal) = all else { return Ok(Sent::All) };
        if !refusal.is_permanent() {
            return Err(refusal);
        }
        // One unknown address must not keep the mail from the others.
        let mut refused = 0;
        for to in &self.to {
            match self.submit(hello, message, std::slice::from_ref(to)).await {
                Ok(()) => {}
                Err(e) if e.is_permanent() => refused += 1,
                Err(e) if refused == 0 => return Err(e),
                Err(_) => refused += 1,
            }
        }
        if refused == self.to.len() {
            return Err(refusal);
        }
        Ok(Sent::Some(format!("{refused} of {} recipients were refused: {refusal}", self.to.len())))
    }

    fn error(&self, e: &lettre::transport::smtp::Error, hello: &ClientId) -> ChannelError {
        let host = &self.host;
        if tls::is_untrusted(e) {
            let cause = format!("the certificate of {host} is not trusted");
            return ChannelError::refused(cause, tls::UNTRUSTED);
        }
        let said = without_addresses(&e.to_string());
        let cause = format!("{host}: {said}");
        match e.status().map(u16::from) {
            Some(code) if is_about_greeting(code, &said) => {
                let remedy = format!(
                    "Set `helo` of this channel to the full name of this host, one that the mail server finds in DNS. It was \
                     greeted as {hello}."
                );
                match e.is_permanent() {
                    true => ChannelError::refused(cause, &remedy),
                    false => ChannelError::unavailable(cause, &remedy),
                }
            }
            Some(530 | 534 | 535 | 538) => {
                ChannelError::refused(cause, "Check `user` and the password of this channel.")
            }
            Some(_) if e.is_permanent() => ChannelError::refused(
                cause,
                "Check `from` and `to`, and what the mail server allows this host.",
            ),
            Some(_) => ChannelError::unavailable(cause, "Look at the log of the mail server."),
            None if e.is_client() => ChannelError::refused(
                cause,
                "Check `tls`, `port` and the login: the server does not offer what the channel needs.",
            ),
            None => ChannelError::unavailable(cause, UP),
        }
    }
}

/// Whether a server refuses the name that it was greeted with. Most only say so once they know the recipient.
fn is_about_greeting(code: u16, said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    let named =
        ["helo", "ehlo", "fully-qualified", "fully qualified", "fqdn"].iter().any(|word| said.contains(word));
    // "Not implemented with this parameter", of which only the greeting and the login have any; the login has its own codes.
    code == 504 || (named && !matches!(code, 530..=538))
}

fn encryption(settings: &EmailSettings) -> Result<Tls> {
    if settings.encryption == Encryption::None {
        return if is_this_host(&settings.host) {
            Ok(Tls::None)
        } else {
            Err(Error::new(ErrorKind::Config, format!("mail to {} would not be encrypted", settings.host))
                .remedy("Use `tls = \"starttls\"` or `tls = \"implicit\"`; only a server on this host may go without."))
        };
    }
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.ca_file {
        builder = builder.certificate_store(CertificateStore::None);
        for certificate in tls::certificates(path)? {
            let certificate = Certificate::from_der(certificate.to_vec());
            let reading = format!("use the certificates in {}", path.display());
            builder = builder.add_root_certificate(certificate.or_kind(ErrorKind::Config, reading)?);
        }
    }
    let parameters = builder.build().or_internal("set up TLS for mail")?;
    Ok(match settings.encryption {
        Encryption::Implicit => Tls::Wrapper(parameters),
        _ => Tls::Required(parameters),
    })
}

/// Servers repeat addresses of people in their answers. Errors must not.
fn without_addresses(text: &str) -> String {
    text.split_whitespace()
        .map(|word| if word.contains('@') { "…" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

#[async_trait]
impl Channel for Email {
    fn describe(&self) -> String {
        format!("email by {}", self.host)
    }

    fn is_read_by_people(&self) -> bool {
        true
    }

    async fn send(&self, message: &Message, cancel: &CancellationToken) -> Result<Sent, ChannelError> {
        bounded(self.timeout, cancel, &self.host, self.submit_to_all(message)).await
    }

    async fn check(&self, cancel: &CancellationToken) -> Result<String, ChannelError> {
        let work = async {
            let hello = self.hello().await;
            let transport: Transport = self.transport.clone().hello_name(hello.clone()).build();
            match transport.test_connection().await {
                Ok(true) => Ok(format!("{} answers and accepts this host", self.host)),
                Ok(false) => Err(ChannelError::unavailable(format!("{} does not answer", self.host), UP)),
                Err(e) => Err(self.error(&e, &hello)),
            }
        };
        bounded(self.timeout, cancel, &self.host, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::condition::{Condition, ConditionKind, Severity};
    use crate::model::incident::{self, Policy};
    use crate::model::notice::Notice;
    use jiff::Timestamp;

    fn settings() -> EmailSettings {
        EmailSettings {
            host: "mail.example".to_owned(),
            port: 587,
            encryption: Encryption::StartTls,
            login: None,
            ca_file: None,
            from: "marbre@provider.example".to_owned(),
            to: vec!["ops@provider.example".to_owned(), "Ops <two@provider.example>".to_owned()],
            helo: Some("db1.example.com".to_owned()),
            timeout: Duration::from_secs(5),
        }
    }

    #[test]
    fn nothing_in_clear_leaves_this_host() {
        let open = |host: &str| {
            Email::new(&EmailSettings { host: host.to_owned(), encryption: Encryption::None, ..settings() })
        };
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert!(open(host).is_ok(), "{host}");
        }
        assert!(open("mail.example").unwrap_err().to_string().contains("would not be encrypted"));
    }

    #[test]
    fn mails_of_one_incident_are_a_thread_and_no_text_becomes_a_header() {
        let condition = Condition {
            kind: ConditionKind::DiskLow,
            severity: Severity::Critical,
            database: None,
            object: None,
            summary: "Été.\r\nBcc: everybody@example.com".to_owned(),
            stage: None,
            error: None,
            targets: Vec::new(),
            proven_at: None,
            remedy: "Free some.\r\n.\r\n".to_owned(),
            origin: None,
            affected: Vec::new(),
            due_at: None,
        };
        let start: Timestamp = "2026-11-25T02:00:00Z".parse().unwrap();
        let policy = Policy::default();
        let opened = incident::observe(&[], std::slice::from_ref(&condition), &[], start, &policy);
        let later = start + Duration::from_secs(3600);
        let again = incident::observe(&opened.changed, &[condition], &[], later, &policy);
        let email = Email::new(&settings()).unwrap();
        let mail = |event: &incident::Event, n| {
            let message = Message::of(&Notice::Incident(Box::new(event.clone())), n, "db1", start, start);
            String::from_utf8(email.mail(&message, &email.to).unwrap().formatted()).unwrap()
        };
        let (first, second) = (mail(&opened.events[0], 1), mail(&again.events[0], 2));
        let header = |mail: &str, name: &str| {
            let (headers, _) = mail.split_once("\r\n\r\n").unwrap();
            headers.lines().find_map(|l| l.strip_prefix(&format!("{name}: "))).map(str::to_owned)
        };
        let name = header(&first, "Message-ID").unwrap();
        assert!(name.ends_with("@provider.example>"), "{name}");
        assert_eq!(header(&first, "In-Reply-To"), None);
        assert_eq!(header(&second, "In-Reply-To"), Some(name.clone()));
        assert_eq!(header(&second, "References"), Some(name.clone()));
        assert_ne!(header(&second, "Message-ID"), Some(name));
        assert_eq!(header(&first, "Bcc"), None);
        assert_eq!(header(&first, "Auto-Submitted").unwrap(), "auto-generated");
        assert_eq!(header(&first, "Date").unwrap(), "Wed, 25 Nov 2026 02:00:00 +0000");
    }

    #[test]
    fn what_is_said_of_a_greeting_names_the_key() {
        for (code, said) in [
            (504, "permanent error (504): 5.5.2 <db1>: Helo command rejected: need fully-qualified hostname"),
            (450, "transient error (450): 4.7.1 <db1>: Helo command rejected: Host not found"),
            (550, "permanent error (550): Access denied - Invalid HELO name (See RFC2821 4.1.1.1)"),
            (501, "permanent error (501): Invalid EHLO domain"),
        ] {
            assert!(is_about_greeting(code, said), "{said}");
        }
        for (code, said) in [(550, "5.1.1 unknown user"), (535, "5.7.8 no"), (451, "4.3.0 busy"), (421, "")] {
            assert!(!is_about_greeting(code, said), "{said}");
        }
    }

    #[test]
    fn addresses_that_a_server_repeats_are_not_shown() {
        assert_eq!(without_addresses("550 5.1.1 <bob@example.com>: unknown"), "550 5.1.1 … unknown");
    }
}
