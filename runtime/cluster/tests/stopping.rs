//! A server that stops while it is busy: who calls it hears what has happened, and nobody is left without
//! an answer to a call that was taken.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use postroom_cluster::links::{LinkError, Links, Presence, Refusal};
use tokio::net::TcpListener;

const CALLERS: usize = 48;
const STOPS: usize = 5;

/// How many calls are answered between two stops.
const BETWEEN: usize = 400;

fn word(result: &Result<(), LinkError>) -> &'static str {
    match result {
        Ok(()) => "replied",
        Err(LinkError::Declined(Refusal::Stopping)) => "declined",
        Err(LinkError::Refused) => "refused",
        Err(LinkError::Unreachable(_)) => "unreachable",
        Err(LinkError::NotSent(_)) => "not sent",
        Err(LinkError::Unknown(_)) => "unknown",
        Err(error) => panic!("nobody may hear {error:?} here"),
    }
}

fn callers(
    links: &Links,
    over: &Arc<AtomicBool>,
) -> Vec<tokio::task::JoinHandle<BTreeMap<&'static str, usize>>> {
    let one = |number: usize| {
        let (links, over) = (links.clone(), over.clone());
        tokio::spawn(async move {
            let mut counts = BTreeMap::new();
            while !over.load(Ordering::Relaxed) {
                // Some in chunks, so that a stop comes in the middle of them.
                let size = if number.is_multiple_of(8) { 600_000 } else { number * 40 };
                let result = links.call(&id("two"), call(pattern(size))).await;
                if let Err(LinkError::Unknown(why)) = &result {
                    println!("unknown: {why}");
                }
                let result = result.map(|reply| assert!(reply.payload.len() == size));
                *counts.entry(word(&result)).or_default() += 1;
                tokio::task::yield_now().await;
            }
            counts
        })
    };
    (0..CALLERS).map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_outcome_is_unknown_over_shut_downs_under_load() {
    let cluster = Cluster::new();
    let links = cluster.links("one");
    let mut listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    links.set_address(&id("two"), &address.to_string()).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let mut busy = Vec::new();
    for stop in 0..STOPS {
        let two = Node::on(listener, "two", cluster.credentials("two"), VERSION);
        if busy.is_empty() {
            busy = callers(&links, &over);
        }
        let calls = || two.fake.calls.load(Ordering::Relaxed);
        eventually("load", || calls() >= BETWEEN).await;
        soon("the stop", two.server.shutdown(Duration::from_secs(20))).await;
        assert_eq!(*two.fake.dropped.borrow(), 0, "stop {stop}: what was taken is finished");
        listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
    }
    drop(listener);
    over.store(true, Ordering::Relaxed);
    let mut counts = BTreeMap::<_, usize>::new();
    for caller in soon("the callers", futures::future::join_all(busy)).await {
        for (word, count) in caller.unwrap() {
            *counts.entry(word).or_default() += count;
        }
    }
    println!("over {STOPS} stops: {counts:?}");
    assert_eq!(counts.get("unknown"), None, "{counts:?}");
    assert!(counts["replied"] >= STOPS * BETWEEN / 2, "{counts:?}");
}

#[tokio::test]
async fn a_call_to_a_peer_that_stops_is_declined_while_what_it_has_begun_goes_on() {
    let (_cluster, links, two) = pair().await;
    let two = Arc::new(two);
    let hanging = {
        let (links, peer) = (links.clone(), two.name.clone());
        tokio::spawn(async move { links.call(&peer, call("hang")).await })
    };
    two.fake.until_inside(1).await;
    let stopping = {
        let two = two.clone();
        tokio::spawn(async move { two.server.shutdown(Duration::from_secs(20)).await })
    };
    // It takes nothing new from some moment on; before that it answers.
    let declined = async {
        loop {
            match links.call(&two.name, call("hello")).await {
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    };
    let stopping_word = Err(LinkError::Declined(Refusal::Stopping));
    assert_eq!(Err::<(), _>(soon("a refusal", declined).await), stopping_word);
    for _ in 0..50 {
        let result = ask(&links, &two.name, "hello").await.map(drop);
        assert_eq!(result, stopping_word);
        assert!(!result.unwrap_err().may_have_had_effect());
    }
    assert!(!hanging.is_finished(), "its link is not cut");
    assert_eq!(links.presence_of(&two.name), Some(Presence::Reachable));
    assert_eq!(two.server.peers(), [(id("one"), 1)], "no link beside it");
    hanging.abort();
    soon("the stop", stopping).await.unwrap();
    let mut presence = links.presence();
    let refusing = presence.wait_for(|known| known.get(&two.name) == Some(&Presence::Refusing));
    soon("nobody to listen", refusing).await.unwrap();
    assert_eq!(ask(&links, &two.name, "hello").await.map(drop), Err(LinkError::Refused));
}
