//! A protocol of lines, and a message store that asks the test for each answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::calls::{Call, Principal, Reply};
use postroom_core::error::StoreError;
use postroom_core::session::{Action, Input, Millis, Session};
use postroom_core::types::{AccountId, MailboxName, SessionId, TransactionId};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::front::calls::{Calls, OpenSession};

/// Octets of each piece of `big`.
pub const PIECE: usize = 32 << 10;

/// Speaks: `say X`, `big N`, `call`, `login`, `tls`, `quit`.
pub struct LineSession {
    actions: VecDeque<Action>,
    line: Vec<u8>,
    waits: bool,
    stopping: bool,
    big: usize,
    deadline: Option<Millis>,
    /// Octets of `big` that the driver has taken so far.
    pub made: Arc<AtomicUsize>,
}

impl LineSession {
    pub fn new(deadline: Option<Millis>) -> Self {
        let mut new = Self {
            actions: VecDeque::new(),
            line: Vec::new(),
            waits: false,
            stopping: false,
            big: 0,
            deadline,
            made: Arc::default(),
        };
        new.say("hello");
        new
    }

    fn say(&mut self, text: &str) {
        self.actions.push_back(Action::Send(Bytes::from(format!("{text}\n"))));
    }

    fn close(&mut self, text: &str) {
        self.say(text);
        self.actions.push_back(Action::Close);
    }

    fn call(&mut self) {
        self.actions.push_back(Action::Call(Call::Status { name: MailboxName::inbox() }));
        self.waits = true;
    }

    fn lines(&mut self) {
        while !self.waits
            && let Some(end) = self.line.iter().position(|&octet| octet == b'\n')
        {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            let line = String::from_utf8(line).expect("tests speak UTF-8");
            match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
                ("say", text) => self.say(text),
                ("big", octets) => self.big = octets.parse().expect("a number"),
                ("call", _) => self.call(),
                ("login", user) => self.actions.push_back(Action::LoggedIn(Principal {
                    user: user.to_owned(),
                    account: AccountId([7; 16]),
                })),
                ("tls", _) => {
                    self.say("go");
                    self.actions.push_back(Action::StartTls);
                    self.waits = true;
                    self.line.clear();
                }
                ("quit", _) => self.close("bye"),
                (other, _) => panic!("no such line: {other:?}"),
            }
        }
    }
}

impl Session for LineSession {
    fn input(&mut self, _: Millis, input: Input<'_>) {
        match input {
            Input::Octets(octets) => {
                assert!(!self.waits, "octets only while they are wanted");
                self.line.extend_from_slice(octets);
            }
            Input::Answer(answer) => {
                self.waits = false;
                self.say(if answer.is_ok() { "answered" } else { "failed" });
                if self.stopping {
                    self.close("goodbye");
                }
            }
            Input::TlsEstablished => {
                self.waits = false;
                self.say("secure");
            }
            Input::EndOfInput => self.close("end"),
            Input::Changed => self.say("changed"),
            Input::Time => self.close("time"),
            Input::ShuttingDown if self.waits => self.stopping = true,
            Input::ShuttingDown => self.close("goodbye"),
        }
        self.lines();
    }

    fn action(&mut self) -> Option<Action> {
        self.actions.pop_front().or_else(|| {
            let piece = self.big.min(PIECE);
            self.big -= piece;
            self.made.fetch_add(piece, Ordering::SeqCst);
            (piece > 0).then(|| Action::Send(vec![b'x'; piece].into()))
        })
    }

    fn wants_octets(&self) -> bool {
        !self.waits
    }

    fn deadline(&self) -> Option<Millis> {
        self.deadline
    }
}

/// A call that waits for the test.
pub struct Asked {
    pub transaction: TransactionId,
    pub call: Call,
    pub answer: oneshot::Sender<Result<Reply, StoreError>>,
}

impl Asked {
    pub fn answer(self, answer: Result<Reply, StoreError>) {
        self.answer.send(answer).expect("a call is finished whatever happens");
    }
}

/// A message store in the hands of the test.
pub struct FakeStore {
    asked: mpsc::Sender<Asked>,
    next: AtomicU64,
    pub news: Arc<Notify>,
    pub logged_in: Arc<std::sync::Mutex<Vec<String>>>,
    /// Sessions that are open.
    pub open: Arc<AtomicUsize>,
}

impl FakeStore {
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Asked>) {
        let (asked, questions) = mpsc::channel(16);
        let store = Self {
            asked,
            next: AtomicU64::new(1),
            news: Arc::default(),
            logged_in: Arc::default(),
            open: Arc::default(),
        };
        (Arc::new(store), questions)
    }
}

struct FakeSession {
    id: u64,
    transactions: AtomicU64,
    asked: mpsc::Sender<Asked>,
    news: Arc<Notify>,
    logged_in: Arc<std::sync::Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
}

impl OpenSession for FakeStore {
    fn open(&self) -> Arc<dyn Calls> {
        self.open.fetch_add(1, Ordering::SeqCst);
        Arc::new(FakeSession {
            id: self.next.fetch_add(1, Ordering::SeqCst),
            transactions: AtomicU64::new(1),
            asked: self.asked.clone(),
            news: self.news.clone(),
            logged_in: self.logged_in.clone(),
            open: self.open.clone(),
        })
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Calls for FakeSession {
    fn id(&self) -> SessionId {
        SessionId(self.id)
    }

    fn transaction(&self) -> TransactionId {
        let number = self.transactions.fetch_add(1, Ordering::SeqCst);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.id.to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        TransactionId(id)
    }

    async fn call(&self, transaction: TransactionId, call: Call) -> Result<Reply, StoreError> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { transaction, call, answer };
        self.asked.send(asked).await.expect("the test listens");
        answered.await.expect("the test answers")
    }

    fn log_in(&self, principal: Principal) {
        self.logged_in.lock().expect("no panic").push(principal.user);
    }

    async fn changed(&self) {
        self.news.notified().await;
    }
}
