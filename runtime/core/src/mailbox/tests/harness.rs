//! Drives plans as node does, over records in plain maps, and holds every answer against the model.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::calls::{Call, Changes, FetchedMessage, NewMessage, Reply, Want};
use crate::error::StoreError;
use crate::mailbox::ledger::{self, BodyRow, LedgerWrite, RowKind};
use crate::mailbox::model::{Labels, Model};
use crate::mailbox::{
    Account, Arrival, Context, Draft, MoveMessages, Op, Open, Outcome, Sessions, Step, StoreFlags,
    Target,
};
use crate::mime;
use crate::records::{MailboxRow, MessageRow, Property};
use crate::types::{MailboxId, MailboxName, ModSeq, SessionId, ThreadId, Uid, UidSet};

/// What a restart finds: the records of a store component, bodies, the ledger.
#[derive(Clone, Default)]
pub struct Disk {
    mailboxes: BTreeMap<MailboxId, MailboxRow>,
    messages: BTreeMap<(MailboxId, Uid), MessageRow>,
    bodies: BTreeMap<String, Bytes>,
    ledger: BTreeMap<Bytes, Bytes>,
}

impl Disk {
    fn step(&mut self, step: Step, bodies: &[Bytes]) {
        match step {
            Step::InsertMailboxes(rows) => rows.into_iter().for_each(|row| {
                assert!(self.mailboxes.insert(row.id, row).is_none());
            }),
            Step::UpdateMailboxes(rows) => rows.into_iter().for_each(|row| {
                assert!(self.mailboxes.insert(row.id, row).is_some());
            }),
            Step::DropMailbox(id) => {
                assert!(self.mailboxes.remove(&id).is_some());
                self.messages.retain(|(mailbox, _), _| *mailbox != id);
            }
            Step::Insert(rows) => {
                assert_eq!(rows.len(), bodies.len());
                rows.into_iter().zip(bodies).for_each(|(row, body)| self.insert(row, body.clone()));
            }
            Step::Reflag(changes) => {
                for change in changes {
                    let place = (change.mailbox, change.uid);
                    let row = self.messages.get_mut(&place).expect("it is there");
                    (row.modseq, row.flags, row.extra) =
                        (change.modseq, change.flags, change.extra);
                }
            }
            Step::Copy { from, copies } => {
                for copy in copies {
                    let row = self.messages[&(from, copy.source)].clone();
                    let body = self.bodies[&row.name].clone();
                    let (uid, modseq, flags) = (copy.uid, copy.modseq, copy.flags);
                    let (name, mailbox, save_date) = (copy.name, copy.mailbox, copy.save_date);
                    let row =
                        MessageRow { name, mailbox, uid, modseq, flags, save_date, ..row.clone() };
                    self.insert(row, body);
                }
            }
            Step::Remove { mailbox, uids, modseq } => {
                for uid in uids {
                    assert!(self.messages.remove(&(mailbox, uid)).is_some());
                    let row = self.ledger.remove(&ledger::body_key(mailbox, uid)).expect("a row");
                    self.ledger.insert(ledger::tombstone_key(mailbox, modseq, uid), row);
                }
            }
            Step::Unlink(names) => names.iter().for_each(|name| {
                self.bodies.remove(name);
            }),
            Step::Ledger(writes) => self.ledger(writes),
        }
    }

    fn insert(&mut self, row: MessageRow, body: Bytes) {
        let body_row = BodyRow { name: row.name.clone(), digest: [0; 32] };
        let key = ledger::body_key(row.mailbox, row.uid);
        assert!(self.ledger.insert(key, ledger::encode(&body_row)).is_none());
        assert!(self.bodies.insert(row.name.clone(), body).is_none(), "a name is used once");
        assert!(self.messages.insert((row.mailbox, row.uid), row).is_none());
    }

    fn ledger(&mut self, writes: Vec<LedgerWrite>) {
        for write in writes {
            match write {
                LedgerWrite::Put(key, value) => {
                    self.ledger.insert(key, value);
                }
                LedgerWrite::Delete(key) => {
                    self.ledger.remove(&key);
                }
                LedgerWrite::DeleteRange(start, end) => {
                    self.ledger.retain(|key, _| *key < start || *key >= end);
                }
            }
        }
    }

    fn body(&self, key: &Bytes) -> Bytes {
        let row: BodyRow = ledger::decode(&self.ledger[key]).unwrap();
        self.bodies[&row.name].clone()
    }

    /// The account as a restart would find it, all mailboxes open.
    pub fn read(&self) -> Account {
        let rows = |kind| {
            let (start, end) = ledger::range_of(kind);
            self.ledger.range(start..end)
        };
        let mailbox = |(key, value): (&Bytes, &Bytes)| {
            let id = ledger::mailbox_in(key).unwrap();
            (self.mailboxes[&id].clone(), ledger::decode(value).unwrap())
        };
        let mailboxes: Vec<_> = rows(RowKind::Counters).map(mailbox).collect();
        assert_eq!(mailboxes.len(), self.mailboxes.len());
        let subscribed = rows(RowKind::Subscriptions).map(|(key, _)| key);
        let subscribed = subscribed.map(|key| ledger::subscription_in(key).unwrap()).collect();
        let row = ledger::decode(&self.ledger[&ledger::account_key()]).unwrap();
        let mut account = Account::from_rows(row, mailboxes, subscribed).unwrap();
        for id in self.mailboxes.keys() {
            self.open(&mut account, *id);
        }
        account
    }

    /// Messages in each mailbox that have a property.
    pub fn with_properties(&self) -> Vec<usize> {
        let count = |id: &MailboxId| {
            let messages = self.messages.range((*id, Uid::MIN)..=(*id, Uid::MAX));
            messages.filter(|(_, row)| !row.extra.is_empty()).count()
        };
        self.mailboxes.keys().map(count).collect()
    }

    fn open(&self, account: &mut Account, id: MailboxId) {
        let mut open = Open::default();
        let messages = self.messages.range((id, Uid::MIN)..=(id, Uid::MAX));
        messages.for_each(|(_, row)| open.add(row).unwrap());
        let mailbox = account.mailbox(id).unwrap().opened(open).unwrap();
        account.replace(mailbox);
    }
}

/// A write that waits in a batch.
struct Waiting {
    session: SessionId,
    call: Call,
    op: Op,
    bodies: Vec<Bytes>,
}

/// Both sides.
#[derive(Clone)]
pub struct Pair {
    pub model: Model,
    account: Account,
    sessions: Sessions,
    pub disk: Disk,
    minted: u128,
    now: i64,
    labels: (Labels, Labels),
    /// Calls compared.
    pub compared: u64,
}

impl Pair {
    pub fn new() -> Self {
        let mut pair = Self {
            model: Model::new(),
            account: Account::default(),
            sessions: Sessions::default(),
            disk: Disk::default(),
            minted: 0,
            now: 0,
            labels: Default::default(),
            compared: 0,
        };
        let (outcomes, _) = pair.run(&[(Op::EnsureInbox, Vec::new())]);
        assert!(outcomes.iter().all(Result::is_ok));
        pair.now = 1_000;
        pair
    }

    /// Makes a call on both sides and compares the answers.
    pub fn call(&mut self, session: SessionId, call: Call) {
        self.batch(vec![(session, call)]);
    }

    /// Makes writes that are committed together (and reads, each after what was before it).
    pub fn batch(&mut self, calls: Vec<(SessionId, Call)>) {
        let mut waiting: Vec<Waiting> = Vec::new();
        for (session, call) in calls {
            match self.op(session, &call) {
                Some(Ok((op, bodies))) => waiting.push(Waiting { session, call, op, bodies }),
                Some(Err(_)) => {
                    self.commit(std::mem::take(&mut waiting));
                    // After what came before it the answer may be another one, but still an error.
                    let error = self.op(session, &call).and_then(Result::err).map_or(gone(), |e| e);
                    self.compare(session, &call, Err(error));
                }
                None => {
                    self.commit(std::mem::take(&mut waiting));
                    let answer = self.read(session, &call);
                    self.compare(session, &call, answer);
                }
            }
        }
        self.commit(waiting);
    }

    fn commit(&mut self, waiting: Vec<Waiting>) {
        let ops: Vec<_> = waiting.iter().map(|w| (w.op.clone(), w.bodies.clone())).collect();
        let (outcomes, account) = self.run(&ops);
        for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
            // Rows that STORE answers are read after the whole batch, as node does: alone in it they
            // are what the model says.
            let answer = outcome.map(|outcome| outcome.reply(&account));
            self.compare(waiting.session, &waiting.call, answer);
        }
    }

    /// Plans operations on one draft and commits it.
    fn run(&mut self, ops: &[(Op, Vec<Bytes>)]) -> (Vec<Result<Outcome, StoreError>>, Account) {
        let mut draft = Draft::new(&self.account);
        let mut disk = self.disk.clone();
        let mut outcomes = Vec::new();
        for (op, bodies) in ops {
            for id in draft.must_open(op) {
                // Only what the batch has not changed is closed here.
                let mut opened = draft.account().clone();
                disk.open(&mut opened, id);
                assert!(!draft.has_changes(), "the batch would have been parted");
                draft = Draft::new(&opened);
            }
            let before = draft.clone();
            let mut minted = self.minted;
            let mut mint = || {
                minted += 1;
                minted.to_be_bytes()
            };
            let mut context = Context { now: self.now, quota: None, mint: &mut mint };
            let planned = draft.plan(op, &mut context);
            self.minted = minted;
            match planned {
                Ok(planned) => {
                    assert!(planned.rest.is_none(), "too small for a second commit");
                    planned.steps.into_iter().for_each(|step| disk.step(step, bodies));
                    outcomes.push(Ok(planned.outcome));
                }
                Err(error) => {
                    assert_eq!(draft, before, "a plan that fails changes nothing");
                    outcomes.push(Err(error));
                }
            }
        }
        if draft.has_changes() {
            disk.ledger(draft.ledger());
        }
        self.disk = disk;
        let (account, touched) = draft.into_account();
        self.account = account;
        for id in touched {
            self.forget(id);
        }
        (outcomes, self.account.clone())
    }

    fn forget(&mut self, id: MailboxId) {
        let told = self.sessions.told(id);
        if let Some(open) = self.account.mailbox_mut(id).and_then(|m| m.open.as_mut()) {
            open.forget(told);
        }
    }

    fn compare(&mut self, session: SessionId, call: &Call, answer: Result<Reply, StoreError>) {
        let expected = self.model.call(session, call, self.now);
        let real = self.labels.0.describe(&answer);
        let model = self.labels.1.describe(&expected);
        assert_eq!(real, model, "session {} {call:?}", session.0);
        self.compared += 1;
    }

    /// The operation that a call means; `None` when it is a read.
    fn op(&self, session: SessionId, call: &Call) -> Option<Result<(Op, Vec<Bytes>), StoreError>> {
        let op = match call {
            Call::Create { name, special_use } => {
                Op::Create { name: name.clone(), special_use: special_use.clone() }
            }
            Call::Delete { name } => Op::Delete { name: name.clone() },
            Call::Rename { from, to } => Op::Rename { from: from.clone(), to: to.clone() },
            Call::Subscribe { name, on } => Op::Subscribe { name: name.clone(), on: *on },
            Call::Append { mailbox, messages } => return Some(Ok(append(mailbox, messages))),
            Call::Store { .. } | Call::Expunge { .. } | Call::Copy { .. } | Call::Move { .. } => {
                return Some(self.op_in_mailbox(session, call).map(|op| (op, Vec::new())));
            }
            _ => return None,
        };
        Some(Ok((op, Vec::new())))
    }

    fn op_in_mailbox(&self, session: SessionId, call: &Call) -> Result<Op, StoreError> {
        let active = self.sessions.active(session).ok_or_else(gone)?;
        self.account.mailbox(active.mailbox).ok_or_else(gone)?;
        if !active.read_write && !matches!(call, Call::Copy { .. }) {
            return Err(StoreError::Denied(String::new()));
        }
        let mailbox = active.mailbox;
        let (done, modified) = (UidSet::default(), UidSet::default());
        Ok(match call.clone() {
            Call::Store { uids, change, unchanged_since } => {
                Op::Store(StoreFlags { mailbox, uids, change, unchanged_since, done, modified })
            }
            Call::Expunge { uids } => Op::Expunge { mailbox, uids, done },
            Call::Copy { uids, to } => Op::Copy { from: mailbox, uids, to },
            Call::Move { uids, to } => {
                Op::Move(MoveMessages { from: mailbox, uids, to, done: None, rename: false })
            }
            other => unreachable!("{other:?}"),
        })
    }

    fn read(&mut self, session: SessionId, call: &Call) -> Result<Reply, StoreError> {
        match call {
            Call::Mailboxes => Ok(Reply::Mailboxes(self.account.list().into())),
            Call::Status { name } => {
                let mailbox = self.account.find(name).ok_or_else(gone)?;
                Ok(Reply::Status(mailbox.status()))
            }
            Call::Select { name, read_write } => self.select(session, name, *read_write),
            Call::Deselect => {
                self.leave(session);
                Ok(Reply::Done)
            }
            Call::Changes { since, known, released } => {
                self.changes(session, *since, *known, *released)
            }
            Call::Fetch { uids, want } => self.fetch(session, uids, *want),
            other => unreachable!("{other:?}"),
        }
    }

    fn leave(&mut self, session: SessionId) {
        if let Some(id) = self.sessions.deselect(session) {
            self.forget(id);
        }
    }

    fn recent(&mut self, id: MailboxId, read_write: bool) -> UidSet {
        let mailbox = self.account.mailbox_mut(id).unwrap();
        if read_write { mailbox.claim_recent() } else { mailbox.recent() }
    }

    fn select(
        &mut self,
        session: SessionId,
        name: &MailboxName,
        read_write: bool,
    ) -> Result<Reply, StoreError> {
        self.leave(session);
        let id = self.account.find(name).ok_or_else(gone)?.row.id;
        if self.account.mailbox(id).unwrap().open.is_none() {
            self.disk.open(&mut self.account, id);
        }
        let recent = self.recent(id, read_write);
        let mailbox = self.account.mailbox(id).unwrap();
        self.sessions.select(session, id, read_write, mailbox.counters.highest_modseq);
        Ok(Reply::Selected(Box::new(mailbox.selected(recent, read_write))))
    }

    fn changes(
        &mut self,
        session: SessionId,
        since: ModSeq,
        known: Option<Uid>,
        released: ModSeq,
    ) -> Result<Reply, StoreError> {
        let active = self.sessions.active(session).ok_or_else(gone)?;
        self.account.mailbox(active.mailbox).ok_or_else(gone)?;
        self.sessions.release(session, released);
        self.forget(active.mailbox);
        let recent = self.recent(active.mailbox, active.read_write);
        let changes = self.account.mailbox(active.mailbox).unwrap().changes(since, known);
        Ok(Reply::Changes(Changes { recent, ..changes }))
    }

    fn fetch(&self, session: SessionId, uids: &UidSet, want: Want) -> Result<Reply, StoreError> {
        let active = self.sessions.active(session).ok_or_else(gone)?;
        let mailbox = self.account.mailbox(active.mailbox).ok_or_else(gone)?;
        let open = mailbox.open.as_ref().expect("active mailboxes are open");
        let (seen, more) = open.visible(uids, active.released, usize::MAX - 1);
        let messages = seen.into_iter().map(|seen| {
            let uid = seen.facts.uid;
            let key = match seen.removed {
                Some(modseq) => ledger::tombstone_key(active.mailbox, modseq, uid),
                None => ledger::body_key(active.mailbox, uid),
            };
            FetchedMessage {
                uid,
                flags: seen.flags,
                modseq: seen.facts.modseq,
                internal_date: seen.facts.internal_date,
                save_date: 0,
                size: seen.facts.size,
                message_id: seen.facts.message_id,
                thread_id: seen.facts.thread_id,
                derived: None,
                header: want.header.then(|| header(&self.disk.body(&key))).flatten(),
                body: want.body.then(|| self.disk.body(&key)),
            }
        });
        Ok(Reply::Messages { messages: messages.collect(), more })
    }

    /// What is in memory is what a restart would find, but for claims that are written later and
    /// keyword bits, which stand for the same words.
    pub fn check_disk(&self) {
        let mut read = self.disk.read();
        let all = || self.account.by_name().map(|mailbox| mailbox.row.id);
        read.adopt(&self.account, all(), all());
        assert_eq!(read.row, self.account.row);
        assert_eq!(read.list(), self.account.list());
        for (there, here) in read.by_name().zip(self.account.by_name()) {
            assert_eq!(there.row, here.row);
            let (mut left, right) = (there.counters, here.counters);
            (left.recent_mark, left.recent) = (right.recent_mark, right.recent);
            assert_eq!(left, right);
            let Some(open) = &here.open else { continue };
            let there = there.open.as_ref().unwrap();
            let rows = |open: &Open| {
                let row = |f: crate::mailbox::Facts| (f.uid, f.modseq, open.flags(&f), f.size);
                open.index.iter().map(row).collect::<Vec<_>>()
            };
            assert_eq!(rows(there), rows(open));
            assert_eq!(there.extras, open.extras);
        }
    }

    /// A later version serves the account for a while and gives each message a property; then it is
    /// read again.
    pub fn visit_of_a_later_version(&mut self) {
        for row in self.disk.messages.values_mut() {
            let value = row.name.clone().into_bytes();
            row.extra = vec![Property { name: "later".into(), value }];
        }
        self.account = self.disk.read();
    }

    /// The last change in a session's active mailbox; zero without one.
    pub fn highest(&self, session: SessionId) -> ModSeq {
        let active = self.sessions.active(session);
        let mailbox = active.and_then(|active| self.account.mailbox(active.mailbox));
        mailbox.map_or(ModSeq(0), |mailbox| mailbox.counters.highest_modseq)
    }

    /// The largest UID that was given out in a session's active mailbox.
    pub fn last_uid(&self, session: SessionId) -> Option<Uid> {
        let active = self.sessions.active(session)?;
        let mailbox = self.account.mailbox(active.mailbox)?;
        Uid::new(mailbox.counters.uid_next.get() - 1)
    }

    /// Removals up to here were told to a session's client.
    pub fn told(&self, session: SessionId) -> ModSeq {
        self.sessions.active(session).map_or(ModSeq(0), |active| active.released)
    }

    /// Lets time pass.
    pub fn pass(&mut self, seconds: i64) {
        self.now += seconds;
    }
}

fn append(mailbox: &MailboxName, messages: &[NewMessage]) -> (Op, Vec<Bytes>) {
    let arrival = |message: &NewMessage| Arrival {
        flags: message.flags.clone(),
        internal_date: message.internal_date.expect("tests say when"),
        size: message.body.len() as u64,
        // Unique by the octets, which tests make unique.
        thread_id: ThreadId(blake3::hash(&message.body).as_bytes()[..16].try_into().unwrap()),
        from: Vec::new(),
        to: Vec::new(),
        cc: Vec::new(),
        bcc: Vec::new(),
    };
    let bodies = messages.iter().map(|message| message.body.clone()).collect();
    let target = Target::Mailbox(mailbox.clone());
    (Op::Append { target, messages: messages.iter().map(arrival).collect() }, bodies)
}

fn header(body: &Bytes) -> Option<Bytes> {
    mime::derive(body).header(body)
}

fn gone() -> StoreError {
    StoreError::NotFound(String::new())
}
