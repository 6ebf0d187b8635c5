//! Pure values and rules: no async runtime, no clock, no file system. `now` is an argument.

pub mod human;
pub mod id;
pub mod level;
pub mod verdict;
