//! What must always hold, held against what storage does and against what clients are told.

use std::collections::{BTreeMap, BTreeSet};

use postroom_core::calls::Reply;
use postroom_core::cluster::{Claimant, Fence};
use postroom_core::mailbox::Step;
use postroom_core::types::{
    Epoch, Flags, MailboxId, MailboxName, ModSeq, SessionId, Slot, TransactionId, Uid, UidValidity,
};

use crate::storage::{Commit, Storage};

/// A message that was committed.
struct Born {
    attempt: TransactionId,
    modseq: ModSeq,
    removed: bool,
}

#[derive(Default)]
pub struct Checker {
    pub violations: Vec<String>,
    /// How many events there were at this very moment.
    pub same_moment: u64,
    claims: BTreeMap<(Slot, Epoch), Claimant>,
    last: BTreeMap<Slot, Fence>,
    messages: BTreeMap<(MailboxId, Uid), Born>,
    flags: BTreeMap<(MailboxId, Uid, ModSeq), Flags>,
    highest: BTreeMap<usize, ModSeq>,
    validities: BTreeMap<usize, UidValidity>,
    /// Attempts that have had their effect, by the account's head.
    attempts: BTreeMap<TransactionId, u64>,
    alias: BTreeMap<TransactionId, TransactionId>,
    acknowledged: BTreeMap<TransactionId, (MailboxId, Vec<Uid>)>,
    /// The last change of each mailbox that anybody was told of.
    told: BTreeMap<MailboxId, ModSeq>,
    /// What each session has active, for liars: they know.
    pub active: BTreeMap<SessionId, MailboxId>,
}

impl Checker {
    pub fn broken(&mut self, what: String) {
        self.violations.push(what);
    }

    pub fn claimed(&mut self, fence: &Fence, claimant: &Claimant) {
        let before = self.claims.insert((fence.slot, fence.epoch), claimant.clone());
        if before.is_some_and(|before| before != *claimant) {
            self.broken(format!("two claimants have {fence:?}"));
        }
    }

    pub fn claimant_of(&self, fence: &Fence) -> Option<&Claimant> {
        let claimant = self.claims.get(&(fence.slot, fence.epoch))?;
        (claimant.nonce == fence.nonce).then_some(claimant)
    }

    /// A planted bug makes an attempt again under another id.
    pub fn same_attempt(&mut self, one: TransactionId, other: TransactionId) {
        let root = self.root(one);
        self.alias.insert(other, root);
    }

    fn root(&self, id: TransactionId) -> TransactionId {
        self.alias.get(&id).copied().unwrap_or(id)
    }

    pub fn committed(&mut self, commit: &Commit, storage: &Storage) {
        let Commit { account, fence, transactions, steps, expected_head, .. } = commit;
        if !storage.claims.get(&fence.slot).is_some_and(|record| record.admits(fence)) {
            self.broken(format!("a commit under {fence:?}, which is not the claim"));
        }
        let last = self.last.insert(fence.slot, *fence);
        if last.is_some_and(|last| last.epoch > fence.epoch) {
            self.broken(format!("a commit under {fence:?} after {last:?}"));
        }
        for (id, _) in transactions {
            let root = self.root(*id);
            if self.attempts.insert(root, expected_head + 1).is_some() {
                self.broken(format!("attempt {root} has two effects"));
            }
        }
        steps.iter().for_each(|step| self.stepped(*account, step));
        let highest = storage.accounts.get(account).map(|disk| disk.row().modseq);
        let before = self.highest.insert(*account, highest.unwrap_or_default());
        if before > highest {
            self.broken(format!("the mod-sequence of account {account} goes back"));
        }
    }

    fn stepped(&mut self, account: usize, step: &Step) {
        match step {
            Step::InsertMailboxes(rows) => {
                for row in rows {
                    let before = self.validities.insert(account, row.uid_validity);
                    if before.is_some_and(|before| before >= row.uid_validity) {
                        self.broken(format!("UIDVALIDITY {} after {before:?}", row.uid_validity));
                    }
                }
            }
            Step::Insert(rows) => {
                for row in rows {
                    let mut last =
                        self.messages.range((row.mailbox, Uid::MIN)..=(row.mailbox, Uid::MAX));
                    if last.next_back().is_some_and(|((_, last), _)| *last >= row.uid) {
                        self.broken(format!("UID {} is given away again", row.uid));
                    }
                    let attempt = self.root(TransactionId(row.thread_id.0));
                    let born = Born { attempt, modseq: row.modseq, removed: false };
                    self.messages.insert((row.mailbox, row.uid), born);
                    self.flags.insert((row.mailbox, row.uid, row.modseq), row.flags.clone());
                }
            }
            Step::Reflag(changes) => {
                for it in changes {
                    self.flags.insert((it.mailbox, it.uid, it.modseq), it.flags.clone());
                }
            }
            Step::Remove { mailbox, uids, .. } => {
                for uid in uids {
                    if let Some(born) = self.messages.get_mut(&(*mailbox, *uid)) {
                        born.removed = true;
                    }
                }
            }
            _ => {}
        }
    }

    /// A client is told that a write is done.
    pub fn acknowledged(&mut self, attempt: TransactionId, reply: &Reply) {
        let attempt = self.root(attempt);
        match reply {
            Reply::Appended { mailbox, uids, .. } => {
                for uid in uids {
                    match self.messages.get(&(*mailbox, *uid)) {
                        Some(born) if born.attempt == attempt => {
                            let modseq = born.modseq;
                            self.tell(*mailbox, modseq);
                        }
                        Some(_) => self.broken(format!("UID {uid} is another message")),
                        None => self.broken(format!("UID {uid} is announced before its commit")),
                    }
                }
                self.acknowledged.insert(attempt, (*mailbox, uids.clone()));
            }
            Reply::Stored { .. } | Reply::Expunged { .. } => {}
            _ => {}
        }
    }

    /// A change of a mailbox was told to somebody.
    pub fn tell(&mut self, mailbox: MailboxId, modseq: ModSeq) {
        let told = self.told.entry(mailbox).or_default();
        *told = (*told).max(modseq);
    }

    /// What SELECT and NOOP that are asked now must see.
    pub fn floor(&self, mailbox: MailboxId) -> ModSeq {
        self.told.get(&mailbox).copied().unwrap_or_default()
    }

    /// A client is shown this of an account.
    pub fn shown(&mut self, account: usize, modseq: ModSeq) {
        let highest = self.highest.get(&account).copied().unwrap_or_default();
        if modseq > highest {
            self.broken(format!("mod-sequence {modseq} is shown, {highest} is committed"));
        }
    }

    /// A client is shown a message with these flags.
    pub fn shown_message(&mut self, at: (MailboxId, Uid), modseq: ModSeq, flags: &Flags) {
        match self.flags.get(&(at.0, at.1, modseq)) {
            Some(committed) if committed == flags => {}
            committed => {
                let what = format!("UID {} is shown with {flags:?} at {modseq}", at.1);
                self.broken(format!("{what}, committed is {committed:?}"));
            }
        }
    }

    /// Whether a message was made by this attempt.
    pub fn is_of(&self, at: (MailboxId, Uid), attempt: TransactionId) -> bool {
        self.messages.get(&at).is_some_and(|born| born.attempt == self.root(attempt))
    }

    /// How many writes were acknowledged, and how many of those are there; each one that is not is told.
    pub fn compare(&mut self, storage: &Storage) -> (usize, usize) {
        let mut rows = BTreeMap::new();
        let mut mailboxes = BTreeSet::new();
        for disk in storage.accounts.values() {
            mailboxes.extend(disk.mailboxes.keys().copied());
            for (place, row) in &disk.messages {
                rows.insert(*place, self.root(TransactionId(row.thread_id.0)));
            }
        }
        let (mut lost, mut present) = (Vec::new(), 0);
        for (attempt, (mailbox, uids)) in &self.acknowledged {
            let is_there = uids.iter().all(|uid| {
                let removed = self.messages.get(&(*mailbox, *uid)).is_some_and(|it| it.removed);
                removed || rows.get(&(*mailbox, *uid)) == Some(attempt)
            });
            if is_there || !mailboxes.contains(mailbox) {
                present += 1;
            } else {
                lost.push(format!("{attempt} was acknowledged and is not there"));
            }
        }
        self.violations.extend(lost);
        (self.acknowledged.len(), present)
    }
}

/// What one client was told, over all its sessions, whatever node they were on.
#[derive(Clone, Debug, Default)]
pub struct Record {
    validities: BTreeMap<MailboxName, UidValidity>,
    modseqs: BTreeMap<MailboxId, ModSeq>,
    nexts: BTreeMap<MailboxId, Uid>,
    flags: BTreeMap<(MailboxId, Uid), ModSeq>,
    gone: BTreeSet<(MailboxId, Uid)>,
}

impl Record {
    pub fn validity(&mut self, name: &MailboxName, is: UidValidity) -> Option<String> {
        let before = self.validities.insert(name.clone(), is);
        let back = before.filter(|before| *before > is)?;
        Some(format!("UIDVALIDITY of {name} goes back from {back} to {is}"))
    }

    pub fn modseq(&mut self, mailbox: MailboxId, is: ModSeq) -> Option<String> {
        let before = self.modseqs.insert(mailbox, is);
        let back = before.filter(|before| *before > is)?;
        Some(format!("the mod-sequence of {mailbox} goes back from {back} to {is}"))
    }

    pub fn next(&mut self, mailbox: MailboxId, is: Uid) -> Option<String> {
        let before = self.nexts.insert(mailbox, is);
        let back = before.filter(|before| *before > is)?;
        Some(format!("UIDNEXT of {mailbox} goes back from {back} to {is}"))
    }

    /// A message of it has the UID before this one.
    pub fn next_is_beyond(&mut self, mailbox: MailboxId, uid: Uid) {
        let next = self.nexts.entry(mailbox).or_insert(uid);
        *next = uid.max(*next);
    }

    pub fn flags(&mut self, at: (MailboxId, Uid), is: ModSeq) -> Option<String> {
        if self.gone.contains(&at) {
            return Some(format!("UID {} comes back", at.1));
        }
        let before = self.flags.insert(at, is);
        let back = before.filter(|before| *before > is)?;
        Some(format!("flags of UID {} go back from {back} to {is}", at.1))
    }

    pub fn removed(&mut self, at: (MailboxId, Uid)) {
        self.gone.insert(at);
    }
}
