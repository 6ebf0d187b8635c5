//! What others may see of the daemon over HTTP: `/metrics` for Prometheus, `/healthz` for probes, `/status.json`
//! for programs.
//!
//! Data flow one way: the daemon publishes a [`Published`] whenever something has changed, and a request renders
//! what was published last. No request starts work, opens a target or reads the state, so requests cannot
//! put load on the daemon. There is no authentication: the server is for this host, or for a network that is trusted.

mod exposition;
mod guard;
mod healthz;
mod job_figures;
mod listen;
mod metrics;
mod published;
mod server;
mod slots;
mod status_json;

pub use job_figures::JobFigures;
pub use listen::bind;
pub use metrics::metrics;
pub use published::{ConfigLoad, Look, OpenIncident, Published, PublishedDatabase};
pub use server::serve;
