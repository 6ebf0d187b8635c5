//! A part of a file, read as if it were a file of its own: many short ones lie in one.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A part of a file that may be shared with others. It is read without moving the file's own position.
#[derive(Debug)]
pub(crate) struct FileSection {
    file: Arc<File>,
    from: u64,
    length: u64,
    at: u64,
}

impl FileSection {
    /// So many bytes of the file from an offset on. Where the file ends earlier, so does what is read.
    pub(crate) fn new(file: Arc<File>, from: u64, length: u64) -> Self {
        Self { file, from, length, at: 0 }
    }

    /// The whole file, as it is now.
    pub(crate) fn whole(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self::new(Arc::new(file), 0, length))
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Goes on at this place.
    pub(crate) fn seek(&mut self, at: u64) {
        self.at = at;
    }

    /// Reads the bytes at a place, all of them.
    pub(crate) fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(bytes, self.from + at)
    }
}

impl Read for FileSection {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = bytes.len().min(left);
        let n = self.file.read_at(&mut bytes[..wanted], self.from + self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn parts_of_one_file_are_read_independently() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let file = Arc::new(file);
        let read = |from, length, at| {
            let mut section = FileSection::new(file.clone(), from, length);
            section.seek(at);
            let mut text = String::new();
            section.read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(read(2, 3, 0), "234");
        assert_eq!(read(2, 3, 2), "4");
        assert_eq!(read(2, 3, 9), "");
        assert_eq!(read(8, 5, 0), "89");
        let section = FileSection::new(file.clone(), 2, 3);
        let mut two = [0; 2];
        section.read_exact_at(&mut two, 1).unwrap();
        assert_eq!(&two, b"34");
        assert!(section.read_exact_at(&mut two, 2).is_err());
    }
}
