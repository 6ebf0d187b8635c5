//! The composition root of alerts: from configuration to channels, and the dispatcher that uses them.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::alert::Channel;
use crate::alert::channels::command::Program;
use crate::alert::channels::email::{Email, EmailSettings, Encryption};
use crate::alert::channels::ntfy::Ntfy;
use crate::alert::channels::pagerduty::PagerDuty;
use crate::alert::channels::ping::Ping;
use crate::alert::channels::unopened::Unopened;
use crate::alert::channels::webhook::Webhook;
use crate::alert::channels::{ntfy, pagerduty, ping};
use crate::alert::dispatcher::{Dispatcher, DispatcherSettings, RoutedChannel};
use crate::alert::http::HttpSettings;
use crate::alert::payload::PayloadFormat;
use crate::config::{
    AlertChannel, ChannelSettings, Config, Http, MailTls, PingMethod, Place, Secret, WebhookShape,
};
use crate::error::{Error, Result};
use crate::state::State;

/// How the agent names itself in alerts.
pub(crate) fn agent_name(config: &Config) -> String {
    let host = || whoami::hostname().ok().filter(|name| !name.is_empty());
    config.alerts.agent.clone().or_else(host).unwrap_or_else(|| "agent".to_owned())
}

/// The dispatcher from which people are told, on the state of this configuration.
pub(crate) fn dispatcher(config: &Config) -> Result<Dispatcher> {
    let settings = DispatcherSettings {
        agent: agent_name(config),
        policy: config.alerts.policy,
        gather: config.alerts.gather,
        canary: Some((config.alerts.canary.clone(), config.alerts.time_zone.clone())),
        digest: config.alerts.digest.clone().map(|schedule| (schedule, config.alerts.time_zone.clone())),
        channels: alert_channels(config),
    };
    Ok(Dispatcher::new(settings, State::open(&config.state_dir)?))
}

/// The alert channels. In the place of one that cannot be made (its secret is not there) stands one that fails with that
/// error: the others must not suffer from it, and people must hear of it.
pub(crate) fn alert_channels(config: &Config) -> Vec<RoutedChannel> {
    let routed = |settings: &AlertChannel| {
        let route = settings.route.clone();
        let channel = alert_channel(settings).unwrap_or_else(|e| {
            let error = e.context(format!("alert.{}", route.name));
            Arc::new(Unopened::new("not ready", &error))
        });
        RoutedChannel { route, channel }
    };
    config.alerts.channels.iter().map(routed).collect()
}

fn alert_channel(settings: &AlertChannel) -> Result<Arc<dyn Channel>> {
    let timeout = settings.timeout;
    let plain = |http: &Http| http_settings(http, "", timeout);
    Ok(match &settings.settings {
        ChannelSettings::Email { host, port, tls, login, ca_file, from, to, helo } => {
            let read = |(user, password): &(String, Secret)| Ok::<_, Error>((user.clone(), password.read()?));
            Arc::new(Email::new(&EmailSettings {
                host: host.clone(),
                port: *port,
                encryption: match tls {
                    MailTls::StartTls => Encryption::StartTls,
                    MailTls::Implicit => Encryption::Implicit,
                    MailTls::None => Encryption::None,
                },
                login: login.as_ref().map(read).transpose()?,
                ca_file: ca_file.clone(),
                from: from.clone(),
                to: to.clone(),
                helo: helo.clone(),
                timeout,
            })?)
        }
        ChannelSettings::Webhook(http, shape) => {
            Arc::new(Webhook::new(&plain(http)?, payload_format(shape))?)
        }
        ChannelSettings::PagerDuty(http, key) => {
            let settings = http_settings(http, pagerduty::DEFAULT_URL, timeout)?;
            Arc::new(PagerDuty::new(&settings, key.read()?)?)
        }
        ChannelSettings::Ntfy(http, topic) => {
            Arc::new(Ntfy::new(&http_settings(http, ntfy::DEFAULT_URL, timeout)?, read_place(topic)?)?)
        }
        ChannelSettings::Ping(http, method, fail) => {
            let method = match method {
                PingMethod::Either => ping::PingMethod::Either,
                PingMethod::Get => ping::PingMethod::Get,
                PingMethod::Post => ping::PingMethod::Post,
            };
            let fail = fail.as_ref().map(read_place).transpose()?;
            Arc::new(Ping::new(&plain(http)?, method, fail)?)
        }
        ChannelSettings::Command { program, args } => Arc::new(Program::new(program, args.clone(), timeout)),
    })
}

fn payload_format(shape: &WebhookShape) -> PayloadFormat {
    match shape {
        WebhookShape::Fields => PayloadFormat::Fields,
        WebhookShape::Template(template) => PayloadFormat::Template(template.clone()),
        WebhookShape::Slack => PayloadFormat::Slack,
        WebhookShape::Teams => PayloadFormat::Teams,
        WebhookShape::Mattermost => PayloadFormat::Mattermost,
        WebhookShape::Discord => PayloadFormat::Discord,
    }
}

fn read_place(place: &Place) -> Result<SecretString> {
    match place {
        Place::Open(text) => Ok(SecretString::from(text.as_str())),
        Place::Secret(secret) => secret.read(),
    }
}

fn http_settings(http: &Http, usual: &str, timeout: Duration) -> Result<HttpSettings> {
    let mut headers = Vec::new();
    if let Some((name, token)) = &http.header {
        let token = token.read()?;
        let value = match name.as_str() {
            "authorization" => SecretString::from(format!("Bearer {}", token.expose_secret())),
            _ => token,
        };
        headers.push((name.clone(), value));
    }
    Ok(HttpSettings {
        url: http.url.as_ref().map_or_else(|| Ok(SecretString::from(usual)), read_place)?,
        headers,
        allow_private: http.allow_private,
        ca_file: http.ca_file.clone(),
        timeout,
    })
}
