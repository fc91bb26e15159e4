//! A subject whose calls are written down: verbs with their arguments and answers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::rc::Rc;

use crate::error::Result;
use crate::records::{CheckPage, Id, Message, MessageChange, MessagePlace, Page, Record};
use crate::rng::Rng;
use crate::subject::{Host, Knobs, MessageSubject, RecordSubject, Told};
use crate::verdict::clip;

/// Most calls that are remembered: the last ones of a case.
const MAX_CALLS: usize = 40;

/// What is written down.
#[derive(Debug, Default)]
struct Log {
    lines: VecDeque<String>,
    calls: u64,
    transactions: u64,
}

impl Log {
    fn add(&mut self, line: String) {
        if self.lines.len() == MAX_CALLS {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// A subject whose calls are written down.
#[derive(Debug)]
pub struct Traced<S> {
    subject: S,
    seed: u64,
    log: Rc<RefCell<Log>>,
}

/// A transaction that says when it is forgotten.
#[derive(Debug)]
pub struct TracedTxn<T> {
    txn: Option<T>,
    number: u64,
    log: Rc<RefCell<Log>>,
}

impl<T> Drop for TracedTxn<T> {
    fn drop(&mut self) {
        if self.txn.is_some() {
            self.log.borrow_mut().add(format!("transaction {} is forgotten", self.number));
        }
    }
}

impl<T> TracedTxn<T> {
    fn inner(&self) -> &T {
        self.txn.as_ref().expect("it is there until it is committed")
    }
}

impl<S> Traced<S> {
    /// Begins to write down; random cases use this seed.
    pub fn new(subject: S, seed: u64) -> Self {
        Self { subject, seed, log: Rc::default() }
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.log.borrow().calls
    }

    /// The last calls, in their order.
    pub fn lines(&self) -> Vec<String> {
        self.log.borrow().lines.iter().cloned().collect()
    }

    fn said<T: Debug>(&self, within: Option<u64>, call: String, answer: Result<T>) -> Result<T> {
        let answers = match &answer {
            Ok(found) => match format!("{found:?}").as_str() {
                "()" => "ok".to_owned(),
                found => clip(found),
            },
            Err(error) => clip(&error.to_string()),
        };
        let place = within.map_or(String::new(), |number| format!("transaction {number}: "));
        let mut log = self.log.borrow_mut();
        log.calls += 1;
        log.add(format!("{place}{} → {answers}", clip(&call)));
        answer
    }

    fn note(&self, line: impl Into<String>) {
        self.log.borrow_mut().add(line.into());
    }
}

fn number<T>(txn: Option<&TracedTxn<T>>) -> Option<u64> {
    txn.map(|txn| txn.number)
}

fn inner<T>(txn: Option<&TracedTxn<T>>) -> Option<&T> {
    txn.map(TracedTxn::inner)
}

impl<S: Host> Host for Traced<S> {
    type Txn = TracedTxn<S::Txn>;

    fn begin(&self) -> Self::Txn {
        let mut log = self.log.borrow_mut();
        log.transactions += 1;
        let number = log.transactions;
        TracedTxn { txn: Some(self.subject.begin()), number, log: self.log.clone() }
    }

    async fn commit(&self, mut txn: Self::Txn) -> Result<()> {
        let inner = txn.txn.take().expect("it is there until it is committed");
        let outcome = self.subject.commit(inner).await;
        match &outcome {
            Ok(()) => self.note(format!("transaction {} is committed", txn.number)),
            Err(error) => self.note(format!("the commit of {} fails: {error}", txn.number)),
        }
        outcome
    }

    fn set(&self, knobs: Knobs) {
        if let Some((calls, fault)) = knobs.fault {
            self.note(format!("the host: capability call {calls} from here: {fault:?}"));
        }
        self.subject.set(knobs);
    }

    fn met(&self) -> bool {
        self.subject.met()
    }

    async fn held(&self) {
        self.subject.held().await;
        self.note("the host: the call waits for its capability");
    }

    fn one_call_at_a_time(&self) -> bool {
        self.subject.one_call_at_a_time()
    }

    fn handles(&self) -> usize {
        self.subject.handles()
    }

    fn schemas(&self) -> Vec<u32> {
        self.subject.schemas()
    }

    fn tell(&self, told: Told) {
        self.note(format!("the host: calls say {told:?}"));
        self.subject.tell(told);
    }

    fn linked(&self, txn: &Self::Txn) -> Vec<String> {
        self.subject.linked(txn.inner())
    }

    async fn restart(&self) -> Result<()> {
        self.note("the host: all instances are dropped");
        self.subject.restart().await
    }

    async fn other_instance(&self) -> Result<()> {
        self.note("the host: another instance is next");
        self.subject.other_instance().await
    }

    async fn stored(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.subject.stored().await
    }

    async fn tamper(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<()> {
        let to = value.as_ref().map_or("nothing".to_owned(), |v| v.escape_ascii().to_string());
        self.note(clip(&format!("the host: key {} is damaged: {to}", key.escape_ascii())));
        self.subject.tamper(key, value).await
    }

    async fn unlink(&self, name: &str) -> Result<()> {
        self.note(format!("the host: the body of {name} is taken away"));
        self.subject.unlink(name).await
    }

    fn rng(&self) -> Rng {
        Rng::new(self.seed)
    }
}

impl<R: Record, S: RecordSubject<R>> RecordSubject<R> for Traced<S> {
    async fn create(&self, txn: &Self::Txn) -> Result<()> {
        let answer = self.subject.create(txn.inner()).await;
        self.said(Some(txn.number), "create()".to_owned(), answer)
    }

    async fn drop(&self, txn: &Self::Txn) -> Result<()> {
        let answer = self.subject.drop(txn.inner()).await;
        self.said(Some(txn.number), "drop()".to_owned(), answer)
    }

    async fn insert(&self, txn: &Self::Txn, rows: Vec<R>) -> Result<()> {
        let call = format!("insert({rows:?})");
        let answer = self.subject.insert(txn.inner(), rows).await;
        self.said(Some(txn.number), call, answer)
    }

    async fn update(&self, txn: &Self::Txn, rows: Vec<R>) -> Result<()> {
        let call = format!("update({rows:?})");
        let answer = self.subject.update(txn.inner(), rows).await;
        self.said(Some(txn.number), call, answer)
    }

    async fn delete(&self, txn: &Self::Txn, names: Vec<R::Name>) -> Result<()> {
        let call = format!("delete({names:?})");
        let answer = self.subject.delete(txn.inner(), names).await;
        self.said(Some(txn.number), call, answer)
    }

    async fn select(&self, txn: Option<&Self::Txn>, names: Vec<R::Name>) -> Result<Vec<Option<R>>> {
        let call = format!("select({names:?})");
        let answer = self.subject.select(inner(txn), names).await;
        self.said(number(txn), call, answer)
    }

    async fn list(
        &self,
        txn: Option<&Self::Txn>,
        after: Option<R::Name>,
        limit: u32,
    ) -> Result<Page<R>> {
        let call = format!("list(after {after:?}, at most {limit})");
        let answer = self.subject.list(inner(txn), after, limit).await;
        self.said(number(txn), call, answer)
    }

    async fn check(
        &self,
        txn: &Self::Txn,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage> {
        let call = format!("check(after {after:?}, repair {repair})");
        let answer = self.subject.check(txn.inner(), after, repair).await;
        self.said(Some(txn.number), call, answer)
    }
}

impl<S: MessageSubject> MessageSubject for Traced<S> {
    async fn create(&self, txn: &Self::Txn) -> Result<()> {
        let answer = self.subject.create(txn.inner()).await;
        self.said(Some(txn.number), "create()".to_owned(), answer)
    }

    async fn drop(&self, txn: &Self::Txn, mailbox: Id) -> Result<()> {
        let answer = self.subject.drop(txn.inner(), mailbox).await;
        self.said(Some(txn.number), format!("drop({mailbox})"), answer)
    }

    async fn insert(&self, txn: &Self::Txn, messages: Vec<(Message, Vec<u8>)>) -> Result<()> {
        let places: Vec<_> = messages.iter().map(|(row, _)| row.place().to_string()).collect();
        let call = match messages.as_slice() {
            [(row, octets)] => format!("insert({row:?} with {} octets)", octets.len()),
            _ => format!("insert({places:?})"),
        };
        let answer = self.subject.insert(txn.inner(), messages).await;
        self.said(Some(txn.number), call, answer)
    }

    async fn update(&self, txn: &Self::Txn, changes: Vec<MessageChange>) -> Result<()> {
        let call = format!("update({changes:?})");
        let answer = self.subject.update(txn.inner(), changes).await;
        self.said(Some(txn.number), call, answer)
    }

    async fn delete(&self, txn: &Self::Txn, places: Vec<MessagePlace>) -> Result<()> {
        let call = format!("delete({places:?})");
        let answer = self.subject.delete(txn.inner(), places).await;
        self.said(Some(txn.number), call, answer)
    }

    async fn select(
        &self,
        txn: Option<&Self::Txn>,
        places: Vec<MessagePlace>,
    ) -> Result<Vec<Option<Message>>> {
        let call = format!("select({places:?})");
        let answer = self.subject.select(inner(txn), places).await;
        self.said(number(txn), call, answer)
    }

    async fn list(
        &self,
        txn: Option<&Self::Txn>,
        mailbox: Id,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Page<Message>> {
        let call = format!("list({mailbox}, after {after:?}, at most {limit})");
        let answer = self.subject.list(inner(txn), mailbox, after, limit).await;
        self.said(number(txn), call, answer)
    }

    async fn fetch(
        &self,
        txn: Option<&Self::Txn>,
        mailbox: Id,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<Vec<u8>>> {
        let call = format!("fetch({mailbox}, {name}, from {at}, at most {max})");
        let answer = self.subject.fetch(inner(txn), mailbox, name, at, max).await;
        let size = answer.as_ref().map(|found| found.as_ref().map(Vec::len));
        let _ = self.said(number(txn), call, size.map_err(Clone::clone));
        answer
    }

    async fn settle(&self, mailbox: Id, names: Vec<String>, deleted: bool) -> Result<()> {
        let call = format!("settle({mailbox}, {names:?})");
        let answer = self.subject.settle(mailbox, names, deleted).await;
        self.said(None, call, answer)
    }

    async fn check(
        &self,
        txn: &Self::Txn,
        after: Option<String>,
        repair: bool,
    ) -> Result<CheckPage> {
        let call = format!("check(after {after:?}, repair {repair})");
        let answer = self.subject.check(txn.inner(), after, repair).await;
        self.said(Some(txn.number), call, answer)
    }
}
