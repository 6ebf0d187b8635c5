//! What a new layer of a stream goes over: the previous version of the stream, or an older one.

use std::io::{self, Read};
use std::ops::Range;

use crate::pack::compose::Origins;

/// An edit script that is kept at hand.
pub(crate) type LocalScript = Box<dyn Read + Send>;

/// Where a range of the previous version is in the version that the new layer goes over: at its own place in the previous
/// version, unless something else is said.
#[derive(Default)]
pub(crate) struct Base {
    /// The new layer goes over an older version, from which the previous one was made like this. What came later is taken anew,
    /// so that fewer layers lie over each other.
    pub older: Option<Origins<LocalScript>>,
    /// Some bytes of the previous version are lost.
    pub lost: Option<Lost>,
}

/// Which bytes of a version are lost.
pub(crate) struct Lost {
    /// Where its bytes come from.
    pub origins: Origins<LocalScript>,
    /// What is lost of each source, in ascending order.
    pub ranges: Vec<Vec<Range<u64>>>,
}

impl Base {
    /// The offset at which these bytes of the previous version can be copied. Ranges are asked for in ascending order.
    pub(crate) fn locate(&mut self, at: u64, length: u64) -> io::Result<Option<u64>> {
        if let Some(lost) = &mut self.lost
            && !lost.spares(at, length)?
        {
            return Ok(None);
        }
        match &mut self.older {
            None => Ok(Some(at)),
            Some(origins) => {
                Ok(origins.of(at, length)?.filter(|piece| piece.source == 0).map(|piece| piece.offset))
            }
        }
    }
}

impl Lost {
    fn spares(&mut self, at: u64, length: u64) -> io::Result<bool> {
        let Some(piece) = self.origins.of(at, length)? else { return Ok(false) };
        let (from, to) = (piece.offset, piece.offset + piece.length);
        Ok(self.ranges.get(piece.source).is_none_or(|ranges| {
            let next = ranges.partition_point(|r| r.end <= from);
            ranges.get(next).is_none_or(|r| r.start >= to)
        }))
    }
}
