//! Edit scripts: how a stream is made of an earlier version of it and of new bytes (see `docs/FORMAT.md`, Layers).
//!
//! A script is a sequence of edits, each of three numbers: copy so many bytes of the earlier version, skip so many
//! there, take so many new ones. The numbers are unsigned LEB128. Both the earlier version and the new bytes are read
//! from front to back, once.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

/// One step of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Edit {
    /// Bytes copied from the earlier version.
    pub copy: u64,
    /// Bytes passed over there, after these.
    pub skip: u64,
    /// Bytes taken from the new data, after these.
    pub take: u64,
}

impl Edit {
    /// Appends the step to a script.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        for mut number in [self.copy, self.skip, self.take] {
            while number >= 0x80 {
                out.push(number as u8 | 0x80);
                number >>= 7;
            }
            out.push(number as u8);
        }
    }
}

/// Writes a script; adjacent steps of one kind become one.
#[derive(Debug, Default)]
pub(crate) struct ScriptWriter {
    current: Edit,
    /// Encoded, and not taken yet.
    encoded: Vec<u8>,
    /// Whether anything but copying from the beginning was asked for.
    edited: bool,
}

impl ScriptWriter {
    /// Copies the next bytes of the earlier version.
    pub(crate) fn copy(&mut self, length: u64) {
        if self.current.skip > 0 || self.current.take > 0 {
            std::mem::take(&mut self.current).write(&mut self.encoded);
        }
        self.current.copy += length;
    }

    /// Passes over the next bytes of the earlier version.
    pub(crate) fn skip(&mut self, length: u64) {
        self.current.skip += length;
        self.edited |= length > 0;
    }

    /// Takes the next new bytes.
    pub(crate) fn take(&mut self, length: u64) {
        self.current.take += length;
        self.edited |= length > 0;
    }

    /// If nothing was skipped or taken: how much of the earlier version's beginning was copied.
    pub(crate) fn copied_only(&self) -> Option<u64> {
        (!self.edited).then_some(self.current.copy)
    }

    /// The step that was begun and is not encoded yet.
    pub(crate) fn current(&self) -> Edit {
        self.current
    }

    /// How many bytes [`ScriptWriter::drain`] would give.
    pub(crate) fn pending(&self) -> usize {
        self.encoded.len()
    }

    /// The steps encoded since the last call.
    pub(crate) fn drain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.encoded)
    }

    /// Encodes the last step: nothing may follow.
    pub(crate) fn end(&mut self) {
        let last = std::mem::take(&mut self.current);
        if last.copy > 0 || last.take > 0 {
            last.write(&mut self.encoded);
        }
    }
}

/// Reads a script.
#[derive(Debug)]
pub(crate) struct ScriptReader<R> {
    from: R,
}

impl<R: Read> ScriptReader<R> {
    /// Reads the script in these bytes. Reading is in small pieces: give it a buffered reader.
    pub(crate) fn new(from: R) -> Self {
        Self { from }
    }

    /// The next step; `None` after the last.
    pub(crate) fn next(&mut self) -> io::Result<Option<Edit>> {
        let Some(copy) = self.number()? else { return Ok(None) };
        let torn = || invalid("an edit script ends within an edit");
        let skip = self.number()?.ok_or_else(torn)?;
        let take = self.number()?.ok_or_else(torn)?;
        // Nobody writes such a step, and any number of them would fit into a small pack.
        if (copy, skip, take) == (0, 0, 0) {
            return Err(invalid("an edit script has a step that does nothing"));
        }
        Ok(Some(Edit { copy, skip, take }))
    }

    fn number(&mut self) -> io::Result<Option<u64>> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            if self.from.read(&mut byte)? == 0 {
                return if shift == 0 {
                    Ok(None)
                } else {
                    Err(invalid("an edit script ends within a number"))
                };
            }
            let bits = u64::from(byte[0] & 0x7f);
            if bits << shift >> shift != bits {
                return Err(invalid("a number in an edit script is too large"));
            }
            number |= bits << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(Some(number));
            }
        }
        Err(invalid("a number in an edit script is too long"))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<Edit>> {
        let mut reader = ScriptReader::new(bytes);
        std::iter::from_fn(|| reader.next().transpose()).collect()
    }

    #[test]
    fn steps_are_merged_and_the_bytes_are_pinned() {
        let mut script = ScriptWriter::default();
        script.copy(100);
        script.copy(200);
        assert_eq!(script.copied_only(), Some(300));
        script.take(5);
        script.skip(7);
        script.take(1);
        script.copy(1);
        script.skip(3);
        script.end();
        assert_eq!(script.copied_only(), None);
        let bytes = script.drain();
        assert_eq!(bytes, [0xac, 0x02, 7, 6, 1, 3, 0]);
        assert_eq!(
            read(&bytes).unwrap(),
            [Edit { copy: 300, skip: 7, take: 6 }, Edit { copy: 1, skip: 3, take: 0 }]
        );
    }

    #[test]
    fn a_damaged_script_is_an_error() {
        let too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0];
        let too_long = [0x80; 11];
        for bad in [&[1][..], &[1, 2], &[0x80], &[0, 0, 0], &too_large, &too_long] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert_eq!(read(&[]).unwrap(), []);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in proptest::collection::vec((1u64.., 0u64.., 1u64..), 0..20)) {
            let edits: Vec<Edit> = numbers.into_iter().map(|(copy, skip, take)| Edit { copy, skip, take }).collect();
            let mut script = ScriptWriter::default();
            for edit in &edits {
                script.copy(edit.copy);
                script.skip(edit.skip);
                script.take(edit.take);
            }
            script.end();
            prop_assert_eq!(read(&script.drain()).unwrap(), edits);
        }
    }
}
