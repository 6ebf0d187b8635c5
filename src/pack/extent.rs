//! Where the bytes of a stream lie in packs.

use serde::{Deserialize, Serialize};

/// A run of bytes inside a pack, written as `[pack, offset, length]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(Option<u32>, u64, u64)", into = "(Option<u32>, u64, u64)")]
pub(crate) struct Extent {
    /// Index into the list of packs. `None` for bytes of a pack that was lost: no later layer copies them.
    pub pack: Option<u32>,
    /// Offset in the pack's decompressed bytes.
    pub offset: u64,
    /// Number of bytes, at least 1.
    pub length: u64,
}

impl From<(Option<u32>, u64, u64)> for Extent {
    fn from((pack, offset, length): (Option<u32>, u64, u64)) -> Self {
        Self { pack, offset, length }
    }
}

impl From<Extent> for (Option<u32>, u64, u64) {
    fn from(e: Extent) -> Self {
        (e.pack, e.offset, e.length)
    }
}

/// What one snapshot added to a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// Length of the stream with this layer.
    pub length: u64,
    /// Where the edit script over the layers below is. Empty for the lowest layer: the stream is its data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub script: Vec<Extent>,
    /// Where the new bytes are, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<Extent>,
}

impl Layer {
    /// All extents of the layer.
    pub(crate) fn extents(&self) -> impl Iterator<Item = &Extent> {
        self.script.iter().chain(&self.data)
    }

    /// How many new bytes it has.
    pub(crate) fn new_bytes(&self) -> u64 {
        self.data.iter().map(|e| e.length).sum()
    }
}

/// Number of bytes in these extents; `None` if that is no number.
pub(crate) fn total(extents: &[Extent]) -> Option<u64> {
    extents.iter().try_fold(0u64, |sum, e| sum.checked_add(e.length))
}

/// Appends an extent, or lengthens the last one.
pub(crate) fn push(extents: &mut Vec<Extent>, extent: Extent) {
    match extents.last_mut() {
        Some(last) if last.pack == extent.pack && last.offset + last.length == extent.offset => {
            last.length += extent.length;
        }
        _ => extents.push(extent),
    }
}
