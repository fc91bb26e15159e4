//! An account as it is committed, or as a draft would have it: mailboxes, names, counters, and the
//! indexes of those that are open. A clone shares everything until it is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::calls::{MailboxInfo, MailboxList, MailboxStatus};
use crate::error::StoreError;
use crate::records::{MailboxRow, MessageRow};
use crate::types::{Flags, MailboxId, MailboxName, ModSeq, SystemFlag, Uid, UidSet, UidValidity};

use super::extras::Extras;
use super::index::{Facts, Index};
use super::keywords::KeywordTable;
use super::ledger::{AccountRow, CountersRow};

/// One account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// The account's own counters.
    pub row: AccountRow,
    mailboxes: Arc<BTreeMap<MailboxId, Arc<Mailbox>>>,
    names: Arc<BTreeMap<MailboxName, MailboxId>>,
    subscriptions: Arc<BTreeSet<MailboxName>>,
}

/// One mailbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Mailbox {
    /// As the store component keeps it.
    pub row: MailboxRow,
    /// As the host counts it.
    pub counters: CountersRow,
    /// Its messages, while it is open.
    pub open: Option<Open>,
}

/// What is in memory of an open mailbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Open {
    /// Its messages.
    pub index: Index,
    /// Its keywords.
    pub keywords: KeywordTable,
    /// Properties of its messages.
    pub extras: Extras,
    /// Messages that were removed, by the mod-sequence of their removal, as long as a session may
    /// still see them.
    pub ghosts: Arc<BTreeMap<(ModSeq, Uid), Facts>>,
    /// Messages of which only the removal is known, because the mailbox was not in memory here when they
    /// went: sessions can be told that they are gone, and see nothing of them any more.
    pub departed: Arc<BTreeSet<(ModSeq, Uid)>>,
}

impl Open {
    /// The index of these messages, ascending by UID.
    ///
    /// # Errors
    /// `Damaged` when they do not ascend, `Limit` when they have too many keywords or properties.
    pub fn add(&mut self, row: &MessageRow) -> Result<(), StoreError> {
        let index = &self.index;
        let keywords = self.keywords.assign(&row.flags, || index.keywords_in_use())?;
        self.extras.add(row.uid, &row.extra)?;
        self.index.push(&Facts {
            uid: row.uid,
            modseq: row.modseq,
            system: row.flags.system_bits(),
            keywords,
            internal_date: row.internal_date,
            save_date: row.save_date,
            size: row.size,
            message_id: row.message_id,
            thread_id: row.thread_id,
        })
    }

    /// The flags of a message.
    pub fn flags(&self, facts: &Facts) -> Flags {
        self.keywords.flags(facts.system, facts.keywords)
    }

    /// Bits of keywords that a message has, or one that a session may still see.
    pub fn keywords_in_use(&self) -> u64 {
        self.ghosts.values().fold(self.index.keywords_in_use(), |bits, ghost| bits | ghost.keywords)
    }

    /// Takes over what sessions may still see of a mailbox that was read again: removed messages
    /// (`tombstones`) of which `before` still knew the facts. Of the others they can be told.
    pub fn inherit(&mut self, before: &Self, tombstones: &[(ModSeq, Uid)]) {
        let known: BTreeMap<Uid, Facts> =
            before.ghosts.iter().map(|((_, uid), facts)| (*uid, *facts)).collect();
        let (mut ghosts, mut departed) = (BTreeMap::new(), BTreeSet::new());
        for &(modseq, uid) in tombstones {
            match known.get(&uid).copied().or_else(|| before.index.get(uid)) {
                Some(facts) => {
                    let keywords = self.keywords.known(&before.flags(&facts));
                    ghosts.insert((modseq, uid), Facts { keywords, ..facts });
                }
                None => drop(departed.insert((modseq, uid))),
            }
        }
        (self.ghosts, self.departed) = (Arc::new(ghosts), Arc::new(departed));
    }

    /// Notes messages of which only the removal is known, for a session that was not told of it.
    pub fn depart(&mut self, tombstones: &[(ModSeq, Uid)]) {
        let unknown = |gone: &&(ModSeq, Uid)| !self.ghosts.contains_key(*gone);
        let new: Vec<_> = tombstones.iter().filter(unknown).copied().collect();
        if !new.is_empty() {
            Arc::make_mut(&mut self.departed).extend(new);
        }
    }

    /// The removals that can be told, ascending.
    pub fn removals(
        &self,
        after: ModSeq,
        upto: ModSeq,
    ) -> impl Iterator<Item = (ModSeq, Uid)> + '_ {
        let range = (after, Uid::MAX)..=(upto, Uid::MAX);
        let ghosts = self.ghosts.range(range.clone()).map(|(key, _)| *key);
        let gone = ghosts.chain(self.departed.range(range).copied());
        gone.filter(move |(modseq, _)| *modseq > after)
    }

    /// The first removal that can be told.
    pub fn first_removal(&self) -> Option<ModSeq> {
        let ghost = self.ghosts.first_key_value().map(|(key, _)| key.0);
        let departed = self.departed.first().map(|key| key.0);
        [ghost, departed].into_iter().flatten().min()
    }

    /// Forgets removed messages that nobody sees any more: all of them (`None`), or those removed up
    /// to a mod-sequence.
    pub fn forget(&mut self, upto: Option<ModSeq>) {
        let gone = |modseq: ModSeq| upto.is_none_or(|upto| modseq <= upto);
        if self.ghosts.first_key_value().is_some_and(|((modseq, _), _)| gone(*modseq)) {
            Arc::make_mut(&mut self.ghosts).retain(|(modseq, _), _| !gone(*modseq));
        }
        if self.departed.first().is_some_and(|(modseq, _)| gone(*modseq)) {
            Arc::make_mut(&mut self.departed).retain(|(modseq, _)| !gone(*modseq));
        }
    }
}

impl Mailbox {
    /// An empty one.
    pub fn new(row: MailboxRow, created: ModSeq) -> Self {
        let counters = CountersRow::new(created);
        Self { row, counters, open: Some(Open::default()) }
    }

    /// The mailbox with its messages as they were read.
    ///
    /// # Errors
    /// `Damaged` when they are not what the host has counted: a store component lost or made up
    /// messages, or the ledger is damaged. `check` finds out which.
    pub fn opened(&self, open: Open) -> Result<Self, StoreError> {
        let counters = &self.counters;
        let mut found = (0, 0, 0, 0);
        let mut last = (0, ModSeq::default());
        for facts in open.index.iter() {
            found.0 += 1;
            found.1 += u32::from(!facts.has(SystemFlag::Seen));
            found.2 += u32::from(facts.has(SystemFlag::Deleted));
            found.3 += facts.size;
            last = (facts.uid.get(), last.1.max(facts.modseq));
        }
        let counted = (counters.messages, counters.unseen, counters.deleted, counters.size);
        let recent = open.index.count_from(counters.recent_mark);
        let fits = found == counted
            && last.0 < counters.uid_next.get()
            && last.1 <= counters.highest_modseq
            && recent == counters.recent;
        match fits {
            true => Ok(Self { open: Some(open), ..self.clone() }),
            false => Err(StoreError::Damaged(format!(
                "mailbox {}: the store lists {found:?} (messages, unseen, deleted, octets), the \
                 ledger has {counted:?}",
                self.row.id
            ))),
        }
    }

    /// Its counts.
    pub fn status(&self) -> MailboxStatus {
        MailboxStatus {
            mailbox: self.row.id,
            messages: self.counters.messages,
            recent: self.counters.recent,
            unseen: self.counters.unseen,
            deleted: self.counters.deleted,
            size: self.counters.size,
            uid_next: self.counters.uid_next,
            uid_validity: self.row.uid_validity,
            highest_modseq: self.counters.highest_modseq,
        }
    }

    /// Takes what is recent for a session: the UIDs from the mark on. The mark is written with the
    /// next commit of this mailbox; after a crash a message may be recent once more, which RFC 3501
    /// §2.3.2 allows and a commit for each SELECT would not be worth.
    pub fn claim_recent(&mut self) -> UidSet {
        let recent = self.recent();
        self.raise_recent_mark(self.counters.uid_next);
        recent
    }

    /// The UIDs that no session has claimed.
    pub fn recent(&self) -> UidSet {
        let Some(open) = &self.open else { return UidSet::default() };
        open.index.range(self.counters.recent_mark, Uid::MAX).map(|facts| facts.uid).collect()
    }

    /// Puts the mark where another state of this mailbox has it already.
    pub fn raise_recent_mark(&mut self, mark: Uid) {
        let Some(open) = &self.open else { return };
        if mark > self.counters.recent_mark {
            self.counters.recent_mark = mark;
            self.counters.recent = open.index.count_from(mark);
        }
    }

    /// Counts a message in, and puts it into the index if there is one.
    pub(super) fn admit(&mut self, facts: &Facts) {
        let counters = &mut self.counters;
        counters.messages += 1;
        counters.unseen += u32::from(!facts.has(SystemFlag::Seen));
        counters.deleted += u32::from(facts.has(SystemFlag::Deleted));
        counters.size += facts.size;
        counters.recent += 1;
        counters.highest_modseq = facts.modseq;
        counters.uid_next = facts.uid.next().expect("the largest UID is never given away");
        if let Some(open) = &mut self.open {
            open.index.push(facts).expect("its UID is the next one, its size was checked");
        }
    }

    /// Sets a message's flags.
    pub(super) fn reflag(&mut self, before: &Facts, system: u8, keywords: u64, modseq: ModSeq) {
        let bit = |bits: u8, flag: SystemFlag| u32::from(bits & flag as u8 != 0);
        let counters = &mut self.counters;
        counters.unseen += bit(before.system, SystemFlag::Seen);
        counters.unseen -= bit(system, SystemFlag::Seen);
        counters.deleted += bit(system, SystemFlag::Deleted);
        counters.deleted -= bit(before.system, SystemFlag::Deleted);
        counters.highest_modseq = modseq;
        if let Some(open) = &mut self.open {
            open.index.reflag(before.uid, system, keywords, modseq);
        }
    }

    /// Takes messages out; they stay readable as ghosts.
    pub(super) fn remove(&mut self, uids: &[Uid], modseq: ModSeq) -> u64 {
        let Some(open) = &mut self.open else { return 0 };
        let removed = open.index.remove(uids);
        open.extras.remove(uids);
        let ghosts = Arc::make_mut(&mut open.ghosts);
        let mut octets = 0;
        for facts in &removed {
            self.counters.messages -= 1;
            self.counters.unseen -= u32::from(!facts.has(SystemFlag::Seen));
            self.counters.deleted -= u32::from(facts.has(SystemFlag::Deleted));
            self.counters.recent -= u32::from(facts.uid >= self.counters.recent_mark);
            octets += facts.size;
            ghosts.insert((modseq, facts.uid), *facts);
        }
        self.counters.size -= octets;
        self.counters.tombstones += removed.len() as u64;
        self.counters.highest_modseq = modseq;
        self.counters.removed = modseq;
        octets
    }
}

impl Account {
    /// An account from what was read: mailboxes closed.
    ///
    /// # Errors
    /// `Damaged` when two mailboxes have one name.
    pub fn from_rows(
        row: AccountRow,
        mailboxes: Vec<(MailboxRow, CountersRow)>,
        subscriptions: BTreeSet<MailboxName>,
    ) -> Result<Self, StoreError> {
        let mut account = Self { row, ..Self::default() };
        account.subscriptions = Arc::new(subscriptions);
        for (row, counters) in mailboxes {
            if account.find(&row.name).is_some() {
                return Err(StoreError::Damaged(format!("two mailboxes are named {}", row.name)));
            }
            account.put(Mailbox { row, counters, open: None });
        }
        Ok(account)
    }

    /// The mailbox of this name.
    pub fn find(&self, name: &MailboxName) -> Option<&Arc<Mailbox>> {
        self.mailboxes.get(self.names.get(name)?)
    }

    /// The mailbox of this id.
    pub fn mailbox(&self, id: MailboxId) -> Option<&Arc<Mailbox>> {
        self.mailboxes.get(&id)
    }

    /// All mailboxes, by name.
    pub fn by_name(&self) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.names.values().filter_map(|id| self.mailboxes.get(id))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.mailboxes.len()
    }

    /// Whether there is none, not even INBOX: the account is about to be made.
    pub fn is_empty(&self) -> bool {
        self.mailboxes.is_empty()
    }

    /// Subscribed names, ascending.
    pub fn subscriptions(&self) -> &BTreeSet<MailboxName> {
        &self.subscriptions
    }

    /// All names, as LIST and LSUB need them.
    pub fn list(&self) -> MailboxList {
        let info = |mailbox: &Arc<Mailbox>| MailboxInfo {
            id: mailbox.row.id,
            name: mailbox.row.name.clone(),
            special_use: mailbox.row.special_use.clone(),
        };
        MailboxList {
            mailboxes: self.by_name().map(info).collect(),
            subscriptions: self.subscriptions.iter().cloned().collect(),
        }
    }

    /// Replaces a mailbox by itself, opened or closed.
    pub fn replace(&mut self, mailbox: Mailbox) {
        let id = mailbox.row.id;
        if self.mailboxes.contains_key(&id) {
            Arc::make_mut(&mut self.mailboxes).insert(id, Arc::new(mailbox));
        }
    }

    /// A mailbox to be changed.
    pub fn mailbox_mut(&mut self, id: MailboxId) -> Option<&mut Mailbox> {
        Arc::make_mut(&mut self.mailboxes).get_mut(&id).map(Arc::make_mut)
    }

    /// Adds a mailbox, or gives one that is there its new name.
    pub(super) fn put(&mut self, mailbox: Mailbox) {
        let id = mailbox.row.id;
        let names = Arc::make_mut(&mut self.names);
        if let Some(old) = self.mailboxes.get(&id).map(|old| &old.row.name)
            && names.get(old) == Some(&id)
        {
            names.remove(old);
        }
        names.insert(mailbox.row.name.clone(), id);
        Arc::make_mut(&mut self.mailboxes).insert(id, Arc::new(mailbox));
    }

    /// Takes a mailbox away.
    pub(super) fn take(&mut self, id: MailboxId) -> Option<Arc<Mailbox>> {
        let mailbox = Arc::make_mut(&mut self.mailboxes).remove(&id)?;
        Arc::make_mut(&mut self.names).remove(&mailbox.row.name);
        Some(mailbox)
    }

    /// Adds a subscription or takes it away.
    pub(super) fn subscribe(&mut self, name: &MailboxName, on: bool) {
        let names = Arc::make_mut(&mut self.subscriptions);
        match on {
            true => names.insert(name.clone()),
            false => names.remove(name),
        };
    }

    /// UIDVALIDITY for a new mailbox: the time, or one more than any before it (E13).
    ///
    /// # Errors
    /// `Limit` when 32 bits are used up.
    pub(super) fn next_uid_validity(&mut self, now: i64) -> Result<UidValidity, StoreError> {
        let time = now.clamp(1, i64::from(u32::MAX)) as u32;
        let above = self.row.uid_validity.checked_add(1).and_then(std::num::NonZeroU32::new);
        let above = above.ok_or_else(|| StoreError::Limit("UIDVALIDITY is used up".into()))?;
        let next = above.max(std::num::NonZeroU32::new(time).expect("clamped to 1"));
        self.row.uid_validity = next.get();
        Ok(UidValidity(next))
    }

    /// Takes over what readers changed in the committed state while this draft of it was on its way:
    /// claims of what is recent in these mailboxes, and removals that sessions brought along to those.
    pub fn adopt(
        &mut self,
        committed: &Self,
        claimed: impl IntoIterator<Item = MailboxId>,
        departing: impl IntoIterator<Item = MailboxId>,
    ) {
        for id in departing {
            let open = committed.mailbox(id).and_then(|mailbox| mailbox.open.as_ref());
            let departed: Vec<_> =
                open.into_iter().flat_map(|o| o.departed.iter().copied()).collect();
            if let Some(open) = self.mailbox_mut(id).and_then(|mailbox| mailbox.open.as_mut()) {
                open.depart(&departed);
            }
        }
        for id in claimed {
            let Some(before) = committed.mailbox(id) else { continue };
            let mark = before.counters.recent_mark;
            if self.mailbox(id).is_some_and(|mailbox| mailbox.counters.recent_mark < mark)
                && let Some(mailbox) = self.mailbox_mut(id)
            {
                mailbox.raise_recent_mark(mark);
            }
        }
    }
}
