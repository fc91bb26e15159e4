//! A server that is killed and started again while calls of all kinds run, in an order that a seed
//! sets: what a caller was told must be what has happened.
//!
//! `POSTROOM_SEED` takes a seed back.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use common::*;
use postroom_cluster::links::{
    Call, EventSource, IncomingCall, LinkError, LinkServer, Refusal, Reply, ServerOptions, Service,
    TransactionId,
};
use postroom_cluster::names::NodeId;
use tokio::net::TcpListener;

const CALLERS: u64 = 32;
const ROUNDS: u64 = 12;

/// From a seed, so that an order can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % end
    }
}

/// What has happened, over all lives of the server.
#[derive(Default)]
struct Effects(Mutex<HashMap<TransactionId, u32>>);

struct Recorder(Arc<Effects>);

#[async_trait]
impl Service for Recorder {
    async fn call(&self, _: &NodeId, call: IncomingCall) -> Result<Reply, Refusal> {
        let first = call.payload.first().copied();
        if first == Some(b'r') {
            return Err(Refusal::Busy);
        }
        *self.0.0.lock().unwrap().entry(call.transaction).or_default() += 1;
        if first == Some(b'h') {
            std::future::pending::<()>().await;
        }
        Ok(Reply { payload: call.payload })
    }

    fn events(&self, _: &NodeId) -> Result<EventSource, Refusal> {
        Err(Refusal::Busy)
    }

    fn met(&self, _: &NodeId, _: &str) {}

    fn gossip(&self, _: &NodeId, _: Bytes) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_callers_are_told_is_what_has_happened() {
    let seed = std::env::var("POSTROOM_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0x5eed);
    println!("POSTROOM_SEED={seed}");
    let (cluster, effects) = (Cluster::new(), Arc::new(Effects::default()));
    let links = cluster.links("one");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    links.set_address(&id("two"), &address.to_string()).unwrap();
    let start = |listener| {
        let options = ServerOptions { credentials: cluster.credentials("two"), version: VERSION };
        LinkServer::start(listener, Arc::new(Recorder(effects.clone())), options).unwrap()
    };
    let mut server = start(listener);

    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let (links, over) = (links.clone(), over.clone());
            let mut random = Random(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            tokio::spawn(async move {
                let mut told = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let (kind, size) = match random.below(20) {
                        0 => (b'r', 10),
                        1 => (b'h', 10),
                        2 => (b'l', 700_000),
                        _ => (b's', random.below(2_000)),
                    };
                    let mut payload = vec![7; size as usize + 1];
                    payload[0] = kind;
                    let within = match kind {
                        b'h' => Duration::from_millis(random.below(40)),
                        _ => Duration::from_secs(20),
                    };
                    let call = Call { within, ..call(payload.clone()) };
                    let transaction = call.transaction;
                    let result = links.call(&id("two"), call).await;
                    if let Ok(reply) = &result {
                        assert!(reply.payload == payload);
                    }
                    told.push((transaction, result.map(drop)));
                    tokio::task::yield_now().await;
                }
                told
            })
        })
        .collect();

    let mut random = Random(seed);
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..ROUNDS {
        for _ in 0..random.below(30) {
            ticks.tick().await;
        }
        match random.below(3) {
            0 => server.shutdown(Duration::from_millis(random.below(50))).await,
            1 => links.set_address(&id("two"), &format!("localhost:{}", address.port())).unwrap(),
            _ => {}
        }
        drop(server);
        for _ in 0..random.below(10) {
            ticks.tick().await;
        }
        let began = Instant::now();
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
            ticks.tick().await;
        };
        server = start(listener);
    }
    // A last time of peace: everything works again.
    let began = Instant::now();
    while ask(&links, &id("two"), "still there").await.is_err() {
        assert!(began.elapsed() < PATIENCE);
        ticks.tick().await;
    }
    over.store(true, Ordering::Relaxed);
    let told = soon("the callers", futures::future::join_all(callers)).await;

    let effects = effects.0.lock().unwrap();
    let mut counts = HashMap::<&str, u32>::new();
    let mut unknown = HashMap::<String, u32>::new();
    for (transaction, result) in told.into_iter().flat_map(Result::unwrap) {
        let happened = effects.get(&transaction).copied().unwrap_or(0);
        assert!(happened <= 1, "a call was made twice: {result:?}");
        let kind = match &result {
            Ok(()) => "replied",
            Err(LinkError::Unknown(_)) if happened == 0 => "unknown, nothing done",
            Err(LinkError::Unknown(_)) => "unknown, done",
            Err(LinkError::Refused) => "refused",
            Err(LinkError::Unreachable(_)) => "unreachable",
            Err(LinkError::Declined(_)) => "declined",
            Err(LinkError::NotSent(_)) => "not sent",
            Err(error) => panic!("nobody may hear {error:?} here"),
        };
        match &result {
            Ok(()) => assert_eq!(happened, 1, "a reply to what was not done"),
            Err(error) if !error.may_have_had_effect() => {
                assert_eq!(happened, 0, "done, though the caller heard {error:?}");
            }
            Err(_) => {}
        }
        if let Err(LinkError::Unknown(why)) = result {
            *unknown.entry(why).or_default() += 1;
        }
        *counts.entry(kind).or_default() += 1;
    }
    println!("{counts:?}; {unknown:?}");
    assert!(counts.get("replied").is_some_and(|count| *count > 100), "{counts:?}");
}
