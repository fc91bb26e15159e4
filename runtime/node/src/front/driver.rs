//! Performs any pure protocol session over a connection: octets in, actions done, in order.
//!
//! What it promises to the session: one input at a time; octets only while the session wants them;
//! the answer to each call. What it promises to the node: at most one piece of [`READ_OCTETS`] read
//! ahead, at most about [`OUT_OCTETS`] waiting to be sent, no client that takes nothing for longer
//! than [`Timing::write_stall`], and a call once made is finished, whatever becomes of the client.

use std::future::{pending, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use postroom_core::calls::Call;
use postroom_core::session::{Action, Input, Millis, Session};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use super::calls::{Calls, error_kind, is_trouble, kind};
use super::meters::Meters;
use super::outgoing::Outgoing;
use super::stream::{READ_OCTETS, Stream};
use super::tls::Tls;

/// Octets that may wait to be sent before the session is asked for more, or more is read: enough
/// to keep a fast client busy while the next piece is made.
pub const OUT_OCTETS: usize = 256 << 10;
/// Octets that a client may still send after we have closed, before it is cut off.
const LINGER_OCTETS: usize = 1 << 20;

/// How long the driver waits for a client.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For it to take any octet of what waits to be sent.
    pub write_stall: Duration,
    /// For a TLS handshake.
    pub handshake: Duration,
    /// For it to close after us, so that our last words arrive (closing a socket that has unread
    /// octets resets the connection).
    pub linger: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            write_stall: Duration::from_secs(60),
            handshake: Duration::from_secs(30),
            linger: Duration::from_secs(2),
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// The session closed it.
    Closed,
    /// The network failed, or the client went.
    Gone(io::Error),
    /// The client took nothing for too long.
    Stalled,
    /// The TLS handshake failed or took too long.
    TlsFailed(io::Error),
}

/// One connection.
pub struct Connection {
    stream: Stream,
    session: Box<dyn Session>,
    calls: Arc<dyn Calls>,
    tls: Option<Arc<Tls>>,
    meters: Meters,
    timing: Timing,
    shutdown: CancellationToken,
    /// What [`Millis`] zero is.
    started: Instant,
    out: Outgoing,
    /// Read while a call was out.
    ahead: Vec<u8>,
    /// The client sends no more.
    ended: bool,
    /// The session knows.
    told_end: bool,
    told_shutdown: bool,
}

/// What a connection's driver needs beside the connection.
pub struct Parts {
    /// The session.
    pub session: Box<dyn Session>,
    /// Where its calls go.
    pub calls: Arc<dyn Calls>,
    /// For STARTTLS; a session that asks for it without this is closed.
    pub tls: Option<Arc<Tls>>,
    /// Meters of its protocol.
    pub meters: Meters,
    /// Limits.
    pub timing: Timing,
    /// Cancelled when the node shuts down.
    pub shutdown: CancellationToken,
}

/// What happened on the network.
enum Progress {
    Wrote(usize),
    Octets(Vec<u8>),
    End,
}

/// What the session is told next.
enum Event {
    Network(io::Result<Progress>),
    Ahead,
    End,
    Changed,
    Time,
    Stalled,
    ShuttingDown,
}

impl Connection {
    /// Over a stream, from now on.
    pub fn new(stream: Stream, parts: Parts) -> Self {
        let Parts { session, calls, tls, meters, timing, shutdown } = parts;
        Self {
            stream,
            session,
            calls,
            tls,
            meters,
            timing,
            shutdown,
            started: Instant::now(),
            out: Outgoing::new(),
            ahead: Vec::new(),
            ended: false,
            told_end: false,
            told_shutdown: false,
        }
    }

    /// Performs the session to its end. Not cancel-safe for the client, but for the mail: a call
    /// that is dropped goes on in the message store.
    pub async fn run(mut self) -> End {
        loop {
            if let Err(end) = self.perform().await {
                return end;
            }
            let event = self.event().await;
            if let Err(end) = self.take(event) {
                return end;
            }
        }
    }

    /// Does what the session wants until it wants nothing more.
    async fn perform(&mut self) -> Result<(), End> {
        while let Some(action) = self.session.action() {
            match action {
                Action::Send(octets) => self.out.push(octets),
                Action::Call(call) => self.call(call).await?,
                Action::StartTls => self.start_tls().await?,
                Action::LoggedIn(principal) => {
                    tracing::Span::current().record("user", principal.user.as_str());
                    info!("logged in");
                    self.calls.log_in(principal);
                }
                Action::Close => return Err(self.close().await),
            }
            // Backpressure: the session makes no more than the client takes.
            self.drain(OUT_OCTETS).await?;
        }
        Ok(())
    }

    /// Waits for the next thing that happens. Each branch is cancel-safe: the network future moves
    /// octets only when it completes, the others hold nothing.
    async fn event(&mut self) -> Event {
        let wants = self.session.wants_octets();
        if wants && !self.ahead.is_empty() {
            return Event::Ahead;
        }
        if self.ended && !self.told_end {
            return Event::End;
        }
        let may_read = wants && !self.ended && self.out.octets() < OUT_OCTETS;
        let deadline = self.session.deadline().map(|millis| self.moment(millis));
        let stalled = self.stall();
        tokio::select! {
            biased;
            () = self.shutdown.cancelled(), if !self.told_shutdown => Event::ShuttingDown,
            done = network(&mut self.stream, &mut self.out, may_read) => Event::Network(done),
            () = until(deadline) => Event::Time,
            () = until(stalled) => Event::Stalled,
            () = self.calls.changed() => Event::Changed,
        }
    }

    fn take(&mut self, event: Event) -> Result<(), End> {
        let now = self.now();
        match event {
            Event::Network(Ok(Progress::Wrote(octets))) => {
                self.meters.sent.increment(octets as u64)
            }
            Event::Network(Ok(Progress::Octets(octets))) => {
                self.meters.received.increment(octets.len() as u64);
                self.session.input(now, Input::Octets(&octets));
            }
            Event::Network(Ok(Progress::End)) => self.ended = true,
            Event::Network(Err(error)) => return Err(End::Gone(error)),
            Event::Ahead => {
                let octets = std::mem::take(&mut self.ahead);
                self.session.input(now, Input::Octets(&octets));
            }
            Event::End => {
                self.told_end = true;
                self.session.input(now, Input::EndOfInput);
            }
            Event::Changed => self.session.input(now, Input::Changed),
            Event::Time => self.session.input(now, Input::Time),
            Event::Stalled => return Err(End::Stalled),
            Event::ShuttingDown => self.tell_shutdown(),
        }
        Ok(())
    }

    fn tell_shutdown(&mut self) {
        self.told_shutdown = true;
        let now = self.now();
        self.session.input(now, Input::ShuttingDown);
    }

    /// Makes a call and brings its answer back. Meanwhile what waits is sent, one piece is read
    /// ahead, and it is noticed when the client goes; the call is finished all the same.
    async fn call(&mut self, call: Call) -> Result<(), End> {
        let kind = kind(&call);
        let transaction = self.calls.transaction();
        let began = Instant::now();
        let span = info_span!("call", kind, %transaction);
        let calls = self.calls.clone();
        let work = async move {
            let answer = calls.call(transaction, call).await;
            if let Err(error) = &answer {
                match is_trouble(error) {
                    true => warn!(error = error_kind(error), "{error}"),
                    false => debug!(error = error_kind(error), "{error}"),
                }
            }
            answer
        };
        let work = work.instrument(span);
        tokio::pin!(work);
        let mut gone = None;
        let answer = loop {
            let may_read = !self.ended && self.ahead.is_empty() && self.out.octets() < OUT_OCTETS;
            let stalled = self.stall();
            tokio::select! {
                biased;
                answer = &mut work => break answer,
                done = network(&mut self.stream, &mut self.out, may_read), if gone.is_none() => match done {
                    Ok(Progress::Wrote(octets)) => self.meters.sent.increment(octets as u64),
                    Ok(Progress::Octets(octets)) => {
                        self.meters.received.increment(octets.len() as u64);
                        self.ahead = octets;
                    }
                    Ok(Progress::End) => self.ended = true,
                    Err(error) => gone = Some(End::Gone(error)),
                },
                () = until(stalled), if gone.is_none() => gone = Some(End::Stalled),
            }
        };
        self.meters.called(kind, began.elapsed(), &answer);
        if let Some(end) = gone {
            return Err(end);
        }
        // Before the answer, or a session with many calls to make would not notice for long.
        if self.shutdown.is_cancelled() && !self.told_shutdown {
            self.tell_shutdown();
        }
        let now = self.now();
        self.session.input(now, Input::Answer(answer));
        Ok(())
    }

    async fn start_tls(&mut self) -> Result<(), End> {
        self.drain(0).await?;
        // Whatever came before the handshake was in plain text and is not to be believed.
        self.ahead = Vec::new();
        let Some(tls) = self.tls.clone() else {
            return Err(End::TlsFailed(io::ErrorKind::Unsupported.into()));
        };
        handshake(&mut self.stream, &tls, self.timing, &self.shutdown)
            .await
            .inspect_err(|_| self.meters.tls_failures.increment(1))
            .map_err(End::TlsFailed)?;
        let now = self.now();
        self.session.input(now, Input::TlsEstablished);
        Ok(())
    }

    /// Sends until at most `rest` octets wait (0: until all are with the network).
    async fn drain(&mut self, rest: usize) -> Result<(), End> {
        while self.out.octets() > rest || (rest == 0 && !self.out.is_empty()) {
            let stalled = self.stall();
            tokio::select! {
                biased;
                done = network(&mut self.stream, &mut self.out, false) => self.take(Event::Network(done))?,
                () = until(stalled) => return Err(End::Stalled),
            }
        }
        Ok(())
    }

    /// Sends the last words, closes our side, and waits a little for the client to close its own.
    async fn close(&mut self) -> End {
        if let Err(end) = self.drain(0).await {
            return end;
        }
        let stream = &mut self.stream;
        let goodbye = async {
            poll_fn(|cx| stream.poll_shutdown(cx)).await?;
            let mut left = LINGER_OCTETS;
            loop {
                let read = poll_fn(|cx| stream.poll_octets(cx)).await?.len();
                if read == 0 || read > left {
                    return Ok::<(), io::Error>(());
                }
                left -= read;
            }
        };
        // The session is done: neither a slow nor a rude client makes a difference any more.
        let _ = timeout(self.timing.linger, goodbye).await;
        End::Closed
    }

    /// When the client must have taken something of what waits.
    fn stall(&self) -> Option<Instant> {
        (!self.out.is_empty()).then(|| self.out.progress() + self.timing.write_stall)
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn moment(&self, millis: Millis) -> Instant {
        // A deadline beyond what the clock can hold is as good as none for a year.
        const YEAR: Duration = Duration::from_secs(366 * 24 * 3_600);
        self.started + Duration::from_millis(millis.0).min(self.started.elapsed() + YEAR)
    }
}

/// A TLS handshake as the server, bounded in time; given up when the node shuts down.
pub async fn handshake(
    stream: &mut Stream,
    tls: &Arc<Tls>,
    timing: Timing,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    tokio::select! {
        done = timeout(timing.handshake, stream.start_tls(tls)) => {
            done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
        () = shutdown.cancelled() => Err(io::ErrorKind::Interrupted.into()),
    }
}

/// Moves octets: writes when there is something to write, else reads when `read`. Pending for ever
/// when there is neither.
async fn network(stream: &mut Stream, out: &mut Outgoing, read: bool) -> io::Result<Progress> {
    poll_fn(|cx| {
        if !out.is_empty()
            && let Poll::Ready(done) = out.poll_write(cx, stream)
        {
            return Poll::Ready(done.map(Progress::Wrote));
        }
        if !read {
            return Poll::Pending;
        }
        stream.poll_octets(cx).map_ok(|octets| match octets.is_empty() {
            true => Progress::End,
            false => Progress::Octets(octets),
        })
    })
    .await
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

// A session is given at most this at once; its own buffers are made for it.
const _: () = assert!(READ_OCTETS <= OUT_OCTETS);
