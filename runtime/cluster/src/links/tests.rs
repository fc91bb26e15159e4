//! Links over real sockets, seen from within: what only a part of them can say or ask.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::dial::{Connection, dial};
use super::*;
use crate::certificates::{Credentials, JoinFile, NODE_VALIDITY, Revoked, init, revoke};
use crate::gossip::Carrier;
use crate::names::NodeId;

const VERSION: WireVersion = WireVersion(7);

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// Does nothing.
struct Idle;

#[async_trait]
impl Service for Idle {
    async fn call(&self, _: &NodeId, _: IncomingCall) -> Result<Reply, Refusal> {
        Err(Refusal::Busy)
    }

    fn events(&self, _: &NodeId) -> Result<EventSource, Refusal> {
        Err(Refusal::Busy)
    }

    fn met(&self, _: &NodeId, _: &str) {}

    fn gossip(&self, _: &NodeId, _: bytes::Bytes) {}
}

/// "one" has the authority and makes links; "two" serves.
struct Pair {
    home: tempfile::TempDir,
    one: Arc<Credentials>,
    two: Arc<Credentials>,
    server: LinkServer,
}

impl Pair {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (home.path().join("one"), home.path().join("two"));
        let now = SystemTime::now();
        let authority = init(&first, &id("one"), now).unwrap();
        let file = authority.join_file(&id("two"), vec![], vec![], now).unwrap();
        JoinFile::install(&file, &second).unwrap();
        let open = |path: &Path| Arc::new(Credentials::open(path).unwrap());
        let (one, two) = (open(&first), open(&second));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = ServerOptions { credentials: two.clone(), version: VERSION };
        let server = LinkServer::start(listener, Arc::new(Idle), options).unwrap();
        Self { home, one, two, server }
    }

    async fn dial(&self) -> Arc<Connection> {
        let (address, cut) = (self.server.address().to_string(), CancellationToken::new());
        let made = dial(&id("two"), &address, &self.one, VERSION, "", cut).await;
        made.map_err(|no_link| no_link.error).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_holds_the_directory_holds_up_nobody_who_asks() {
    let pair = Pair::new().await;
    // Before anything is revoked: the link itself exchanges nothing.
    let connection = pair.dial().await;
    let two = pair.home.path().join("two");
    let held = std::fs::File::open(&two).unwrap();
    held.lock().unwrap();
    revoke(&pair.home.path().join("one"), Revoked::Node(id("bad"))).unwrap();
    pair.one.look();
    let began = Instant::now();
    let list = revoked::list(&pair.one);
    assert!(!list.is_empty());
    // Again where the link itself was faster: then all of a round find it busy.
    let asked = async {
        loop {
            let asked = (0..20).map(|_| revoked::ask(connection.grpc(), &pair.one));
            let answers = futures::future::join_all(asked).await;
            if answers.iter().any(|answer| answer.as_ref() == Ok(&list)) {
                return answers;
            }
        }
    };
    let answers = timeout(Duration::from_secs(20), asked).await.expect("one is answered");
    println!("answered after {:?}", began.elapsed());
    for busy in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(busy.contains("another list"), "{busy}");
    }
    let authority = crate::certificates::Authority::open(&pair.home.path().join("one")).unwrap();
    let bad = authority.issue(&id("bad"), SystemTime::now(), NODE_VALIDITY).unwrap().holder;
    assert!(pair.two.current().revoked.has(&bad), "it counts");
    assert_eq!(std::fs::read(two.join("revoked")).unwrap(), b"", "it is not kept yet");
    drop(held);
    pair.two.look();
    assert_eq!(std::fs::read(two.join("revoked")).unwrap(), list);
}

/// More names than there is room for.
const NAMES: usize = MAX_PEERS + 44;

#[tokio::test]
async fn peers_that_are_gone_or_revoked_leave_room_for_others() {
    let home = tempfile::tempdir().unwrap();
    init(home.path(), &id("one"), SystemTime::now()).unwrap();
    let credentials = Arc::new(Credentials::open(home.path()).unwrap());
    let options =
        LinksOptions { credentials: credentials.clone(), version: VERSION, address: String::new() };
    let links = Links::new(options);
    let name = |number| id(&format!("n{number}"));
    for number in 0..NAMES {
        links.set_address(&name(number), "127.0.0.1:9").unwrap();
        Carrier::gone(&links, &name(number));
    }
    assert!(links.status().is_empty());

    for number in 0..MAX_PEERS {
        links.set_address(&name(number), "127.0.0.1:9").unwrap();
    }
    let full = Err(LinkError::NotSent(NotSent::Busy));
    assert_eq!(links.set_address(&id("more"), "127.0.0.1:9"), full);
    revoke(home.path(), Revoked::Node(name(7))).unwrap();
    credentials.look();
    links.set_address(&id("more"), "127.0.0.1:9").unwrap();
    assert_eq!(links.set_address(&id("another"), "127.0.0.1:9"), full);
    assert!(links.status().iter().all(|status| status.peer != name(7)));
}
