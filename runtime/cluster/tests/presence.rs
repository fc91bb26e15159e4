//! Real processes that are killed: their peers know it without a call, and calls in flight end at once.
//!
//! The peer is this very test program, started again: see [`the_peer_that_others_start_and_kill`].

mod common;

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use postroom_cluster::certificates::Credentials;
use postroom_cluster::links::{LinkError, Links, Presence};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// Where the peer finds its certificate; not set in a run of the tests.
const HOME: &str = "POSTROOM_TEST_PEER";
/// What its address follows in what it prints.
const TELLS: &str = "the peer listens at ";

/// How often a process is killed.
const KILLS: usize = 7;

/// Serves until it is killed, when it was started for that. As a test of its own it does nothing.
#[tokio::test]
async fn the_peer_that_others_start_and_kill() {
    let Ok(home) = std::env::var(HOME) else { return };
    let credentials = Arc::new(Credentials::open(home.as_ref()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = Node::on(listener, "two", credentials, VERSION);
    println!("\n{TELLS}{}", node.address());
    std::future::pending().await
}

struct Process(Child);

impl Process {
    /// Starts a peer and says where it is.
    async fn start(cluster: &Cluster) -> (Self, String) {
        cluster.credentials("two");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_peer_that_others_start_and_kill", "--nocapture"])
            .env(HOME, cluster.directory("two"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(address) = line.strip_prefix(TELLS) {
                    return address.to_owned();
                }
            }
            panic!("the peer has ended");
        };
        (Self(child), soon("the peer's address", address).await)
    }
}

async fn until(links: &Links, wanted: Presence) {
    let two = id("two");
    let mut presence = links.presence();
    let seen = presence.wait_for(|known| known.get(&two) == Some(&wanted));
    soon(&format!("{wanted:?}"), seen).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_is_known_to_be_gone_without_a_call() {
    let cluster = Cluster::new();
    let links = cluster.links("one");
    let mut took = Vec::new();
    for _ in 0..KILLS {
        let (mut process, address) = Process::start(&cluster).await;
        links.set_address(&id("two"), &address).unwrap();
        assert_eq!(links.presence_of(&id("two")), None, "nobody has needed it yet");
        ask(&links, &id("two"), "hello").await.unwrap();
        until(&links, Presence::Reachable).await;
        let began = Instant::now();
        process.0.start_kill().unwrap();
        until(&links, Presence::Refusing).await;
        took.push(began.elapsed());
        assert_eq!(ask(&links, &id("two"), "hello").await, Err(LinkError::Refused));
    }
    took.sort();
    println!("a killed process was known to refuse after {took:.1?}");
    assert!(took[KILLS / 2] < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_end_with_the_process() {
    let cluster = Cluster::new();
    let links = cluster.links("one");
    let (mut process, address) = Process::start(&cluster).await;
    links.set_address(&id("two"), &address).unwrap();
    ask(&links, &id("two"), "hello").await.unwrap();
    let calls = (0..100).map(|_| {
        let links = links.clone();
        tokio::spawn(async move { ask(&links, &id("two"), "hang").await })
    });
    let calls: Vec<_> = calls.collect();
    eventually("all of them under way", || links.status()[0].in_flight == 100).await;
    // Sent before this one, which is answered: on one link nothing overtakes.
    ask(&links, &id("two"), "hello").await.unwrap();
    let began = Instant::now();
    process.0.start_kill().unwrap();
    for call in soon("their end", futures::future::join_all(calls)).await {
        let result = call.unwrap();
        assert!(matches!(result, Err(LinkError::Unknown(_))), "{result:?}");
    }
    println!("a hundred calls in flight ended after {:.1?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(1));
    until(&links, Presence::Refusing).await;

    // It comes back at another place.
    let (_process, address) = Process::start(&cluster).await;
    links.set_address(&id("two"), &address).unwrap();
    ask(&links, &id("two"), "hello").await.unwrap();
    until(&links, Presence::Reachable).await;
}

#[tokio::test]
async fn a_link_that_breaks_is_made_again_without_a_call() {
    let (cluster, links, two) = pair().await;
    ask(&links, &two.name, "hello").await.unwrap();
    let address = two.server.address();
    drop(two.server);
    until(&links, Presence::Refusing).await;
    let listener = loop {
        if let Ok(listener) = TcpListener::bind(address).await {
            break listener;
        }
        tokio::task::yield_now().await;
    };
    let again = Node::on(listener, "two", cluster.credentials("two"), VERSION);
    until(&links, Presence::Reachable).await;
    assert_eq!(again.server.peers(), [(id("one"), 1)]);
    links.forget(&again.name);
    assert_eq!(links.presence_of(&again.name), None);
    eventually("the link to end", || again.server.peers().is_empty()).await;
}

#[tokio::test]
async fn who_is_not_what_was_called_is_silent_and_not_refusing() {
    let cluster = Cluster::new();
    let (three, links) = (cluster.node("three").await, cluster.links("one"));
    links.set_address(&id("two"), &three.address()).unwrap();
    ask(&links, &id("two"), "hello").await.unwrap_err();
    until(&links, Presence::Silent).await;
}
