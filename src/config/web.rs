//! Where the daemon shows how it stands.

use std::net::{Ipv4Addr, SocketAddr};

use toml::de::DeValue;

use super::forms;
use crate::config::complaint::Complaint;
use crate::config::section::Section;

const LISTEN: &str = "an IP address and a port, such as \"127.0.0.1:9190\" or \"[::1]:9190\", or \"none\"";
const HOST: &str = "the name of a host, without a port, such as \"backup.example\"";
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9190);

/// Where `/metrics`, `/healthz` and `/status.json` are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Web {
    /// The address; the port is not 0.
    pub listen: SocketAddr,
    /// The names by which it may be asked, besides addresses and `localhost`.
    pub hosts: Vec<String>,
}

/// Reads `[web]`, which may be absent. `None` where nothing is to be shown.
pub(super) fn read(top: &mut Section<'_>) -> Option<Web> {
    let mut web = Some(Web { listen: DEFAULT_LISTEN, hosts: Vec::new() });
    top.table("web", |section| {
        let listen = section.optional("listen", listen).unwrap_or(Some(DEFAULT_LISTEN));
        let hosts = section.list("hosts", host);
        if listen.is_some_and(|address| !address.ip().to_canonical().is_loopback()) {
            section.warn(
                "listen",
                "others can reach this address, and no password is asked for: anybody who reaches it can read names, times, sizes and incidents",
            );
        }
        web = listen.map(|listen| Web { listen, hosts });
    });
    web
}

fn listen(value: &DeValue<'_>) -> Result<Option<SocketAddr>, Complaint> {
    let text = forms::text(value).map_err(|complaint| complaint.accepted(LISTEN))?;
    if text == "none" {
        return Ok(None);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            Err(Complaint::new("has the port 0, which means any port").accepted(LISTEN))
        }
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(Complaint::new(format!("{text:?} is not an address to listen on")).accepted(LISTEN)),
    }
}

fn host(value: &DeValue<'_>) -> Result<String, Complaint> {
    let text = forms::text(value).map_err(|complaint| complaint.accepted(HOST))?;
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if plain {
        Ok(text)
    } else {
        Err(Complaint::new(format!("{text:?} is not the name of a host")).accepted(HOST))
    }
}
