//! What surrounds the agent: from the configuration to the servers that it speaks to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use url::Url;

use crate::alert::address;
use crate::cli::compose::{engines, targets};
use crate::config::{ChannelSettings, Config, Http, MailTls, Place};
use crate::engine::Engine;
use crate::health::neighbours;
use crate::health::surroundings::{Credentials, NamedServer, Surroundings};
use crate::model::id::TargetName;
use crate::system::certificate::{Protocol, Server};
use crate::targets::{S3Location, TargetUrl, registry};

/// Everything that surrounds the agent of this configuration.
pub(crate) fn of(config: &Config) -> Surroundings {
    let engines: Vec<_> = config.databases.iter().map(|db| (db.id.clone(), engines::engine(db))).collect();
    let (mut servers, mut credentials) = (Vec::new(), Vec::new());
    for (name, settings) in &config.targets {
        // Opening the target tells of a URL that is not one.
        let Ok(url) = targets::target_url(settings) else { continue };
        // What is reached by way of a proxy only cannot be asked directly.
        let is_direct = registry::proxy(&url).is_none();
        // A directory has no server.
        let TargetUrl::S3(location) = url else { continue };
        servers.extend(target(name, &location).filter(|_| is_direct));
        credentials.extend(location.credentials_file.map(|file| Credentials {
            target: name.clone(),
            file,
            profile: location.profile.unwrap_or_else(|| "default".to_owned()),
        }));
    }
    // Several databases are often on one server.
    let made = engines.iter().filter_map(|(_, engine)| engine.as_ref().ok());
    let on_servers: BTreeMap<String, NamedServer> = made
        .filter_map(|engine| database_server(&**engine))
        .map(|server| (server.name.clone(), server))
        .collect();
    servers.extend(on_servers.into_values());
    for channel in &config.alerts.channels {
        let name = format!("alert channel {}", channel.route.name);
        servers.extend(alert_server(&name, &channel.settings));
    }
    Surroundings { engines, ignored: config.ignore_databases.clone(), servers, credentials }
}

fn any(_: IpAddr) -> bool {
    true
}

/// The same addresses as messages may go to.
fn public(ip: IpAddr) -> bool {
    address::refusal(ip, false).is_none()
}

fn own(ip: IpAddr) -> bool {
    address::refusal(ip, true).is_none()
}

/// The endpoint of a target; AWS's own, where none is named.
fn target(name: &TargetName, location: &S3Location) -> Option<NamedServer> {
    let usual = || format!("https://s3.{}.amazonaws.com", location.region.as_deref().unwrap_or("us-east-1"));
    let url: Url = location.endpoint.clone().unwrap_or_else(usual).parse().ok()?;
    let protocol = if url.scheme() == "https" { Protocol::Https } else { Protocol::Http };
    let server = web_server(&format!("target {name}"), &url, protocol, any)?;
    Some(NamedServer { target: Some(name.clone()), ..server })
}

fn web_server(name: &str, url: &Url, protocol: Protocol, allows: fn(IpAddr) -> bool) -> Option<NamedServer> {
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    // The host of an address in brackets is the address.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(NamedServer {
        name: format!("{name} ({host}:{port})"),
        target: None,
        server: Server { host, port, protocol, allows },
    })
}

fn database_server(engine: &dyn Engine) -> Option<NamedServer> {
    let place = engine.place().filter(|place| place.encrypted && !place.host.starts_with('/'))?;
    Some(NamedServer {
        name: format!("the database server {}", neighbours::server(&place)),
        target: None,
        server: Server { host: place.host, port: place.port, protocol: Protocol::Postgres, allows: any },
    })
}

/// The server of an alert channel, where its address is no secret.
fn alert_server(name: &str, settings: &ChannelSettings) -> Option<NamedServer> {
    let http = |http: &Http| match &http.url {
        Some(Place::Open(text)) => {
            let url: Url = text.parse().ok()?;
            let allows = if http.allow_private { own } else { public };
            (url.scheme() == "https").then(|| web_server(name, &url, Protocol::Tls, allows))?
        }
        // Those with a secret URL, and the usual ones, belong to services that look after their certificates.
        Some(Place::Secret(_)) | None => None,
    };
    match settings {
        ChannelSettings::Email { host, port, tls, .. } => {
            let protocol = match tls {
                MailTls::StartTls => Protocol::Smtp,
                MailTls::Implicit => Protocol::Tls,
                MailTls::None => return None,
            };
            Some(NamedServer {
                name: format!("{name} ({host}:{port})"),
                target: None,
                server: Server { host: host.clone(), port: *port, protocol, allows: any },
            })
        }
        ChannelSettings::Webhook(settings, _)
        | ChannelSettings::PagerDuty(settings, _)
        | ChannelSettings::Ntfy(settings, _)
        | ChannelSettings::Ping(settings, ..) => http(settings),
        ChannelSettings::Command { .. } => None,
    }
}
