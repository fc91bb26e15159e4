//! A connection that can be cut from outside, and that tells when it is gone and why.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// What is known of a connection by those who do not read or write it.
#[derive(Clone, Debug)]
pub(super) struct Cord {
    /// Ends the connection at once.
    pub(super) cut: CancellationToken,
    /// The connection has ended.
    pub(super) gone: CancellationToken,
    /// What the other end said when it ended the TLS session.
    alert: Arc<OnceLock<AlertDescription>>,
}

impl Cord {
    pub(super) fn new(cut: CancellationToken) -> Self {
        Self { cut, gone: CancellationToken::new(), alert: Arc::default() }
    }

    pub(super) fn alert(&self) -> Option<AlertDescription> {
        self.alert.get().copied()
    }
}

/// The connection itself.
pub(super) struct Io<S> {
    inner: S,
    cord: Cord,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _gone: DropGuard,
}

impl<S> Io<S> {
    pub(super) fn new(inner: S, cord: Cord) -> Self {
        let cut = Box::pin(cord.cut.clone().cancelled_owned());
        let _gone = cord.gone.clone().drop_guard();
        Self { inner, cord, cut, _gone }
    }
}

/// The alert that ended a TLS session, if that is what an error means.
pub(super) fn alert_of(error: &std::io::Error) -> Option<AlertDescription> {
    match tls_error_of(error)? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// What TLS says of an error of its connection.
pub(super) fn tls_error_of(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn was_cut() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "cut by this node")
}

impl<S: AsyncRead + Unpin> AsyncRead for Io<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.cord.cut.is_cancelled() || self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(was_cut()));
        }
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &read
            && let Some(alert) = alert_of(error)
        {
            let _ = self.cord.alert.set(alert); // The first one counts.
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Io<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.cord.cut.is_cancelled() {
            return Poll::Ready(Err(was_cut()));
        }
        Pin::new(&mut self.inner).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        if self.cord.cut.is_cancelled() {
            return Poll::Ready(Err(was_cut()));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // A cut end does not wait for the other one to read what is left.
        if self.cord.cut.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
