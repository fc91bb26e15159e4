//! Events and datagrams between nodes over real sockets.

mod common;

use bytes::Bytes;
use common::*;
use postroom_cluster::links::{
    Event, EventError, EventStream, MAX_DATAGRAM_OCTETS, MAX_EVENT_KEYS, MAX_EVENT_OCTETS, Notice,
    event_queue,
};
use tokio::net::TcpListener;

fn key(number: u32) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&number.to_be_bytes());
    key
}

fn value(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

async fn next(events: &mut EventStream) -> Notice {
    soon("a notice", events.next()).await.expect("links are not shut down")
}

async fn until_up(events: &mut EventStream) {
    while next(events).await != Notice::Up {}
}

#[tokio::test]
async fn events_arrive_in_order_and_the_latest_of_a_key_wins() {
    let (_cluster, links, two) = pair().await;
    let mut events = links.events(&two.name).unwrap();
    assert_eq!(next(&mut events).await, Notice::Up);
    let sender = two.fake.next_sender().await;
    for number in 0..1_000 {
        sender.push(key(number), value(number)).unwrap();
        let event = Event { key: key(number), value: value(number) };
        assert_eq!(next(&mut events).await, Notice::Event(event));
    }
    drop(sender);
    assert!(matches!(next(&mut events).await, Notice::Down(_)));
    assert_eq!(next(&mut events).await, Notice::Up, "it is asked for again");
    two.fake.next_sender().await.push(key(1), value(2)).unwrap();
    assert_eq!(next(&mut events).await, Notice::Event(Event { key: key(1), value: value(2) }));
}

/// A reader that does not read costs the sender one place for each key, and hears the latest.
#[tokio::test]
async fn a_slow_reader_hears_the_latest_value_of_each_key() {
    const KEYS: u32 = 1_000;
    const ROUNDS: u32 = 200;
    let (_cluster, links, two) = pair().await;
    let mut events = links.events(&two.name).unwrap();
    until_up(&mut events).await;
    let sender = two.fake.next_sender().await;
    for round in 0..ROUNDS {
        for number in 0..KEYS {
            sender.push(key(number), value(round * KEYS + number)).unwrap();
        }
        tokio::task::yield_now().await;
        assert!(sender.len() <= KEYS as usize, "{}", sender.len());
    }
    let mut latest = vec![None; KEYS as usize];
    let mut heard = 0;
    while latest
        .iter()
        .enumerate()
        .any(|(number, value)| *value != Some((ROUNDS - 1) * KEYS + number as u32))
    {
        let Notice::Event(event) = next(&mut events).await else { panic!("the stream broke") };
        let number = u32::from_be_bytes(event.key[..4].try_into().unwrap());
        let value = u32::from_be_bytes(event.value[..].try_into().unwrap());
        assert!(latest[number as usize] < Some(value), "never an older one after a newer");
        latest[number as usize] = Some(value);
        heard += 1;
    }
    println!("{heard} events heard of {} pushed", ROUNDS * KEYS);
    assert!(heard < 5 * KEYS, "{heard}: coalescing does not work");
    assert!(sender.is_empty());
}

#[tokio::test]
async fn a_link_that_breaks_is_told_to_both_sides_and_made_again() {
    let (cluster, links, two) = pair().await;
    let mut events = links.events(&two.name).unwrap();
    until_up(&mut events).await;
    let sender = two.fake.next_sender().await;
    let address = two.server.address();
    drop(two.server);
    assert!(matches!(next(&mut events).await, Notice::Down(_)));
    soon("the sender to be told", sender.broken()).await;
    assert_eq!(sender.push(key(1), value(1)), Err(EventError::Broken));

    let listener = TcpListener::bind(address).await.unwrap();
    let again = Node::on(listener, "two", cluster.credentials("two"), VERSION);
    assert_eq!(next(&mut events).await, Notice::Up, "told once that it is down, then up");
    again.fake.next_sender().await.push(key(3), value(3)).unwrap();
    assert_eq!(next(&mut events).await, Notice::Event(Event { key: key(3), value: value(3) }));

    let sender = {
        let mut other = cluster.links("first").events(&again.name);
        assert!(other.is_err(), "no address is known");
        drop(events);
        other = links.events(&again.name);
        let mut events = other.unwrap();
        until_up(&mut events).await;
        again.fake.next_sender().await
    };
    soon("the reader that went away", sender.broken()).await;
}

#[tokio::test]
async fn a_second_reader_takes_the_first_ones_place() {
    let (_cluster, links, two) = pair().await;
    let mut first = links.events(&two.name).unwrap();
    until_up(&mut first).await;
    let older = two.fake.next_sender().await;
    let mut second = links.events(&two.name).unwrap();
    until_up(&mut second).await;
    let newer = two.fake.next_sender().await;
    soon("the older sender", older.broken()).await;
    assert!(matches!(next(&mut first).await, Notice::Down(_)));
    newer.push(key(1), value(1)).unwrap();
    assert_eq!(next(&mut second).await, Notice::Event(Event { key: key(1), value: value(1) }));
}

#[tokio::test]
async fn a_queue_keeps_to_its_bounds() {
    let (sender, mut source) = event_queue();
    let large = Bytes::from(vec![0; MAX_EVENT_OCTETS + 1]);
    assert_eq!(sender.push(key(0), large), Err(EventError::TooLarge));
    for number in 0..MAX_EVENT_KEYS as u32 {
        sender.push(key(number), value(number)).unwrap();
    }
    sender.push(key(0), value(7)).unwrap();
    assert_eq!(sender.len(), MAX_EVENT_KEYS);
    let full = sender.push(key(u32::MAX), value(0));
    assert_eq!(full, Err(EventError::Full));
    assert_eq!(source.next().await, None, "ended, so that what was missed is noticed");
    assert_eq!(sender.push(key(0), value(0)), Err(EventError::Broken));

    let (sender, mut source) = event_queue();
    sender.push(key(1), value(1)).unwrap();
    drop(sender);
    assert_eq!(source.next().await.unwrap().value, value(1), "what waits is still given");
    assert_eq!(source.next().await, None);
}

#[tokio::test]
async fn datagrams_arrive_or_are_dropped_and_never_wait() {
    let (_cluster, links, two) = pair().await;
    assert!(links.gossip(&two.name, pattern(MAX_DATAGRAM_OCTETS)));
    let (from, datagram) = two.fake.next_datagram().await;
    assert_eq!((from, datagram), (id("one"), pattern(MAX_DATAGRAM_OCTETS)));
    assert!(!links.gossip(&two.name, pattern(MAX_DATAGRAM_OCTETS + 1)));
    assert!(!links.gossip(&id("nobody"), pattern(1)));
    // Nothing runs beside us until we wait: what finds no room is dropped.
    let sent = (0..1_000).filter(|_| links.gossip(&two.name, pattern(10))).count();
    assert!((1..100).contains(&sent), "{sent}");
    for _ in 0..sent {
        two.fake.next_datagram().await;
    }

    // And after the link has been away.
    let address = two.server.address();
    drop(two.server);
    let listener = {
        let mut bound = TcpListener::bind(address).await;
        while bound.is_err() {
            tokio::task::yield_now().await;
            bound = TcpListener::bind(address).await;
        }
        bound.unwrap()
    };
    let again = Node::on(listener, "two", _cluster.credentials("two"), VERSION);
    let mut received = None;
    eventually("a datagram over a new link", || {
        links.gossip(&again.name, Bytes::from_static(b"again"));
        received = again.fake.datagrams_rx.try_lock().ok().and_then(|mut rx| rx.try_recv().ok());
        received.is_some()
    })
    .await;
    assert_eq!(received.unwrap(), (id("one"), Bytes::from_static(b"again")));
}
