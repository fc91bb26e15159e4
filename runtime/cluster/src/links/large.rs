//! Payloads that do not fit one message: cut into chunks, put together again, within bounds.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Streaming;

use super::api::MAX_PAYLOAD_OCTETS;
use super::wire::{CHUNK_OCTETS, Frame, Kind};

/// How many payloads of a peer follow in chunks at once, for each direction. Each may fill its
/// stream's window while its reader waits for room: together they must leave some of the
/// connection's window to small calls.
pub(super) const LARGE_AT_ONCE: usize = 3;

/// How many octets a stream may have under way, unread (HTTP/2 flow control).
pub(super) const STREAM_WINDOW: u32 = 4 << 20;
/// The same for the whole connection.
pub(super) const CONNECTION_WINDOW: u32 = 16 << 20;

const _: () = assert!(LARGE_AT_ONCE * (STREAM_WINDOW as usize) < CONNECTION_WINDOW as usize);

/// How much memory large payloads from one peer take, in octets: the largest one, and some beside
/// it.
const BUDGET_OCTETS: usize = MAX_PAYLOAD_OCTETS + (64 << 20);

/// The unit in which memory is given out, in octets: a semaphore counts in 32 bits.
const UNIT_OCTETS: usize = 1 << 10;

/// Bounds of one peer's large payloads.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Those we send.
    outgoing: Arc<Semaphore>,
    /// Memory for those that arrive, in units.
    memory: Arc<Semaphore>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            outgoing: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
            memory: Arc::new(Semaphore::new(BUDGET_OCTETS / UNIT_OCTETS)),
        }
    }
}

/// Why a payload did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum Incomplete {
    /// The link or the other end.
    #[error("the stream broke: {0}")]
    Broken(String),
    /// More or less than was said.
    #[error("{0}")]
    Nonsense(&'static str),
    /// More than [`MAX_PAYLOAD_OCTETS`] was said.
    #[error("the payload is too large")]
    TooLarge,
}

impl Bounds {
    /// Waits until a payload of that size may be sent; `None` for one that needs no permission.
    pub(super) async fn outgoing(&self, octets: usize) -> Option<OwnedSemaphorePermit> {
        if octets <= CHUNK_OCTETS {
            return None;
        }
        Some(self.outgoing.clone().acquire_owned().await.expect("never closed"))
    }

    /// Puts a payload together: `first` and what follows in `frames`. Ends with the stream's end,
    /// so that its other end is heard to have said all.
    pub(super) async fn receive(
        &self,
        total: u64,
        first: Bytes,
        frames: &mut Streaming<Frame>,
    ) -> Result<Bytes, Incomplete> {
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        if total > MAX_PAYLOAD_OCTETS {
            return Err(Incomplete::TooLarge);
        }
        if first.len() > total || (total > CHUNK_OCTETS && first.len() < CHUNK_OCTETS) {
            return Err(Incomplete::Nonsense("the first part has a wrong length"));
        }
        if total <= CHUNK_OCTETS {
            // Small: all of it is here.
            let whole = first.len() == total;
            let first = whole.then_some(first).ok_or(Incomplete::Nonsense("less than was said"))?;
            finish(frames).await?;
            return Ok(first);
        }
        let units = total.div_ceil(UNIT_OCTETS) as u32;
        let _memory = self.memory.acquire_many(units).await.expect("never closed");
        let mut whole = BytesMut::with_capacity(total);
        whole.extend_from_slice(&first);
        while whole.len() < total {
            let chunk = match frames.message().await {
                Ok(Some(Frame { kind: Some(Kind::Chunk(chunk)) })) => chunk,
                Ok(Some(_)) => return Err(Incomplete::Nonsense("no chunk where one is due")),
                Ok(None) => return Err(Incomplete::Nonsense("less than was said")),
                Err(status) => return Err(Incomplete::Broken(status.to_string())),
            };
            if chunk.is_empty() || chunk.len() > total - whole.len() {
                return Err(Incomplete::Nonsense("a chunk has a wrong length"));
            }
            whole.extend_from_slice(&chunk);
        }
        finish(frames).await?;
        Ok(whole.freeze())
    }
}

/// Reads a stream's end after its last message. A stream that is dropped before its end is *reset*:
/// a frame more for each call, and after some thousands of them the other end takes it for an attack
/// and closes the link.
pub(super) async fn finish(frames: &mut Streaming<Frame>) -> Result<(), Incomplete> {
    match frames.message().await {
        // What breaks now breaks nothing any more: all is here.
        Ok(None) | Err(_) => Ok(()),
        Ok(Some(_)) => Err(Incomplete::Nonsense("more than was said")),
    }
}

/// The part of a payload that travels in the first message.
pub(super) fn first_part(payload: &Bytes) -> Bytes {
    payload.slice(..payload.len().min(CHUNK_OCTETS))
}

/// The first message and then the rest of the payload. `held` is let go with the last chunk, or when
/// nobody wants more.
pub(super) fn frames<H: Send + 'static>(
    first: Kind,
    payload: Bytes,
    held: H,
) -> impl Stream<Item = Frame> + Send + 'static {
    let rest = payload.slice(payload.len().min(CHUNK_OCTETS)..);
    let chunks = stream::unfold((rest, held), |(mut rest, held)| async move {
        if rest.is_empty() {
            return None;
        }
        let chunk = rest.split_to(rest.len().min(CHUNK_OCTETS));
        Some((Frame::from(Kind::Chunk(chunk)), (rest, held)))
    });
    stream::iter([Frame::from(first)]).chain(chunks)
}
