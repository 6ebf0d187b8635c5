//! What `doctor` looks at before work starts.

/// One thing that was looked at before work starts, as `doctor` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, e.g. "pg_dump version".
    pub name: String,
    /// How it is.
    pub state: CheckState,
    /// What was found, e.g. "15.20, server 15.20".
    pub found: String,
    /// What to do, for everything that is not ok.
    pub remedy: Option<String>,
}

/// The result of a [`Check`]. A check that could not be made is `Skipped`, never `Ok`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// Works, but should be better.
    Warn,
    /// Snapshots will fail.
    Fail,
    /// Could not be looked at.
    Skipped,
}
