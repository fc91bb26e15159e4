//! APPEND, STORE, EXPUNGE, COPY, MOVE.

use crate::calls::Copied;
use crate::error::StoreError;
use crate::records::{MessageChange, MessageRow};
use crate::types::{
    FlagChangeKind, Flags, MailboxId, MailboxName, ModSeq, SystemFlag, Uid, UidSet,
    flags::MAX_KEYWORDS_PER_MESSAGE,
};

use super::super::extras::Extras;
use super::super::index::Facts;
use super::super::keywords::KeywordTable;
use super::super::limits::{
    MAX_APPEND_MESSAGES, MAX_BATCH_MESSAGES, MAX_COPY_MESSAGES, MAX_MESSAGE_OCTETS, MAX_MESSAGES,
};
use super::super::op::{
    Arrival, CopyRow, MoveMessages, Op, Outcome, Planned, Step, StoreFlags, Target,
};
use super::super::state::{Mailbox, Open};
use super::{Context, Draft, done, gone, not_found};

impl Draft {
    pub(super) fn append(
        &mut self,
        target: &Target,
        messages: &[Arrival],
        context: &mut Context<'_>,
    ) -> Result<Planned, StoreError> {
        let octets = check_arrivals(messages)?;
        let mut steps = Vec::new();
        let before = self.clone();
        let id = match (self.target(target), target) {
            (Some(id), _) => id,
            (None, Target::Mailbox(name)) => return Err(not_found(name)),
            (None, Target::Delivery(_)) => {
                steps.extend(self.ensure_inbox(context)?.steps);
                self.target(target).expect("INBOX was made")
            }
            (None, Target::Filed(name)) => {
                steps.extend(self.create(name, None, context)?.steps);
                self.target(target).expect("it was made")
            }
        };
        match self.append_to(id, messages, octets, context) {
            Ok((step, outcome)) => {
                steps.push(step);
                Ok(Planned { steps, outcome, rest: None })
            }
            Err(error) => {
                *self = before;
                Err(error)
            }
        }
    }

    fn append_to(
        &mut self,
        id: MailboxId,
        messages: &[Arrival],
        octets: u64,
        context: &mut Context<'_>,
    ) -> Result<(Step, Outcome), StoreError> {
        let first = self.room_in(id, messages.len(), octets, context.quota)?;
        let modseq = self.next_modseq()?;
        let bits = self.assign(id, messages.iter().map(|message| &message.flags))?;
        let uids = uids_from(first);
        let row = |(message, uid): (&Arrival, Uid)| MessageRow {
            name: context.name(),
            mailbox: id,
            uid,
            modseq,
            flags: message.flags.clone(),
            internal_date: message.internal_date,
            save_date: context.now,
            size: message.size,
            message_id: context.message_id(),
            thread_id: message.thread_id,
            from: message.from.clone(),
            to: message.to.clone(),
            cc: message.cc.clone(),
            bcc: message.bcc.clone(),
            extra: Vec::new(),
        };
        let rows: Vec<MessageRow> = messages.iter().zip(uids).map(row).collect();
        self.account.row.modseq = modseq;
        self.account.row.used_octets += octets;
        let mailbox = self.change(id);
        for (row, keywords) in rows.iter().zip(bits) {
            mailbox.admit(&facts_of(row, keywords));
        }
        let uid_validity = mailbox.row.uid_validity;
        let uids = rows.iter().map(|row| row.uid).collect();
        let message_ids = rows.iter().map(|row| row.message_id).collect();
        let outcome = Outcome::Appended { mailbox: id, uid_validity, uids, message_ids };
        Ok((Step::Insert(rows), outcome))
    }

    /// The first of so many new UIDs in a mailbox, if they and their octets have room.
    fn room_in(
        &self,
        id: MailboxId,
        messages: usize,
        octets: u64,
        quota: Option<u64>,
    ) -> Result<Uid, StoreError> {
        let counters = &self.account.mailbox(id).expect("looked up before").counters;
        let more = messages as u64;
        if u64::from(counters.messages) + more > u64::from(MAX_MESSAGES) {
            return Err(StoreError::Limit(format!("{MAX_MESSAGES} messages in one mailbox")));
        }
        if u64::from(counters.uid_next.get()) + more > u64::from(u32::MAX) {
            return Err(StoreError::Limit("the mailbox's UIDs are used up".into()));
        }
        let used = self.account.row.used_octets.saturating_add(octets);
        match quota.is_some_and(|quota| used > quota) {
            true => Err(StoreError::OverQuota),
            false => Ok(counters.uid_next),
        }
    }

    /// The keyword bits of each set of flags in a mailbox; new words are added to its table only
    /// when all of them fit. A closed mailbox takes messages without keywords
    /// ([`Draft::must_open`]).
    fn assign<'f>(
        &mut self,
        id: MailboxId,
        flags: impl Iterator<Item = &'f Flags>,
    ) -> Result<Vec<u64>, StoreError> {
        let open = self.account.mailbox(id).expect("looked up before").open.as_ref();
        let Some(open) = open else { return Ok(flags.map(|_| 0).collect()) };
        let mut table = open.keywords.clone();
        let mut bits = Vec::new();
        for flags in flags {
            let given: u64 = bits.iter().fold(0, |all, bits| all | bits);
            bits.push(table.assign(flags, || open.keywords_in_use() | given)?);
        }
        self.set_table(id, table);
        Ok(bits)
    }

    fn set_table(&mut self, id: MailboxId, table: KeywordTable) {
        let open = self.account.mailbox(id).and_then(|mailbox| mailbox.open.as_ref());
        if open.is_some_and(|open| open.keywords != table)
            && let Some(open) = self.account.mailbox_mut(id).and_then(|m| m.open.as_mut())
        {
            open.keywords = table;
        }
    }

    fn opened(&self, id: MailboxId) -> Result<(&Mailbox, &Open), StoreError> {
        let mailbox = self.account.mailbox(id).ok_or_else(gone)?;
        let open = mailbox.open.as_ref().expect("opened before it is planned (must_open)");
        Ok((mailbox, open))
    }

    /// Messages whose flags are as asked for already keep their mod-sequence.
    pub(super) fn store(&mut self, store: &StoreFlags) -> Result<Planned, StoreError> {
        let (_, open) = self.opened(store.mailbox)?;
        let modseq = self.next_modseq()?;
        let mut table = open.keywords.clone();
        let words = &store.change.flags;
        if words.keywords().len() > MAX_KEYWORDS_PER_MESSAGE {
            return Err(too_many_keywords());
        }
        let bits = match store.change.kind {
            FlagChangeKind::Remove => table.known(words),
            FlagChangeKind::Add | FlagChangeKind::Replace => {
                table.assign(words, || open.keywords_in_use())?
            }
        };
        let sorted = sort_out(open, store, bits);
        let changes = sorted.changes.iter().map(|(facts, system, keywords)| MessageChange {
            mailbox: store.mailbox,
            uid: facts.uid,
            modseq,
            flags: table.flags(*system, *keywords),
            extra: open.extras.get(facts.uid),
        });
        let changes: Vec<MessageChange> = changes.collect();
        let outcome = Outcome::Stored {
            mailbox: store.mailbox,
            done: sorted.done.clone(),
            modified: sorted.modified.clone(),
        };
        let rest = sorted.rest.map(|uids| {
            let (done, modified) = (sorted.done, sorted.modified);
            Op::Store(StoreFlags { uids, done, modified, ..store.clone() })
        });
        if changes.is_empty() {
            return Ok(Planned { steps: Vec::new(), outcome, rest });
        }
        self.set_table(store.mailbox, table);
        self.account.row.modseq = modseq;
        let mailbox = self.change(store.mailbox);
        for (facts, system, keywords) in &sorted.changes {
            mailbox.reflag(facts, *system, *keywords, modseq);
        }
        Ok(Planned { steps: vec![Step::Reflag(changes)], outcome, rest })
    }

    pub(super) fn expunge(
        &mut self,
        id: MailboxId,
        uids: Option<&UidSet>,
        before: &UidSet,
    ) -> Result<Planned, StoreError> {
        let (mailbox, open) = self.opened(id)?;
        let modseq = self.next_modseq()?;
        let all = UidSet::range(Uid::MIN, Uid::MAX);
        let of = uids.unwrap_or(&all);
        let deleted = mailbox.counters.deleted as usize;
        let found = open.index.matching(of).filter(|facts| facts.has(SystemFlag::Deleted));
        let found: Vec<Uid> = found.take(deleted.min(MAX_BATCH_MESSAGES)).map(|f| f.uid).collect();
        let mut done = before.clone();
        found.iter().for_each(|uid| done.insert(*uid));
        let full = found.len() == MAX_BATCH_MESSAGES && deleted > found.len();
        let rest =
            full.then(|| Op::Expunge { mailbox: id, uids: uids.cloned(), done: done.clone() });
        if found.is_empty() {
            let highest = mailbox.counters.highest_modseq;
            let outcome = Outcome::Expunged { uids: done, modseq: highest };
            return Ok(Planned { steps: Vec::new(), outcome, rest });
        }
        let step = self.remove(id, found, modseq);
        Ok(Planned { steps: vec![step], outcome: Outcome::Expunged { uids: done, modseq }, rest })
    }

    fn remove(&mut self, id: MailboxId, uids: Vec<Uid>, modseq: ModSeq) -> Step {
        let octets = self.change(id).remove(&uids, modseq);
        let row = &mut self.account.row;
        row.modseq = modseq;
        row.used_octets = row.used_octets.saturating_sub(octets);
        Step::Remove { mailbox: id, uids, modseq }
    }

    pub(super) fn copy(
        &mut self,
        from: MailboxId,
        uids: &UidSet,
        to: &MailboxName,
        context: &mut Context<'_>,
    ) -> Result<Planned, StoreError> {
        let (_, open) = self.opened(from)?;
        let found: Vec<Facts> = open.index.matching(uids).take(MAX_COPY_MESSAGES + 1).collect();
        if found.len() > MAX_COPY_MESSAGES {
            return Err(StoreError::Limit(format!("{MAX_COPY_MESSAGES} messages in one copy")));
        }
        let target = self.account.find(to).ok_or_else(|| not_found(to))?.row.id;
        if found.is_empty() {
            return Ok(Planned { steps: Vec::new(), outcome: copied(None), rest: None });
        }
        let quota = context.quota;
        let (step, pairs) = self.copy_to(from, &found, target, quota, context)?;
        Ok(Planned { steps: vec![step], outcome: copied(Some(pairs)), rest: None })
    }

    /// Copies what was found; the source's flags and ids, new names, new UIDs.
    fn copy_to(
        &mut self,
        from: MailboxId,
        found: &[Facts],
        to: MailboxId,
        quota: Option<u64>,
        context: &mut Context<'_>,
    ) -> Result<(Step, Copied), StoreError> {
        let octets = found.iter().map(|facts| facts.size).sum();
        let first = self.room_in(to, found.len(), octets, quota)?;
        let modseq = self.next_modseq()?;
        let (_, open) = self.opened(from)?;
        let flags: Vec<Flags> = found.iter().map(|facts| open.flags(facts)).collect();
        let extras = self.extras_with(to, &open.extras, found.iter().zip(uids_from(first)))?;
        let bits = self.assign(to, flags.iter())?;
        let copies = found.iter().zip(flags).zip(uids_from(first)).map(|((facts, flags), uid)| {
            let (save_date, name) = (context.now, context.name());
            CopyRow { source: facts.uid, mailbox: to, uid, modseq, flags, save_date, name }
        });
        let copies: Vec<CopyRow> = copies.collect();
        self.account.row.modseq = modseq;
        self.account.row.used_octets += octets;
        let mailbox = self.change(to);
        for ((facts, copy), keywords) in found.iter().zip(&copies).zip(bits) {
            let (uid, save_date) = (copy.uid, copy.save_date);
            mailbox.admit(&Facts { uid, modseq, keywords, save_date, ..*facts });
        }
        if let Some(open) = &mut mailbox.open {
            open.extras = extras;
        }
        let pairs = Copied {
            uid_validity: mailbox.row.uid_validity,
            from: found.iter().map(|facts| facts.uid).collect(),
            to: copies.iter().map(|copy| copy.uid).collect(),
        };
        Ok((Step::Copy { from, copies }, pairs))
    }

    /// The properties in a mailbox once it has copies of messages that bring these; those of a
    /// closed one are not known ([`Draft::must_open`]).
    fn extras_with<'f>(
        &self,
        id: MailboxId,
        from: &Extras,
        copies: impl Iterator<Item = (&'f Facts, Uid)>,
    ) -> Result<Extras, StoreError> {
        let open = self.account.mailbox(id).and_then(|mailbox| mailbox.open.as_ref());
        let mut extras = open.map_or_else(Extras::default, |open| open.extras.clone());
        if open.is_some() && !from.is_empty() {
            for (source, uid) in copies {
                extras.add(uid, &from.get(source.uid))?;
            }
        }
        Ok(extras)
    }

    /// Each commit moves as many as fit one; a message is always in exactly one of the two.
    pub(super) fn move_messages(
        &mut self,
        moved: &MoveMessages,
        context: &mut Context<'_>,
    ) -> Result<Planned, StoreError> {
        let (_, open) = self.opened(moved.from)?;
        let found = open.index.matching(&moved.uids).take(MAX_BATCH_MESSAGES + 1);
        let mut found: Vec<Facts> = found.collect();
        let target = self.account.find(&moved.to).ok_or_else(|| not_found(&moved.to))?.row.id;
        let more = found.len() > MAX_BATCH_MESSAGES;
        found.truncate(MAX_BATCH_MESSAGES);
        if found.is_empty() {
            return Ok(self.moved(Vec::new(), moved, moved.done.clone(), None));
        }
        // Nothing is added to the account as a whole: a move is allowed when it is full.
        let (copy, pairs) = self.copy_to(moved.from, &found, target, None, context)?;
        let modseq = self.account.row.modseq;
        let gone: Vec<Uid> = found.iter().map(|facts| facts.uid).collect();
        let last = gone.last().copied();
        let remove = self.remove(moved.from, gone, modseq);
        let pairs = joined(moved.done.as_ref(), pairs);
        let rest = last.filter(|_| more).and_then(|last| rest_of(&moved.uids, last));
        Ok(self.moved(vec![copy, remove], moved, Some(pairs), rest))
    }

    fn moved(
        &self,
        steps: Vec<Step>,
        moved: &MoveMessages,
        pairs: Option<Copied>,
        rest: Option<UidSet>,
    ) -> Planned {
        let rest =
            rest.map(|uids| Op::Move(MoveMessages { uids, done: pairs.clone(), ..moved.clone() }));
        match moved.rename {
            true => Planned { rest, ..done(steps) },
            false => Planned { steps, outcome: copied(pairs), rest },
        }
    }
}

/// What STORE does with each message of its set.
struct SortedOut {
    changes: Vec<(Facts, u8, u64)>,
    done: UidSet,
    modified: UidSet,
    rest: Option<UidSet>,
}

fn sort_out(open: &Open, store: &StoreFlags, bits: u64) -> SortedOut {
    let (done, modified) = (store.done.clone(), store.modified.clone());
    let mut sorted = SortedOut { changes: Vec::new(), done, modified, rest: None };
    for facts in open.index.matching(&store.uids) {
        if store.unchanged_since.is_some_and(|since| facts.modseq > since) {
            sorted.modified.insert(facts.uid);
            continue;
        }
        let (system, keywords) = flagged(&facts, store, bits);
        if (system, keywords) != (facts.system, facts.keywords) {
            if sorted.changes.len() == MAX_BATCH_MESSAGES {
                let (last, ..) = sorted.changes[MAX_BATCH_MESSAGES - 1];
                sorted.rest = rest_of(&store.uids, last.uid);
                return sorted;
            }
            sorted.changes.push((facts, system, keywords));
        }
        sorted.done.insert(facts.uid);
    }
    sorted
}

fn flagged(facts: &Facts, store: &StoreFlags, bits: u64) -> (u8, u64) {
    let system = store.change.flags.system_bits();
    match store.change.kind {
        FlagChangeKind::Replace => (system, bits),
        FlagChangeKind::Add => (facts.system | system, facts.keywords | bits),
        FlagChangeKind::Remove => (facts.system & !system, facts.keywords & !bits),
    }
}

/// The members of a set after a UID; `None` when there are none.
fn rest_of(uids: &UidSet, last: Uid) -> Option<UidSet> {
    let after = last.next()?;
    let mut rest = UidSet::default();
    for &(first, last) in uids.ranges().iter().filter(|range| range.1 >= after) {
        rest.insert_range(first.max(after), last);
    }
    (!rest.is_empty()).then_some(rest)
}

/// The octets of all of them, when each is within the limits.
fn check_arrivals(messages: &[Arrival]) -> Result<u64, StoreError> {
    if messages.len() > MAX_APPEND_MESSAGES {
        return Err(StoreError::Limit(format!("{MAX_APPEND_MESSAGES} messages at once")));
    }
    if messages.is_empty() {
        return Err(StoreError::Invalid("nothing to append".into()));
    }
    if messages.iter().any(|message| message.size > MAX_MESSAGE_OCTETS) {
        return Err(StoreError::Limit(format!("{MAX_MESSAGE_OCTETS} octets in one message")));
    }
    if messages.iter().any(|m| m.flags.keywords().len() > MAX_KEYWORDS_PER_MESSAGE) {
        return Err(too_many_keywords());
    }
    Ok(messages.iter().map(|message| message.size).sum())
}

fn too_many_keywords() -> StoreError {
    StoreError::Limit(format!("{MAX_KEYWORDS_PER_MESSAGE} keywords on one message"))
}

/// UIDs from this one on.
fn uids_from(first: Uid) -> impl Iterator<Item = Uid> {
    std::iter::successors(Some(first), |uid| uid.next())
}

fn facts_of(row: &MessageRow, keywords: u64) -> Facts {
    Facts {
        uid: row.uid,
        modseq: row.modseq,
        system: row.flags.system_bits(),
        keywords,
        internal_date: row.internal_date,
        save_date: row.save_date,
        size: row.size,
        message_id: row.message_id,
        thread_id: row.thread_id,
    }
}

fn copied(pairs: Option<Copied>) -> Outcome {
    match pairs {
        Some(Copied { uid_validity, from, to }) => {
            Outcome::Copied { uid_validity: Some(uid_validity), from, to }
        }
        None => {
            Outcome::Copied { uid_validity: None, from: UidSet::default(), to: UidSet::default() }
        }
    }
}

/// Both parts of a move as one.
fn joined(before: Option<&Copied>, mut pairs: Copied) -> Copied {
    if let Some(before) = before {
        for &(first, last) in before.from.ranges() {
            pairs.from.insert_range(first, last);
        }
        for &(first, last) in before.to.ranges() {
            pairs.to.insert_range(first, last);
        }
    }
    pairs
}
