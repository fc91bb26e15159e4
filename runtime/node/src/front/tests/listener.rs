//! Listeners over loopback sockets.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postroom_core::calls::Reply;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::fake::{Asked, FakeStore, LineSession};
use super::{PATIENCE, hear, hear_rest, send, soon};
use crate::front::listener::Accept;
use crate::front::stream::Io;
use crate::front::{Connections, Door, Front, Peer, Protocol, Timing};

pub fn door(connections: Connections) -> (Door, Arc<FakeStore>, mpsc::Receiver<Asked>) {
    let (store, questions) = FakeStore::new();
    let door = Door {
        protocol: Protocol::Lmtp,
        sessions: Arc::new(|_: Peer| Box::new(LineSession::new(None))),
        store: store.clone(),
        connections: Arc::new(connections),
        tls: None,
        implicit_tls: false,
        timing: Timing::default(),
    };
    (door, store, questions)
}

pub fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn connect(address: SocketAddr) -> TcpStream {
    soon("a connection", TcpStream::connect(address)).await.expect("a listener")
}

#[tokio::test]
async fn too_many_connections_are_told_and_room_comes_back() {
    let front = Front::new();
    let (door, store, _questions) = door(Connections::new(1, 1));
    let address = front.open(door.clone(), any_port()).await.unwrap();
    let mut first = connect(address).await;
    hear(&mut first, "hello\n").await;
    let mut second = connect(address).await;
    assert_eq!(hear_rest(&mut second).await, "421 4.3.2 too many connections, try again later\r\n");
    send(&mut first, "quit\n").await;
    assert_eq!(hear_rest(&mut first).await, "bye\n");
    drop(first);
    // Its place is free once its task has ended, which it does by itself now.
    soon("its place is free", async {
        while !door.connections.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut third = connect(address).await;
    hear(&mut third, "hello\n").await;
    drop(third);
    assert!(front.stop(PATIENCE).await);
    assert_eq!(store.open.load(Ordering::SeqCst), 0, "no session is left open");
}

#[tokio::test]
async fn stopping_says_goodbye_to_all_and_accepts_nobody() {
    let front = Front::new();
    let (door, _store, _questions) = door(Connections::new(10, 10));
    let address = front.open(door, any_port()).await.unwrap();
    let mut clients = [connect(address).await, connect(address).await];
    for client in &mut clients {
        hear(client, "hello\n").await;
    }
    let stop = tokio::spawn(front.stop(PATIENCE));
    for mut client in clients {
        assert_eq!(hear_rest(&mut client).await, "goodbye\n");
    }
    assert!(soon("the front stops", stop).await.unwrap());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_does_not_end_within_the_grace_is_cut_off() {
    let front = Front::new();
    let (door, _store, mut questions) = door(Connections::new(10, 10));
    let address = front.open(door, any_port()).await.unwrap();
    let mut client = connect(address).await;
    send(&mut client, "call\n").await;
    let asked = soon("a call", questions.recv()).await.unwrap();
    assert!(!soon("the front stops", front.stop(Duration::from_millis(20))).await);
    drop(asked);
    assert_eq!(hear_rest(&mut client).await, "hello\n");
}

/// Fails a few times before there is a client.
struct Troubled(VecDeque<io::Error>, Option<DuplexStream>);

impl Accept for Troubled {
    async fn accept(&mut self) -> io::Result<(Box<dyn Io>, SocketAddr)> {
        if let Some(error) = self.0.pop_front() {
            return Err(error);
        }
        match self.1.take() {
            Some(client) => Ok((Box::new(client), any_port())),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn a_listener_without_file_descriptors_goes_on_later() {
    const EMFILE: i32 = 24;
    let (mut client, server) = tokio::io::duplex(1_000);
    let errors = [
        io::Error::from_raw_os_error(EMFILE),
        io::ErrorKind::ConnectionAborted.into(),
        io::Error::from_raw_os_error(EMFILE),
    ];
    let front = Front::new();
    let (door, _store, _questions) = door(Connections::new(1, 1));
    front.serve(door, Troubled(errors.into(), Some(server)));
    hear(&mut client, "hello\n").await;
}

#[tokio::test]
async fn many_clients_are_served_at_once() {
    let front = Front::new();
    let (door, _store, mut questions) = door(Connections::new(1_000, 1_000));
    let address = front.open(door, any_port()).await.unwrap();
    let answers = tokio::spawn(async move {
        while let Some(asked) = questions.recv().await {
            asked.answer(Ok(Reply::Done));
        }
    });
    let clients = (0..100).map(|number| async move {
        let mut client = connect(address).await;
        hear(&mut client, "hello\n").await;
        for _ in 0..10 {
            send(&mut client, &format!("say {number}\ncall\n")).await;
            hear(&mut client, &format!("{number}\nanswered\n")).await;
        }
        send(&mut client, "quit\n").await;
        assert_eq!(hear_rest(&mut client).await, "bye\n");
    });
    soon("all are served", futures::future::join_all(clients)).await;
    assert!(front.stop(PATIENCE).await);
    answers.abort();
}
