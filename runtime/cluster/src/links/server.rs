//! Lets peers in: TLS with both certificates, a bounded number of handshakes and connections, and
//! one line in the log for who is not let in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use super::api::{Service, WireVersion};
use super::client::{MAX_PEERS, REVIEW_EVERY};
use super::dial::{KEEP_ALIVE_EVERY, KEEP_ALIVE_TIME};
use super::io::{Cord, Io, tls_error_of};
use super::large::{Bounds, CONNECTION_WINDOW, STREAM_WINDOW};
use super::link::MAX_IN_FLIGHT;
use super::service::Rpc;
use super::wire::CHUNK_OCTETS;
use crate::certificates::{Credentials, Holder, holder_of};
use crate::names::NodeId;
use crate::refusals::{At, Reason, Refusals};

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Most handshakes at once. When another one begins the oldest is given up: an honest one takes
/// milliseconds.
const MAX_HANDSHAKES: usize = 128;

/// Most connections of one peer: its link, one that it has not yet noticed to be broken, and some to
/// spare. When another one comes the oldest is cut.
pub(super) const MAX_OF_A_PEER: usize = 4;

/// How long accepting pauses after it has failed: mostly the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Room between accepting and serving; serving takes each at once.
const ACCEPTED: usize = 16;

/// HTTP/2 streams of a connection: calls, and the long ones beside them.
const MAX_STREAMS: u32 = MAX_IN_FLIGHT as u32 + 16;

/// What the server needs to know.
pub struct ServerOptions {
    /// Who we are, and whom we trust.
    pub credentials: Arc<Credentials>,
    /// What this node writes; it reads the version before it too.
    pub version: WireVersion,
}

/// Where peers come in. Dropping it cuts all connections.
pub struct LinkServer {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// What accepting, connections and the service's streams share.
pub(super) struct Shared {
    pub(super) version: WireVersion,
    /// Who was not let in, or not any more.
    door: Refusals,
    /// What peers said that was not taken.
    pub(super) calls: Refusals,
    pub(super) credentials: Arc<Credentials>,
    peers: Mutex<HashMap<NodeId, Peer>>,
    /// The stream of events that a peer reads; a newer one ends it.
    pub(super) readers: Mutex<HashMap<NodeId, CancellationToken>>,
    /// Nobody is let in any more, and long streams end.
    pub(super) closing: CancellationToken,
    /// Every connection is cut.
    cut: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Peer {
    bounds: Arc<Bounds>,
    connections: VecDeque<(Arc<Caller>, Cord)>,
}

/// Who is at the other end of a connection.
pub(super) struct Caller {
    pub(super) holder: Holder,
    pub(super) bounds: Arc<Bounds>,
    /// Whether anything that makes sense has come.
    pub(super) spoke: std::sync::atomic::AtomicBool,
}

/// A connection that was let in.
pub(super) struct Admitted {
    io: Io<TlsStream<TcpStream>>,
    caller: Arc<Caller>,
}

impl LinkServer {
    /// Serves peers who come to `listener` until [`LinkServer::shutdown`]. Fails when the socket
    /// does not know its address.
    pub fn start(
        listener: TcpListener,
        service: Arc<dyn Service>,
        options: ServerOptions,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            version: options.version,
            door: Refusals::new(At::Door),
            calls: Refusals::new(At::Call),
            credentials: options.credentials,
            peers: Mutex::default(),
            readers: Mutex::default(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let (give, take) = mpsc::channel(ACCEPTED);
        shared.tasks.spawn(accept(shared.clone(), listener, give));
        shared.tasks.spawn(review(shared.clone()));
        shared.tasks.spawn(serve(shared.clone(), service, take));
        shared.tasks.close();
        Ok(Self { shared, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who is connected, and how often.
    pub fn peers(&self) -> Vec<(NodeId, usize)> {
        let peers = self.shared.peers();
        peers.iter().map(|(node, peer)| (node.clone(), peer.connections.len())).collect()
    }

    /// How often somebody was not let in, or not heard, by reason.
    pub fn refused(&self) -> Vec<(Reason, u64)> {
        let mut sums = BTreeMap::new();
        for (reason, count) in [self.shared.door.totals(), self.shared.calls.totals()].concat() {
            *sums.entry(reason).or_default() += count;
        }
        sums.into_iter().collect()
    }

    /// Lets nobody in any more, tells peers to make no new calls, waits for those under way for
    /// `grace` at most, and cuts what is left.
    pub async fn shutdown(&self, grace: Duration) {
        self.shared.closing.cancel();
        if timeout(grace, self.shared.tasks.wait()).await.is_err() {
            self.shared.cut.cancel();
            self.shared.tasks.wait().await;
        }
        self.shared.cut.cancel();
    }
}

impl Drop for LinkServer {
    fn drop(&mut self) {
        self.shared.closing.cancel();
        self.shared.cut.cancel();
    }
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, HashMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection up, within the bounds for its peer.
    fn admit(&self, holder: Holder, cord: &Cord) -> Result<Arc<Caller>, Reason> {
        let mut peers = self.peers();
        if peers.len() >= MAX_PEERS && !peers.contains_key(&holder.node) {
            return Err(Reason::TooMany);
        }
        let peer = peers.entry(holder.node.clone()).or_default();
        let (bounds, spoke) = (peer.bounds.clone(), Default::default());
        let caller = Arc::new(Caller { holder, bounds, spoke });
        peer.connections.push_back((caller.clone(), cord.clone()));
        if peer.connections.len() > MAX_OF_A_PEER
            && let Some((_, oldest)) = peer.connections.pop_front()
        {
            oldest.cut.cancel();
        }
        Ok(caller)
    }

    /// Forgets a connection that has ended.
    fn leave(&self, caller: &Arc<Caller>) {
        let mut peers = self.peers();
        let Some(peer) = peers.get_mut(&caller.holder.node) else { return };
        peer.connections.retain(|(other, _)| !Arc::ptr_eq(other, caller));
        if peer.connections.is_empty() {
            peers.remove(&caller.holder.node);
        }
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, give: mpsc::Sender<Admitted>) {
    let mut handshakes = VecDeque::<(AbortHandle, SocketAddr)>::new();
    while let Some(accepted) = shared.closing.run_until_cancelled(listener.accept()).await {
        let (tcp, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a link");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        handshakes.retain(|(task, _)| !task.is_finished());
        if handshakes.len() >= MAX_HANDSHAKES
            && let Some((oldest, from)) = handshakes.pop_front()
        {
            oldest.abort();
            shared.door.note(Reason::Silent, &from, &"given up for a newer one");
        }
        let task = tokio::spawn(handshake(shared.clone(), tcp, from, give.clone()));
        handshakes.push_back((task.abort_handle(), from));
    }
    handshakes.iter().for_each(|(task, _)| task.abort());
}

async fn handshake(
    shared: Arc<Shared>,
    tcp: TcpStream,
    from: SocketAddr,
    give: mpsc::Sender<Admitted>,
) {
    let material = shared.credentials.current();
    // A socket that does not take the option is slower, and no less right.
    let _ = tcp.set_nodelay(true);
    let acceptor = TlsAcceptor::from(material.server.clone());
    let tls = match timeout(HANDSHAKE_TIME, acceptor.accept(tcp)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return shared.door.note(of_handshake(&error), &from, &error),
        Err(_) => return shared.door.note(Reason::Silent, &from, &"no handshake in time"),
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let holder = certificate.ok_or("no certificate".to_owned()).and_then(|der| holder_of(der));
    let holder = match holder {
        Ok(holder) => holder,
        Err(why) => return shared.door.note(Reason::WrongName, &from, &why),
    };
    let cord = Cord::new(shared.cut.child_token());
    let caller = match shared.admit(holder, &cord) {
        Ok(caller) => caller,
        Err(reason) => return shared.door.note(reason, &from, &"too many peers"),
    };
    // Registered first, looked at again then: nobody slips in while certificates change.
    if !shared.credentials.current().admits(&caller.holder, SystemTime::now()) {
        cord.cut.cancel();
    }
    let io = Io::called(tls, cord.clone());
    tokio::spawn(watch_over(shared.clone(), caller.clone(), cord, from));
    let _ = give.send(Admitted { io, caller }).await; // Else we are closing.
}

/// What a failed handshake means.
fn of_handshake(error: &std::io::Error) -> Reason {
    match tls_error_of(error) {
        Some(rustls::Error::NoCertificatesPresented) => Reason::NoCertificate,
        Some(rustls::Error::InvalidCertificate(bad)) => Reason::of_certificate(bad),
        Some(rustls::Error::AlertReceived(_)) | None => Reason::GaveUp,
        Some(_) => Reason::NotTls,
    }
}

/// Waits for a connection's end and forgets it.
async fn watch_over(shared: Arc<Shared>, caller: Arc<Caller>, cord: Cord, from: SocketAddr) {
    cord.gone.cancelled().await;
    shared.leave(&caller);
    let spoke = caller.spoke.load(std::sync::atomic::Ordering::Relaxed);
    if !spoke && !cord.cut.is_cancelled() {
        let who = format!("{} at {from}", caller.holder.node);
        shared.door.note(Reason::Nonsense, &who, &"ended without a word that makes sense");
    }
}

/// Cuts connections of peers whose certificates are no longer good.
async fn review(shared: Arc<Shared>) {
    let mut changes = shared.credentials.watch();
    loop {
        tokio::select! {
            () = shared.closing.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(REVIEW_EVERY) => {}
        }
        let (material, now) = (changes.borrow_and_update().clone(), SystemTime::now());
        for peer in shared.peers().values() {
            for (caller, cord) in &peer.connections {
                if material.admits(&caller.holder, now) || cord.cut.is_cancelled() {
                    continue;
                }
                cord.cut.cancel();
                let revoked = material.revoked.has(&caller.holder);
                let reason = if revoked { Reason::Revoked } else { Reason::Expired };
                shared.door.note(reason, &caller.holder.node, &"its link is cut");
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, service: Arc<dyn Service>, admitted: mpsc::Receiver<Admitted>) {
    let rpc = Rpc::new(shared.clone(), service);
    let incoming = futures::StreamExt::map(ReceiverStream::new(admitted), std::io::Result::Ok);
    let closing = shared.closing.clone();
    let served = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(CHUNK_OCTETS as u32)
        .max_concurrent_streams(MAX_STREAMS)
        // See the same in `dial`: many calls may be given up, also before they were looked at.
        .http2_max_pending_accept_reset_streams(Some(MAX_STREAMS as usize))
        .http2_max_local_error_reset_streams(None)
        .http2_keepalive_interval(Some(KEEP_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIME))
        .serve_with_incoming_shutdown(rpc, incoming, closing.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "links are not served any more");
    }
}

impl Connected for Admitted {
    type ConnectInfo = Arc<Caller>;

    fn connect_info(&self) -> Arc<Caller> {
        self.caller.clone()
    }
}

mod stream {
    //! An admitted connection is read and written as its stream is.

    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Admitted;

    impl AsyncRead for Admitted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.io).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Admitted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            octets: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            Pin::new(&mut self.io).poll_write(cx, octets)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            octets: &[std::io::IoSlice<'_>],
        ) -> Poll<std::io::Result<usize>> {
            Pin::new(&mut self.io).poll_write_vectored(cx, octets)
        }

        fn is_write_vectored(&self) -> bool {
            self.io.is_write_vectored()
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.io).poll_flush(cx)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.io).poll_shutdown(cx)
        }
    }
}
