//! Planning: one operation after another against a draft of the account.
//!
//! A draft starts as a clone of the committed state. Each operation is checked whole before it
//! changes anything, so that one that fails leaves the draft as it was. When the batch is durable
//! the draft becomes the committed state; otherwise it is dropped, and nobody has seen it.

use std::collections::BTreeSet;

use crate::error::StoreError;
use crate::types::{MailboxId, MailboxName, MessageId, ModSeq};

use super::ledger::{self, LedgerWrite};
use super::limits::MAX_MODSEQ;
use super::op::{Op, Outcome, Planned, Step, Target};
use super::state::{Account, Mailbox, Open};

mod mailboxes;

mod messages;

/// What a plan takes from outside.
pub struct Context<'a> {
    /// Seconds since the Unix epoch.
    pub now: i64,
    /// The account's quota in octets.
    pub quota: Option<u64>,
    /// Mints 128 bits that were never minted before (E17): ascending with time, random.
    pub mint: &'a mut dyn FnMut() -> [u8; 16],
}

impl Context<'_> {
    fn message_id(&mut self) -> MessageId {
        MessageId((self.mint)())
    }

    fn mailbox_id(&mut self) -> MailboxId {
        MailboxId((self.mint)())
    }

    /// A message's name: 32 hexadecimal digits, ascending with time.
    fn name(&mut self) -> String {
        hex::encode((self.mint)())
    }
}

/// The state of an account as the batch under construction would leave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    account: Account,
    /// Mailboxes whose counters are to be written.
    touched: BTreeSet<MailboxId>,
    /// Other rows of the ledger.
    writes: Vec<LedgerWrite>,
    changed: bool,
}

impl Draft {
    /// A draft that changes nothing yet.
    pub fn new(committed: &Account) -> Self {
        Self {
            account: committed.clone(),
            touched: BTreeSet::new(),
            writes: Vec::new(),
            changed: false,
        }
    }

    /// The state so far.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The state when the batch is durable, and the mailboxes whose watchers are to be told.
    pub fn into_account(self) -> (Account, BTreeSet<MailboxId>) {
        (self.account, self.touched)
    }

    /// Whether anything is to be committed.
    pub fn has_changes(&self) -> bool {
        self.changed
    }

    /// The ledger's part of the commit: once for the whole batch.
    pub fn ledger(&self) -> Vec<LedgerWrite> {
        let mut writes = self.writes.clone();
        writes.push(LedgerWrite::Put(ledger::account_key(), ledger::encode(&self.account.row)));
        for id in &self.touched {
            if let Some(mailbox) = self.account.mailbox(*id) {
                let row = ledger::encode(&mailbox.counters);
                writes.push(LedgerWrite::Put(ledger::counters_key(*id), row));
            }
        }
        writes
    }

    /// The mailboxes that must be open before the operation can be planned and are not.
    pub fn must_open(&self, op: &Op) -> Vec<MailboxId> {
        let closed = |id: MailboxId| self.account.mailbox(id).filter(|m| m.open.is_none());
        let one = |id: MailboxId| closed(id).map(|m| m.row.id).into_iter().collect();
        match op {
            Op::EnsureInbox
            | Op::Create { .. }
            | Op::Delete { .. }
            | Op::Subscribe { .. }
            | Op::Settle(_) => Vec::new(),
            Op::Rename { from, .. } => match from.is_inbox() {
                true => self.account.find(from).map_or_else(Vec::new, |m| one(m.row.id)),
                false => Vec::new(),
            },
            Op::Append { target, messages } => {
                let any = messages.iter().any(|message| !message.flags.keywords().is_empty());
                let mailbox = any.then(|| self.target(target)).flatten();
                mailbox.map_or_else(Vec::new, one)
            }
            Op::Store(store) => one(store.mailbox),
            Op::Expunge { mailbox, .. } => one(*mailbox),
            Op::Copy { from, to, .. } => self.must_open_both(*from, to),
            Op::Move(moved) => self.must_open_both(moved.from, &moved.to),
        }
    }

    /// The source; and the target too when it may have no room for keywords or properties.
    fn must_open_both(&self, from: MailboxId, to: &MailboxName) -> Vec<MailboxId> {
        let Some(source) = self.account.mailbox(from) else { return Vec::new() };
        let brings = |open: &Open| open.index.keywords_in_use() != 0 || !open.extras.is_empty();
        let target = self.account.find(to).filter(|_| source.open.as_ref().is_some_and(brings));
        let both = [Some(source), target].into_iter().flatten();
        both.filter(|mailbox| mailbox.open.is_none()).map(|mailbox| mailbox.row.id).collect()
    }

    /// The mailbox that messages go to, if it exists.
    fn target(&self, target: &Target) -> Option<MailboxId> {
        let find = |name: &MailboxName| self.account.find(name).map(|mailbox| mailbox.row.id);
        match target {
            Target::Mailbox(name) | Target::Filed(name) => find(name),
            Target::Delivery(folder) => {
                folder.as_ref().and_then(find).or_else(|| find(&MailboxName::inbox()))
            }
        }
    }

    /// Plans an operation.
    ///
    /// # Errors
    /// Those of the call that it came from; the draft is then as it was.
    pub fn plan(&mut self, op: &Op, context: &mut Context<'_>) -> Result<Planned, StoreError> {
        match op {
            Op::EnsureInbox => self.ensure_inbox(context),
            Op::Create { name, special_use } => self.create(name, special_use.as_deref(), context),
            Op::Delete { name } => self.delete(name),
            Op::Rename { from, to } => self.rename(from, to, context),
            Op::Subscribe { name, on } => self.subscribe(name, *on),
            Op::Append { target, messages } => self.append(target, messages, context),
            Op::Store(store) => self.store(store),
            Op::Expunge { mailbox, uids, done } => self.expunge(*mailbox, uids.as_ref(), done),
            Op::Copy { from, uids, to } => self.copy(*from, uids, to, context),
            Op::Move(moved) => self.move_messages(moved, context),
            Op::Settle(settled) => Ok(self.settle(settled)),
        }
    }

    fn next_modseq(&self) -> Result<ModSeq, StoreError> {
        match self.account.row.modseq.0 < MAX_MODSEQ {
            true => Ok(self.account.row.modseq.next()),
            false => Err(StoreError::Limit("mod-sequences are used up".into())),
        }
    }

    /// A mailbox that is about to be changed by this batch.
    fn change(&mut self, id: MailboxId) -> &mut Mailbox {
        self.changed = true;
        self.touched.insert(id);
        self.account.mailbox_mut(id).expect("plans look a mailbox up before they change it")
    }

    fn settle(&mut self, settled: &super::op::Settled) -> Planned {
        self.changed = true;
        if let Some((id, upto)) = settled.settled
            && self.account.mailbox(id).is_some()
        {
            let counters = &mut self.change(id).counters;
            counters.settled = counters.settled.max(upto);
        }
        if let Some((id, low_water, count)) = settled.pruned
            && self.account.mailbox(id).is_some()
        {
            let counters = &mut self.change(id).counters;
            counters.low_water = counters.low_water.max(low_water);
            counters.tombstones = counters.tombstones.saturating_sub(count);
        }
        let steps = vec![Step::Unlink(settled.names.clone()), Step::Ledger(settled.ledger.clone())];
        done(steps)
    }
}

fn done(steps: Vec<Step>) -> Planned {
    Planned { steps, outcome: Outcome::Done, rest: None }
}

fn not_found(name: &MailboxName) -> StoreError {
    StoreError::NotFound(format!("mailbox {name}"))
}

fn gone() -> StoreError {
    StoreError::NotFound("the selected mailbox".into())
}
