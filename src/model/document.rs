//! What programs read: JSON documents that say what they are.

use serde::Serialize;

/// What is printed or kept as JSON for programs. `docs/schemas/NAME.schema.json` describes it. A key that is new leaves the
/// version as it is; one that goes, or means something else, makes a new one.
pub(crate) trait Document: Serialize {
    /// Its name.
    const NAME: &'static str;
    /// Its version.
    const VERSION: u32;
}

/// A document with its name and version.
#[derive(Serialize)]
pub(crate) struct Named<'a, D> {
    document: &'static str,
    version: u32,
    #[serde(flatten)]
    content: &'a D,
}

impl<'a, D: Document> Named<'a, D> {
    /// This one.
    pub(crate) fn of(content: &'a D) -> Self {
        Self { document: D::NAME, version: D::VERSION, content }
    }
}
