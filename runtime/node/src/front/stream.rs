//! A client's connection, plain or under TLS, with its octets read without a buffer of its own: an
//! idle connection holds no memory for octets that may never come.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::tls::Tls;

/// Most octets taken from a connection at once: bounds what a session is given in one input.
pub const READ_OCTETS: usize = 64 << 10;

thread_local! {
    /// Where octets land while a connection is polled; shared by all connections of a thread,
    /// because nothing stays in it between two polls.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_OCTETS].into_boxed_slice());
}

/// What a connection is made of.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection.
pub enum Stream {
    /// In plain text.
    Plain(Box<dyn Io>),
    /// Under TLS.
    Tls(Box<TlsStream<Box<dyn Io>>>),
    /// Given away to a TLS handshake that failed: nothing can be read or written any more.
    Gone,
}

impl Stream {
    /// A plain connection.
    pub fn plain(io: impl Io + 'static) -> Self {
        Self::Plain(Box::new(io))
    }

    /// Does a TLS handshake as the server, in place. The caller bounds its time.
    pub async fn start_tls(&mut self, tls: &Arc<Tls>) -> io::Result<()> {
        match std::mem::replace(self, Self::Gone) {
            Self::Plain(io) => {
                let stream = tls.acceptor().await.accept(io).await?;
                *self = Self::Tls(Box::new(stream));
                Ok(())
            }
            Self::Tls(_) | Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn io(&mut self) -> io::Result<Pin<&mut dyn Io>> {
        match self {
            Self::Plain(io) => Ok(Pin::new(io)),
            Self::Tls(stream) => Ok(Pin::new(&mut **stream)),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Reads what is there, at most [`READ_OCTETS`]; empty at the end.
    pub fn poll_octets(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let io = self.io()?;
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match io.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(buffer.filled().to_vec())),
                // Most clients end a TLS connection without a close_notify.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(Vec::new()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        })
    }

    /// Writes from several slices at once.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io()?.poll_write_vectored(cx, slices)
    }

    /// Hands everything written on to the network.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_flush(cx)
    }

    /// Says that nothing more will be written.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_shutdown(cx)
    }
}
