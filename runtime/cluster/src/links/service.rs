//! What arrives over a connection, given to the node's service.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Future, StreamExt, stream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::codegen::{Context, Poll};
use tonic::server::{Grpc, StreamingService};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::api::{
    IncomingCall, MAX_ADDRESS_OCTETS, MAX_DATAGRAM_OCTETS, MAX_DEADLINE, MAX_TRACE_OCTETS, Refusal,
    Service, TransactionId, WireVersion,
};
use super::events::{EventSource, WINDOW};
use super::large::{self, Incomplete};
use super::revoked;
use super::server::{Caller, Shared};
use super::wire::{
    self, AnswerHead, CallHead, EventFrame, Frame, HelloFrame, Kind, MAX_FRAME_OCTETS, Outcome,
};
use crate::certificates::NotTaken;
use crate::refusals::Reason;

/// How long a stream's first message may take to follow its opening.
const FIRST_TIME: Duration = Duration::from_secs(5);

type Frames = BoxStream<'static, Result<Frame, Status>>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The methods, by their paths.
#[derive(Clone)]
pub(super) struct Rpc {
    shared: Arc<Shared>,
    service: Arc<dyn Service>,
}

#[derive(Clone, Copy)]
enum Method {
    Call,
    Events,
    Gossip,
    Hello,
    Revoked,
}

impl Rpc {
    pub(super) fn new(shared: Arc<Shared>, service: Arc<dyn Service>) -> Self {
        Self { shared, service }
    }
}

impl tonic::codegen::Service<http::Request<Body>> for Rpc {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = match request.uri().path() {
            wire::CALL => Method::Call,
            wire::EVENTS => Method::Events,
            wire::GOSSIP => Method::Gossip,
            wire::HELLO => Method::Hello,
            wire::REVOKED => Method::Revoked,
            _ => {
                let caller = request.extensions().get::<Arc<Caller>>();
                let who = caller.map_or("nobody", |caller| caller.holder.node.as_str());
                self.shared.calls.note(Reason::Nonsense, &who, &"no such method");
                let status = Status::unimplemented("no such method");
                return Box::pin(std::future::ready(Ok(status.into_http())));
            }
        };
        let bound = Bound { rpc: self.clone(), method };
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default())
                .apply_max_message_size_config(Some(MAX_FRAME_OCTETS), None);
            Ok(grpc.streaming(bound, request).await)
        })
    }
}

struct Bound {
    rpc: Rpc,
    method: Method,
}

impl StreamingService<Frame> for Bound {
    type Response = Frame;
    type ResponseStream = Frames;
    type Future = BoxFuture<Result<Response<Frames>, Status>>;

    fn call(&mut self, request: Request<Streaming<Frame>>) -> Self::Future {
        let (rpc, method) = (self.rpc.clone(), self.method);
        Box::pin(async move {
            let caller = request.extensions().get::<Arc<Caller>>().cloned();
            let caller = caller.ok_or_else(|| Status::internal("nobody's connection"))?;
            let mut frames = request.into_inner();
            let refuse = |why: &str| {
                rpc.shared.calls.note(Reason::Nonsense, &caller.holder.node, &why);
                nonsense(why)
            };
            let first = timeout(FIRST_TIME, frames.message()).await;
            let first = first.map_err(|_| refuse("no first message"))?;
            let first = first.inspect_err(|status| rpc.unread(&caller, status))?;
            let first = first.and_then(|frame| frame.kind);
            let frames = match (method, first) {
                (Method::Call, Some(Kind::Call(head))) => {
                    caller.spoke.store(true, Ordering::Relaxed);
                    rpc.take_call(&caller, head, frames).await
                }
                (Method::Events, Some(Kind::Credit(credit))) => {
                    rpc.give_events(&caller, credit, frames)?
                }
                (Method::Gossip, Some(Kind::Datagram(first))) => {
                    rpc.take_gossip(caller.clone(), first, frames)?
                }
                (Method::Hello, Some(Kind::Hello(hello))) => {
                    large::finish(&mut frames).await.map_err(|why| refuse(&why.to_string()))?;
                    if hello.address.len() > MAX_ADDRESS_OCTETS {
                        return Err(refuse("the address is too long"));
                    }
                    if rpc.shared.version.common(WireVersion(hello.version)).is_none() {
                        // It is told our version, and leaves by itself.
                        let why = format!("it speaks version {}", hello.version);
                        rpc.shared.calls.note(Reason::Version, &caller.holder.node, &why);
                    }
                    if !hello.address.is_empty() {
                        rpc.service.met(&caller.holder.node, &hello.address);
                    }
                    one(rpc.hello())
                }
                (Method::Revoked, Some(Kind::Revoked(list))) => {
                    large::finish(&mut frames).await.map_err(|why| refuse(&why.to_string()))?;
                    let credentials = &rpc.shared.credentials;
                    // What is good of it counts, and is in the answer.
                    match revoked::take(credentials, list).await {
                        // What cannot be kept is no fault of the peer's; the log has it.
                        Ok(()) | Err(NotTaken::NotKept(_)) => {}
                        // It asks again at its next look.
                        Err(why @ NotTaken::Busy) => {
                            return Err(Status::unavailable(why.to_string()));
                        }
                        Err(why @ NotTaken::Nonsense(_)) => {
                            rpc.shared.calls.note(Reason::Nonsense, &caller.holder.node, &why);
                        }
                    }
                    one(Kind::Revoked(revoked::list(credentials)))
                }
                _ => return Err(refuse("a first message that makes no sense")),
            };
            caller.spoke.store(true, Ordering::Relaxed);
            Ok(Response::new(frames))
        })
    }
}

fn nonsense(why: &str) -> Status {
    Status::invalid_argument(why)
}

fn one(kind: Kind) -> Frames {
    stream::iter([Ok(Frame::from(kind))]).boxed()
}

impl Rpc {
    /// A message could not be read. A stream that broke is nobody's fault.
    fn unread(&self, caller: &Caller, status: &Status) {
        let reason = match status.code() {
            // What tonic 0.14 says of a message beyond its maximum, and of nothing else.
            Code::OutOfRange => Reason::TooLarge,
            // What it says of one that is none.
            Code::Internal if std::error::Error::source(status).is_none() => Reason::Nonsense,
            _ => return,
        };
        self.shared.calls.note(reason, &caller.holder.node, status);
    }

    fn hello(&self) -> Kind {
        let (version, address) = (self.shared.version.0, String::new());
        Kind::Hello(HelloFrame {
            version,
            address,
            revoked: revoked::digest(&self.shared.credentials),
        })
    }

    /// Dropped in the middle when the caller has gone.
    async fn take_call(&self, caller: &Caller, head: CallHead, frames: Streaming<Frame>) -> Frames {
        let remaining = Duration::from_micros(head.remaining_us).min(MAX_DEADLINE);
        let deadline = Instant::now() + remaining;
        let answered = timeout_at(deadline, self.answer(caller, head, frames, deadline)).await;
        let late = || self.outcome(Outcome::Late, String::new());
        let (answer, payload) = answered.unwrap_or_else(|_| (late(), Bytes::new()));
        let Ok(held) = timeout_at(deadline, caller.bounds.outgoing(payload.len())).await else {
            return one(Kind::Answer(late()));
        };
        let frames = large::frames(Kind::Answer(answer), payload, held).map(Ok);
        // Past its time nobody wants the rest.
        frames.take_until(tokio::time::sleep_until(deadline)).boxed()
    }

    async fn answer(
        &self,
        caller: &Caller,
        head: CallHead,
        mut frames: Streaming<Frame>,
        deadline: Instant,
    ) -> (AnswerHead, Bytes) {
        let refused = |outcome, detail| (self.outcome(outcome, detail), Bytes::new());
        let count = |reason, why: &dyn std::fmt::Display| {
            self.shared.calls.note(reason, &caller.holder.node, why);
        };
        let malformed = |why: &str| {
            count(Reason::Nonsense, &why);
            refused(Outcome::Malformed, why.to_owned())
        };
        let Ok(transaction) = head.transaction.as_ref().try_into() else {
            return malformed("a transaction id has 16 octets");
        };
        if head.trace_parent.len() > MAX_TRACE_OCTETS {
            return malformed("the trace parent is too long");
        }
        let version = WireVersion(head.version);
        if !self.shared.version.reads(version) {
            count(Reason::Version, &format!("a call in version {}", head.version));
            return refused(Outcome::Version, String::new());
        }
        if self.shared.closing.is_cancelled() {
            return refused(Outcome::Stopping, String::new());
        }
        let payload = match caller.bounds.receive(head.total, head.payload, &mut frames).await {
            Ok(payload) => payload,
            Err(error @ Incomplete::TooLarge) => {
                count(Reason::TooLarge, &error);
                return refused(Outcome::Malformed, error.to_string());
            }
            Err(error @ Incomplete::Nonsense(_)) => return malformed(&error.to_string()),
            Err(error @ Incomplete::Broken(_)) => {
                return refused(Outcome::Malformed, error.to_string());
            }
        };
        let call = IncomingCall {
            transaction: TransactionId(transaction),
            remaining: deadline.saturating_duration_since(Instant::now()),
            version,
            trace_parent: Some(head.trace_parent).filter(|trace| !trace.is_empty()),
            payload,
        };
        match self.service.call(&caller.holder.node, call).await {
            Ok(reply) if reply.payload.len() > super::api::MAX_PAYLOAD_OCTETS => {
                // It has had its effect: only that it is done can be said, and not how.
                tracing::error!(peer = %caller.holder.node, "a reply is too large to be sent");
                refused(Outcome::Late, "the reply is too large".to_owned())
            }
            Ok(reply) => {
                let mut answer = self.outcome(Outcome::Replied, String::new());
                answer.total = reply.payload.len() as u64;
                answer.payload = large::first_part(&reply.payload);
                (answer, reply.payload)
            }
            Err(Refusal::Busy) => refused(Outcome::Busy, String::new()),
            Err(Refusal::Stopping) => refused(Outcome::Stopping, String::new()),
            Err(Refusal::Malformed(why)) => refused(Outcome::Malformed, why),
        }
    }

    fn outcome(&self, outcome: Outcome, detail: String) -> AnswerHead {
        let (total, payload) = (0, Bytes::new());
        let version = self.shared.version.0;
        AnswerHead { outcome: outcome as i32, detail, version, total, payload }
    }

    fn give_events(
        &self,
        caller: &Caller,
        credit: u32,
        requests: Streaming<Frame>,
    ) -> Result<Frames, Status> {
        let peer = &caller.holder.node;
        let source = self.service.events(peer).map_err(|r| Status::unavailable(r.to_string()))?;
        let ours = self.shared.closing.child_token();
        let mut readers =
            self.shared.readers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        readers.retain(|_, reader| !reader.is_cancelled());
        if let Some(older) = readers.insert(peer.clone(), ours.clone()) {
            older.cancel();
        }
        drop(readers);
        let credit = credit.min(WINDOW);
        let over = ours.clone();
        let reading = Reading { source, requests, credit, over, _guard: ours.drop_guard() };
        let events = stream::unfold(reading, |mut reading| async move {
            let event = reading.next().await?;
            Some((Ok(event), reading))
        });
        let hello = Frame::from(self.hello());
        Ok(stream::iter([Ok(hello)]).chain(events).boxed())
    }

    fn take_gossip(
        &self,
        caller: Arc<Caller>,
        first: Bytes,
        mut frames: Streaming<Frame>,
    ) -> Result<Frames, Status> {
        let shared = self.shared.clone();
        let too_large = move |caller: &Caller, datagram: &Bytes| {
            let is = datagram.len() > MAX_DATAGRAM_OCTETS;
            if is {
                let why = format!("a datagram of {} octets", datagram.len());
                shared.calls.note(Reason::TooLarge, &caller.holder.node, &why);
            }
            is
        };
        if too_large(&caller, &first) {
            return Err(nonsense("a datagram is too large"));
        }
        let (service, closing) = (self.service.clone(), self.shared.closing.clone());
        service.gossip(&caller.holder.node, first);
        // The answer is its end: it lasts as long as datagrams come.
        let take = async move {
            while let Some(Ok(Some(frame))) = closing.run_until_cancelled(frames.message()).await {
                match frame.kind {
                    Some(Kind::Datagram(datagram)) if !too_large(&caller, &datagram) => {
                        service.gossip(&caller.holder.node, datagram);
                    }
                    _ => break,
                }
            }
            Ok(Frame::default())
        };
        Ok(stream::once(take).boxed())
    }
}

/// A peer that reads our events.
struct Reading {
    source: EventSource,
    requests: Streaming<Frame>,
    credit: u32,
    over: CancellationToken,
    _guard: DropGuard,
}

impl Reading {
    /// The next event that may be sent; `None` at the end of either side.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            tokio::select! {
                () = self.over.cancelled() => return None,
                // Both may be dropped in the middle without losing anything.
                event = self.source.next(), if self.credit > 0 => {
                    let event = event?;
                    self.credit -= 1;
                    let key = Bytes::copy_from_slice(&event.key);
                    return Some(Kind::Event(EventFrame { key, value: event.value }).into());
                }
                request = self.requests.message() => match request.ok()??.kind? {
                    Kind::Credit(more) => {
                        self.credit = self.credit.saturating_add(more).min(WINDOW);
                    }
                    _ => return None,
                },
            }
        }
    }
}
