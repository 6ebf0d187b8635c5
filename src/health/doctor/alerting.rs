//! Whether people would be alerted. Nothing is sent: `marbre alert test` does that.

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::alert::dispatcher::RoutedChannel;
use crate::error::Error;
use crate::model::check::{Check, CheckState};
use crate::model::route::{Audience, Role};

use super::{check, failed, ok};

/// A group of checks per channel, and one about all of them.
pub(super) async fn checks(
    channels: &[RoutedChannel],
    cancel: &CancellationToken,
) -> Vec<(String, Vec<Check>)> {
    let mut groups = vec![("alerts".to_owned(), overview(channels))];
    let looked = channels.iter().map(|channel| async move {
        let found = match channel.channel.check(cancel).await {
            Ok(found) => ok("reach", found),
            Err(e) => failed("reach", &Error::from(e)),
        };
        (format!("alert {} ({})", channel.route.name, channel.channel.describe()), vec![found])
    });
    groups.extend(join_all(looked).await);
    groups
}

fn overview(channels: &[RoutedChannel]) -> Vec<Check> {
    let routes = || channels.iter().map(|channel| &channel.route);
    let ops = routes().filter(|r| r.role == Role::Main && r.audience == Audience::Everything).count();
    let people = match ops {
        0 => check(
            "people",
            CheckState::Warn,
            "no channel gets everything that goes wrong",
            Some("Define one in a table [alert.NAME], without `publishers`."),
        ),
        n => ok("people", format!("{n} channel(s) get everything that goes wrong")),
    };
    let canary = match routes().any(|route| route.role == Role::Canary) {
        true => ok("canary", "a monitor elsewhere notices when this host is off"),
        false => check(
            "canary",
            CheckState::Warn,
            "nobody would notice that this host is off",
            Some(
                "Have a monitor elsewhere expect a daily sign of life: a table [alert.NAME] with `type = \"ping\"`.",
            ),
        ),
    };
    vec![people, canary]
}
