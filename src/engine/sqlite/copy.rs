//! A copy of a database's pages that only this process can read: made at the pace of the disk, so that nobody waits for a target.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use age::stream::{StreamReader, StreamWriter};
use age::x25519::Identity;

/// Bytes written to the file at a time.
const BUFFER: usize = 256 << 10;

/// A copy that is being written.
pub(super) struct CopyWriter {
    out: StreamWriter<BufWriter<File>>,
    identity: Identity,
}

/// A complete copy. It has no name on the disk, and goes with its last handle, however this process ends.
pub(super) struct Copy {
    file: File,
    /// Kept in memory only: what stays on the disk, nobody can read.
    identity: Identity,
}

impl CopyWriter {
    /// Begins a copy in this folder.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join("database.copy");
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        let identity = Identity::generate();
        let recipient = identity.to_public();
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            .map_err(io::Error::other)?;
        let out = encryptor.wrap_output(BufWriter::with_capacity(BUFFER, file))?;
        Ok(Self { out, identity })
    }

    /// Takes the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Nothing more comes.
    pub(super) fn finish(self) -> io::Result<Copy> {
        let file = self.out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Copy { file, identity: self.identity })
    }
}

impl Copy {
    /// Reads it from its beginning.
    pub(super) fn read(&self) -> io::Result<StreamReader<BufReader<File>>> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        age::Decryptor::new_buffered(BufReader::with_capacity(BUFFER, file))
            .and_then(|decryptor| decryptor.decrypt(std::iter::once(&self.identity as &dyn age::Identity)))
            .map_err(io::Error::other)
    }
}

/// Fills `buffer` as far as there is something to read.
pub(super) fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_no_name_and_its_bytes_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut copy = CopyWriter::create(folder.path()).unwrap();
        let page = b"Dupont, 0033612345678".repeat(10_000);
        (0..5).for_each(|_| copy.write(&page).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let copy = copy.finish().unwrap();
        for _ in 0..2 {
            let mut found = Vec::new();
            copy.read().unwrap().read_to_end(&mut found).unwrap();
            assert!(found == page.repeat(5));
        }
        let mut stored = Vec::new();
        let mut file = &copy.file;
        file.rewind().unwrap();
        file.read_to_end(&mut stored).unwrap();
        assert!(memchr::memmem::find(&stored, b"Dupont").is_none(), "the disk holds ciphertext only");
    }
}
