//! Pure values and rules: no async runtime, no clock, no file system. `now` is an argument.

pub mod check;
pub mod human;
pub mod id;
pub mod level;
pub mod proof;
pub mod sabotage;
pub mod verdict;
