//! Pure values and rules: no async runtime, no clock, no file system. `now` is an argument.

pub mod check;
pub mod condition;
pub mod human;
pub mod id;
pub mod job;
pub mod level;
pub mod proof;
pub mod retention;
pub mod run;
pub mod sabotage;
pub mod schedule;
pub mod verdict;
