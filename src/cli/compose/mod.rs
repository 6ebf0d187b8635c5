//! The composition root: from configuration or arguments to engines, targets, keys and jobs.

pub mod channels;
pub mod engines;
pub mod jobs;
pub mod keys;
pub mod source;
pub mod targets;
