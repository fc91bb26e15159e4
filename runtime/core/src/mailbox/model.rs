//! The reference: an account and its sessions in the plainest words, maps and loops, slow and
//! obviously right. Random and exhaustive sequences of calls are run through it and through the
//! real thing, and the answers compared.
//!
//! It keeps everything for ever and knows nothing of commits, records, indexes or limits. Ids are
//! its own: answers are compared by [`Labels`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::calls::{
    Call, Changes, Copied, FetchedMessage, FlagRow, MailboxInfo, MailboxList, MailboxStatus,
    NewMessage, Reply, Selected, Want,
};
use crate::error::StoreError;
use crate::mime;
use crate::search::Query;
use crate::types::{
    FlagChange, Flags, Keyword, MailboxId, MailboxName, MessageId, ModSeq, SessionId, SystemFlag,
    ThreadId, Timestamp, Uid, UidSet, UidValidity,
};

/// An account and its sessions.
#[derive(Clone, Debug)]
pub struct Model {
    modseq: u64,
    uid_validity: u32,
    ids: u128,
    mailboxes: BTreeMap<MailboxName, Held>,
    subscriptions: BTreeSet<MailboxName>,
    sessions: BTreeMap<SessionId, Looking>,
}

/// A mailbox.
#[derive(Clone, Debug)]
struct Held {
    id: MailboxId,
    special_use: Option<String>,
    uid_validity: u32,
    uid_next: u32,
    highest: u64,
    /// Messages from this UID on are nobody's yet.
    unclaimed: u32,
    messages: BTreeMap<u32, Message>,
    /// By the mod-sequence of their removal.
    removed: Vec<(u64, u32, Message)>,
}

#[derive(Clone, Debug)]
struct Message {
    id: MessageId,
    thread: ThreadId,
    flags: Flags,
    modseq: u64,
    internal_date: Timestamp,
    body: Bytes,
}

/// A session's active mailbox.
#[derive(Clone, Copy, Debug)]
struct Looking {
    mailbox: MailboxId,
    read_write: bool,
    released: u64,
}

type Answer = Result<Reply, StoreError>;

impl Default for Model {
    fn default() -> Self {
        Self::new()
    }
}

impl Model {
    /// A new account: it has an INBOX.
    pub fn new() -> Self {
        let mut model = Self {
            modseq: 0,
            uid_validity: 0,
            ids: 0,
            mailboxes: BTreeMap::new(),
            subscriptions: BTreeSet::new(),
            sessions: BTreeMap::new(),
        };
        model.make(vec![MailboxName::inbox()], 0);
        model
    }

    /// Carries out a call at a time in seconds since the Unix epoch.
    pub fn call(&mut self, session: SessionId, call: &Call, now: i64) -> Answer {
        match call {
            Call::Mailboxes => Ok(Reply::Mailboxes(self.list().into())),
            Call::Create { name, special_use } => self.create(name, special_use.clone(), now),
            Call::Delete { name } => self.delete(name),
            Call::Rename { from, to } => self.rename(from, to, now),
            Call::Subscribe { name, on } => {
                match on {
                    true => self.subscriptions.insert(name.clone()),
                    false => self.subscriptions.remove(name),
                };
                Ok(Reply::Done)
            }
            Call::Status { name } => {
                let mailbox = self.mailboxes.get(name).ok_or_else(|| not_found(name))?;
                Ok(Reply::Status(mailbox.status()))
            }
            Call::Select { name, read_write } => self.select(session, name, *read_write),
            Call::Deselect => {
                self.sessions.remove(&session);
                Ok(Reply::Done)
            }
            Call::Changes { since, known, released } => {
                self.changes(session, since.0, *known, released.0)
            }
            Call::Fetch { uids, want } => self.fetch(session, uids, *want),
            Call::Store { uids, change, unchanged_since } => {
                self.store(session, uids, change, *unchanged_since)
            }
            Call::Expunge { uids } => self.expunge(session, uids.as_ref()),
            Call::Copy { uids, to } => self.copy(session, uids, to),
            Call::Move { uids, to } => self.move_messages(session, uids, to),
            Call::Append { mailbox, messages } => self.append(mailbox, messages),
            Call::Search { query } => self.search(session, query),
            Call::Login { .. } | Call::ResolveRecipient { .. } | Call::Deliver { .. } => {
                Err(StoreError::Unsupported("the model has one account".into()))
            }
        }
    }

    fn id(&mut self) -> [u8; 16] {
        self.ids += 1;
        self.ids.to_be_bytes()
    }

    fn looking(&self, session: SessionId) -> Result<(Looking, &Held), StoreError> {
        let looking = self.sessions.get(&session).copied().ok_or_else(gone)?;
        let mailbox = self.mailboxes.values().find(|mailbox| mailbox.id == looking.mailbox);
        Ok((looking, mailbox.ok_or_else(gone)?))
    }

    /// The session's mailbox, to be changed by it.
    fn writing(&mut self, session: SessionId) -> Result<&mut Held, StoreError> {
        let (looking, _) = self.looking(session)?;
        match looking.read_write {
            false => Err(StoreError::Denied(String::new())),
            true => Ok(self.by_id(looking.mailbox)),
        }
    }

    fn by_id(&mut self, id: MailboxId) -> &mut Held {
        let mailbox = self.mailboxes.values_mut().find(|mailbox| mailbox.id == id);
        mailbox.expect("looked up before")
    }

    fn list(&self) -> MailboxList {
        let info = |(name, mailbox): (&MailboxName, &Held)| MailboxInfo {
            id: mailbox.id,
            name: name.clone(),
            special_use: mailbox.special_use.clone(),
        };
        MailboxList {
            mailboxes: self.mailboxes.iter().map(info).collect(),
            subscriptions: self.subscriptions.iter().cloned().collect(),
        }
    }

    fn make(&mut self, names: Vec<MailboxName>, now: i64) {
        self.modseq += 1;
        for name in names {
            self.uid_validity = (self.uid_validity + 1).max(now as u32);
            let id = MailboxId(self.id());
            let mailbox = Held {
                id,
                special_use: None,
                uid_validity: self.uid_validity,
                uid_next: 1,
                highest: self.modseq,
                unclaimed: 1,
                messages: BTreeMap::new(),
                removed: Vec::new(),
            };
            self.mailboxes.insert(name, mailbox);
        }
    }

    fn missing_above(&self, name: &MailboxName) -> Vec<MailboxName> {
        let mut missing = Vec::new();
        let mut above = name.parent();
        while let Some(name) = above {
            above = name.parent();
            if !self.mailboxes.contains_key(&name) {
                missing.insert(0, name);
            }
        }
        missing
    }

    fn create(&mut self, name: &MailboxName, special_use: Option<String>, now: i64) -> Answer {
        if self.mailboxes.contains_key(name) {
            return Err(StoreError::AlreadyExists(String::new()));
        }
        let taken = |mailbox: &Held| special_use.is_some() && mailbox.special_use == special_use;
        if self.mailboxes.values().any(taken) {
            return Err(StoreError::Invalid(String::new()));
        }
        let mut names = self.missing_above(name);
        names.push(name.clone());
        self.make(names, now);
        let made = self.mailboxes.get_mut(name).expect("just made");
        made.special_use = special_use;
        Ok(Reply::Created(made.id))
    }

    fn delete(&mut self, name: &MailboxName) -> Answer {
        if !self.mailboxes.contains_key(name) {
            return Err(not_found(name));
        }
        if name.is_inbox() {
            return Err(StoreError::Denied(String::new()));
        }
        self.mailboxes.remove(name);
        self.modseq += 1;
        Ok(Reply::Done)
    }

    fn rename(&mut self, from: &MailboxName, to: &MailboxName, now: i64) -> Answer {
        if !self.mailboxes.contains_key(from) {
            return Err(not_found(from));
        }
        if self.mailboxes.contains_key(to) {
            return Err(StoreError::AlreadyExists(String::new()));
        }
        if from.is_inbox() {
            self.create(to, None, now)?;
            let uids = self.mailboxes[from].messages.keys().copied().collect();
            let (from, to) = (self.mailboxes[from].id, self.mailboxes[to].id);
            self.transfer(from, uids, to, true);
            return Ok(Reply::Done);
        }
        if to.is_below(from) {
            return Err(StoreError::Invalid(String::new()));
        }
        let branch: Vec<MailboxName> =
            self.mailboxes.keys().filter(|n| *n == from || n.is_below(from)).cloned().collect();
        let new_name = |old: &MailboxName| {
            MailboxName::new(&format!("{to}{}", &old.as_str()[from.as_str().len()..]))
        };
        for old in &branch {
            let new = new_name(old).map_err(|_| StoreError::Invalid(String::new()))?;
            if self.mailboxes.contains_key(&new) && !branch.contains(&new) {
                return Err(StoreError::AlreadyExists(String::new()));
            }
        }
        let missing = self.missing_above(to);
        if !missing.is_empty() {
            self.make(missing, now);
        }
        let moving: Vec<_> =
            branch.iter().filter_map(|old| Some((old, self.mailboxes.remove(old)?))).collect();
        for (old, mailbox) in moving {
            self.mailboxes.insert(new_name(old).expect("tried before"), mailbox);
        }
        Ok(Reply::Done)
    }

    fn select(&mut self, session: SessionId, name: &MailboxName, read_write: bool) -> Answer {
        self.sessions.remove(&session);
        let mailbox = self.mailboxes.get_mut(name).ok_or_else(|| not_found(name))?;
        let recent = mailbox.recent(read_write);
        let released = mailbox.highest;
        let looking = Looking { mailbox: mailbox.id, read_write, released };
        let unseen = mailbox.messages.iter().find(|(_, m)| !m.flags.has(SystemFlag::Seen));
        // Keywords of removed messages that somebody still sees are in use too.
        let least = self.sessions.values().filter(|l| l.mailbox == mailbox.id);
        let least = least.map(|l| l.released).min().unwrap_or(u64::MAX);
        let ghosts = mailbox.removed.iter().filter(|(modseq, ..)| *modseq > least);
        let seen = mailbox.messages.values().chain(ghosts.map(|(_, _, message)| message));
        let keywords: BTreeSet<Keyword> =
            seen.flat_map(|message| message.flags.keywords().to_vec()).collect();
        let selected = Selected {
            status: mailbox.status(),
            uids: mailbox.messages.keys().map(|uid| to_uid(*uid)).collect(),
            recent,
            first_unseen: unseen.map(|(uid, _)| to_uid(*uid)),
            keywords: keywords.into_iter().collect(),
            read_write,
        };
        self.sessions.insert(session, looking);
        Ok(Reply::Selected(Box::new(selected)))
    }

    fn changes(
        &mut self,
        session: SessionId,
        since: u64,
        known: Option<Uid>,
        released: u64,
    ) -> Answer {
        self.looking(session)?;
        let looking = self.sessions.get_mut(&session).expect("looked up before");
        looking.released = looking.released.max(released);
        let looking = *looking;
        let mailbox = self.by_id(looking.mailbox);
        let known = known.map_or(0, Uid::get);
        let news = |uid: u32, message: &Message| message.modseq > since || uid > known;
        let changed = mailbox.messages.iter().filter(|(uid, message)| news(**uid, message));
        let changed = changed.map(|(uid, message)| message.row(*uid)).collect();
        let removed = mailbox.removed.iter().filter(|(modseq, ..)| *modseq > since);
        let expunged = removed.map(|(_, uid, _)| to_uid(*uid)).collect();
        let recent = mailbox.recent(looking.read_write);
        let upto = ModSeq(mailbox.highest.max(since));
        Ok(Reply::Changes(Changes { upto, changed, expunged, recent }))
    }

    /// What a session sees: what is there, and what was removed without its client having been told.
    fn sees(&self, session: SessionId) -> Result<BTreeMap<u32, &Message>, StoreError> {
        let (looking, mailbox) = self.looking(session)?;
        let mut seen: BTreeMap<u32, &Message> =
            mailbox.messages.iter().map(|(uid, message)| (*uid, message)).collect();
        for (modseq, uid, message) in &mailbox.removed {
            if *modseq > looking.released {
                seen.insert(*uid, message);
            }
        }
        Ok(seen)
    }

    fn fetch(&self, session: SessionId, uids: &UidSet, want: Want) -> Answer {
        let seen = self.sees(session)?;
        let asked = seen.into_iter().filter(|(uid, _)| uids.contains(to_uid(*uid)));
        let fetched = asked.map(|(uid, message)| FetchedMessage {
            uid: to_uid(uid),
            flags: message.flags.clone(),
            modseq: ModSeq(message.modseq),
            internal_date: message.internal_date,
            save_date: 0,
            size: message.body.len() as u64,
            message_id: message.id,
            thread_id: message.thread,
            derived: None,
            header: want.header.then(|| header(&message.body)).flatten(),
            body: want.body.then(|| message.body.clone()),
        });
        Ok(Reply::Messages { messages: fetched.collect(), more: false })
    }

    fn search(&self, session: SessionId, query: &Query) -> Answer {
        let seen = self.sees(session)?;
        let found = seen.into_iter().filter(|(_, message)| matches(query, message));
        let found = found.map(|(uid, message)| (to_uid(uid), ModSeq(message.modseq)));
        Ok(Reply::Found(found.collect()))
    }

    fn store(
        &mut self,
        session: SessionId,
        uids: &UidSet,
        change: &FlagChange,
        unchanged_since: Option<ModSeq>,
    ) -> Answer {
        let next = self.modseq + 1;
        let mailbox = self.writing(session)?;
        let (mut rows, mut modified, mut any) = (Vec::new(), UidSet::default(), false);
        for (uid, message) in &mut mailbox.messages {
            if !uids.contains(to_uid(*uid)) {
                continue;
            }
            if unchanged_since.is_some_and(|since| message.modseq > since.0) {
                modified.insert(to_uid(*uid));
                continue;
            }
            let after = message.flags.changed(change);
            if after != message.flags {
                (message.flags, message.modseq, any) = (after, next, true);
            }
            rows.push(message.row(*uid));
        }
        if any {
            mailbox.highest = next;
            self.modseq = next;
        }
        Ok(Reply::Stored { rows, modified })
    }

    fn expunge(&mut self, session: SessionId, uids: Option<&UidSet>) -> Answer {
        let next = self.modseq + 1;
        let mailbox = self.writing(session)?;
        let asked = |uid: u32| uids.is_none_or(|uids| uids.contains(to_uid(uid)));
        let deleted = mailbox.messages.iter().filter(|(_, m)| m.flags.has(SystemFlag::Deleted));
        let gone: Vec<u32> = deleted.map(|(uid, _)| *uid).filter(|uid| asked(*uid)).collect();
        mailbox.remove(&gone, next);
        let modseq = ModSeq(mailbox.highest);
        if !gone.is_empty() {
            self.modseq = next;
        }
        let uids = gone.into_iter().map(to_uid).collect();
        Ok(Reply::Expunged { uids, modseq })
    }

    fn copy(&mut self, session: SessionId, uids: &UidSet, to: &MailboxName) -> Answer {
        let (looking, mailbox) = self.looking(session)?;
        let found = mailbox.find(uids);
        let to = self.mailboxes.get(to).ok_or_else(|| not_found(to))?.id;
        Ok(Reply::Copied(self.transfer(looking.mailbox, found, to, false)))
    }

    fn move_messages(&mut self, session: SessionId, uids: &UidSet, to: &MailboxName) -> Answer {
        let mailbox = self.writing(session)?;
        let (from, found) = (mailbox.id, mailbox.find(uids));
        let to = self.mailboxes.get(to).ok_or_else(|| not_found(to))?.id;
        Ok(Reply::Copied(self.transfer(from, found, to, true)))
    }

    fn transfer(
        &mut self,
        from: MailboxId,
        uids: Vec<u32>,
        to: MailboxId,
        remove: bool,
    ) -> Option<Copied> {
        if uids.is_empty() {
            return None;
        }
        self.modseq += 1;
        let next = self.modseq;
        let mut copied = UidSet::default();
        for uid in &uids {
            let message = self.by_id(from).messages[uid].clone();
            copied.insert(self.by_id(to).add(message, next));
        }
        if remove {
            self.by_id(from).remove(&uids, next);
        }
        let uid_validity = self.by_id(to).status().uid_validity;
        let from = uids.into_iter().map(to_uid).collect();
        Some(Copied { uid_validity, from, to: copied })
    }

    fn append(&mut self, name: &MailboxName, messages: &[NewMessage]) -> Answer {
        if !self.mailboxes.contains_key(name) {
            return Err(not_found(name));
        }
        self.modseq += 1;
        let next = self.modseq;
        let (mut uids, mut message_ids) = (Vec::new(), Vec::new());
        for new in messages {
            let message = Message {
                id: MessageId(self.id()),
                thread: ThreadId(self.id()),
                flags: new.flags.clone(),
                modseq: next,
                internal_date: new.internal_date.unwrap_or(Timestamp::utc(0)),
                body: new.body.clone(),
            };
            let mailbox = self.mailboxes.get_mut(name).expect("looked up before");
            message_ids.push(message.id);
            uids.push(mailbox.add(message, next));
        }
        let MailboxStatus { mailbox, uid_validity, .. } = self.mailboxes[name].status();
        Ok(Reply::Appended { mailbox, uid_validity, uids, message_ids })
    }
}

impl Held {
    fn status(&self) -> MailboxStatus {
        let count = |wanted: &dyn Fn(&u32, &Message) -> bool| {
            self.messages.iter().filter(|(uid, message)| wanted(uid, message)).count() as u32
        };
        MailboxStatus {
            mailbox: self.id,
            messages: count(&|_, _| true),
            recent: count(&|uid, _| *uid >= self.unclaimed),
            unseen: count(&|_, message| !message.flags.has(SystemFlag::Seen)),
            deleted: count(&|_, message| message.flags.has(SystemFlag::Deleted)),
            size: self.messages.values().map(|message| message.body.len() as u64).sum(),
            uid_next: to_uid(self.uid_next),
            uid_validity: UidValidity(self.uid_validity.try_into().expect("never zero")),
            highest_modseq: ModSeq(self.highest),
        }
    }

    fn recent(&mut self, claim: bool) -> UidSet {
        let recent = self.messages.range(self.unclaimed..).map(|(uid, _)| to_uid(*uid)).collect();
        if claim {
            self.unclaimed = self.uid_next;
        }
        recent
    }

    fn find(&self, uids: &UidSet) -> Vec<u32> {
        self.messages.keys().copied().filter(|uid| uids.contains(to_uid(*uid))).collect()
    }

    fn add(&mut self, message: Message, modseq: u64) -> Uid {
        let uid = self.uid_next;
        self.uid_next += 1;
        self.highest = modseq;
        self.messages.insert(uid, Message { modseq, ..message });
        to_uid(uid)
    }

    fn remove(&mut self, uids: &[u32], modseq: u64) {
        for uid in uids {
            let message = self.messages.remove(uid).expect("found before");
            self.removed.push((modseq, *uid, message));
            self.highest = modseq;
        }
    }
}

impl Message {
    fn row(&self, uid: u32) -> FlagRow {
        FlagRow { uid: to_uid(uid), flags: self.flags.clone(), modseq: ModSeq(self.modseq) }
    }
}

/// Enough of SEARCH to see that it looks at the right messages; what its keys mean is tested where
/// they are evaluated.
fn matches(query: &Query, message: &Message) -> bool {
    match query {
        Query::All => true,
        Query::Flag(flag) => message.flags.contains(flag),
        Query::Not(query) => !matches(query, message),
        other => panic!("the model does not search for {other:?}"),
    }
}

fn header(body: &Bytes) -> Option<Bytes> {
    mime::derive(body).header(body)
}

fn to_uid(uid: u32) -> Uid {
    Uid::new(uid).expect("UIDs start with one")
}

fn not_found(name: &MailboxName) -> StoreError {
    StoreError::NotFound(name.to_string())
}

fn gone() -> StoreError {
    StoreError::NotFound(String::new())
}

/// Writes answers down so that two sides with ids of their own can be compared: each id is called
/// by the order in which it first appeared.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    ids: BTreeMap<[u8; 16], usize>,
    /// Where the clock differs, UIDVALIDITY is called by its order too.
    validities: BTreeMap<u32, usize>,
}

impl Labels {
    fn id(&mut self, id: [u8; 16]) -> usize {
        let next = self.ids.len();
        *self.ids.entry(id).or_insert(next)
    }

    fn validity(&mut self, validity: UidValidity) -> usize {
        let next = self.validities.len();
        *self.validities.entry(validity.0.get()).or_insert(next)
    }

    /// An answer in words. Texts of errors do not count, nor does SAVEDATE.
    pub fn describe(&mut self, answer: &Answer) -> String {
        match answer {
            Ok(reply) => self.reply(reply),
            Err(error) => {
                let text = format!("{error:?}");
                text.split('(').next().unwrap_or_default().to_owned()
            }
        }
    }

    fn reply(&mut self, reply: &Reply) -> String {
        match reply {
            Reply::Created(id) => format!("created {}", self.id(id.0)),
            Reply::Mailboxes(list) => {
                let info = |info: &MailboxInfo| {
                    format!("{} {} {:?}", info.name, self.id(info.id.0), info.special_use)
                };
                let names: Vec<String> = list.mailboxes.iter().map(info).collect();
                format!("{names:?}, subscribed {:?}", list.subscriptions)
            }
            Reply::Status(status) => self.status(status),
            Reply::Selected(selected) => format!(
                "{} {:?} recent {} unseen {:?} {:?} {}",
                self.status(&selected.status),
                selected.uids,
                selected.recent,
                selected.first_unseen,
                selected.keywords,
                selected.read_write
            ),
            Reply::Messages { messages, more } => {
                let messages: Vec<String> = messages.iter().map(|m| self.message(m)).collect();
                format!("{messages:?} {more}")
            }
            Reply::Copied(Some(copied)) => {
                let validity = self.validity(copied.uid_validity);
                format!("copied {} to {} of {validity}", copied.from, copied.to)
            }
            Reply::Appended { uid_validity, uids, .. } => {
                format!("appended {uids:?} of {}", self.validity(*uid_validity))
            }
            Reply::Done
            | Reply::Principal(_)
            | Reply::Changes(_)
            | Reply::Stored { .. }
            | Reply::Expunged { .. }
            | Reply::Copied(None)
            | Reply::Found(_)
            | Reply::Recipient(_) => format!("{reply:?}"),
        }
    }

    fn status(&mut self, status: &MailboxStatus) -> String {
        let (id, validity) = (self.id(status.mailbox.0), self.validity(status.uid_validity));
        let anonymous = MailboxStatus {
            mailbox: MailboxId([0; 16]),
            uid_validity: UidValidity(std::num::NonZeroU32::MIN),
            ..status.clone()
        };
        format!("mailbox {id} of {validity}: {anonymous:?}")
    }

    fn message(&mut self, message: &FetchedMessage) -> String {
        let ids = (self.id(message.message_id.0), self.id(message.thread_id.0));
        format!(
            "{} {:?} {} {:?} {} {ids:?} {:?} {:?}",
            message.uid,
            message.flags,
            message.modseq,
            message.internal_date,
            message.size,
            message.header,
            message.body
        )
    }
}
