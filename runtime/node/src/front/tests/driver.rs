//! The driver over an in-memory connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postroom_core::calls::Reply;
use postroom_core::error::StoreError;
use postroom_core::session::Millis;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fake::{Asked, FakeStore, LineSession, PIECE};
use super::{hear, hear_rest, send, soon};
use crate::front::calls::OpenSession;
use crate::front::driver::{Connection, End, OUT_OCTETS, Parts, Timing};
use crate::front::meters::Meters;
use crate::front::stream::Stream;

struct Rig {
    client: DuplexStream,
    questions: mpsc::Receiver<Asked>,
    store: Arc<FakeStore>,
    shutdown: CancellationToken,
    made: Arc<AtomicUsize>,
    run: JoinHandle<End>,
}

impl Rig {
    async fn new() -> Self {
        Self::with(Timing::default(), None).await
    }

    async fn with(timing: Timing, deadline: Option<Millis>) -> Self {
        let (client, server) = tokio::io::duplex(1 << 10);
        let (store, questions) = FakeStore::new();
        let session = LineSession::new(deadline);
        let made = session.made.clone();
        let shutdown = CancellationToken::new();
        let parts = Parts {
            session: Box::new(session),
            calls: store.open(),
            tls: None,
            meters: Meters::new("test"),
            timing,
            shutdown: shutdown.clone(),
        };
        let run = tokio::spawn(Connection::new(Stream::plain(server), parts).run());
        let mut rig = Self { client, questions, store, shutdown, made, run };
        hear(&mut rig.client, "hello\n").await;
        rig
    }

    async fn question(&mut self) -> Asked {
        soon("a call is made", self.questions.recv()).await.expect("the driver lives")
    }

    async fn end(self) -> End {
        drop(self.client);
        soon("the driver ends", self.run).await.expect("no panic")
    }
}

#[tokio::test]
async fn lines_are_answered_and_quit_closes() {
    let mut rig = Rig::new().await;
    send(&mut rig.client, "say a\nsay b\nsa").await;
    hear(&mut rig.client, "a\nb\n").await;
    send(&mut rig.client, "y c\nlogin anna\nquit\n").await;
    assert_eq!(hear_rest(&mut rig.client).await, "c\nbye\n");
    assert_eq!(*rig.store.logged_in.lock().unwrap(), ["anna"]);
    assert!(matches!(rig.end().await, End::Closed));
}

#[tokio::test]
async fn a_call_is_answered_in_order_while_the_client_sends_on() {
    let mut rig = Rig::new().await;
    send(&mut rig.client, "say before\ncall\nsay after\n").await;
    hear(&mut rig.client, "before\n").await;
    let first = rig.question().await;
    // Read ahead while the call is out, and not yet given to the session.
    send(&mut rig.client, "call\n").await;
    first.answer(Ok(Reply::Done));
    hear(&mut rig.client, "answered\nafter\n").await;
    rig.question().await.answer(Err(StoreError::Fenced));
    hear(&mut rig.client, "failed\n").await;
}

#[tokio::test]
async fn a_call_is_finished_though_the_client_has_gone() {
    let mut rig = Rig::new().await;
    send(&mut rig.client, "call\n").await;
    let asked = rig.question().await;
    drop(std::mem::replace(&mut rig.client, tokio::io::duplex(1).0));
    asked.answer(Ok(Reply::Done));
    // The session was told the answer, and found nobody to tell it to.
    assert!(matches!(rig.end().await, End::Gone(_)));
}

#[tokio::test]
async fn an_unknown_outcome_is_passed_on_because_the_store_has_asked_again_already() {
    let mut rig = Rig::new().await;
    send(&mut rig.client, "call\n").await;
    let first = rig.question().await;
    let transaction = first.transaction;
    first.answer(Err(StoreError::UnknownOutcome));
    hear(&mut rig.client, "failed\n").await;
    send(&mut rig.client, "call\n").await;
    let second = rig.question().await;
    assert_ne!(second.transaction, transaction, "another call is another transaction");
    second.answer(Ok(Reply::Done));
    hear(&mut rig.client, "answered\n").await;
}

#[tokio::test]
async fn a_slow_reader_holds_the_session_back() {
    let mut rig = Rig::new().await;
    let octets = 40 * OUT_OCTETS;
    send(&mut rig.client, &format!("big {octets}\nsay done\n")).await;
    let mut read = 0;
    let mut buffer = vec![0; 100 << 10];
    while read < octets {
        let more = soon("octets come", rig.client.read(&mut buffer)).await.unwrap();
        assert!(more > 0);
        read += more;
        let ahead = rig.made.load(Ordering::SeqCst).saturating_sub(read);
        assert!(ahead <= OUT_OCTETS + PIECE + (1 << 10), "{ahead} octets made ahead");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let timing = Timing { write_stall: Duration::from_millis(50), ..Timing::default() };
    let mut rig = Rig::with(timing, None).await;
    send(&mut rig.client, &format!("big {}\n", 10 * OUT_OCTETS)).await;
    assert!(matches!(soon("it is dropped", rig.run).await.unwrap(), End::Stalled));
}

#[tokio::test]
async fn half_a_line_meets_the_deadline_of_the_session() {
    let mut rig = Rig::with(Timing::default(), Some(Millis(50))).await;
    send(&mut rig.client, "sa").await;
    assert_eq!(hear_rest(&mut rig.client).await, "time\n");
}

#[tokio::test]
async fn the_end_of_input_is_told_after_everything_before_it() {
    let mut rig = Rig::new().await;
    send(&mut rig.client, "call\nsay x\n").await;
    let asked = rig.question().await;
    tokio::io::AsyncWriteExt::shutdown(&mut rig.client).await.unwrap();
    asked.answer(Ok(Reply::Done));
    assert_eq!(hear_rest(&mut rig.client).await, "answered\nx\nend\n");
}

#[tokio::test]
async fn news_reach_the_session() {
    let mut rig = Rig::new().await;
    rig.store.news.notify_one();
    hear(&mut rig.client, "changed\n").await;
    rig.store.news.notify_one();
    hear(&mut rig.client, "changed\n").await;
}

#[tokio::test]
async fn shutdown_says_goodbye_after_the_call_under_way() {
    let mut rig = Rig::new().await;
    rig.shutdown.cancel();
    assert_eq!(hear_rest(&mut rig.client).await, "goodbye\n");

    let mut rig = Rig::new().await;
    send(&mut rig.client, "call\n").await;
    let asked = rig.question().await;
    rig.shutdown.cancel();
    asked.answer(Ok(Reply::Done));
    assert_eq!(hear_rest(&mut rig.client).await, "answered\ngoodbye\n");
    assert!(matches!(rig.end().await, End::Closed));
}

#[tokio::test]
async fn a_session_that_asks_for_tls_without_a_certificate_is_closed() {
    let mut rig = Rig::new().await;
    send(&mut rig.client, "tls\n").await;
    assert_eq!(hear_rest(&mut rig.client).await, "go\n");
    assert!(matches!(rig.end().await, End::TlsFailed(_)));
}
