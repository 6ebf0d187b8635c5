//! The types of alert channels, and the keys of each.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::channel_values::{
    MailTls, PingMethod, address, boolean, header_name, helo, host, http_url, is_this_host, mail_tls,
    ping_method, topic,
};
use super::{Secret, forms};
use crate::config::complaint::{Complaint, nearest};
use crate::config::section::Section;
use crate::model::template::{InvalidTemplate, PLACEHOLDERS, Template};

/// Where a value is that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the configuration.
    Open(String),
    /// Where the secret is kept.
    Secret(Secret),
}

/// What a channel is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ChannelSettings {
    /// Mail.
    Email {
        /// The mail server.
        host: String,
        /// Its port.
        port: u16,
        /// How the connection is encrypted.
        tls: MailTls,
        /// Who logs in, with which password.
        login: Option<(String, Secret)>,
        /// The authorities that are trusted instead of the system's.
        ca_file: Option<PathBuf>,
        /// Who writes.
        from: String,
        /// To whom; at least one.
        to: Vec<String>,
        /// How this host names itself to the mail server; `None`: by its own name.
        helo: Option<String>,
    },
    /// JSON to a URL.
    Webhook(Http, WebhookShape),
    /// PagerDuty, with the integration key of a service.
    PagerDuty(Http, Secret),
    /// ntfy, with a topic.
    Ntfy(Http, Place),
    /// A monitor that counts pings: how it is asked, and where failures go if that does not follow from the URL.
    Ping(Http, PingMethod, Option<Place>),
    /// A program and its arguments.
    Command {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<String>,
    },
}

/// What the JSON of a webhook looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WebhookShape {
    /// All parts of the message.
    Fields,
    /// A template of the operator's.
    Template(Template),
    /// Slack's.
    Slack,
    /// That of Teams.
    Teams,
    /// Mattermost's.
    Mattermost,
    /// Discord's.
    Discord,
}

/// A service that is spoken to over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Http {
    /// Its URL; `None`: the usual one.
    pub url: Option<Place>,
    /// A header with a secret: its name, and where the value is. `authorization` gets `Bearer` before it.
    pub header: Option<(String, Secret)>,
    /// Private networks and this host are allowed.
    pub allow_private: bool,
    /// The authorities that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// The types, by their names in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Email,
    Webhook,
    Slack,
    Teams,
    Mattermost,
    Discord,
    PagerDuty,
    Ntfy,
    Ping,
    Command,
}

const KINDS: [(&str, Kind); 10] = [
    ("email", Kind::Email),
    ("webhook", Kind::Webhook),
    ("slack", Kind::Slack),
    ("teams", Kind::Teams),
    ("mattermost", Kind::Mattermost),
    ("discord", Kind::Discord),
    ("pagerduty", Kind::PagerDuty),
    ("ntfy", Kind::Ntfy),
    ("ping", Kind::Ping),
    ("command", Kind::Command),
];

pub(super) fn kind(value: &DeValue<'_>) -> Result<Kind, Complaint> {
    let text = forms::text(value)?;
    if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == text) {
        return Ok(*kind);
    }
    let names = KINDS.map(|(name, _)| name);
    let complaint = Complaint::new(format!("there is no type {text:?}")).accepted(names.join(", "));
    Err(match nearest(&text, names) {
        Some(near) => complaint.remedy(format!("Did you mean {near:?}?")),
        None => complaint,
    })
}

/// Reads what a channel of this type needs.
pub(super) fn read(kind: Kind, section: &mut Section<'_>, base: &Path) -> Option<ChannelSettings> {
    match kind {
        Kind::Email => email(section, base),
        Kind::Command => command(section, base),
        Kind::Webhook => {
            let http = http(section, base, Url::Open);
            let shape = template(section, base).map_or(WebhookShape::Fields, WebhookShape::Template);
            let header = header(section, base);
            Some(ChannelSettings::Webhook(Http { header, ..http? }, shape))
        }
        Kind::Slack => chat(section, base, WebhookShape::Slack),
        Kind::Teams => chat(section, base, WebhookShape::Teams),
        Kind::Mattermost => chat(section, base, WebhookShape::Mattermost),
        Kind::Discord => chat(section, base, WebhookShape::Discord),
        Kind::PagerDuty => {
            let http = http(section, base, Url::Known);
            let keys = Keys { plain: "key", file: "key_file", env: "key_env", credential: "key_credential" };
            let key = keys.required(section, base);
            Some(ChannelSettings::PagerDuty(http?, key?))
        }
        Kind::Ntfy => {
            let http = http(section, base, Url::Known);
            let keys =
                Keys { plain: "topic", file: "topic_file", env: "topic_env", credential: "topic_credential" };
            let open = section.optional("topic", topic).map(Place::Open);
            let topic = open.or(keys.elsewhere(section, base).map(Place::Secret));
            if !keys.any(section) {
                section.missing("topic", "topic = \"NAME\"");
            }
            let token = TOKEN.optional(section, base);
            let header = token.map(|token| ("authorization".to_owned(), token));
            Some(ChannelSettings::Ntfy(Http { header, ..http? }, topic?))
        }
        Kind::Ping => {
            let http = http(section, base, Url::Open);
            let method = section.optional("method", ping_method).unwrap_or(PingMethod::Either);
            let open = section.optional("fail_url", http_url).map(Place::Open);
            let fail = open.or(FAIL_URL.elsewhere(section, base).map(Place::Secret));
            Some(ChannelSettings::Ping(http?, method, fail))
        }
    }
}

/// The keys under which a secret can be given.
struct Keys {
    plain: &'static str,
    file: &'static str,
    env: &'static str,
    credential: &'static str,
}

const TOKEN: Keys =
    Keys { plain: "token", file: "token_file", env: "token_env", credential: "token_credential" };
const URL: Keys = Keys { plain: "url", file: "url_file", env: "url_env", credential: "url_credential" };
const FAIL_URL: Keys =
    Keys { plain: "fail_url", file: "fail_url_file", env: "fail_url_env", credential: "fail_url_credential" };
const PASSWORD: Keys =
    Keys { plain: "password", file: "password_file", env: "password_env", credential: "password_credential" };

impl Keys {
    fn any(&self, section: &Section<'_>) -> bool {
        [self.plain, self.file, self.env, self.credential].iter().any(|key| section.has(key))
    }

    /// Where the secret is, unless it stands here.
    fn elsewhere(&self, section: &mut Section<'_>, base: &Path) -> Option<Secret> {
        let file = section.optional(self.file, forms::secret_path(base));
        let variable = section.optional(self.env, forms::variable_name);
        let credential = section.optional(self.credential, forms::credential_name);
        section.only_one(&[self.plain, self.file, self.env, self.credential]);
        file.map(Secret::File).or(variable.map(Secret::Env)).or(credential.map(Secret::Credential))
    }

    /// A secret that must not stand here.
    fn optional(&self, section: &mut Section<'_>, base: &Path) -> Option<Secret> {
        let (plain, file) = (self.plain, self.file);
        section.reject(plain, || {
            Complaint::new("is a secret, which must not stand in this file").remedy(format!(
                "Put it in a file that only its owner can read, and name that file with `{file}`. Replace it if others could read this file."
            ))
        });
        self.elsewhere(section, base)
    }

    /// The same, where there must be one.
    fn required(&self, section: &mut Section<'_>, base: &Path) -> Option<Secret> {
        let secret = self.optional(section, base);
        if !self.any(section) {
            section.missing(self.file, &format!("{} = \"/etc/marbre/NAME\"", self.file));
        }
        secret
    }
}

/// What is to be said about a URL.
enum Url {
    /// It may stand here.
    Open,
    /// It is a secret: whoever has it can write.
    Secret,
    /// There is a usual one.
    Known,
}

fn http(section: &mut Section<'_>, base: &Path, url: Url) -> Option<Http> {
    let url = match url {
        Url::Secret => URL.required(section, base).map(|secret| Some(Place::Secret(secret))),
        Url::Known => Some(section.optional("url", http_url).map(Place::Open)),
        Url::Open => {
            let open = section.optional("url", http_url).map(Place::Open);
            let place = open.or(URL.elsewhere(section, base).map(Place::Secret));
            if !URL.any(section) {
                section.missing("url_file", "url_file = \"/etc/marbre/NAME.url\"");
            }
            place.map(Some)
        }
    };
    let allow_private = section.optional("allow_private", boolean).unwrap_or(false);
    let ca_file = section.optional("ca_file", forms::path(base));
    Some(Http { url: url?, header: None, allow_private, ca_file })
}

fn chat(section: &mut Section<'_>, base: &Path, shape: WebhookShape) -> Option<ChannelSettings> {
    http(section, base, Url::Secret).map(|http| ChannelSettings::Webhook(http, shape))
}

/// A token, in `Authorization` or in a header of another name.
fn header(section: &mut Section<'_>, base: &Path) -> Option<(String, Secret)> {
    let name = section.optional("header", header_name);
    let token = TOKEN.optional(section, base);
    if section.has("header") && !TOKEN.any(section) {
        section.missing("token_file", "token_file = \"/etc/marbre/NAME.token\"");
    }
    Some((name.unwrap_or_else(|| "authorization".to_owned()), token?))
}

fn template(section: &mut Section<'_>, base: &Path) -> Option<Template> {
    let inline = section.optional("template", |value| parse_template(&forms::text(value)?));
    let file = section.optional("template_file", |value| {
        let path = forms::path(base)(value)?;
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Complaint::new(format!("cannot read {}: {e}", path.display())))?;
        parse_template(&text)
    });
    section.only_one(&["template", "template_file"]);
    inline.or(file)
}

fn parse_template(text: &str) -> Result<Template, Complaint> {
    let accepted =
        "a JSON document with placeholders inside its strings, such as {\"text\": \"{{subject}}\"}";
    text.parse().map_err(|e: InvalidTemplate| {
        let complaint = Complaint::new(e.to_string());
        let InvalidTemplate::Placeholder(name) = &e else { return complaint.accepted(accepted) };
        let complaint = complaint.accepted(PLACEHOLDERS.join(", "));
        match nearest(name, PLACEHOLDERS) {
            Some(near) => complaint.remedy(format!("Did you mean {{{{{near}}}}}?")),
            None => complaint,
        }
    })
}

fn email(section: &mut Section<'_>, base: &Path) -> Option<ChannelSettings> {
    let host = section.required("host", "host = \"smtp.example.com\"", host);
    let tls = section.optional("tls", mail_tls).unwrap_or(MailTls::StartTls);
    let usual = match tls {
        MailTls::StartTls => 587,
        MailTls::Implicit => 465,
        MailTls::None => 25,
    };
    let port = section.optional("port", forms::whole_number(1..=65_535));
    let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(usual);
    if tls == MailTls::None && host.as_deref().is_some_and(|host| !is_this_host(host)) {
        section.refuse(
            "tls",
            Complaint::new("would send mail to another host unencrypted")
                .accepted("\"starttls\" or \"implicit\"; \"none\" only with `host = \"localhost\"`"),
        );
    }
    let user = section.optional("user", forms::filled_text);
    let password = PASSWORD.optional(section, base);
    let login = match (section.has("user"), PASSWORD.any(section)) {
        (true, false) => {
            section.missing("password_file", "password_file = \"/etc/marbre/mail.password\"");
            None
        }
        (false, true) => {
            section.missing("user", "user = \"NAME\"");
            None
        }
        _ => user.zip(password),
    };
    let ca_file = section.optional("ca_file", forms::path(base));
    let from = section.required("from", "from = \"marbre@example.com\"", address);
    if !section.has("to") {
        section.missing("to", "to = [\"ops@example.com\"]");
    }
    let to = section.list("to", address);
    let helo = section.optional("helo", helo);
    Some(ChannelSettings::Email { host: host?, port, tls, login, ca_file, from: from?, to, helo })
}

fn command(section: &mut Section<'_>, base: &Path) -> Option<ChannelSettings> {
    let example = "command = [\"/usr/local/bin/notify\"]";
    let Some(node) = section.node("command") else {
        section.missing("command", example);
        return None;
    };
    let items = node.items()?;
    let mut words = items.iter().map(|item| item.read(forms::text));
    let program = words.next()??;
    let args = words.collect::<Option<Vec<String>>>()?;
    // A bare name is looked for in PATH.
    let program = if program.contains('/') { base.join(program) } else { PathBuf::from(program) };
    Some(ChannelSettings::Command { program, args })
}
