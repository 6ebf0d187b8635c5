//! Alert channels and what they get.

use std::collections::BTreeSet;

use super::*;
use crate::model::condition::Severity;
use crate::model::incident::Policy;
use crate::model::job::JobKind;
use crate::model::route::{Audience, Role};

#[test]
fn without_a_word_nobody_is_told() {
    let alerts = parse(&small()).unwrap().alerts;
    assert_eq!((alerts.policy, alerts.channels), (Policy::default(), Vec::new()));
}

#[test]
fn everything_about_alerts() {
    let text = format!(
        "{}[alerts]\nagent = \"db1\"\nsettle = \"1m\"\ncanary = \"0 8 * * *\"\ntime_zone = \"Europe/Paris\"\n\
         [alert.mail]\ntype = \"email\"\nhost = \"localhost\"\ntls = \"none\"\nfrom = \"a@x.example\"\nto = [\"Ops <b@x.example>\"]\n\
         quiet = \"22:00-07:30\"\nseverity = \"critical\"\nfallback = [\"slack\"]\npublishers = [\"p\"]\n\
         [alert.slack]\ntype = \"slack\"\nurl_credential = \"slack\"\nrole = \"escalation\"\n\
         [alert.hc]\ntype = \"ping\"\nurl_file = \"hc.url\"\ndatabase = \"p/d\"\njob = \"drill\"\n\
         [alert.alive]\ntype = \"ping\"\nurl_env = \"HC\"\n",
        small()
    );
    let alerts = parse(&text).unwrap().alerts;
    assert_eq!((alerts.agent.as_deref(), alerts.policy.settle), (Some("db1"), Duration::from_secs(60)));
    let channel = |name: &str| alerts.channels.iter().find(|c| c.route.name.as_str() == name).unwrap();
    let mail = channel("mail");
    assert_eq!((&mail.route.role, mail.route.floor), (&Role::Main, Severity::Critical));
    assert_eq!(mail.route.audience, Audience::Publishers(BTreeSet::from(["p".parse().unwrap()])));
    assert_eq!(mail.route.quiet.as_ref().unwrap().to.to_string(), "07:30:00");
    assert_eq!(mail.route.fallback, ["slack".parse().unwrap()]);
    assert_eq!(mail.timeout, Duration::from_secs(20));
    let ChannelSettings::Email { port, tls, login: None, .. } = &mail.settings else { panic!("{mail:?}") };
    assert_eq!((*port, *tls), (25, MailTls::None));
    let ChannelSettings::Webhook(http, WebhookShape::Slack) = &channel("slack").settings else { panic!() };
    assert_eq!(http.url, Some(Place::Secret(Secret::Credential("slack".to_owned()))));
    let role = Role::Job("p/d".parse().unwrap(), JobKind::Drill);
    assert_eq!((&channel("hc").route.role, &channel("alive").route.role), (&role, &Role::Canary));
}
