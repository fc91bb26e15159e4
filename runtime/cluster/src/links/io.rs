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

/// How often it does so before others have their turn.
const PASSES: usize = 16;

/// How many octets it passes over in all: more than a peer may have under way, which is
/// [`CONNECTION_WINDOW`](super::large::CONNECTION_WINDOW) and what stands around it.
const MAX_PASSED_OCTETS: usize = 2 * super::large::CONNECTION_WINDOW as usize;

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
    /// It was called: when it has said all it lingers.
    Called(Option<Linger>),
}

/// An end that has said all.
struct Linger {
    /// For how long yet.
    time: Pin<Box<Sleep>>,
    /// How many octets it may yet pass over.
    octets: usize,
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
                let time = Box::pin(tokio::time::sleep(LINGER_TIME));
                linger.insert(Linger { time, octets: MAX_PASSED_OCTETS })
            }
        };
        // Before anything is read: for a peer that goes on sending its time runs too.
        if linger.time.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut passed = [0; PASSED_OCTETS];
        for _ in 0..PASSES {
            let mut buffer = ReadBuf::new(&mut passed);
            // However it ends: all was said before.
            match std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer)) {
                Ok(()) if (1..=linger.octets).contains(&buffer.filled().len()) => {
                    linger.octets -= buffer.filled().len();
                }
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// An end whose peer never ceases to send.
    struct Endless {
        octets: usize,
    }

    impl AsyncRead for Endless {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            self.octets += buffer.remaining();
            assert!(self.octets < 1 << 30, "it is read without an end");
            buffer.put_slice(&vec![0; buffer.remaining()]);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            octets: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            Poll::Ready(Ok(octets.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_end_that_lingers_ends_though_its_peer_never_ceases_to_send() {
        let cord = Cord::new(CancellationToken::new());
        let mut io = Io::called(Endless { octets: 0 }, cord);
        io.shutdown().await.unwrap();
        assert!(io.inner.octets <= MAX_PASSED_OCTETS + PASSED_OCTETS, "{}", io.inner.octets);
    }
}
