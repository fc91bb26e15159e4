//! Calls between nodes over real sockets: there and back, many, large, cancelled, late, and what a
//! caller hears when the other end is not what it should be.

mod common;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use futures::future::join_all;
use postroom_cluster::links::{
    Call, LinkError, LinkState, Links, LinksOptions, MAX_DEADLINE, MAX_PAYLOAD_OCTETS, NotSent,
    Presence, Refusal, WireVersion,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_call_goes_there_and_its_reply_comes_back() {
    let (_cluster, links, two) = pair().await;
    let mut asked = call("hello");
    asked.trace_parent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let reply = soon("a reply", links.call(&two.name, asked.clone())).await.unwrap();
    assert_eq!(reply.payload, "hello");
    let (from, seen) = two.fake.seen_rx.lock().await.recv().await.unwrap();
    assert_eq!(from, id("one"));
    assert_eq!((seen.transaction, seen.version), (asked.transaction, VERSION));
    assert_eq!(seen.trace_parent, asked.trace_parent);
    assert!(seen.remaining <= asked.within && seen.remaining > asked.within - 10 * SECOND);
    assert_eq!(links.version(&two.name, SECOND).await, Ok(VERSION));
    let status = links.status();
    assert!(matches!(&status[0].state, LinkState::Up { version: VERSION, round_trip, .. }
        if !round_trip.is_zero() && *round_trip < SECOND));
}

#[tokio::test]
async fn a_peer_is_told_where_the_caller_is_and_told_again() {
    let (cluster, plain, two) = pair().await;
    ask(&plain, &two.name, "hello").await.unwrap();
    assert!(two.fake.met.lock().unwrap().is_empty());
    let (credentials, address) = (cluster.credentials("first"), "mail.example:4190".to_owned());
    let options = LinksOptions { credentials, version: VERSION, address: address.clone() };
    let links = Links::new(options);
    links.set_address(&two.name, &two.address()).unwrap();
    for _ in 0..3 {
        ask(&links, &two.name, "hello").await.unwrap();
    }
    let told = || two.fake.met.lock().unwrap().clone();
    assert!(!told().is_empty());
    eventually("to be told again", || told().len() >= 3).await;
    assert!(told().iter().all(|met| *met == (id("first"), address.clone())), "{:?}", told());
}

#[tokio::test]
async fn two_nodes_call_each_other() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.node("one").await, cluster.node("two").await);
    let (links_one, links_two) = (cluster.links("one"), cluster.links("two"));
    links_one.set_address(&two.name, &two.address()).unwrap();
    links_two.set_address(&one.name, &one.address()).unwrap();
    let (there, back) =
        tokio::join!(ask(&links_one, &two.name, "there"), ask(&links_two, &one.name, "back"));
    assert_eq!((there.unwrap().payload, back.unwrap().payload), ("there".into(), "back".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_at_once_share_one_link() {
    let (_cluster, links, two) = pair().await;
    let hanging: Vec<_> = (0..1_000)
        .map(|_| {
            let (links, peer) = (links.clone(), two.name.clone());
            tokio::spawn(async move { links.call(&peer, call("hang")).await })
        })
        .collect();
    two.fake.until_inside(1_000).await;
    assert_eq!(links.status()[0].in_flight, 1_000);
    assert_eq!(two.server.peers(), [(id("one"), 1)]);
    hanging.iter().for_each(|task| task.abort());
    two.fake.until_dropped(1_000).await;

    let calls = (0..3_000).map(|number| {
        let (links, peer) = (links.clone(), two.name.clone());
        tokio::spawn(async move {
            let word = number.to_string();
            assert_eq!(ask(&links, &peer, &word).await.unwrap().payload, word);
        })
    });
    join_all(calls).await.into_iter().for_each(|done| done.unwrap());
    assert_eq!(two.server.peers(), [(id("one"), 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_of_all_sizes_arrive_whole() {
    let (_cluster, links, two) = pair().await;
    let chunk = 256 << 10;
    for size in [0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 20 << 20] {
        let sent = pattern(size);
        let reply = soon("a reply", links.call(&two.name, call(sent.clone()))).await.unwrap();
        assert!(reply.payload == sent, "{size} octets");
    }
    let reply = ask(&links, &two.name, &format!("size{}", 40 << 20)).await.unwrap();
    assert!(reply.payload == pattern(40 << 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_payload_fits_and_a_larger_one_is_not_sent() {
    let (_cluster, links, two) = pair().await;
    let largest = Bytes::from(vec![7; MAX_PAYLOAD_OCTETS]);
    let reply = soon("a reply", links.call(&two.name, call(largest.clone()))).await.unwrap();
    assert!(reply.payload == largest);
    let larger = call(vec![7; MAX_PAYLOAD_OCTETS + 1]);
    let refused = links.call(&two.name, larger).await;
    assert_eq!(refused, Err(LinkError::NotSent(NotSent::TooLarge)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_calls_pass_many_large_ones() {
    let (_cluster, links, two) = pair().await;
    let large = (0..24).map(|number| {
        let (links, peer) = (links.clone(), two.name.clone());
        tokio::spawn(async move {
            let size = (8 << 20) + number;
            let asked =
                if number % 2 == 0 { call(pattern(size)) } else { call(format!("size{size}")) };
            let reply = soon("a large reply", links.call(&peer, asked)).await.unwrap();
            assert!(reply.payload == pattern(size), "{number}");
        })
    });
    let large: Vec<_> = large.collect();
    let mut small = 0;
    while !large.iter().all(tokio::task::JoinHandle::is_finished) {
        ask(&links, &two.name, "small").await.unwrap();
        small += 1;
    }
    join_all(large).await.into_iter().for_each(|done| done.unwrap());
    println!("{small} small calls passed 24 large ones of 8 MiB");
    assert!(small > 5);
}

#[tokio::test]
async fn a_dropped_call_is_dropped_at_the_peer_too() {
    let (_cluster, links, two) = pair().await;
    let hanging = {
        let (links, peer) = (links.clone(), two.name.clone());
        tokio::spawn(async move { links.call(&peer, call("hang")).await })
    };
    two.fake.until_inside(1).await;
    hanging.abort();
    two.fake.until_dropped(1).await;
    assert_eq!(ask(&links, &two.name, "still there").await.unwrap().payload, "still there");
}

#[tokio::test]
async fn a_deadline_holds_on_both_sides() {
    let (_cluster, links, two) = pair().await;
    ask(&links, &two.name, "make the link").await.unwrap();
    let mut late = call("hang");
    late.within = Duration::from_millis(200);
    let began = Instant::now();
    let result = soon("the deadline", links.call(&two.name, late)).await;
    assert!(matches!(result, Err(LinkError::Unknown(_))), "{result:?}");
    assert!(began.elapsed() >= Duration::from_millis(200));
    two.fake.until_dropped(1).await;
    let mut none = call("never");
    none.within = Duration::ZERO;
    let result = links.call(&two.name, none).await;
    assert!(matches!(result, Err(LinkError::NotSent(NotSent::Late))), "{result:?}");
}

#[tokio::test]
async fn a_refusal_is_told_as_it_is() {
    let (_cluster, links, two) = pair().await;
    let refused = ask(&links, &two.name, "busy").await;
    assert_eq!(refused, Err(LinkError::Declined(Refusal::Busy)));
    assert!(!refused.unwrap_err().may_have_had_effect());
    let nobody = ask(&links, &id("nobody"), "hello").await;
    assert_eq!(nobody, Err(LinkError::NotSent(NotSent::NoAddress)));
}

#[tokio::test]
async fn a_server_that_dies_in_a_call_leaves_its_outcome_unknown() {
    let (cluster, links, two) = pair().await;
    let hanging = {
        let (links, peer) = (links.clone(), two.name.clone());
        tokio::spawn(async move { links.call(&peer, call("hang")).await })
    };
    two.fake.until_inside(1).await;
    let (address, name) = (two.server.address(), two.name.clone());
    drop(two.server); // As `kill -9` does: no farewell.
    let result = soon("the end", hanging).await.unwrap();
    assert!(matches!(&result, Err(LinkError::Unknown(_))), "{result:?}");
    assert!(result.unwrap_err().may_have_had_effect());
    two.fake.until_dropped(1).await;
    // Nobody listens there: that is known without being asked.
    let began = Instant::now();
    let mut presence = links.presence();
    let refusing = presence.wait_for(|known| known.get(&name) == Some(&Presence::Refusing));
    soon("nobody to listen", refusing).await.unwrap();
    assert_eq!(ask(&links, &name, "hello").await, Err(LinkError::Refused));
    assert!(began.elapsed() < SECOND);

    // And when it is there again, so is the link.
    let listener = TcpListener::bind(address).await.unwrap();
    let again = Node::on(listener, "two", cluster.credentials("two"), VERSION);
    let mut result = Err(LinkError::Refused);
    let began = Instant::now();
    while result.is_err() && began.elapsed() < PATIENCE {
        result = ask(&links, &again.name, "hello").await;
        tokio::task::yield_now().await;
    }
    assert_eq!(result.unwrap().payload, "hello");
    assert!(began.elapsed() < 3 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_shuts_down_finishes_what_it_has_begun() {
    let (_cluster, links, two) = pair().await;
    ask(&links, &two.name, "hello").await.unwrap();
    let mut events = links.events(&two.name).unwrap();
    soon("the stream", events.next()).await.unwrap();
    let sender = two.fake.next_sender().await;
    let began = Instant::now();
    soon("the shutdown", two.server.shutdown(10 * SECOND)).await;
    assert!(began.elapsed() < 5 * SECOND, "long streams end by themselves");
    soon("the sender", sender.broken()).await;

    let (_cluster, links, two) = pair().await;
    let hanging = tokio::spawn({
        let (links, peer) = (links.clone(), two.name.clone());
        async move { links.call(&peer, call("hang")).await }
    });
    two.fake.until_inside(1).await;
    soon("the shutdown", two.server.shutdown(Duration::from_millis(100))).await;
    let result = soon("the call", hanging).await.unwrap();
    assert!(matches!(result, Err(LinkError::Unknown(_))), "{result:?}");
    two.fake.until_dropped(1).await;
}

#[tokio::test]
async fn nobody_listening_is_refused() {
    let cluster = Cluster::new();
    let links = cluster.links("one");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    links.set_address(&id("two"), &address).unwrap();
    for _ in 0..20 {
        assert_eq!(ask(&links, &id("two"), "hello").await, Err(LinkError::Refused));
    }
    assert_eq!(links.status()[0].state, LinkState::Down(LinkError::Refused));
}

#[tokio::test]
async fn a_black_hole_is_unreachable_within_the_deadline() {
    let cluster = Cluster::new();
    let links = cluster.links("one");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    links.set_address(&id("two"), &address).unwrap();
    let mut asked = call("hello");
    asked.within = Duration::from_millis(300);
    let began = Instant::now();
    let result = links.call(&id("two"), asked).await;
    assert!(matches!(result, Err(LinkError::Unreachable(_))), "{result:?}");
    assert!(began.elapsed() < 2 * SECOND);
    drop(listener);
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed_though_its_connection_stands() {
    let (_cluster, links, two) = pair().await;
    // Between the two: octets are carried until the tap is shut.
    let tap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    links.set_address(&two.name, &tap.local_addr().unwrap().to_string()).unwrap();
    let shut = tokio_util::sync::CancellationToken::new();
    let target = two.address();
    let carrier = tokio::spawn({
        let shut = shut.clone();
        async move {
            let (mut near, _) = tap.accept().await.unwrap();
            let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
            let copy = tokio::io::copy_bidirectional(&mut near, &mut far);
            let _ = shut.run_until_cancelled(copy).await;
            std::future::pending::<()>().await
        }
    });
    ask(&links, &two.name, "hello").await.unwrap();
    shut.cancel();
    let began = Instant::now();
    let result = soon("the end", links.call(&two.name, call("hello"))).await;
    assert!(matches!(result, Err(LinkError::Unknown(_))), "{result:?}");
    println!("a silent peer was noticed after {:?}", began.elapsed());
    assert!(began.elapsed() < 6 * SECOND, "{:?}", began.elapsed());
    carrier.abort();
}

#[tokio::test]
async fn rubbish_instead_of_a_node_is_unreachable() {
    let cluster = Cluster::new();
    let links = cluster.links("one");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    links.set_address(&id("two"), &listener.local_addr().unwrap().to_string()).unwrap();
    let rubbish = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut octets = [0; 16];
        tcp.read_exact(&mut octets).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut tcp, b"* OK IMAP4rev1 ready\r\n").await.unwrap();
    });
    let result = ask(&links, &id("two"), "hello").await;
    assert!(matches!(result, Err(LinkError::Unreachable(_))), "{result:?}");
    rubbish.await.unwrap();
}

#[tokio::test]
async fn neighbouring_versions_work_together_and_others_are_named() {
    let cluster = Cluster::new();
    let two = cluster.node("two").await;
    for (version, common) in [(6, Some(6)), (7, Some(7)), (8, Some(7)), (9, None), (5, None)] {
        let links = links(cluster.credentials("one"), WireVersion(version));
        links.set_address(&two.name, &two.address()).unwrap();
        let told = soon("a version", links.version(&two.name, 5 * SECOND)).await;
        match common {
            Some(common) => {
                assert_eq!(told, Ok(WireVersion(common)));
                let mut asked = call("hello");
                asked.version = WireVersion(common);
                assert!(soon("a reply", links.call(&two.name, asked)).await.is_ok());
            }
            None => {
                let error = LinkError::Version { ours: WireVersion(version), theirs: VERSION };
                assert_eq!(told, Err(error));
            }
        }
    }
    // A call in a version that the peer does not read: nothing is done.
    let links = links(cluster.credentials("one"), WireVersion(8));
    links.set_address(&two.name, &two.address()).unwrap();
    let calls = two.fake.calls.load(std::sync::atomic::Ordering::Relaxed);
    let mut asked = call("hello");
    asked.version = WireVersion(8);
    let error = LinkError::Version { ours: WireVersion(8), theirs: VERSION };
    assert_eq!(links.call(&two.name, asked).await, Err(error));
    assert_eq!(two.fake.calls.load(std::sync::atomic::Ordering::Relaxed), calls);
}

#[tokio::test]
async fn links_that_are_shut_down_end_what_they_carry() {
    let (_cluster, links, two) = pair().await;
    let hanging = {
        let (links, peer) = (links.clone(), two.name.clone());
        tokio::spawn(async move { links.call(&peer, call("hang")).await })
    };
    two.fake.until_inside(1).await;
    links.shutdown();
    let result = soon("the end", hanging).await.unwrap();
    assert!(matches!(result, Err(LinkError::Unknown(_))), "{result:?}");
    two.fake.until_dropped(1).await;
    let after = links.call(&two.name, call("hello")).await;
    assert_eq!(after, Err(LinkError::NotSent(NotSent::Stopped)));
    eventually("the peer to forget us", || two.server.peers().is_empty()).await;
}

/// How many calls are given up while their reply is under way, and before that.
const CROSSING: usize = 60_000;

/// Each cancelled call is a reset stream, and HTTP/2 implementations take many of them for an
/// attack: then the link would be closed under all other calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_cancelled_calls_do_not_cost_the_link() {
    let (_cluster, links, two) = pair().await;
    let staying = {
        let (links, peer) = (links.clone(), two.name.clone());
        // As long as the test may take on a busy machine.
        let long = Call { within: MAX_DEADLINE, ..call("hang") };
        tokio::spawn(async move { links.call(&peer, long).await })
    };
    two.fake.until_inside(1).await;
    let mut seed = 0x853c_49e6_748f_ea9bu64;
    println!("seed {seed:#x}");
    // Each at the peer when it is given up: alone, then a thousand together.
    for _ in 0..3_000 {
        let mut calling = std::pin::pin!(links.call(&two.name, call("hang")));
        let inside = two.fake.until_inside(2);
        tokio::select! {
            () = inside => {}
            result = &mut calling => panic!("{result:?}"),
        }
    }
    two.fake.until_inside(1).await;
    for _ in 0..20 {
        let calls = (0..1_000).map(|_| links.call(&two.name, call("hang")));
        tokio::select! {
            () = two.fake.until_inside(1_001) => {}
            results = join_all(calls) => panic!("{:?}", results[0]),
        }
        two.fake.until_inside(1).await;
    }
    // When the reply is under way: it crosses the word that nobody waits for it.
    for done in two.fake.calls.load(Ordering::Relaxed)..CROSSING {
        let mut calling = std::pin::pin!(links.call(&two.name, call("hello")));
        while two.fake.calls.load(Ordering::Relaxed) <= done {
            // Not looked at any more once it is sent, or its reply would be taken.
            if links.status()[0].in_flight < 2 {
                match futures::poll!(&mut calling) {
                    std::task::Poll::Pending => {}
                    std::task::Poll::Ready(Ok(_)) => break, // Too quick to cross.
                    std::task::Poll::Ready(Err(error)) => panic!("after {done}: {error:?}"),
                }
            }
            tokio::task::yield_now().await;
        }
    }
    // And at any moment.
    for _ in 0..20_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let word = if seed >> 63 == 0 { "hang" } else { "hello" };
        let calling = links.call(&two.name, call(word));
        // A call is given up after so many looks at it: before it is sent, or while it is there.
        let looks = (seed >> 40) as usize % 12;
        let mut calling = std::pin::pin!(calling);
        for _ in 0..looks {
            if futures::poll!(&mut calling).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(ask(&links, &two.name, "hello").await.unwrap().payload, "hello");
    assert!(!staying.is_finished(), "{:?}", staying.await);
    two.fake.until_inside(1).await;
    staying.abort();
    two.fake.until_inside(0).await;
}
