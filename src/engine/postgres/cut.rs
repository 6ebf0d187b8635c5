//! Long rows, cut as they arrive. The server sends each row of a COPY as one message, and `tokio-postgres` passes on whole messages
//! only: a row of 1 GiB would be held in memory, in a buffer of twice its size. So long messages of a COPY are cut, beneath that
//! library, into several. Whoever reads a COPY must not expect a message to be a row anyway.
//! Source: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY>.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

/// The most bytes in a message of a COPY.
const MOST: usize = 256 << 10;

/// Bytes read from the socket at a time.
const BUFFER: usize = 64 << 10;

/// Tag and length of a message.
const HEADER: usize = 5;

/// The message that holds a row.
const COPY_DATA: u8 = b'd';

/// A connection that cuts the messages of a COPY.
pub(super) struct Cut<S> {
    inner: BufReader<S>,
    header: [u8; HEADER],
    step: Step,
    /// Bytes to come of the message that was announced to the reader.
    piece: usize,
    /// Bytes that the server's message has beyond it.
    rest: usize,
}

enum Step {
    /// So many bytes of a header came from the server.
    Header(usize),
    /// So many bytes of a header were passed on.
    Announced(usize),
    Body,
}

impl<S: AsyncRead> Cut<S> {
    /// Over this connection.
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner: BufReader::with_capacity(BUFFER, inner),
            header: [0; HEADER],
            step: Step::Header(0),
            piece: 0,
            rest: 0,
        }
    }

    /// Cuts the next message off what is left of the server's.
    fn announce(&mut self, left: usize) {
        self.piece = if self.header[0] == COPY_DATA { left.min(MOST) } else { left };
        self.rest = left - self.piece;
        // Both fit: the server's own length had four bytes.
        self.header[1..].copy_from_slice(&(self.piece as u32 + 4).to_be_bytes());
        self.step = Step::Announced(0);
    }

    /// Takes the header that came from the server.
    fn begin(&mut self) -> io::Result<()> {
        let [_, a, b, c, d] = self.header;
        let length = u32::from_be_bytes([a, b, c, d]).checked_sub(4);
        let length = length.ok_or_else(|| io::Error::other("a message has an impossible length"))?;
        self.announce(length as usize);
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> Cut<S> {
    /// Passes on what is there. `false` at the end.
    fn pass(&mut self, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        match self.step {
            Step::Announced(HEADER) => self.step = Step::Body,
            Step::Announced(at) => {
                let length = (HEADER - at).min(out.remaining());
                out.put_slice(&self.header[at..at + length]);
                self.step = Step::Announced(at + length);
            }
            Step::Body if self.piece == 0 && self.rest > 0 => self.announce(self.rest),
            Step::Body if self.piece == 0 => self.step = Step::Header(0),
            Step::Header(HEADER) => self.begin()?,
            Step::Header(at) => {
                let bytes = ready!(Pin::new(&mut self.inner).poll_fill_buf(context))?;
                let length = bytes.len().min(HEADER - at);
                self.header[at..at + length].copy_from_slice(&bytes[..length]);
                Pin::new(&mut self.inner).consume(length);
                self.step = Step::Header(at + length);
                return Poll::Ready(Ok(length > 0));
            }
            Step::Body => {
                let bytes = ready!(Pin::new(&mut self.inner).poll_fill_buf(context))?;
                let length = bytes.len().min(self.piece).min(out.remaining());
                out.put_slice(&bytes[..length]);
                Pin::new(&mut self.inner).consume(length);
                self.piece -= length;
                return Poll::Ready(Ok(length > 0));
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cut<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        while out.remaining() > 0 {
            match self.pass(context, out) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => break,
                // What was passed on comes first.
                Poll::Ready(Err(e)) if out.filled().len() == before => return Poll::Ready(Err(e)),
                Poll::Pending if out.filled().len() == before => return Poll::Pending,
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Cut<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Cut<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.get_ref().channel_binding()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    /// The messages in these bytes.
    fn messages(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
        let mut found = Vec::new();
        while let [tag, a, b, c, d, rest @ ..] = bytes {
            let (body, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4);
            found.push((*tag, body));
            bytes = rest;
        }
        found
    }

    /// What comes out of a line on which these bytes arrive in such parts.
    async fn received(sent: &[u8], part: usize) -> Vec<u8> {
        let (mut server, client) = tokio::io::duplex(part);
        let sent = sent.to_vec();
        let sending = tokio::spawn(async move { server.write_all(&sent).await.unwrap() });
        let mut found = Vec::new();
        Cut::new(client).read_to_end(&mut found).await.unwrap();
        sending.await.unwrap();
        found
    }

    #[tokio::test]
    async fn only_long_messages_of_a_copy_are_cut() {
        let long: Vec<u8> = (0..3 * MOST + 7).map(|n| n as u8).collect();
        let sent = [
            message(b'R', b"ok"),
            message(COPY_DATA, b""),
            message(COPY_DATA, &long),
            message(COPY_DATA, &long[..MOST]),
            message(b'D', &long),
            message(b'c', b""),
        ]
        .concat();
        for part in [1 << 20, 1000, 3] {
            let found = received(&sent, part).await;
            let expected: Vec<(u8, &[u8])> = [(b'R', &b"ok"[..]), (COPY_DATA, &[])]
                .into_iter()
                .chain(long.chunks(MOST).map(|piece| (COPY_DATA, piece)))
                .chain([(COPY_DATA, &long[..MOST]), (b'D', &long[..]), (b'c', &[])])
                .collect();
            assert!(messages(&found) == expected, "parts of {part}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_within_a_message_ends() {
        let sent = message(COPY_DATA, &vec![0; 2 * MOST]);
        let found = received(&sent[..MOST + 100], 1000).await;
        assert_eq!(
            found.len(),
            MOST + 100 + HEADER,
            "what came is passed on, with the header of the second piece"
        );
        assert_eq!(received(b"d\0\0", 10).await, b"");
    }
}
