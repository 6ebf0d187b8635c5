//! Who hears what a job is doing.

use super::stage::Stage;

/// Receives what happens during a load: stages as they start, and bytes as they go in.
pub trait LoadObserver: Send + Sync {
    /// A stage starts; the stage before it has ended.
    fn stage(&self, stage: Stage);
    /// So many more bytes went in.
    fn bytes(&self, n: u64);
}

/// Hears what a job is doing.
pub trait Observer: LoadObserver {
    /// The stage that just started will move about this many bytes.
    fn expect(&self, bytes: u64);
    /// Something was done that is neither a stage nor bytes of it: a question to a target was answered.
    fn moves(&self);
    /// Something that people should know, though the job goes on.
    fn warn(&self, message: &str);
}
