//! Packets on a connection, and rows read without holding more than a part of one.
//!
//! The server sends each row as one message of up to 1 GiB, in packets of up to 16 MiB. Whole messages are read where they are
//! small by their nature: greetings, descriptions of columns, errors. The cells of rows are passed on as their bytes arrive.
//! Source: <https://mariadb.com/docs/server/reference/clientserver-protocol/0-packet>, and "Text Resultset" there.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::system::socket::Socket;

/// Bytes that are read from the socket at a time.
const BUFFER: usize = 256 << 10;

/// The longest packet. One of this length is followed by another one of the same message.
pub(super) const LONGEST_PACKET: usize = 0xff_ff_ff;

/// The longest message that is held whole: no greeting, definition or answer about the catalogue is longer.
const LONGEST_MESSAGE: usize = 64 << 20;

/// Length and number of a packet.
const HEADER: usize = 4;

/// A connection to a server.
pub(super) struct Wire {
    socket: Socket,
    buffer: BytesMut,
    /// The number of the next packet.
    sequence: u8,
    /// Bytes of the current packet that have not been taken.
    left: usize,
    /// Another packet of the same message follows it.
    more: bool,
}

/// What comes next in a result.
pub(super) enum Next {
    /// A row.
    Row,
    /// The end of the rows.
    End,
    /// The server gives up: its error's payload.
    Failed(Vec<u8>),
}

impl Wire {
    /// Over this connection.
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, buffer: BytesMut::with_capacity(BUFFER), sequence: 0, left: 0, more: false }
    }

    /// The connection itself, between two messages, to be encrypted. What is sent before that is not the server's.
    pub(super) fn bare(self) -> io::Result<(Socket, u8)> {
        match self.buffer.is_empty() {
            true => Ok((self.socket, self.sequence)),
            false => Err(malformed("bytes before the beginning of TLS")),
        }
    }

    /// Goes on over this connection, with this number.
    pub(super) fn resume(socket: Socket, sequence: u8) -> Self {
        Self { sequence, ..Self::new(socket) }
    }

    /// A new command begins.
    pub(super) fn begin(&mut self) {
        self.sequence = 0;
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut rest = payload;
        loop {
            let part = rest.len().min(LONGEST_PACKET);
            let [a, b, c, _] = (part as u32).to_le_bytes();
            self.socket.write_all(&[a, b, c, self.sequence]).await?;
            self.sequence = self.sequence.wrapping_add(1);
            self.socket.write_all(&rest[..part]).await?;
            rest = &rest[part..];
            if part < LONGEST_PACKET {
                return self.socket.flush().await;
            }
        }
    }

    /// Reads until so many bytes are in the buffer.
    async fn fill(&mut self, wanted: usize) -> io::Result<()> {
        while self.buffer.len() < wanted {
            if self.buffer.capacity() - self.buffer.len() < BUFFER / 4 {
                self.buffer.reserve(BUFFER);
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
        }
        Ok(())
    }

    /// Takes the header of the next packet.
    async fn open_packet(&mut self) -> io::Result<()> {
        self.fill(HEADER).await?;
        let length = u32::from_le_bytes([self.buffer[0], self.buffer[1], self.buffer[2], 0]) as usize;
        if self.buffer[3] != self.sequence {
            return Err(malformed("packets out of order"));
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.buffer.advance(HEADER);
        (self.left, self.more) = (length, length == LONGEST_PACKET);
        Ok(())
    }

    /// A whole message.
    pub(super) async fn message(&mut self) -> io::Result<Vec<u8>> {
        self.open_packet().await?;
        self.rest().await
    }

    /// What is left of the current message.
    async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut message = Vec::new();
        while let Some(part) = self.part().await? {
            if message.len() + part > LONGEST_MESSAGE {
                return Err(malformed("a message that is too long"));
            }
            message.extend_from_slice(&self.buffer[..part]);
            self.take(part);
        }
        Ok(message)
    }

    /// How many bytes of the current message are at hand, at least one; `None` at its end.
    async fn part(&mut self) -> io::Result<Option<usize>> {
        while self.left == 0 {
            if !self.more {
                return Ok(None);
            }
            self.open_packet().await?;
        }
        if self.buffer.is_empty() {
            self.fill(1).await?;
        }
        Ok(Some(self.buffer.len().min(self.left)))
    }

    fn take(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.left -= bytes;
    }

    /// Opens the next message of a result's rows. Rows end with a packet that begins with 0xfe and is short; a first cell of
    /// 16 MiB or more begins like that too.
    pub(super) async fn next_row(&mut self) -> io::Result<Next> {
        self.open_packet().await?;
        self.fill(usize::from(self.left > 0)).await?;
        match self.buffer.first().filter(|_| self.left > 0) {
            Some(0xff) => Ok(Next::Failed(self.rest().await?)),
            Some(0xfe) if self.left < 9 => self.rest().await.map(|_| Next::End),
            _ => Ok(Next::Row),
        }
    }

    /// A row that is in the buffer as a whole, if it is: most are.
    pub(super) fn buffered(&self) -> Option<&[u8]> {
        (!self.more && self.buffer.len() >= self.left).then(|| &self.buffer[..self.left])
    }

    /// Takes that row.
    pub(super) fn skip(&mut self) {
        self.take(self.left);
    }

    /// A byte of the current message.
    async fn byte(&mut self) -> io::Result<u8> {
        self.part().await?.ok_or_else(|| malformed("a row that is too short"))?;
        let byte = self.buffer[0];
        self.take(1);
        Ok(byte)
    }

    /// The length of the next cell of a row; `None` for NULL.
    pub(super) async fn cell(&mut self) -> io::Result<Option<u64>> {
        let bytes = match self.byte().await? {
            0xfb => return Ok(None),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            0xff => return Err(malformed("a cell of impossible length")),
            short => return Ok(Some(u64::from(short))),
        };
        let mut length = [0; 8];
        for byte in &mut length[..bytes] {
            *byte = self.byte().await?;
        }
        Ok(Some(u64::from_le_bytes(length)))
    }

    /// Some of the next `most` bytes of a cell: what `take` is given is taken.
    pub(super) async fn bytes(&mut self, most: u64, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
        let part = self.part().await?.ok_or_else(|| malformed("a row that is too short"))?;
        let part = part.min(usize::try_from(most).unwrap_or(part));
        take(&self.buffer[..part]);
        self.take(part);
        Ok(part as u64)
    }
}

/// Cuts the length of a cell off a row that is there as a whole: the length, and what follows. The outer `None` is a row that
/// is too short, the inner one NULL.
pub(super) fn cell_of(row: &[u8]) -> Option<(Option<usize>, &[u8])> {
    let (first, rest) = row.split_first()?;
    let bytes = match first {
        0xfb => return Some((None, rest)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        0xff => return None,
        short => return Some((Some(usize::from(*short)), rest)),
    };
    let mut length = [0; 8];
    length[..bytes].copy_from_slice(rest.get(..bytes)?);
    Some((Some(usize::try_from(u64::from_le_bytes(length)).ok()?), &rest[bytes..]))
}

/// The server does not speak the protocol.
pub(super) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}
