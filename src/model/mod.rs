//! Pure values and rules: no async runtime, no clock, no file system. `now` is an argument.

pub mod check;
pub mod condition;
pub mod guarantee;
pub mod human;
pub mod id;
pub mod incident;
pub mod job;
pub mod level;
pub mod lock;
pub mod notice;
pub mod proof;
pub mod retention;
pub mod route;
pub mod run;
pub mod sabotage;
pub mod schedule;
pub mod score;
pub mod stage;
pub mod template;
pub mod verdict;
