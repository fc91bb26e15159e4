//! Clusters of this process: certificates in a temporary directory, a service that does as a call
//! says, real sockets on ports that the system chooses.

#![allow(dead_code, reason = "each test program uses some of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use postroom_cluster::certificates::{Authority, Credentials, init};
use postroom_cluster::links::{
    Call, EventSender, EventSource, IncomingCall, LinkError, LinkServer, Links, LinksOptions,
    Refusal, Reply, ServerOptions, Service, TransactionId, WireVersion, event_queue,
};
use postroom_cluster::names::NodeId;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// How long anything in a test may take before it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const VERSION: WireVersion = WireVersion(7);

pub fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// Waits for a future, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// Waits until a look at something says yes.
pub async fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let waited = async {
        while !look() {
            ticks.tick().await;
        }
    };
    soon(what, waited).await;
}

/// A cluster's certificates.
pub struct Cluster {
    home: TempDir,
    pub authority: Authority,
}

impl Cluster {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let authority = init(&home.path().join("first"), &id("first"), now).unwrap();
        Self { home, authority }
    }

    pub fn directory(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    pub fn credentials(&self, name: &str) -> Arc<Credentials> {
        self.credentials_in(name, name)
    }

    /// The certificate of `name`, in a directory of any name.
    pub fn credentials_in(&self, name: &str, directory: &str) -> Arc<Credentials> {
        let path = self.directory(directory);
        if !path.join("node.pem").exists() {
            let now = SystemTime::now();
            let file = self.authority.join_file(&id(name), vec![], vec![], now).unwrap();
            file.install(&path).unwrap();
        }
        Arc::new(Credentials::open(&path).unwrap())
    }

    /// The same with a certificate that is good for `validity` from `from` on.
    pub fn limited(&self, name: &str, from: SystemTime, validity: Duration) -> Arc<Credentials> {
        let path = self.directory(name);
        let mut file = self.authority.join_file(&id(name), vec![], vec![], from).unwrap();
        file.certificate = self.authority.issue(&id(name), from, validity).unwrap().pem;
        file.install(&path).unwrap();
        Arc::new(Credentials::open(&path).unwrap())
    }

    /// A file with a certificate of our authority for any name, and its key.
    pub fn signed_for(&self, name: &str) -> std::path::PathBuf {
        let read =
            |file: &str| std::fs::read_to_string(self.directory("first").join(file)).unwrap();
        let key = rcgen::KeyPair::from_pem(&read("authority.key")).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&read("authority.pem"), key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let pem = params.signed_by(&key, &issuer).unwrap().pem();
        let file = self.directory(&format!("{name}.pem"));
        std::fs::write(&file, pem + &key.serialize_pem()).unwrap();
        file
    }

    pub async fn node(&self, name: &str) -> Node {
        Node::start(name, self.credentials(name), VERSION).await
    }

    pub fn links(&self, name: &str) -> Links {
        links(self.credentials(name), VERSION)
    }
}

pub fn links(credentials: Arc<Credentials>, version: WireVersion) -> Links {
    Links::new(LinksOptions { credentials, version, address: String::new() })
}

/// A node that serves.
pub struct Node {
    pub name: NodeId,
    pub server: LinkServer,
    pub fake: Arc<Fake>,
    pub credentials: Arc<Credentials>,
}

impl Node {
    pub async fn start(name: &str, credentials: Arc<Credentials>, version: WireVersion) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, name, credentials, version)
    }

    pub fn on(
        listener: TcpListener,
        name: &str,
        credentials: Arc<Credentials>,
        version: WireVersion,
    ) -> Self {
        let fake = Arc::new(Fake::new());
        let options = ServerOptions { credentials: credentials.clone(), version };
        let server = LinkServer::start(listener, fake.clone(), options).unwrap();
        Self { name: id(name), server, fake, credentials }
    }

    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    pub fn refused(&self, reason: &str) -> u64 {
        let refused = self.server.refused();
        let found = refused.into_iter().find(|(name, _)| name.label() == reason);
        found.map_or(0, |(_, count)| count)
    }
}

/// Does as the call's payload says.
pub struct Fake {
    /// Calls that have begun, and not ended.
    pub inside: watch::Sender<usize>,
    /// Calls whose future was dropped before it ended.
    pub dropped: watch::Sender<usize>,
    pub calls: AtomicUsize,
    pub seen: mpsc::Sender<(NodeId, IncomingCall)>,
    pub seen_rx: tokio::sync::Mutex<mpsc::Receiver<(NodeId, IncomingCall)>>,
    pub senders: mpsc::Sender<EventSender>,
    pub senders_rx: tokio::sync::Mutex<mpsc::Receiver<EventSender>>,
    pub met: std::sync::Mutex<Vec<(NodeId, String)>>,
    pub datagrams: mpsc::Sender<(NodeId, Bytes)>,
    pub datagrams_rx: tokio::sync::Mutex<mpsc::Receiver<(NodeId, Bytes)>>,
}

impl Fake {
    fn new() -> Self {
        let ((seen, seen_rx), (senders, senders_rx)) = (mpsc::channel(64), mpsc::channel(64));
        let (datagrams, datagrams_rx) = mpsc::channel(64);
        Self {
            inside: watch::Sender::new(0),
            dropped: watch::Sender::new(0),
            calls: AtomicUsize::new(0),
            seen,
            seen_rx: seen_rx.into(),
            senders,
            senders_rx: senders_rx.into(),
            met: std::sync::Mutex::default(),
            datagrams,
            datagrams_rx: datagrams_rx.into(),
        }
    }

    pub async fn until_inside(&self, count: usize) {
        let mut inside = self.inside.subscribe();
        soon("calls inside", inside.wait_for(|now| *now == count)).await.unwrap();
    }

    pub async fn until_dropped(&self, count: usize) {
        let mut dropped = self.dropped.subscribe();
        soon("dropped calls", dropped.wait_for(|now| *now == count)).await.unwrap();
    }

    pub async fn next_sender(&self) -> EventSender {
        soon("a subscriber", async { self.senders_rx.lock().await.recv().await }).await.unwrap()
    }

    pub async fn next_datagram(&self) -> (NodeId, Bytes) {
        soon("a datagram", async { self.datagrams_rx.lock().await.recv().await }).await.unwrap()
    }
}

struct Inside<'a>(&'a Fake, bool);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.send_modify(|inside| *inside -= 1);
        if !self.1 {
            self.0.dropped.send_modify(|dropped| *dropped += 1);
        }
    }
}

#[async_trait]
impl Service for Fake {
    async fn call(&self, from: &NodeId, call: IncomingCall) -> Result<Reply, Refusal> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.inside.send_modify(|inside| *inside += 1);
        let mut inside = Inside(self, false);
        let _ = self.seen.try_send((from.clone(), call.clone()));
        let word = call.payload.get(..4).unwrap_or(&call.payload);
        let result = match word {
            b"hang" => std::future::pending().await,
            b"busy" => Err(Refusal::Busy),
            b"size" => {
                let size = String::from_utf8_lossy(&call.payload[4..]).parse().unwrap();
                Ok(Reply { payload: pattern(size) })
            }
            _ => Ok(Reply { payload: call.payload }),
        };
        inside.1 = true;
        result
    }

    fn events(&self, _: &NodeId) -> Result<EventSource, Refusal> {
        let (sender, source) = event_queue();
        self.senders.try_send(sender).map_err(|_| Refusal::Busy)?;
        Ok(source)
    }

    fn met(&self, from: &NodeId, address: &str) {
        self.met.lock().unwrap().push((from.clone(), address.to_owned()));
    }

    fn gossip(&self, from: &NodeId, datagram: Bytes) {
        let _ = self.datagrams.try_send((from.clone(), datagram));
    }
}

/// Octets that show when something is missing or in the wrong place.
pub fn pattern(size: usize) -> Bytes {
    (0..size).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect::<Vec<_>>().into()
}

pub fn call(payload: impl Into<Bytes>) -> Call {
    Call {
        transaction: TransactionId::random(),
        within: Duration::from_secs(20),
        version: VERSION,
        trace_parent: None,
        payload: payload.into(),
    }
}

pub async fn ask(links: &Links, peer: &NodeId, word: &str) -> Result<Reply, LinkError> {
    soon("a reply", links.call(peer, call(word.to_owned()))).await
}

/// A pair: `one` calls `two`.
pub async fn pair() -> (Cluster, Links, Node) {
    let cluster = Cluster::new();
    let two = cluster.node("two").await;
    let links = cluster.links("one");
    links.set_address(&two.name, &two.address()).unwrap();
    (cluster, links, two)
}
