//! Listeners: accept, admit, start a driver; and the orderly end of all of them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use postroom_core::lmtp::{self, LmtpSession};
use postroom_core::session::Session;
use postroom_core::types::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info, info_span, warn};

use super::admission::{Admission, Connections};
use super::calls::OpenSession;
use super::driver::{Connection, End, Parts, Timing, handshake};
use super::meters::Meters;
use super::stream::{Io, Stream};
use super::tls::Tls;

/// First pause after a failure to accept (file descriptors used up, mostly): the connection waits
/// in the kernel, and trying at once would only heat the processor.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A protocol that sessions speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// IMAP.
    Imap,
    /// LMTP.
    Lmtp,
}

/// A client as its session gets to know it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Where it connected from.
    pub address: SocketAddr,
    /// Whether the connection began with TLS.
    pub tls: bool,
    /// When.
    pub accepted: Timestamp,
}

/// Makes the session of a connection.
pub type MakeSession = dyn Fn(Peer) -> Box<dyn Session> + Send + Sync;

/// What stands behind an address.
#[derive(Clone)]
pub struct Door {
    /// Which protocol.
    pub protocol: Protocol,
    /// Its sessions.
    pub sessions: Arc<MakeSession>,
    /// Where their calls go.
    pub store: Arc<dyn OpenSession>,
    /// How many there may be; shared by all doors of a protocol.
    pub connections: Arc<Connections>,
    /// The certificate, for STARTTLS or for the beginning.
    pub tls: Option<Arc<Tls>>,
    /// Whether connections begin with TLS. Needs `tls`.
    pub implicit_tls: bool,
    /// Limits.
    pub timing: Timing,
}

/// All listeners of a node.
pub struct Front {
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Cancelled when the grace is over.
    cut: CancellationToken,
}

/// Sessions of LMTP.
pub fn lmtp_sessions(config: Arc<lmtp::Config>) -> Arc<MakeSession> {
    Arc::new(move |peer: Peer| {
        let peer =
            lmtp::Peer { address: peer.address.ip(), tls: peer.tls, accepted: peer.accepted };
        Box::new(LmtpSession::new(config.clone(), peer))
    })
}

impl Protocol {
    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Imap => "imap",
            Self::Lmtp => "lmtp",
        }
    }

    /// What a client is told that is not admitted.
    fn no_room(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Imap => b"* BYE too many connections, try again later\r\n",
            Self::Lmtp => b"421 4.3.2 too many connections, try again later\r\n",
        })
    }
}

impl Front {
    /// Without listeners.
    pub fn new() -> Self {
        Self {
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Opens a door at an address; the address that it got (port 0 takes a free one).
    pub async fn open(&self, door: Door, address: SocketAddr) -> io::Result<SocketAddr> {
        if door.implicit_tls && door.tls.is_none() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS needs a certificate"));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        self.serve(door, listener);
        Ok(address)
    }

    /// Serves what an acceptor gives.
    pub(super) fn serve(&self, door: Door, acceptor: impl Accept + 'static) {
        let meters = Meters::new(door.protocol.name());
        let keeper = Keeper {
            door,
            meters,
            tasks: self.tasks.clone(),
            shutdown: self.shutdown.clone(),
            cut: self.cut.clone(),
        };
        self.tasks.spawn(keeper.accept_from(acceptor));
    }

    /// Runs other work that belongs to the front: it is given the token that tells it to finish, is
    /// waited for at the end, and cut off (dropped) when the grace is over.
    pub(super) fn run<F>(&self, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (work, cut) = (work(self.shutdown.clone()), self.cut.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Accepts nothing more, lets every session say goodbye, and cuts off after `grace` what is
    /// still there. Returns when nothing of the front runs any more; whether nothing was cut off.
    pub async fn stop(self, grace: Duration) -> bool {
        self.shutdown.cancel();
        self.tasks.close();
        let in_time = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        if !in_time {
            warn!(connections = self.tasks.len(), "the grace is over; cutting connections off");
            self.cut.cancel();
            self.tasks.wait().await;
        }
        in_time
    }
}

impl Default for Front {
    fn default() -> Self {
        Self::new()
    }
}

/// Where connections come from.
pub(super) trait Accept: Send {
    /// The next one. Cancel-safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Box<dyn Io>, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    async fn accept(&mut self) -> io::Result<(Box<dyn Io>, SocketAddr)> {
        let (socket, address) = TcpListener::accept(self).await?;
        // A reply is a whole thing already: waiting for more only delays it. Fails on a socket
        // that is gone already, which the driver will notice.
        let _ = socket.set_nodelay(true);
        Ok((Box::new(socket), address))
    }
}

/// The task behind one listener.
struct Keeper {
    door: Door,
    meters: Meters,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    cut: CancellationToken,
}

impl Keeper {
    async fn accept_from(self, mut acceptor: impl Accept) {
        let mut pause = FIRST_PAUSE;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                accepted = acceptor.accept() => accepted,
            };
            match accepted {
                Ok((io, address)) => {
                    pause = FIRST_PAUSE;
                    self.welcome(io, address);
                }
                Err(error) if concerns_one_client(&error) => {
                    debug!(%error, "a client went before it was accepted");
                }
                Err(error) => {
                    self.meters.accept_errors.increment(1);
                    warn!(%error, protocol = self.door.protocol.name(), "cannot accept; pausing");
                    tokio::select! {
                        () = self.shutdown.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn welcome(&self, io: Box<dyn Io>, address: SocketAddr) {
        let stream = Stream::Plain(io);
        match self.door.connections.admit(address.ip()) {
            Ok(admission) => {
                self.tasks.spawn(self.begin(stream, address, admission));
            }
            Err(refused) => {
                self.meters.refused(refused.word());
                debug!(peer = %address, reason = refused.word(), "not admitted");
                self.turn_away(stream);
            }
        }
    }

    /// One attempt to say why, without a task or a wait: a flood of connections must cost nothing.
    fn turn_away(&self, mut stream: Stream) {
        if !self.door.implicit_tls {
            let text = self.door.protocol.no_room();
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = stream.poll_write(&mut context, &[io::IoSlice::new(&text)]);
        }
    }

    /// The task of one connection.
    fn begin(
        &self,
        mut stream: Stream,
        address: SocketAddr,
        admission: Admission,
    ) -> impl Future<Output = ()> + Send + use<> {
        let door = self.door.clone();
        let (meters, shutdown, cut) =
            (self.meters.clone(), self.shutdown.clone(), self.cut.clone());
        let calls = door.store.open();
        let protocol = door.protocol.name();
        let session = calls.id().0;
        let user = tracing::field::Empty;
        let span = info_span!("session", protocol, session, peer = %shown(address), user);
        let work = async move {
            let tls = door.tls.as_ref().filter(|_| door.implicit_tls);
            if let Some(tls) = tls
                && let Err(error) = handshake(&mut stream, tls, door.timing, &shutdown).await
            {
                meters.tls_failures.increment(1);
                debug!(%error, "TLS handshake failed");
                return;
            }
            let accepted = Timestamp::utc(seconds_now());
            let session = (door.sessions)(Peer { address, tls: tls.is_some(), accepted });
            let parts = Parts {
                session,
                calls,
                tls: door.tls.clone(),
                meters,
                timing: door.timing,
                shutdown,
            };
            report(Connection::new(stream, parts).run().await);
        };
        let meters = self.meters.clone();
        async move {
            meters.admitted.increment(1);
            meters.connections.increment(1.0);
            info!("connected");
            tokio::select! {
                biased;
                // Calls that are cut off here go on in the message store.
                () = cut.cancelled() => info!("cut off"),
                () = work => {}
            }
            meters.connections.decrement(1.0);
            drop(admission);
        }
        .instrument(span)
    }
}

fn report(end: End) {
    match end {
        End::Closed => info!("closed"),
        End::Gone(error) => debug!(%error, "the client went"),
        End::Stalled => info!("the client took nothing for too long"),
        End::TlsFailed(error) => debug!(%error, "TLS handshake failed"),
    }
}

/// Whether the next accept can succeed at once.
fn concerns_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// An IPv4 client of an IPv6 listener is shown as what it is.
fn shown(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

fn seconds_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 is as good as one at it.
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
