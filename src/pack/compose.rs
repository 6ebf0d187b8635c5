//! Composing edit scripts: several of them, one over the other, give the pieces of the newest version of a stream.
//!
//! Every source is read from front to back, so a reader needs one cursor for each and never goes back.

use std::io::{self, Read};

use crate::pack::script::{Edit, ScriptReader};

/// A run of a stream's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where the bytes are: 0 is the version below all scripts, *n* the new bytes of script *n*.
    pub source: usize,
    /// Offset there. For each source, offsets only grow.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Yields the pieces of a stream in order.
#[derive(Debug)]
pub(crate) struct Composer<R> {
    levels: Vec<Level<R>>,
    /// How far the version below all scripts was read.
    bottom: u64,
    bottom_length: u64,
}

#[derive(Debug)]
struct Level<R> {
    script: ScriptReader<R>,
    /// What remains of the current step.
    edit: Edit,
    /// How many new bytes were taken.
    taken: u64,
}

impl<R: Read> Composer<R> {
    /// Composes scripts over a version of `bottom_length` bytes, the oldest script first.
    pub(crate) fn new(bottom_length: u64, scripts: impl IntoIterator<Item = ScriptReader<R>>) -> Self {
        let levels = scripts.into_iter().map(|script| Level { script, edit: Edit::default(), taken: 0 });
        Self { levels: levels.collect(), bottom: 0, bottom_length }
    }

    /// The next piece, of at most `limit` bytes; `None` at the end of the newest version.
    pub(crate) fn next(&mut self, limit: u64) -> io::Result<Option<Piece>> {
        self.pull(self.levels.len(), limit)
    }

    fn pull(&mut self, level: usize, limit: u64) -> io::Result<Option<Piece>> {
        let Some(index) = level.checked_sub(1) else {
            let length = limit.min(self.bottom_length - self.bottom);
            let piece = Piece { source: 0, offset: self.bottom, length };
            self.bottom += length;
            return Ok((length > 0).then_some(piece));
        };
        loop {
            let edit = self.levels[index].edit;
            if edit.copy > 0 {
                let piece = self.pull(index, limit.min(edit.copy))?.ok_or_else(beyond)?;
                self.levels[index].edit.copy -= piece.length;
                return Ok(Some(piece));
            }
            if edit.skip > 0 {
                let passed = self.pull(index, edit.skip)?.ok_or_else(beyond)?;
                self.levels[index].edit.skip -= passed.length;
                continue;
            }
            let this = &mut self.levels[index];
            if edit.take > 0 {
                let piece = Piece { source: level, offset: this.taken, length: limit.min(edit.take) };
                this.taken += piece.length;
                this.edit.take -= piece.length;
                return Ok(Some(piece));
            }
            match this.script.next()? {
                Some(next) => this.edit = next,
                None => return Ok(None),
            }
        }
    }
}

fn beyond() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an edit script goes beyond the version that it edits")
}

/// Where ranges of the newest version are, asked for in ascending order.
#[derive(Debug)]
pub(crate) struct Origins<R> {
    composer: Composer<R>,
    /// Where the current piece starts in the newest version.
    start: u64,
    piece: Piece,
}

impl<R: Read> Origins<R> {
    /// Searches the pieces that `composer` yields.
    pub(crate) fn new(composer: Composer<R>) -> Self {
        Self { composer, start: 0, piece: Piece { source: 0, offset: 0, length: 0 } }
    }

    /// Where this range is, if it lies within one piece.
    pub(crate) fn of(&mut self, at: u64, length: u64) -> io::Result<Option<Piece>> {
        while self.start + self.piece.length <= at {
            self.start += self.piece.length;
            match self.composer.next(u64::MAX)? {
                Some(piece) => self.piece = piece,
                None => return Ok(None),
            }
        }
        let inside = at - self.start;
        let whole = inside + length <= self.piece.length;
        Ok(whole.then(|| Piece { offset: self.piece.offset + inside, length, ..self.piece }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::script::ScriptWriter;
    use proptest::prelude::*;

    /// A script as bytes, and what it makes of `below` and `new`.
    fn apply(edits: &[(u64, u64, u64)], below: &[u8], new: &[u8]) -> (Vec<u8>, Vec<u8>, u64) {
        let mut script = ScriptWriter::default();
        let (mut made, mut at, mut taken) = (Vec::new(), 0, 0);
        for &(copy, skip, take) in edits {
            let copy = copy.min((below.len() - at) as u64);
            script.copy(copy);
            made.extend_from_slice(&below[at..at + copy as usize]);
            at += copy as usize;
            let skip = skip.min((below.len() - at) as u64);
            script.skip(skip);
            at += skip as usize;
            let take = take.min((new.len() - taken) as u64);
            script.take(take);
            made.extend_from_slice(&new[taken..taken + take as usize]);
            taken += take as usize;
        }
        script.end();
        (script.drain(), made, taken as u64)
    }

    proptest! {
        #[test]
        fn composed_scripts_give_the_newest_version(
            layers in proptest::collection::vec(proptest::collection::vec((0u64..9, 0u64..5, 0u64..5), 0..12), 0..6),
            limit in 1u64..20,
        ) {
            let mut sources = vec![(0..60).collect::<Vec<u8>>()];
            let mut version = sources[0].clone();
            let mut scripts = Vec::new();
            for (number, edits) in layers.iter().enumerate() {
                let new: Vec<u8> = (0..40).map(|i| 60 + number as u8 * 30 + i % 30).collect();
                let (script, made, _) = apply(edits, &version, &new);
                scripts.push(script);
                version = made;
                sources.push(new);
            }
            let composer = || Composer::new(60, scripts.iter().map(|s| ScriptReader::new(s.as_slice())));
            let mut composed = composer();
            let mut back = Vec::new();
            let mut ends = vec![0; sources.len()];
            while let Some(piece) = composed.next(limit).unwrap() {
                prop_assert!(piece.length > 0 && piece.length <= limit && piece.offset >= ends[piece.source]);
                ends[piece.source] = piece.offset + piece.length;
                back.extend_from_slice(&sources[piece.source][piece.offset as usize..ends[piece.source] as usize]);
            }
            prop_assert_eq!(&back, &version);
            let mut origins = Origins::new(composer());
            for at in 0..version.len() as u64 {
                let piece = origins.of(at, 1).unwrap().unwrap();
                prop_assert_eq!(sources[piece.source][piece.offset as usize], version[at as usize]);
            }
            prop_assert!(origins.of(version.len() as u64, 1).unwrap().is_none());
        }
    }

    #[test]
    fn a_script_beyond_its_version_is_an_error() {
        for edits in [[61, 0, 0], [60, 1, 1]] {
            let mut bytes = Vec::new();
            Edit { copy: edits[0], skip: edits[1], take: edits[2] }.write(&mut bytes);
            let mut composer = Composer::new(60, [ScriptReader::new(bytes.as_slice())]);
            let all: io::Result<Vec<_>> =
                std::iter::from_fn(|| composer.next(u64::MAX).transpose()).collect();
            assert!(all.is_err());
        }
    }
}
