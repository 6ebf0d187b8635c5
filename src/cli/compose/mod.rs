//! The composition root: from configuration or arguments to engines, targets, keys and jobs.

pub(super) mod channels;
pub(super) mod engines;
pub(super) mod glance;
pub(super) mod jobs;
pub(super) mod keys;
pub(super) mod launcher;
pub(super) mod source;
pub(super) mod surroundings;
pub(super) mod targets;
