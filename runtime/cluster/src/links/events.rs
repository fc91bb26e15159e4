//! A node's events for one peer: the sender's queue, in which the latest value of a key replaces an
//! older one, and the receiver's stream, which is made again when it breaks.
//!
//! At most [`WINDOW`] events are under way; what comes meanwhile waits in the queue and is coalesced
//! there. So a slow reader costs the sender one place for each key, and hears the latest value.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::api::LinkError;
use super::link::Link;
use super::wire::{Frame, Kind};

/// Most keys that wait in the queue for one peer: the mailboxes that it may have active. Some
/// 200 octets each.
pub const MAX_EVENT_KEYS: usize = 65_536;

/// Largest value of an event, in octets: it says that something has changed, not what.
pub const MAX_EVENT_OCTETS: usize = 1_024;

/// How many events may be under way, unread: a round trip's worth.
pub(super) const WINDOW: u32 = 256;

/// After how many events the reader gives room for as many more.
const TOP_UP: u32 = WINDOW / 2;

/// Room for the reader's messages: two are never due at once.
const CREDITS: usize = 4;

/// What an event is about; later ones with the same key replace it.
pub type EventKey = [u8; 16];

/// Something small that a peer is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub key: EventKey,
    /// What is to be said.
    pub value: Bytes,
}

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Nobody listens any more: drop the sender, the peer will ask for a new stream.
    #[error("nobody listens any more")]
    Broken,
    /// There are too many keys. The stream is ended, so that the peer hears that it has missed
    /// something and catches up.
    #[error("more than {MAX_EVENT_KEYS} keys wait: the stream is ended")]
    Full,
    /// The value is larger than [`MAX_EVENT_OCTETS`].
    #[error("larger than {MAX_EVENT_OCTETS} octets")]
    TooLarge,
}

#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<EventKey>,
    values: HashMap<EventKey, Bytes>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    /// The receiving end is gone, or the queue was full.
    broken: CancellationToken,
    /// The sending end is gone.
    ended: CancellationToken,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sending end of a queue; dropping it ends the stream.
#[derive(Debug)]
pub struct EventSender(Arc<Shared>);

/// The end that the link reads; given out by [`Service::events`](super::Service::events).
#[derive(Debug)]
pub struct EventSource(Arc<Shared>);

/// A queue of events for one peer.
pub fn event_queue() -> (EventSender, EventSource) {
    let shared = Arc::new(Shared::default());
    (EventSender(shared.clone()), EventSource(shared))
}

impl EventSender {
    /// Puts an event into the queue, in the place of one with the same key if it still waits.
    /// Never waits.
    pub fn push(&self, key: EventKey, value: Bytes) -> Result<(), EventError> {
        if value.len() > MAX_EVENT_OCTETS {
            return Err(EventError::TooLarge);
        }
        if self.0.broken.is_cancelled() {
            return Err(EventError::Broken);
        }
        let mut waiting = self.0.waiting();
        let room = waiting.order.len() < MAX_EVENT_KEYS;
        match waiting.values.get_mut(&key) {
            Some(older) => *older = value,
            None if room => {
                waiting.order.push_back(key);
                waiting.values.insert(key, value);
            }
            None => {
                drop(waiting);
                self.0.broken.cancel();
                return Err(EventError::Full);
            }
        }
        drop(waiting);
        self.0.arrived.notify_one();
        Ok(())
    }

    /// How many keys wait.
    pub fn len(&self) -> usize {
        self.0.waiting().order.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns when nobody listens any more: the link broke, the peer has gone or has asked anew.
    pub async fn broken(&self) {
        self.0.broken.cancelled().await;
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.0.ended.cancel();
    }
}

impl Drop for EventSource {
    fn drop(&mut self) {
        self.0.broken.cancel();
        *self.0.waiting() = Waiting::default();
    }
}

impl EventSource {
    /// The next event; `None` at the end: the sender is dropped and nothing waits, or the queue was
    /// full. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if self.0.broken.is_cancelled() {
                return None;
            }
            // Before the look: a sender that ends after it will wake us.
            let ended = self.0.ended.is_cancelled();
            if let Some(event) = self.take() {
                return Some(event);
            }
            if ended {
                return None;
            }
            tokio::select! {
                () = self.0.arrived.notified() => {}
                () = self.0.ended.cancelled() => {}
                () = self.0.broken.cancelled() => {}
            }
        }
    }

    fn take(&mut self) -> Option<Event> {
        let mut waiting = self.0.waiting();
        let key = waiting.order.pop_front()?;
        let value = waiting.values.remove(&key).expect("each key in order has a value");
        Some(Event { key, value })
    }
}

/// What a receiver hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The stream stands: from now on events arrive. Whatever changed before is to be asked for.
    Up,
    /// An event.
    Event(Event),
    /// The stream is broken, or could not be made: events may be missed from here on. It is tried
    /// again.
    Down(LinkError),
}

/// A peer's events, from [`Links::events`](super::Links::events). One for each peer: a second one
/// takes the first one's place.
pub struct EventStream {
    link: Arc<Link>,
    open: Option<Open>,
    told_down: bool,
}

struct Open {
    frames: Streaming<Frame>,
    credits: mpsc::Sender<Frame>,
    taken: u32,
}

impl EventStream {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, open: None, told_down: false }
    }

    /// The next notice. After a [`Notice::Down`] it tries, for as long as it takes, and then says
    /// [`Notice::Up`] again. Nothing is lost when the future is dropped. `None` when this node's
    /// links are shut down.
    pub async fn next(&mut self) -> Option<Notice> {
        loop {
            if self.link.is_stopped() {
                return None;
            }
            let Some(open) = &mut self.open else {
                match self.subscribe().await {
                    Ok(()) => {
                        self.told_down = false;
                        return Some(Notice::Up);
                    }
                    Err(error) if !self.told_down => {
                        self.told_down = true;
                        return Some(Notice::Down(error));
                    }
                    Err(_) => {
                        self.link.back_off().await;
                        continue;
                    }
                }
            };
            match open.next().await {
                Ok(event) => return Some(Notice::Event(event)),
                Err(why) => {
                    self.open = None;
                    self.told_down = true;
                    return Some(Notice::Down(LinkError::Unreachable(why)));
                }
            }
        }
    }

    async fn subscribe(&mut self) -> Result<(), LinkError> {
        let (credits, sent) = mpsc::channel(CREDITS);
        credits.try_send(Kind::Credit(WINDOW).into()).expect("the channel is new");
        let mut frames = self.link.subscribe(sent).await?;
        // The first message says that the peer has made its end of the stream.
        match frames.message().await {
            Ok(Some(Frame { kind: Some(Kind::Hello(_)) })) => {}
            Ok(_) => return Err(LinkError::Unreachable("the peer gives no events".to_owned())),
            Err(status) => return Err(LinkError::Unreachable(status.to_string())),
        }
        self.open = Some(Open { frames, credits, taken: 0 });
        Ok(())
    }
}

impl Open {
    async fn next(&mut self) -> Result<Event, String> {
        let frame = self.frames.message().await.map_err(|status| status.to_string())?;
        let Some(Frame { kind: Some(Kind::Event(event)) }) = frame else {
            return Err("the peer has ended its events".to_owned());
        };
        let key = event.key.as_ref().try_into().map_err(|_| "an event without a key")?;
        if event.value.len() > MAX_EVENT_OCTETS {
            return Err("an event is too large".to_owned());
        }
        self.taken += 1;
        if self.taken == TOP_UP {
            self.taken = 0;
            let sent = self.credits.try_send(Kind::Credit(TOP_UP).into());
            sent.map_err(|_| "the peer takes no more requests for events")?;
        }
        Ok(Event { key, value: event.value })
    }
}
