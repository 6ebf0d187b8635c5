//! The forms of what stands in the tables of alert channels.

use lettre::message::Mailbox;
use toml::de::DeValue;

use super::forms;
use crate::config::complaint::Complaint;

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MailTls {
    /// STARTTLS: after a greeting in clear text.
    StartTls,
    /// Implicit TLS: from the first byte.
    Implicit,
    /// Not at all: for a mail server on this host only.
    None,
}

/// How a monitor is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PingMethod {
    /// As it turns out to want it.
    Either,
    /// By GET.
    Get,
    /// By POST.
    Post,
}

pub(super) fn is_this_host(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Complaint> {
    value.as_bool().ok_or_else(|| Complaint::new("is not a boolean").accepted("true or false"))
}

pub(super) fn host(value: &DeValue<'_>) -> Result<String, Complaint> {
    let accepted = "the name or address of a host, such as \"smtp.example.com\"";
    let host = forms::text(value)?;
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'_'));
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    if plain && (is_address || !host.contains(':')) {
        Ok(host)
    } else {
        Err(Complaint::new("is not the name of a host").accepted(accepted))
    }
}

/// What a mail server takes for the name of a host (RFC 5321, section 4.1.2).
pub(super) fn helo(value: &DeValue<'_>) -> Result<String, Complaint> {
    let text = forms::text(value)?;
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let literal = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = literal.map(|a| a.strip_prefix("IPv6:").unwrap_or(a).parse::<std::net::IpAddr>().is_ok());
    if address.unwrap_or_else(|| text.len() <= 255 && text.split('.').all(label)) {
        Ok(text)
    } else {
        Err(Complaint::new("is not the name of a host").accepted(
            "a full host name, such as \"db1.example.com\", or an address, such as \"[192.0.2.1]\"",
        ))
    }
}

/// The address of a mailbox. It belongs to a person, and is not repeated.
pub(super) fn address(value: &DeValue<'_>) -> Result<String, Complaint> {
    let text = forms::filled_text(value)?;
    match text.parse::<Mailbox>() {
        Ok(_) => Ok(text),
        Err(_) => Err(Complaint::new("is not a mailbox address")
            .accepted("\"name@example.com\" or \"Name <name@example.com>\"")),
    }
}

pub(super) fn mail_tls(value: &DeValue<'_>) -> Result<MailTls, Complaint> {
    match forms::text(value)?.as_str() {
        "starttls" => Ok(MailTls::StartTls),
        "implicit" => Ok(MailTls::Implicit),
        "none" => Ok(MailTls::None),
        other => {
            Err(Complaint::new(format!("is {other:?}")).accepted("\"starttls\", \"implicit\" or \"none\""))
        }
    }
}

pub(super) fn ping_method(value: &DeValue<'_>) -> Result<PingMethod, Complaint> {
    match forms::text(value)?.as_str() {
        "get" => Ok(PingMethod::Get),
        "post" => Ok(PingMethod::Post),
        other => Err(Complaint::new(format!("is {other:?}"))
            .accepted("\"get\" or \"post\"; without it, whichever the service takes")),
    }
}

/// A URL. What is wrong with it can be that it holds a secret, so it is not repeated.
pub(super) fn http_url(value: &DeValue<'_>) -> Result<String, Complaint> {
    let accepted = "\"https://host/path\"; \"http://…\" only with `allow_private = true`";
    let text = forms::filled_text(value)?;
    let url = url::Url::parse(&text).map_err(|_| Complaint::new("is not a URL").accepted(accepted))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Complaint::new("is not an http or https URL").accepted(accepted));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Complaint::new("contains a password").accepted(accepted).remedy(
            "Take it out of this file: put the whole URL in a file that only its owner can read, and name that file with `url_file`.",
        ));
    }
    Ok(text)
}

pub(super) fn header_name(value: &DeValue<'_>) -> Result<String, Complaint> {
    let name = forms::text(value)?;
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(Complaint::new("is not the name of a header")
            .accepted("letters, digits and '-', such as \"X-Token\""))
    }
}

pub(super) fn topic(value: &DeValue<'_>) -> Result<String, Complaint> {
    let topic = forms::text(value)?;
    let plain = topic.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if plain && topic.len() <= 64 {
        Ok(topic)
    } else {
        Err(Complaint::new("is not a topic").accepted("1 to 64 of a-z, A-Z, 0-9, '-' and '_'"))
    }
}
