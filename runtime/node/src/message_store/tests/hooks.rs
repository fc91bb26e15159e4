//! Hooks before and after delivery, which do what the test says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::calls::{Call, Reply, Want};
use postroom_core::error::StoreError;
use postroom_core::hook::{Changes, Delivered, Delivery, Fields, Verdict};
use postroom_core::types::{TransactionId, Uid};
use tokio::sync::mpsc;

use super::super::limits::{MAX_UNTOLD, Patience};
use super::faults::{append, count};
use super::{Bench, Client, NewUser, all, mailbox, secret, soon};
use crate::guest::native_plain::Plain;
use crate::guest::{CallInfo, Hook};
use crate::message_store::{Config, DirectoryMode, MessageStore};
use crate::storage::memory::Outage;
use crate::storage::{Body, MemoryEngine, View};

const MAIL: &str = "Subject: hello\r\n\r\nworld\r\n";

/// A hook that answers what the test says, and keeps what it is not told about.
struct Scripted {
    answers: Mutex<VecDeque<Result<Verdict, StoreError>>>,
    asked: Mutex<Vec<(CallInfo, Delivery, String)>>,
    told: mpsc::Sender<(CallInfo, Delivered)>,
    /// Never answers.
    silent: AtomicBool,
    /// Fails after deliveries.
    failing: AtomicBool,
}

/// What a hook was told.
type Told = mpsc::Receiver<(CallInfo, Delivered)>;

impl Scripted {
    fn new() -> (Arc<Self>, Told) {
        let (told, hears) = mpsc::channel(100);
        let hook = Self {
            answers: Mutex::default(),
            asked: Mutex::default(),
            told,
            silent: AtomicBool::default(),
            failing: AtomicBool::default(),
        };
        (Arc::new(hook), hears)
    }

    fn answer(&self, answer: Result<Verdict, StoreError>) {
        self.answers.lock().unwrap().push_back(answer);
    }

    fn asked(&self) -> Vec<(CallInfo, Delivery, String)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Hook for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn before_delivery(
        &self,
        call: CallInfo,
        view: &View,
        delivery: &Delivery,
        message: Body,
    ) -> Result<Verdict, StoreError> {
        let octets = view.read_body(&message, 0, message.size()).await.unwrap();
        assert_eq!(message.digest(), *blake3::hash(&octets).as_bytes());
        let text = String::from_utf8(octets.to_vec()).unwrap();
        self.asked.lock().unwrap().push((call, delivery.clone(), text));
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let answer = self.answers.lock().unwrap().pop_front();
        answer.unwrap_or(Ok(Verdict::Accept(Changes::default())))
    }

    async fn after_delivery(
        &self,
        call: CallInfo,
        _: &View,
        delivered: &Delivered,
    ) -> Result<(), StoreError> {
        self.told.send((call, delivered.clone())).await.unwrap();
        match self.failing.load(Ordering::SeqCst) {
            true => Err(StoreError::Broken("the test wants it so".into())),
            false => Ok(()),
        }
    }
}

fn hooked(hooks: &[&Arc<Scripted>], patience: Patience) -> Bench {
    let (stores, plain) = Plain::stores();
    let engine = Arc::new(MemoryEngine::new());
    let directory = DirectoryMode::Dev { password: secret("pw") };
    let config = Config { node: "test".into(), generation: 1, directory };
    let hooks = hooks.iter().map(|hook| Arc::<Scripted>::clone(hook) as Arc<dyn Hook>).collect();
    let store = MessageStore::with(config, stores, hooks, engine.clone(), patience);
    Bench { store, engine, plain, outside: None }
}

/// A message store with one hook.
fn one() -> (Bench, Arc<Scripted>, Told) {
    let (hook, told) = Scripted::new();
    (hooked(&[&hook], Patience::default()), hook, told)
}

impl Client<'_> {
    async fn deliver_as(
        &self,
        transaction: TransactionId,
        address: &str,
        text: &str,
    ) -> Result<Reply, StoreError> {
        let resolve = Call::ResolveRecipient { address: address.to_owned() };
        let Reply::Recipient(recipient) = self.call(resolve).await? else { panic!() };
        let (sender, body) = (Some("s@x.org".into()), Bytes::copy_from_slice(text.as_bytes()));
        let deliver = Call::Deliver { recipient, sender, body };
        self.store.call(&self.session, transaction, deliver).await
    }

    pub(super) async fn deliver(&self, address: &str, text: &str) -> Result<Uid, StoreError> {
        match self.deliver_as(self.store.transaction(), address, text).await? {
            Reply::Appended { uids, .. } => Ok(uids[0]),
            other => panic!("{other:?}"),
        }
    }

    /// The bodies of all messages in a mailbox, which have the sizes that are told.
    pub(super) async fn bodies(&self, name: &str) -> Vec<String> {
        self.select(name).await;
        let want = Want { body: true, ..Want::default() };
        let whole = |message: postroom_core::calls::FetchedMessage| {
            let body = message.body.expect("it can be read");
            assert_eq!(message.size, body.len() as u64);
            String::from_utf8(body.to_vec()).unwrap()
        };
        self.fetch(all(), want).await.into_iter().map(whole).collect()
    }
}

fn fields(fields: &[(&str, &str)]) -> Fields {
    Fields::new(fields.iter().copied()).unwrap()
}

fn refile(name: &str) -> Result<Verdict, StoreError> {
    let mailbox = Some(mailbox(name));
    Ok(Verdict::Accept(Changes { mailbox, ..Changes::default() }))
}

fn add(name: &str, value: &str) -> Result<Verdict, StoreError> {
    let fields = fields(&[(name, value)]);
    Ok(Verdict::Accept(Changes { fields, ..Changes::default() }))
}

#[tokio::test]
async fn a_hook_is_asked_about_what_is_delivered_and_nothing_else() {
    let (bench, hook, _told) = one();
    let alice = bench.alice().await;
    alice.done(append("INBOX", "by a client")).await;
    alice.done(Call::Create { name: mailbox("lists"), special_use: None }).await;
    assert!(hook.asked().is_empty());
    for (address, name) in [("alice", "INBOX"), ("alice+lists", "lists"), ("alice+no", "INBOX")] {
        let transaction = bench.store.transaction();
        alice.deliver_as(transaction, address, MAIL).await.unwrap();
        let size = MAIL.len() as u64;
        let sender = Some("s@x.org".to_owned());
        let delivery = Delivery { sender, user: "alice".into(), mailbox: mailbox(name), size };
        let call = CallInfo::new(bench.account().await, transaction);
        assert_eq!(hook.asked(), [(call, delivery, MAIL.to_owned())], "{address}");
    }
    assert_eq!(alice.bodies("INBOX").await, ["by a client", MAIL, MAIL]);
    assert_eq!(alice.bodies("lists").await, [MAIL]);
}

#[tokio::test]
async fn a_delivery_is_filed_into_a_mailbox_that_is_there_or_is_made() {
    let (bench, hook, _told) = one();
    let alice = bench.alice().await;
    for number in 1..=2 {
        hook.answer(refile("spam/sure"));
        assert_eq!(alice.deliver("alice", MAIL).await.unwrap().get(), number);
    }
    assert_eq!(alice.bodies("spam/sure").await, [MAIL, MAIL]);
    assert_eq!(count(&alice, "spam").await, 0, "the level above was made");
    assert_eq!(count(&alice, "INBOX").await, 0);
}

#[tokio::test]
async fn added_fields_are_part_of_the_message() {
    let (bench, hook, _told) = one();
    let alice = bench.alice().await;
    hook.answer(add("X-Score", "7"));
    alice.deliver("alice", MAIL).await.unwrap();
    // A larger one, so that it is hashed and copied elsewhere.
    let large = format!("Subject: large\r\n\r\n{}", "x".repeat(200 << 10));
    hook.answer(add("X-Score", "8"));
    alice.deliver("alice", &large).await.unwrap();
    let expected = [format!("X-Score: 7\r\n{MAIL}"), format!("X-Score: 8\r\n{large}")];
    assert_eq!(alice.bodies("INBOX").await, expected);
    let want = Want { header: true, derived: true, ..Want::default() };
    let header = alice.fetch(all(), want).await[0].header.clone();
    assert_eq!(header.as_deref(), Some(&b"X-Score: 7\r\nSubject: hello\r\n\r\n"[..]));
}

#[tokio::test]
async fn added_fields_count_for_the_quota() {
    let (bench, hook, _told) = one();
    let size = MAIL.len() as u64;
    let quota_octets = Some(2 * size + 5);
    let carol = NewUser { name: "carol".into(), password: None, alias_of: None, quota_octets };
    bench.store.create_user(carol).await.unwrap();
    let carol = bench.client("carol").await;
    carol.deliver("carol", MAIL).await.unwrap();
    hook.answer(add("X-Long", "enough"));
    assert_eq!(carol.deliver("carol", MAIL).await, Err(StoreError::OverQuota));
    carol.deliver("carol", MAIL).await.unwrap();
    hook.answer(refile("new"));
    assert_eq!(carol.deliver("carol", MAIL).await, Err(StoreError::OverQuota));
    let made = carol.call(Call::Status { name: mailbox("new") }).await;
    assert!(matches!(made, Err(StoreError::NotFound(_))), "made for nothing: {made:?}");
    assert_eq!(count(&carol, "INBOX").await, 2);
}

#[tokio::test]
async fn a_refused_message_is_not_there_and_no_later_hook_is_asked() {
    let ((first, _a), (second, _b)) = (Scripted::new(), Scripted::new());
    let bench = hooked(&[&first, &second], Patience::default());
    let alice = bench.alice().await;
    first.answer(Ok(Verdict::Refuse("no spam".into())));
    let refused = alice.deliver("alice", MAIL).await;
    assert_eq!(refused, Err(StoreError::Refused("no spam".into())));
    assert!(!refused.unwrap_err().is_temporary());
    assert!(second.asked().is_empty());
    assert_eq!(count(&alice, "INBOX").await, 0);
}

#[tokio::test]
async fn a_hook_that_fails_puts_the_delivery_off_whatever_its_error_is() {
    let (bench, hook, mut told) = one();
    let alice = bench.alice().await;
    let text = || "so it is".to_owned();
    let errors = [
        StoreError::Broken(text()),
        StoreError::Unavailable(text()),
        StoreError::Busy(text()),
        StoreError::Damaged(text()),
        StoreError::Denied(text()),
        StoreError::Invalid(text()),
        StoreError::NotFound(text()),
        StoreError::Limit(text()),
        StoreError::Unsupported(text()),
    ];
    for error in errors {
        hook.answer(Err(error.clone()));
        let put_off = alice.deliver("alice", MAIL).await.unwrap_err();
        assert!(put_off.is_temporary(), "{error:?} became {put_off:?}");
        assert_eq!(count(&alice, "INBOX").await, 0);
    }
    alice.deliver("alice", MAIL).await.unwrap();
    assert_eq!(alice.bodies("INBOX").await, [MAIL]);
    soon("it is told", told.recv()).await.unwrap();
    assert!(told.try_recv().is_err(), "only of what was delivered");
}

#[tokio::test]
async fn a_hook_that_never_answers_puts_the_delivery_off_in_time() {
    let (hook, _told) = Scripted::new();
    let short = Patience { write: Duration::from_millis(50), ..Patience::default() };
    let bench = hooked(&[&hook], short);
    let alice = bench.alice().await;
    hook.silent.store(true, Ordering::SeqCst);
    let put_off = soon("an answer comes", alice.deliver("alice", MAIL)).await;
    assert!(matches!(put_off, Err(StoreError::Unavailable(_))), "{put_off:?}");
    assert_eq!(count(&alice, "INBOX").await, 0);
}

#[tokio::test]
async fn each_hook_sees_what_the_one_before_it_has_left() {
    let ((first, _a), (second, _b)) = (Scripted::new(), Scripted::new());
    let bench = hooked(&[&first, &second], Patience::default());
    let alice = bench.alice().await;
    first.answer(Ok(Verdict::Accept(Changes {
        mailbox: Some(mailbox("one")),
        fields: fields(&[("X-A", "1"), ("X-B", "2")]),
    })));
    second.answer(Ok(Verdict::Accept(Changes {
        mailbox: Some(mailbox("two")),
        fields: fields(&[("X-C", "3")]),
    })));
    alice.deliver("alice", MAIL).await.unwrap();
    let between = format!("X-A: 1\r\nX-B: 2\r\n{MAIL}");
    let (_, asked, text) = second.asked().pop().unwrap();
    assert_eq!((asked.mailbox, asked.size), (mailbox("one"), between.len() as u64));
    assert_eq!(text, between);
    assert_eq!(alice.bodies("two").await, [format!("X-C: 3\r\n{between}")]);
    let list = alice.call(Call::Status { name: mailbox("one") }).await;
    assert!(matches!(list, Err(StoreError::NotFound(_))), "it was never needed: {list:?}");
}

#[tokio::test]
async fn what_was_delivered_is_told_and_a_failure_then_changes_nothing() {
    let (bench, hook, mut told) = one();
    let alice = bench.alice().await;
    hook.failing.store(true, Ordering::SeqCst);
    for number in 1..=2 {
        hook.answer(Ok(Verdict::Accept(Changes {
            mailbox: Some(mailbox("box")),
            fields: fields(&[("X-A", "1")]),
        })));
        let transaction = bench.store.transaction();
        let reply = alice.deliver_as(transaction, "alice", MAIL).await.unwrap();
        let (call, delivered) = soon("it is told", told.recv()).await.unwrap();
        let account = bench.account().await;
        assert_eq!(call, CallInfo::new(account, transaction));
        assert_eq!(delivered.delivery.mailbox, mailbox("box"));
        assert_eq!(delivered.delivery.size, MAIL.len() as u64 + 8);
        let status = alice.select("box").await.status;
        assert_eq!((delivered.mailbox, delivered.uid.get()), (status.mailbox, number));
        assert_eq!(delivered.uid_validity, status.uid_validity);
        let row = alice.fetch(all(), Want::default()).await.pop().unwrap();
        assert_eq!(delivered.message_id, row.message_id);
        let Reply::Appended { uids, .. } = reply else { panic!() };
        assert_eq!(uids, [delivered.uid]);
    }
    assert_eq!(count(&alice, "box").await, 2);
}

#[tokio::test]
async fn a_write_that_is_repeated_asks_the_hook_once_and_is_told_once() {
    let (hook, mut told) = Scripted::new();
    let hasty = Patience { commit: Duration::from_millis(20), ..Patience::default() };
    let bench = hooked(&[&hook], hasty);
    let alice = bench.alice().await;
    alice.append("INBOX", "before").await;
    let late = Some(Outage::Late);
    bench.engine.faults().next_commits([late, late]);
    hook.answer(add("X-A", "1"));
    alice.deliver("alice", MAIL).await.unwrap();
    assert!(bench.engine.land().iter().all(Result::is_err));
    assert_eq!(hook.asked().len(), 1);
    assert_eq!(alice.bodies("INBOX").await[1..], [format!("X-A: 1\r\n{MAIL}")]);
    soon("it is told", told.recv()).await.unwrap();
    bench.store.close().await;
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn a_delivery_that_comes_again_under_its_transaction_id_is_what_it_was() {
    let (bench, hook, mut told) = one();
    let alice = bench.alice().await;
    let transaction = bench.store.transaction();
    hook.answer(refile("box"));
    let first = alice.deliver_as(transaction, "alice", MAIL).await;
    hook.answer(Ok(Verdict::Refuse("not any more".into())));
    let second = alice.deliver_as(transaction, "alice", MAIL).await;
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    assert_eq!((count(&alice, "box").await, count(&alice, "INBOX").await), (1, 0));
    assert_eq!(hook.asked().len(), 1);
    soon("it is told", told.recv()).await.unwrap();
    bench.store.close().await;
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn a_stop_waits_until_hooks_have_been_told() {
    let (bench, _hook, mut told) = one();
    let alice = bench.alice().await;
    for _ in 0..50 {
        alice.deliver("alice", MAIL).await.unwrap();
    }
    bench.store.close().await;
    let mut heard = 0;
    while told.try_recv().is_ok() {
        heard += 1;
    }
    assert_eq!(heard, 50);
}

#[tokio::test]
async fn deliveries_go_on_while_a_hook_does_not_listen_and_what_is_to_be_told_is_bounded() {
    /// More than wait to be told and fit the channel.
    const DELIVERIES: usize = MAX_UNTOLD + 300;
    let (bench, _hook, mut told) = one();
    let alice = bench.alice().await;
    for _ in 0..DELIVERIES {
        alice.deliver("alice", MAIL).await.unwrap();
    }
    drop(alice);
    let store = bench.store.clone();
    let close = store.close();
    tokio::pin!(close);
    let mut heard = 0;
    loop {
        tokio::select! {
            biased;
            Some(_) = told.recv() => heard += 1,
            () = &mut close => break,
        }
    }
    while told.try_recv().is_ok() {
        heard += 1;
    }
    assert!((MAX_UNTOLD..DELIVERIES).contains(&heard), "{heard}");
    let bench = bench.start_again();
    assert_eq!(count(&bench.alice().await, "INBOX").await, DELIVERIES as u32);
}
