//! What the tests stand on: real servers, the real binary, ways to break them, and a judge that does not
//! share code with marbre.

// Each module of tests uses its own part of this.
#![allow(dead_code)]

pub mod equality;
pub mod gateway;
pub mod machine;
pub mod marbre;
pub mod mysql;
pub mod postgres;
pub mod proxy;
pub mod s3;
pub mod schemas;
pub mod setup;
pub mod sinks;
pub mod sqlite_setup;

use std::net::TcpListener;

/// How often a test repeats something, or how large its data is: less in everyday runs, all of it where
/// `tests/run --long` asks for that.
pub fn short_or_long<T>(short: T, long: T) -> T {
    if std::env::var("MARBRE_TEST_LONG").is_ok_and(|value| value == "1") { long } else { short }
}

/// Ports of the loopback interface that nobody uses now.
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All are held at the same time, so that they differ.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|l| l.local_addr().unwrap().port())
}
