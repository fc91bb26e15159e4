//! The link to one peer: made when needed, shared by all who call it, made again after a failure.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::api::{
    Call, LinkError, MAX_DEADLINE, MAX_PAYLOAD_OCTETS, MAX_TRACE_OCTETS, NotSent, Refusal, Reply,
    WireVersion,
};
use super::client::LinksOptions;
use super::dial::{BrokenLink, Connection, NoLink, dial};
use super::keeper::{self, Board, Presence};
use super::large::{self, Bounds};
use super::wire::{self, AnswerHead, CallHead, Frame, Kind, Outcome};
use crate::certificates::Material;
use crate::names::NodeId;
use crate::refusals::{Reason, Refusals};

/// Most calls to a peer that are under way: HTTP/2 streams of the link.
pub(super) const MAX_IN_FLIGHT: usize = 1_024;

/// Most calls that wait until others have ended. Beyond that they are refused here.
const MAX_WAITING: usize = 4_096;

/// How long after a first failure a link is tried again; doubled with each further one.
const BACK_OFF_FIRST: Duration = Duration::from_millis(20);

/// How long at most. An owner whose host comes back is to be found within a second or so.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// Most links to a peer that take no calls any more and on which some are still under way. Another one cuts the
/// oldest, as the peer would.
const MAX_RETIRED: usize = super::server::MAX_OF_A_PEER;

/// How often a call that certainly was not sent is given to a link: the second time to a new one.
const ATTEMPTS: usize = 2;

/// Where a link is in its life.
#[derive(Clone)]
pub(super) enum State {
    /// Nobody has needed it yet, or it has been given up.
    Idle,
    /// Somebody needs it: it is being made.
    Dialing,
    /// It stood when this was written; [`Connection::is_gone`] says whether it still does.
    Up(Arc<Connection>),
    /// It could not be made; not tried again before `until`.
    Down { why: LinkError, until: Instant, failures: u32 },
}

pub(super) struct Link {
    pub(super) peer: NodeId,
    pub(super) address: String,
    options: LinksOptions,
    state: watch::Sender<State>,
    /// Links that were given up for a new one, as long as calls are under way on them.
    retired: Mutex<Vec<Weak<Connection>>>,
    bounds: Bounds,
    slots: Semaphore,
    waiting: AtomicUsize,
    /// Ends all that belongs to this link.
    stop: CancellationToken,
    /// Whether it has a keeper: from the first need on.
    kept: AtomicBool,
    board: Board,
    refusals: Arc<Refusals>,
    gossip: Mutex<Option<mpsc::Sender<Bytes>>>,
}

impl Link {
    pub(super) fn new(
        peer: NodeId,
        address: String,
        options: LinksOptions,
        stop: CancellationToken,
        (board, refusals): (Board, Arc<Refusals>),
    ) -> Self {
        Self {
            peer,
            address,
            options,
            state: watch::Sender::new(State::Idle),
            retired: Mutex::default(),
            bounds: Bounds::default(),
            slots: Semaphore::new(MAX_IN_FLIGHT),
            waiting: AtomicUsize::new(0),
            stop,
            kept: AtomicBool::new(false),
            board,
            refusals,
            gossip: Mutex::default(),
        }
    }

    /// Each state as it comes.
    pub(super) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Cancelled when the link is stopped.
    pub(super) fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Says how the peer is, as long as this is the link to it.
    pub(super) fn post(&self, presence: Presence) {
        keeper::post(&self.board, &self.peer, Some(presence), || !self.is_stopped());
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn in_flight(&self) -> usize {
        MAX_IN_FLIGHT - self.slots.available_permits()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Ends the link and all that goes over it.
    pub(super) fn stop(&self) {
        self.stop.cancel();
        self.state.send_replace(State::Idle);
        keeper::post(&self.board, &self.peer, None, || true);
    }

    /// New certificates, or time has passed: a peer that is not admitted any more is cut off, and
    /// a link made with an older certificate of ours is made anew for what comes next.
    pub(super) fn review(&self, material: &Material, renewed: bool) {
        let now = std::time::SystemTime::now();
        let admits = |connection: &Connection| {
            let admitted = material.admits(&connection.holder, now);
            if !admitted && !connection.is_gone() {
                connection.cord.cut.cancel();
                let revoked = material.revoked.has(&connection.holder);
                let reason = if revoked { Reason::Revoked } else { Reason::Expired };
                self.refusals.note(reason, &self.peer, &"the link to it is cut");
            }
            admitted
        };
        self.state.send_if_modified(|state| {
            let State::Up(connection) = state else { return false };
            let admitted = admits(connection);
            if admitted && renewed {
                self.remember(connection);
            }
            if !admitted || renewed {
                *state = State::Idle;
            }
            !admitted || renewed
        });
        self.retired().retain(|link| link.upgrade().is_some_and(|link| admits(&link)));
    }

    /// Remembers a link that is given up while calls may be under way on it.
    fn remember(&self, connection: &Arc<Connection>) {
        let mut retired = self.retired();
        retired.retain(|link| link.upgrade().is_some_and(|link| !link.is_gone()));
        if retired.len() >= MAX_RETIRED
            && let Some(oldest) = retired.remove(0).upgrade()
        {
            oldest.cord.cut.cancel();
        }
        retired.push(Arc::downgrade(connection));
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Weak<Connection>>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link as it stands, made if need be; waits until `deadline` at most. One whose peer is stopping
    /// is not made anew while it stands.
    pub(super) async fn ready(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<Arc<Connection>, LinkError> {
        if !self.kept.swap(true, Ordering::Relaxed) {
            tokio::spawn(keeper::keep(self.clone()));
        }
        let mut state = self.state.subscribe();
        loop {
            if self.is_stopped() {
                return Err(LinkError::NotSent(NotSent::Stopped));
            }
            match &*state.borrow_and_update() {
                State::Up(connection) if !connection.is_gone() => {
                    return match connection.is_leaving() {
                        true => Err(LinkError::Declined(Refusal::Stopping)),
                        false => Ok(connection.clone()),
                    };
                }
                State::Down { why, until, .. } if *until > Instant::now() => {
                    return Err(why.clone());
                }
                State::Idle | State::Dialing | State::Up(_) | State::Down { .. } => {}
            }
            self.start_dialing();
            let changed = async {
                tokio::select! {
                    _ = state.changed() => {} // We hold the sender: it cannot be closed.
                    () = self.stop.cancelled() => {}
                }
            };
            if timeout_at(deadline, changed).await.is_err() {
                return Err(LinkError::Unreachable("no link in the call's time".to_owned()));
            }
        }
    }

    /// Begins to make the link, if nobody has begun to. Goes on when the caller does not wait.
    pub(super) fn start_dialing(self: &Arc<Self>) {
        let mut failures = None;
        self.state.send_if_modified(|state| {
            failures = match state {
                State::Dialing => None,
                State::Up(connection) if !connection.is_gone() => None,
                State::Down { until, .. } if *until > Instant::now() => None,
                State::Down { failures, .. } => Some(*failures),
                State::Idle | State::Up(_) => Some(0),
            };
            if failures.is_some() {
                *state = State::Dialing;
            }
            failures.is_some()
        });
        if let Some(failures) = failures {
            tokio::spawn(self.clone().dial(failures));
        }
    }

    async fn dial(self: Arc<Self>, failures: u32) {
        let LinksOptions { credentials, version, address } = &self.options;
        let cut = self.stop.child_token();
        let made = dial(&self.peer, &self.address, credentials, *version, address, cut).await;
        let next = match made {
            Ok(connection) => State::Up(connection),
            Err(NoLink { error: why, refused_for }) => {
                tracing::debug!(peer = %self.peer, address = self.address, %why, "no link");
                if let Some(reason) = refused_for {
                    self.refusals.note(reason, &self.peer, &why);
                }
                let failures = failures.saturating_add(1);
                State::Down { why, until: Instant::now() + back_off(failures), failures }
            }
        };
        self.state.send_if_modified(|state| {
            // A link that was ended while it was made stays ended.
            let wanted = matches!(state, State::Dialing) && !self.is_stopped();
            *state = if wanted { next } else { State::Idle };
            true
        });
        // What certificates say now may be other than when the link was begun.
        self.review(&credentials.current(), false);
    }

    /// Waits until a link that has failed may be tried again.
    pub(super) async fn back_off(&self) {
        let until = match self.state() {
            State::Down { until, .. } => until,
            State::Idle | State::Dialing | State::Up(_) => Instant::now() + back_off(1),
        };
        self.stop.run_until_cancelled(tokio::time::sleep_until(until)).await;
    }

    /// One call, from the first wait to the last octet of its reply.
    pub(super) async fn call(self: &Arc<Self>, call: Call) -> Result<Reply, LinkError> {
        if call.payload.len() > MAX_PAYLOAD_OCTETS {
            return Err(LinkError::NotSent(NotSent::TooLarge));
        }
        let deadline = Instant::now() + call.within.min(MAX_DEADLINE);
        let _slot = self.slot(deadline).await?;
        let mut last = LinkError::NotSent(NotSent::Broken);
        for _ in 0..ATTEMPTS {
            let connection = self.ready(deadline).await?;
            match self.send(&connection, &call, deadline).await {
                // What else is under way there is finished: the link is neither cut nor made anew.
                Err(LinkError::NotSent(NotSent::Broken)) if connection.is_leaving() => {
                    return Err(LinkError::Declined(Refusal::Stopping));
                }
                Err(LinkError::NotSent(NotSent::Broken)) => {
                    last = LinkError::NotSent(NotSent::Broken);
                    self.retire(&connection);
                }
                done => return done,
            }
        }
        Err(last)
    }

    /// Gives a link up that takes no calls any more. It ends with the last call that is under way on it.
    fn retire(&self, connection: &Arc<Connection>) {
        self.state.send_if_modified(|state| {
            let same = matches!(state, State::Up(there) if Arc::ptr_eq(there, connection));
            if same {
                self.remember(connection);
                *state = State::Idle;
            }
            same
        });
    }

    async fn slot(&self, deadline: Instant) -> Result<tokio::sync::SemaphorePermit<'_>, LinkError> {
        if let Ok(slot) = self.slots.try_acquire() {
            return Ok(slot);
        }
        let waiting = Waiting::enter(&self.waiting)?;
        let slot = timeout_at(deadline, self.slots.acquire()).await;
        drop(waiting);
        let slot = slot.map_err(|_| LinkError::NotSent(NotSent::Late))?;
        Ok(slot.expect("never closed"))
    }

    async fn send(
        &self,
        connection: &Connection,
        call: &Call,
        deadline: Instant,
    ) -> Result<Reply, LinkError> {
        let late = |_| LinkError::NotSent(NotSent::Late);
        let held = self.bounds.outgoing(call.payload.len());
        let held = timeout_at(deadline, held).await.map_err(late)?;
        let mut grpc = connection.grpc();
        let ready = timeout_at(deadline, grpc.ready()).await.map_err(late)?;
        ready.map_err(|_| LinkError::NotSent(NotSent::Broken))?;
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(LinkError::NotSent(NotSent::Late));
        }
        let trace = call.trace_parent.as_deref().filter(|trace| trace.len() <= MAX_TRACE_OCTETS);
        let head = CallHead {
            transaction: Bytes::copy_from_slice(&call.transaction.0),
            remaining_us: remaining.as_micros() as u64,
            version: call.version.0,
            trace_parent: trace.unwrap_or_default().to_owned(),
            total: call.payload.len() as u64,
            payload: large::first_part(&call.payload),
        };
        let frames = large::frames(Kind::Call(head), call.payload.clone(), held);
        let answer = async {
            let codec = ProstCodec::default();
            let answer = grpc.streaming(Request::new(frames), wire::path(wire::CALL), codec).await;
            self.answer(call, answer.map_err(outcome)?.into_inner()).await
        };
        match timeout_at(deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(LinkError::Unknown("no reply in the call's time".to_owned())),
        }
    }

    async fn answer(&self, call: &Call, mut frames: Streaming<Frame>) -> Result<Reply, LinkError> {
        let unknown = |why: &str| LinkError::Unknown(why.to_owned());
        let head = match frames.message().await.map_err(outcome)? {
            Some(Frame { kind: Some(Kind::Answer(head)) }) => head,
            _ => return Err(unknown("the answer makes no sense")),
        };
        let AnswerHead { outcome, detail, version, total, payload } = head;
        if outcome != Outcome::Replied as i32 {
            // Whatever follows does not change what is known.
            let _ = large::finish(&mut frames).await;
        }
        match Outcome::try_from(outcome).unwrap_or(Outcome::None) {
            Outcome::Replied => {
                let payload = self.bounds.receive(total, payload, &mut frames).await;
                let payload = payload.map_err(|error| LinkError::Unknown(error.to_string()))?;
                Ok(Reply { payload })
            }
            Outcome::Busy => Err(LinkError::Declined(Refusal::Busy)),
            Outcome::Stopping => Err(LinkError::Declined(Refusal::Stopping)),
            Outcome::Malformed => Err(LinkError::Declined(Refusal::Malformed(detail))),
            Outcome::Version => {
                Err(LinkError::Version { ours: call.version, theirs: WireVersion(version) })
            }
            Outcome::Late => Err(unknown("its time was over at the peer")),
            Outcome::None => Err(unknown("the peer's answer is of a kind that is not known")),
        }
    }

    /// Asks the peer for its events; `sent` are our requests for more.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        sent: mpsc::Receiver<Frame>,
    ) -> Result<Streaming<Frame>, LinkError> {
        self.stream(wire::EVENTS, sent).await
    }

    /// A stream that lasts as long as its link.
    pub(super) async fn stream(
        self: &Arc<Self>,
        path: &'static str,
        sent: mpsc::Receiver<Frame>,
    ) -> Result<Streaming<Frame>, LinkError> {
        let deadline = Instant::now() + super::dial::DIAL_TIME;
        let connection = self.ready(deadline).await?;
        let mut grpc = connection.grpc();
        let unreachable = |error: String| LinkError::Unreachable(error);
        grpc.ready().await.map_err(|error| unreachable(error.to_string()))?;
        let sent = Request::new(ReceiverStream::new(sent));
        let answer = grpc.streaming(sent, wire::path(path), ProstCodec::default());
        let answer = timeout_at(deadline, answer).await;
        let answer = answer.map_err(|_| unreachable("no answer in time".to_owned()))?;
        answer.map(tonic::Response::into_inner).map_err(|status| unreachable(status.to_string()))
    }

    /// Gives a datagram to the link if there is room; `false` when it is dropped.
    pub(super) fn datagram(self: &Arc<Self>, datagram: Bytes) -> bool {
        let mut gossip = self.gossip.lock().unwrap_or_else(PoisonError::into_inner);
        let pump = gossip.get_or_insert_with(|| super::pump::start(self, self.stop.clone()));
        pump.try_send(datagram).is_ok()
    }
}

/// Whether a failure says that nobody has looked at the request: HTTP/2 refused its stream unseen (RFC
/// 9113 §8.7), or the peer's GOAWAY names an earlier one as the last (§6.8; h2 0.4 ends no other streams
/// with it), or hyper still had it in its hands (1.12 says "canceled" of nothing else), or the link had
/// broken before.
fn was_never_sent(error: &(dyn std::error::Error + 'static)) -> bool {
    let unseen = |error: &h2::Error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM)
            || (error.is_go_away() && error.is_remote())
    };
    error.downcast_ref().is_some_and(unseen)
        || error.downcast_ref().is_some_and(hyper::Error::is_canceled)
        || error.is::<BrokenLink>()
}

/// What a failure after sending means.
fn outcome(status: Status) -> LinkError {
    let mut source = std::error::Error::source(&status);
    while let Some(error) = source {
        if was_never_sent(error) {
            return LinkError::NotSent(NotSent::Broken);
        }
        source = error.source();
    }
    match status.code() {
        // Our own service's word for a first message that makes no sense.
        Code::InvalidArgument => {
            LinkError::Declined(Refusal::Malformed(status.message().to_owned()))
        }
        _ => LinkError::Unknown(status.to_string()),
    }
}

/// With jitter, so that nodes that lost the same peer do not come back in step.
pub(super) fn back_off(failures: u32) -> Duration {
    let doubled = BACK_OFF_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10));
    let mut octets = [0; 4];
    // Without randomness there is no jitter, which is no reason to fail.
    let _ = getrandom::fill(&mut octets);
    let part = f64::from(u32::from_le_bytes(octets)) / f64::from(u32::MAX);
    doubled.min(BACK_OFF_MAX).mul_f64(0.5 + 0.5 * part)
}

/// One of those who wait; leaves when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Result<Self, LinkError> {
        let entered = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            return Err(LinkError::NotSent(NotSent::Busy));
        }
        Ok(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_grows_to_its_maximum_with_jitter() {
        for failures in [1, 2, 5, 31, u32::MAX] {
            let waits: Vec<_> = (0..100).map(|_| back_off(failures)).collect();
            assert!(waits.iter().all(|wait| *wait <= BACK_OFF_MAX), "{failures}");
            assert!(waits.iter().all(|wait| *wait >= BACK_OFF_FIRST / 2), "{failures}");
            assert!(waits.iter().any(|wait| wait != &waits[0]), "jitter at {failures}");
        }
    }
}
