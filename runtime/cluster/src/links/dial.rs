//! Making a link: TCP, TLS with both certificates, HTTP/2, and a first question that tells the
//! peer's version. Each way to fail says something else about the peer.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::Uri;
use tonic::codegen::{Context, Poll, Service};
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::api::{LinkError, Refusal, WireVersion};
use super::io::{Cord, Io, alert_of, tls_error_of};
use super::large::{CONNECTION_WINDOW, STREAM_WINDOW};
use super::link::MAX_IN_FLIGHT;
use super::revoked::{Exchanged, exchange};
use super::wire::{CHUNK_OCTETS, Frame, HELLO, HelloFrame, Kind, MAX_FRAME_OCTETS, path};
use crate::certificates::{Credentials, Holder};
use crate::names::NodeId;
use crate::refusals::Reason;

/// How long making a link may take. A node's host that is lost says nothing at all.
pub(super) const DIAL_TIME: Duration = Duration::from_secs(3);

/// After how long without an octet the other end is asked whether it is there.
pub(super) const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(1);

/// How long it may take to say so. With the time before it a lost host is noticed in 4 s.
pub(super) const KEEP_ALIVE_TIME: Duration = Duration::from_secs(3);

/// How often a link's round trip is measured, and the peer told again where we are.
const PING_EVERY: Duration = Duration::from_secs(2);

/// How many calls that were given up are remembered, so that what still arrives for them is known
/// to be theirs.
pub(super) const MAX_RESET: usize = 4 * MAX_IN_FLIGHT;

/// For how long: a peer that is slower is not one that a link stands to.
const RESET_KEPT: Duration = KEEP_ALIVE_TIME;

/// How many requests wait for their turn to be given to HTTP/2.
const BUFFERED: usize = 1_024;

/// What HTTP/2 calls the other end. Certificates decide who it is, so this is for nobody.
const AUTHORITY: &str = "http://postroom.internal";

/// A link that stands.
pub(super) struct Connection {
    channel: Channel,
    pub(super) cord: Cord,
    /// Who the peer's certificate says it is.
    pub(super) holder: Holder,
    /// The peer's own version.
    pub(super) theirs: WireVersion,
    /// What both speak.
    pub(super) common: WireVersion,
    pub(super) since: Instant,
    /// Smoothed round trip, in microseconds.
    round_trip_us: AtomicU64,
}

impl Connection {
    pub(super) fn grpc(&self) -> Grpc<Channel> {
        let origin = Uri::from_static(AUTHORITY);
        Grpc::with_origin(self.channel.clone(), origin).max_decoding_message_size(MAX_FRAME_OCTETS)
    }

    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_us.load(Ordering::Relaxed))
    }

    /// Whether the peer has said that it takes nothing new.
    pub(super) fn is_leaving(&self) -> bool {
        self.cord.leaving.is_cancelled()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.cord.gone.is_cancelled() || self.cord.cut.is_cancelled()
    }

    /// Measures the round trip for as long as the link stands and somebody holds it.
    async fn measure(
        this: std::sync::Weak<Self>,
        gone: CancellationToken,
        (ours, own_address): (WireVersion, String),
        credentials: Arc<Credentials>,
        mut revoked: Bytes,
    ) {
        let mut exchanged = Exchanged::default();
        let mut ticks = tokio::time::interval(PING_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await; // The first one was the question that made the link.
        loop {
            {
                let Some(connection) = this.upgrade() else { return };
                let heard = std::mem::take(&mut revoked);
                exchange(connection.grpc(), &credentials, heard, &mut exchanged).await;
            }
            if gone.run_until_cancelled(ticks.tick()).await.is_none() {
                return;
            }
            let Some(connection) = this.upgrade() else { return };
            let began = Instant::now();
            // Where we are is said again: what the peer heard of us from others may be older.
            let asked = hello(connection.grpc(), ours, &own_address);
            let asked = timeout(KEEP_ALIVE_TIME, asked).await;
            if let Ok(Ok(theirs)) = asked {
                let (new, old) = (began.elapsed(), connection.round_trip());
                let smooth = (old * 7 + new) / 8;
                connection.round_trip_us.store(smooth.as_micros() as u64, Ordering::Relaxed);
                revoked = theirs.revoked;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Streams that somebody still reads hold the channel; without us nobody watches over it.
        self.cord.cut.cancel();
    }
}

/// Why no link was made.
pub(super) struct NoLink {
    /// What callers hear.
    pub(super) error: LinkError,
    /// What we found wrong with who answers, if that is why.
    pub(super) refused_for: Option<Reason>,
}

impl From<LinkError> for NoLink {
    fn from(error: LinkError) -> Self {
        Self { error, refused_for: None }
    }
}

impl NoLink {
    fn refused(error: LinkError, reason: Reason) -> Self {
        Self { error, refused_for: Some(reason) }
    }
}

/// Makes a link to `peer` at `address` (`host:port`) in at most [`DIAL_TIME`].
pub(super) async fn dial(
    peer: &NodeId,
    address: &str,
    credentials: &Arc<Credentials>,
    ours: WireVersion,
    own_address: &str,
    cut: CancellationToken,
) -> Result<Arc<Connection>, NoLink> {
    let made = attempt(peer, address, credentials, ours, own_address, cut);
    let made = timeout(DIAL_TIME, made).await;
    let silent = || LinkError::Unreachable(format!("no answer in {DIAL_TIME:?}"));
    made.unwrap_or_else(|_| Err(silent().into()))
}

async fn attempt(
    peer: &NodeId,
    address: &str,
    credentials: &Arc<Credentials>,
    ours: WireVersion,
    own_address: &str,
    cut: CancellationToken,
) -> Result<Arc<Connection>, NoLink> {
    let material = credentials.current();
    let tcp = TcpStream::connect(address).await.map_err(tcp_failure)?;
    let unreachable = |error: std::io::Error| LinkError::Unreachable(error.to_string());
    tcp.set_nodelay(true).map_err(unreachable)?;
    let name = ServerName::try_from(peer.dns_name(&material.holder.cluster))
        .map_err(|error| LinkError::WrongPeer(error.to_string()))?;
    let connector = TlsConnector::from(material.client.clone());
    let tls = connector.connect(name, tcp).await.map_err(|error| tls_failure(&error))?;
    let holder = verified(&tls, peer)?;

    let cord = Cord::new(cut);
    let once = Once(Arc::new(Mutex::new(Some(Io::caller(tls, cord.clone())))));
    let broken = |error: &dyn std::fmt::Display| match cord.alert() {
        Some(alert) => LinkError::NotAdmitted(format!("{alert:?}")),
        None if cord.leaving.is_cancelled() => LinkError::Declined(Refusal::Stopping),
        None => LinkError::Unreachable(error.to_string()),
    };
    let channel = endpoint().connect_with_connector(once).await.map_err(|error| broken(&error))?;
    let began = Instant::now();
    let grpc = Grpc::with_origin(channel.clone(), Uri::from_static(AUTHORITY));
    let hello = hello(grpc, ours, own_address).await.map_err(|why| broken(&why))?;
    let theirs = WireVersion(hello.version);
    let apart = || NoLink::refused(LinkError::Version { ours, theirs }, Reason::Version);
    let common = ours.common(theirs).ok_or_else(apart)?;
    let round_trip_us = AtomicU64::new(began.elapsed().as_micros() as u64);
    let since = Instant::now();
    let connection =
        Arc::new(Connection { channel, cord, holder, theirs, common, since, round_trip_us });
    let weak = Arc::downgrade(&connection);
    let (gone, credentials) = (connection.cord.gone.clone(), credentials.clone());
    let say = (ours, own_address.to_owned());
    tokio::spawn(Connection::measure(weak, gone, say, credentials, hello.revoked));
    Ok(connection)
}

/// Who the certificate says is there. The TLS library has compared the name; this is the second of
/// two looks, at the one place where a wrong answer would hurt most.
fn verified(tls: &TlsStream<TcpStream>, peer: &NodeId) -> Result<Holder, NoLink> {
    let certificates = tls.get_ref().1.peer_certificates().unwrap_or(&[]);
    let certificate = certificates.first().ok_or("no certificate".to_owned());
    let holder = certificate.and_then(|der| crate::certificates::holder_of(der));
    let wrong = |why| NoLink::refused(LinkError::WrongPeer(why), Reason::WrongName);
    let holder = holder.map_err(wrong)?;
    if holder.node != *peer {
        return Err(wrong(format!("it is {}", holder.node)));
    }
    Ok(holder)
}

fn endpoint() -> Endpoint {
    Endpoint::from_static(AUTHORITY)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(CHUNK_OCTETS as u32)
        // A call that is given up is a reset stream. What still arrives for one that is forgotten
        // counts as an attack, for as long as the link lasts: by default the link would end after
        // a thousand such calls. The peer is known, and these are our own calls.
        .http2_max_concurrent_reset_streams(MAX_RESET)
        .http2_reset_stream_duration(RESET_KEPT)
        .http2_max_local_error_reset_streams(None)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIME)
        .keep_alive_while_idle(true)
        .buffer_size(BUFFERED)
}

async fn hello(
    mut grpc: Grpc<Channel>,
    ours: WireVersion,
    own_address: &str,
) -> Result<HelloFrame, String> {
    grpc.ready().await.map_err(|error| error.to_string())?;
    let (version, address) = (ours.0, own_address.to_owned());
    let hello = HelloFrame { version, address, revoked: Bytes::new() };
    let sent = futures::stream::iter([Frame::from(Kind::Hello(hello))]);
    let answer = grpc.streaming(Request::new(sent), path(HELLO), ProstCodec::default()).await;
    let mut frames = answer.map_err(|status| status.to_string())?.into_inner();
    let first = frames.message().await.map_err(|status| status.to_string())?;
    let Some(Frame { kind: Some(Kind::Hello(theirs)) }) = first else {
        return Err("the peer does not say its version".to_owned());
    };
    super::large::finish(&mut frames).await.map_err(|error| error.to_string())?;
    Ok(theirs)
}

fn tcp_failure(error: std::io::Error) -> LinkError {
    match error.kind() {
        ErrorKind::ConnectionRefused => LinkError::Refused,
        _ => LinkError::Unreachable(error.to_string()),
    }
}

fn tls_failure(error: &std::io::Error) -> NoLink {
    if let Some(alert) = alert_of(error) {
        return LinkError::NotAdmitted(format!("{alert:?}")).into();
    }
    match tls_error_of(error) {
        Some(rustls::Error::InvalidCertificate(bad)) => {
            let reason = Reason::of_certificate(bad);
            NoLink::refused(LinkError::WrongPeer(bad.to_string()), reason)
        }
        _ => LinkError::Unreachable(error.to_string()).into(),
    }
}

/// What tonic hears when it wants to make the connection anew, for a request that is not sent.
#[derive(Debug, thiserror::Error)]
#[error("the link broke")]
pub(super) struct BrokenLink;

/// Gives out one connection, once. A link that breaks is made anew by us, who know why it did.
#[derive(Clone)]
struct Once(Arc<Mutex<Option<Io<TlsStream<TcpStream>>>>>);

impl Service<Uri> for Once {
    type Response = TokioIo<Io<TlsStream<TcpStream>>>;
    type Error = BrokenLink;
    type Future = std::future::Ready<Result<Self::Response, BrokenLink>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BrokenLink>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let io = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(io.map(TokioIo::new).ok_or(BrokenLink))
    }
}
