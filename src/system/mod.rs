//! What the host and its network offer: room on disks, TLS, what a server shows of itself.

pub mod certificate;
pub mod disk;
pub mod tls;
