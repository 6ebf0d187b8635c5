//! PostgreSQL through the real command line: snapshot to two targets, restore, and a judge of its own.

mod cuts;
mod exceptions;
mod hostile;
mod inventory;
mod large_objects;
mod logins;
mod reader;
mod refusals;
mod restores;
mod sources;
mod subscriptions;
mod too_long;
mod torture;
