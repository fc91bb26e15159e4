//! A connection that can be cut from outside, and that tells when it is gone and why.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::goaway::Ear;

/// How long an end that has said all waits for the other one to hang up. Closing a socket with octets
/// unread resets it, and what was said last may be lost.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// How many octets are passed over at once by an end that lingers.
const PASSED_OCTETS: usize = 4 << 10;

/// What is known of a connection by those who do not read or write it.
#[derive(Clone, Debug)]
pub(super) struct Cord {
    /// Ends the connection at once.
    pub(super) cut: CancellationToken,
    /// The connection has ended.
    pub(super) gone: CancellationToken,
    /// The other end has said that it takes nothing new, and finishes what it has begun.
    pub(super) leaving: CancellationToken,
    /// What the other end said when it ended the TLS session.
    alert: Arc<OnceLock<AlertDescription>>,
}

impl Cord {
    pub(super) fn new(cut: CancellationToken) -> Self {
        let (gone, leaving) = Default::default();
        Self { cut, gone, leaving, alert: Arc::default() }
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
    role: Role,
    _gone: DropGuard,
}

/// What an end does beside carrying octets.
enum Role {
    /// It called: it listens for the peer's word that it stops.
    Caller(Ear),
    /// It was called: when it has said all it lingers, for this long.
    Called(Option<Pin<Box<Sleep>>>),
}

impl<S> Io<S> {
    /// The end that has called.
    pub(super) fn caller(inner: S, cord: Cord) -> Self {
        Self::new(inner, cord, Role::Caller(Ear::default()))
    }

    /// The end that was called.
    pub(super) fn called(inner: S, cord: Cord) -> Self {
        Self::new(inner, cord, Role::Called(None))
    }

    fn new(inner: S, cord: Cord, role: Role) -> Self {
        let cut = Box::pin(cord.cut.clone().cancelled_owned());
        let _gone = cord.gone.clone().drop_guard();
        Self { inner, cord, cut, role, _gone }
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
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        // Before anybody acts on these octets: who hears of a call that was not taken knows why.
        if let Role::Caller(ear) = &mut self.role
            && ear.hears_stop(&buffer.filled()[before..])
        {
            self.cord.leaving.cancel();
        }
        if let Poll::Ready(Err(error)) = &read
            && let Some(alert) = alert_of(error)
        {
            let _ = self.cord.alert.set(alert); // The first one counts.
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Io<S> {
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
        if self.cord.cut.is_cancelled() || self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let this = &mut *self;
        let linger = match &mut this.role {
            Role::Caller(_) => return Pin::new(&mut this.inner).poll_shutdown(cx),
            Role::Called(Some(linger)) => linger,
            Role::Called(linger) => {
                std::task::ready!(Pin::new(&mut this.inner).poll_shutdown(cx))?;
                linger.insert(Box::pin(tokio::time::sleep(LINGER_TIME)))
            }
        };
        let mut passed = [0; PASSED_OCTETS];
        loop {
            let mut buffer = ReadBuf::new(&mut passed);
            match Pin::new(&mut this.inner).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                // However it has ended: all was said before.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return linger.as_mut().poll(cx).map(Ok),
            }
        }
    }
}
