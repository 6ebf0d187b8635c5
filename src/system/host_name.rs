//! How this host is called.

use std::net::IpAddr;

use tokio::net::UdpSocket;

/// The full name of this host, with its domain: its own, or what `/etc/hosts` gives as the full form of its own. `None` where
/// it has none that it knows of.
pub(crate) fn full() -> Option<String> {
    let own = whoami::hostname().ok()?;
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    full_form(&own, &hosts)
}

/// The name, or the full name of a line of `/etc/hosts` that also has the short one.
fn full_form(own: &str, hosts: &str) -> Option<String> {
    let own = own.trim_end_matches('.');
    if is_full(own) {
        return Some(own.to_owned());
    }
    let names = |line: &str| -> Vec<String> {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().skip(1).map(str::to_owned).collect()
    };
    let with_own = hosts.lines().map(names).filter(|names| names.iter().any(|name| name == own));
    // Distributions write `127.0.1.1 db1.example.com db1`; that a line holds other hosts' names too is not usual.
    with_own
        .flatten()
        .find(|name| is_full(name) && name.split('.').next() == Some(own) && !name.ends_with(".localdomain"))
}

/// Whether this is a name with a domain, of characters that names of hosts may have.
fn is_full(name: &str) -> bool {
    let label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.contains('.') && name.len() <= 255 && name.split('.').all(label) && name.parse::<IpAddr>().is_err()
}

/// The address by which this host speaks to another. Sends nothing.
pub(crate) async fn address_towards(host: &str, port: u16) -> Option<IpAddr> {
    let peer = tokio::net::lookup_host((host, port)).await.ok()?.next()?;
    let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(peer).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_name_is_found_where_there_is_one() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1 db1.example.com db1 # this host\n10.0.0.2 db2.example.com db2\n\
                     # 10.0.0.3 db3.example.com db3\n127.0.0.1 db4.localdomain db4\n::1 db5 db5.example.org\n";
        for (own, full) in [
            ("db1", Some("db1.example.com")),
            ("db1.example.net", Some("db1.example.net")),
            ("db1.example.net.", Some("db1.example.net")),
            ("db5", Some("db5.example.org")),
            ("db3", None),
            ("db4", None),
            ("db9", None),
            ("localhost", None),
            ("db_1.example.com", None),
            ("10.0.0.2", None),
            ("", None),
        ] {
            assert_eq!(full_form(own, hosts).as_deref(), full, "{own}");
        }
    }

    #[tokio::test]
    async fn the_address_is_the_one_on_the_way() {
        assert_eq!(address_towards("127.0.0.1", 25).await, Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(address_towards("no-such-host.invalid", 25).await, None);
    }
}
