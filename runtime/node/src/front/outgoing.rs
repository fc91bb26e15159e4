//! Octets on their way to a client: shared buffers, written several at a time and never copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use super::stream::Stream;

/// Most buffers handed to the network in one go: a usual FETCH response has a handful.
const SLICES: usize = 16;
/// Buffers whose place an empty queue may keep.
const KEPT_PLACES: usize = 8;

/// What is to be sent, in order.
#[derive(Debug)]
pub struct Outgoing {
    queue: VecDeque<Bytes>,
    octets: usize,
    unflushed: bool,
    progress: Instant,
}

impl Outgoing {
    /// Nothing to send.
    pub fn new() -> Self {
        Self { queue: VecDeque::new(), octets: 0, unflushed: false, progress: Instant::now() }
    }

    /// Adds octets.
    pub fn push(&mut self, octets: Bytes) {
        if self.is_empty() {
            self.progress = Instant::now();
        }
        if !octets.is_empty() {
            self.octets += octets.len();
            self.queue.push_back(octets);
        }
    }

    /// Octets not yet taken by the network.
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Whether everything has been handed to the network.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.unflushed
    }

    /// When the client last took something.
    pub fn progress(&self) -> Instant {
        self.progress
    }

    /// Forgets what was not sent: there is nobody to send it to.
    pub fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.octets = 0;
        self.unflushed = false;
    }

    /// Writes some; how many octets. Zero: the rest was flushed. Call it only when not empty.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<io::Result<usize>> {
        if self.queue.is_empty() {
            ready!(stream.poll_flush(cx))?;
            self.unflushed = false;
            return Poll::Ready(Ok(0));
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = self.queue.len().min(SLICES);
        for (slice, octets) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(octets);
        }
        let written = ready!(stream.poll_write(cx, &slices[..used]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.progress = Instant::now();
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut written: usize) {
        self.octets -= written;
        while let Some(front) = self.queue.front_mut() {
            if front.len() > written {
                front.advance(written);
                break;
            }
            written -= front.len();
            self.queue.pop_front();
        }
        if self.queue.is_empty() && self.queue.capacity() > KEPT_PLACES {
            self.queue = VecDeque::new();
        }
    }
}

impl Default for Outgoing {
    fn default() -> Self {
        Self::new()
    }
}
