//! What a call to another node costs: mutual TLS over loopback, both ends in this process.
//!
//! `cargo run -p postroom-cluster --example latency` (dependencies are optimised in the dev
//! profile). `POSTROOM_CALLS` sets how many calls each line takes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use postroom_cluster::certificates::{Credentials, init};
use postroom_cluster::links::{
    Call, EventSource, IncomingCall, LinkServer, Links, LinksOptions, Refusal, Reply,
    ServerOptions, Service, TransactionId, WireVersion,
};
use postroom_cluster::names::NodeId;
use tokio::net::TcpListener;

const VERSION: WireVersion = WireVersion(1);

/// Answers with as many octets as it is asked for.
struct Octets(Bytes);

#[async_trait]
impl Service for Octets {
    async fn call(&self, _: &NodeId, call: IncomingCall) -> Result<Reply, Refusal> {
        let wanted = call.payload.get(..4).and_then(|octets| octets.try_into().ok());
        let wanted = wanted.map(u32::from_be_bytes).filter(|n| *n as usize <= self.0.len());
        let wanted = wanted.ok_or_else(|| Refusal::Malformed("how many?".to_owned()))?;
        Ok(Reply { payload: self.0.slice(..wanted as usize) })
    }

    fn events(&self, _: &NodeId) -> Result<EventSource, Refusal> {
        Err(Refusal::Busy)
    }

    fn met(&self, _: &NodeId, _: &str) {}

    fn gossip(&self, _: &NodeId, _: Bytes) {}
}

fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

async fn measure(links: &Links, peer: &NodeId, octets: u32, at_once: usize, calls: usize) {
    let one = || async {
        let payload = Bytes::copy_from_slice(&octets.to_be_bytes());
        let (transaction, within) = (TransactionId::random(), Duration::from_secs(30));
        let call = Call { transaction, within, version: VERSION, trace_parent: None, payload };
        let began = Instant::now();
        let reply = links.call(peer, call).await.expect("the peer answers");
        assert_eq!(reply.payload.len(), octets as usize);
        began.elapsed()
    };
    let run = |calls| async move {
        let calls = futures::stream::iter((0..calls).map(|_| one()));
        calls.buffer_unordered(at_once).collect::<Vec<_>>().await
    };
    run(calls / 10).await;
    let (began, used) = (Instant::now(), cpu());
    let mut times = run(calls).await;
    let (took, used) = (began.elapsed(), cpu() - used);
    times.sort();
    println!(
        "{octets:>9} octets, {at_once:>3} at once: p50 {:>8.1?}  p99 {:>8.1?}  {:>7.0} calls/s  \
         {:>7.1} µs CPU a call",
        times[calls / 2],
        times[calls * 99 / 100],
        calls as f64 / took.as_secs_f64(),
        used.as_secs_f64() * 1e6 / calls as f64,
    );
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let (one, two) = ("one".parse::<NodeId>()?, "two".parse::<NodeId>()?);
    let authority = init(&home.path().join("one"), &one, SystemTime::now())?;
    let file = authority.join_file(&two, vec![], vec![], SystemTime::now())?;
    file.install(&home.path().join("two"))?;
    let open = |name| Credentials::open(&home.path().join(name)).map(Arc::new);
    let options = ServerOptions { credentials: open("two")?, version: VERSION };
    let service = Arc::new(Octets(vec![7; 64 << 20].into()));
    let server = LinkServer::start(TcpListener::bind("127.0.0.1:0").await?, service, options)?;
    let (credentials, address) = (open("one")?, String::new());
    let links = Links::new(LinksOptions { credentials, version: VERSION, address });
    links.set_address(&two, &server.address().to_string())?;

    let calls = std::env::var("POSTROOM_CALLS").ok().and_then(|text| text.parse().ok());
    let calls = calls.unwrap_or(20_000).max(100);
    println!("mutual TLS over loopback, both ends in this process");
    for (octets, at_once, part) in [
        (200, 1, 1),
        (200, 64, 1),
        (200, 512, 1),
        (16_384, 1, 4),
        (1 << 20, 1, 50),
        (1 << 20, 3, 50),
        (64 << 20, 1, 2_000),
    ] {
        measure(&links, &two, octets, at_once, (calls / part).max(10)).await;
    }
    Ok(())
}
