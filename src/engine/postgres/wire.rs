//! A connection to a server, seen as bytes: who is at its other end, and statements with names that are no UTF-8.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::cut::Cut;
use crate::model::raw_text;

/// What is known of a connection, and asked of it.
#[derive(Debug, Default)]
pub(crate) struct Link {
    process: AtomicI32,
    raw: AtomicBool,
}

impl Link {
    /// The process that the other end said it would be: of the server itself this is true; what stands between gives numbers
    /// of its own. 0 if it said none.
    pub(super) fn process(&self) -> i32 {
        self.process.load(Ordering::Relaxed)
    }

    /// From now on statements are sent in bytes: what stands for a byte in their text becomes it.
    pub(super) fn set_raw(&self) {
        self.raw.store(true, Ordering::Relaxed);
    }

    /// Whether statements are sent in bytes, and text that comes back is in bytes.
    pub(super) fn is_raw(&self) -> bool {
        self.raw.load(Ordering::Relaxed)
    }
}

/// The most bytes that a server says before it is ready.
const GREETING: usize = 64 * 1024;

/// The bytes of a connection.
pub(crate) struct Wire<S> {
    inner: Cut<S>,
    link: Arc<Link>,
    /// What the server has said so far, until it has told its process.
    greeting: Option<BytesMut>,
    /// The beginning of a message that is not yet whole.
    unfinished: BytesMut,
    /// Bytes that are still to be sent.
    outgoing: BytesMut,
}

impl<S: AsyncRead> Wire<S> {
    /// Over this connection.
    pub(super) fn new(inner: S, link: Arc<Link>) -> Self {
        let inner = Cut::new(inner);
        let (greeting, unfinished, outgoing) = (Some(BytesMut::new()), BytesMut::new(), BytesMut::new());
        Self { inner, link, greeting, unfinished, outgoing }
    }

    /// Looks for the message that names the process (`K`). What comes before are authentication and settings.
    fn greet(&mut self, bytes: &[u8]) {
        let Some(greeting) = &mut self.greeting else { return };
        greeting.extend_from_slice(bytes);
        while let Some(length) = message_length(greeting) {
            if greeting.len() <= length {
                break;
            }
            let message = greeting.split_to(length + 1);
            if message.first() == Some(&b'K')
                && let Some(mut process) = message.get(5..9)
            {
                self.link.process.store(process.get_i32(), Ordering::Relaxed);
                self.greeting = None;
                return;
            }
        }
        if greeting.len() > GREETING {
            self.greeting = None;
        }
    }

    /// Moves whole messages on, with bytes for what stands for them in statements.
    fn translate(&mut self) {
        while let Some(length) = message_length(&self.unfinished) {
            if self.unfinished.len() <= length {
                return;
            }
            let message = self.unfinished.split_to(length + 1);
            let (kind, body) = (message[0], &message[5..]);
            let text = match kind {
                b'Q' => 0..body.len(),
                // The statement's name, its text, and the types of its parameters.
                b'P' => {
                    let name = body.iter().position(|b| *b == 0).map_or(0, |at| at + 1);
                    let end = body[name..].iter().position(|b| *b == 0).map_or(body.len(), |at| name + at);
                    name..end
                }
                _ => 0..0,
            };
            let bytes = raw_text::encode_bytes(&body[text.clone()]);
            let length = 4 + body.len() - text.len() + bytes.len();
            self.outgoing.extend_from_slice(&[kind]);
            self.outgoing.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
            self.outgoing.extend_from_slice(&body[..text.start]);
            self.outgoing.extend_from_slice(&bytes);
            self.outgoing.extend_from_slice(&body[text.end..]);
        }
    }
}

/// The length that a message says it has, without its first byte.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let mut length = bytes.get(1..5)?;
    usize::try_from(length.get_u32()).ok().map(|length| length.max(4))
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.greet(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let n = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.outgoing))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !self.link.is_raw() {
            return Pin::new(&mut self.inner).poll_write(cx, buf);
        }
        ready!(self.drain(cx))?;
        self.unfinished.extend_from_slice(buf);
        self.translate();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Wire<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// Makes an encrypted connection of which the decrypted bytes are seen.
pub(crate) struct Above<T> {
    /// Encrypts.
    pub tls: T,
    /// What is known of the connection.
    pub link: Arc<Link>,
}

impl<S, T> TlsConnect<S> for Above<T>
where
    T: TlsConnect<S>,
    T::Stream: Unpin,
    T::Future: Send + 'static,
{
    type Stream = Wire<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, T::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let connecting = self.tls.connect(stream);
        Box::pin(async move { Ok(Wire::new(connecting.await?, self.link)) })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], length.to_be_bytes().as_slice(), body].concat()
    }

    #[tokio::test]
    async fn the_process_is_heard_in_pieces() {
        let (near, mut far) = tokio::io::duplex(7);
        let link = Arc::new(Link::default());
        let mut wire = Wire::new(near, link.clone());
        let greeting = [
            message(b'R', &[0; 4]),
            message(b'S', b"TimeZone\0UTC\0"),
            message(b'K', &[0, 0, 1, 2, 9, 9, 9, 9]),
            message(b'Z', b"I"),
        ];
        let greeting = greeting.concat();
        let sent = greeting.clone();
        tokio::spawn(async move { far.write_all(&sent).await });
        let mut heard = vec![0; greeting.len()];
        wire.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, greeting);
        assert_eq!(link.process(), 258);
    }

    #[tokio::test]
    async fn statements_become_bytes_and_nothing_else_does() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let link = Arc::new(Link::default());
        link.set_raw();
        let mut wire = Wire::new(near, link);
        let name = "\"ann\u{10fee9}e\"";
        let sent = [
            message(
                b'P',
                ["s\u{10fee9}\0".as_bytes().to_vec(), format!("SELECT {name}\0").into(), vec![0, 0]]
                    .concat()
                    .as_slice(),
            ),
            message(b'd', name.as_bytes()),
            message(b'Q', format!("LOCK {name}\0").as_bytes()),
        ];
        for piece in sent.concat().chunks(3) {
            wire.write_all(piece).await.unwrap();
        }
        wire.shutdown().await.unwrap();
        drop(wire);
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        let expected = [
            message(b'P', &[b"s\xf4\x8f\xbb\xa9\0".as_slice(), b"SELECT \"ann\xe9e\"\0\0\0"].concat()),
            message(b'd', name.as_bytes()),
            message(b'Q', b"LOCK \"ann\xe9e\"\0"),
        ];
        assert_eq!(received, expected.concat());
    }
}
