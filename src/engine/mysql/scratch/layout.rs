//! What is where in the folder of a throwaway server.

use std::path::{Path, PathBuf};

use super::programs::Programs;
use crate::engine::throwaway::folder;
use crate::error::Result;
use crate::system::sandbox::Room;

/// The files in the folder of a throwaway server.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The folder.
    pub folder: PathBuf,
}

impl Layout {
    /// The server's data.
    pub(super) fn data(&self) -> PathBuf {
        folder::data(&self.folder)
    }

    /// The folder of its socket.
    pub(super) fn sockets(&self) -> PathBuf {
        self.folder.join("s")
    }

    /// Its socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.sockets().join("mysql.sock")
    }

    /// Its temporary files: not in `data`, where each folder is a database.
    pub(super) fn temporary(&self) -> PathBuf {
        self.folder.join("t")
    }

    /// A folder without files.
    pub(super) fn empty(&self) -> PathBuf {
        self.folder.join("empty")
    }

    /// What it says.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What the server runs first.
    pub(super) fn statements(&self) -> PathBuf {
        self.folder.join("init.sql")
    }

    /// The user's name, for programs that look it up.
    pub(super) fn passwd(&self) -> PathBuf {
        self.folder.join("passwd")
    }

    /// What its programs see.
    pub(super) async fn room(&self, programs: &Programs) -> Room {
        let mut read = vec![self.folder.clone()];
        read.extend(programs.installation().await);
        Room { read, write: vec![self.data(), self.sockets(), self.temporary()], passwd: Some(self.passwd()) }
    }
}

/// Fails if the path of a socket below this folder would be too long.
pub(super) fn refuse_long(folder: &Path) -> Result<()> {
    folder::refuse_long(&Layout { folder: folder.to_owned() }.socket(), folder)
}
