//! What the host and its network offer: room on disks, TLS, what a server shows of itself.

pub(crate) mod certificate;
pub(crate) mod disk;
pub(crate) mod tls;
