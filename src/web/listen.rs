//! Where the server listens.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::error::{Error, Result};

/// Listens on this address.
///
/// # Errors
/// Of kind `Preflight`, with a remedy for each way in which an address can be wrong.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        let port = address.port();
        let remedy = match e.kind() {
            io::ErrorKind::AddrInUse => format!(
                "Another program uses this port, perhaps another daemon: `ss -ltnp 'sport = :{port}'` shows which. \
                 End it, or set `web.listen` to another port."
            ),
            io::ErrorKind::AddrNotAvailable => {
                "This host has no such address: set `web.listen` to one of those that `ip address` shows.".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "Set `web.listen` to a port from 1024 on: lower ones are for root.".to_owned()
            }
            _ => "Set `web.listen` to an address of this host, or to \"none\".".to_owned(),
        };
        Error::preflight(format!("failed to listen on {address}")).cause(e).remedy(remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_cannot_be_had_has_a_remedy() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = bind(taken.local_addr().unwrap()).await.unwrap_err();
        assert!(error.message().starts_with("failed to listen on 127.0.0.1:"), "{error}");
        assert!(error.remedy_text().unwrap().contains("ss -ltnp"), "{error:?}");
        // From the block for documentation: no host has it.
        let error = bind("192.0.2.1:9190".parse().unwrap()).await.unwrap_err();
        assert!(error.remedy_text().unwrap().contains("ip address"), "{error:?}");
        assert_eq!(error.kind().exit_code(), 4);
    }
}
