//! `marbre daemon`, as it runs under systemd: the real program, real servers that go away and come back, signals, and
//! people who work beside it.

mod cuts;
mod dates;
pub mod harness;
mod hung;
mod incidents;
mod mail;
mod manual;
mod reload;
mod restarts;
mod stops;
