//! What the host and its network offer: its name, room on disks, programs and a sandbox to run them in, TLS, what a server shows of
//! itself.

pub(crate) mod certificate;
pub(crate) mod disk;
pub(crate) mod host_name;
pub(crate) mod memory;
pub(crate) mod programs;
pub(crate) mod runner;
pub(crate) mod sandbox;
pub(crate) mod socket;
pub(crate) mod tls;
