//! A message store in memory, as plain as the calls' documentation allows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::calls::{
    Call, Changes, Copied, FetchedMessage, FlagRow, MailboxInfo, MailboxList, MailboxStatus,
    NewMessage, Principal, Reply, Selected, Want,
};
use crate::error::StoreError;
use crate::mime::{self, Derived};
use crate::search::{Evidence, Facts, Query, Verdict};
use crate::types::{
    AccountId, Flags, Keyword, MailboxId, MailboxName, MessageId, ModSeq, SystemFlag, ThreadId,
    Timestamp, Uid, UidSet, UidValidity,
};

/// What the fake calls now: 2024-01-02T00:00:00Z.
pub(super) const NOW: i64 = 1_704_153_600;

type Answer = Result<Reply, StoreError>;

#[derive(Clone)]
pub(super) struct Message {
    flags: Flags,
    modseq: ModSeq,
    date: Timestamp,
    id: MessageId,
    body: Bytes,
    derived: Arc<Derived>,
}

pub(super) struct Mailbox {
    id: MailboxId,
    uid_validity: UidValidity,
    special_use: Option<String>,
    messages: BTreeMap<Uid, Message>,
    /// Expunged ones, readable to whoever has not been told.
    removed: BTreeMap<Uid, (Message, ModSeq)>,
    last_uid: u32,
    changed: ModSeq,
    /// Messages above this UID are nobody's recent ones yet.
    claimed: u32,
}

/// What a session has active.
struct Active {
    mailbox: MailboxId,
    read_write: bool,
    released: ModSeq,
}

pub(super) struct FakeStore {
    pub(super) mailboxes: BTreeMap<MailboxName, Mailbox>,
    subscriptions: BTreeSet<MailboxName>,
    active: BTreeMap<usize, Active>,
    modseq: u64,
    minted: u32,
    validity: u32,
    /// Most messages in one page of FETCH: few, so that tests see pages.
    pub(super) page: usize,
    /// The next call of this name fails so.
    pub(super) fails: Option<(&'static str, StoreError)>,
    /// The next FETCH gives no bodies.
    pub(super) loses_bodies: bool,
    /// Names of all calls made, in order.
    pub(super) calls: Vec<String>,
}

fn is_deleted(message: &Message) -> bool {
    message.flags.has(SystemFlag::Deleted)
}

impl Mailbox {
    fn rows_since(&self, since: ModSeq) -> Vec<FlagRow> {
        let row = |(uid, m): (&Uid, &Message)| FlagRow {
            uid: *uid,
            flags: m.flags.clone(),
            modseq: m.modseq,
        };
        self.messages.iter().map(row).filter(|row| row.modseq > since).collect()
    }

    fn claim(&mut self, read_write: bool) -> UidSet {
        let claimed = self.claimed;
        let recent = self.messages.keys().copied().filter(|uid| uid.get() > claimed).collect();
        if read_write {
            self.claimed = self.last_uid;
        }
        recent
    }

    fn status(&self) -> MailboxStatus {
        let count = |test: fn(&Message) -> bool| {
            self.messages.values().filter(|message| test(message)).count() as u32
        };
        MailboxStatus {
            mailbox: self.id,
            messages: self.messages.len() as u32,
            recent: self.messages.keys().filter(|uid| uid.get() > self.claimed).count() as u32,
            unseen: count(|m| !m.flags.has(SystemFlag::Seen)),
            deleted: count(is_deleted),
            size: self.messages.values().map(|m| m.body.len() as u64).sum(),
            uid_next: Uid::new(self.last_uid + 1).unwrap(),
            uid_validity: self.uid_validity,
            highest_modseq: self.changed,
        }
    }

    fn add(&mut self, mut message: Message, modseq: ModSeq) -> Uid {
        self.last_uid += 1;
        let uid = Uid::new(self.last_uid).unwrap();
        message.modseq = modseq;
        self.messages.insert(uid, message);
        self.changed = modseq;
        uid
    }

    fn remove(&mut self, uids: &[Uid], modseq: ModSeq) {
        for uid in uids {
            if let Some(message) = self.messages.remove(uid) {
                self.removed.insert(*uid, (message, modseq));
                self.changed = modseq;
            }
        }
    }
}

impl FakeStore {
    /// An account with an empty INBOX.
    pub(super) fn new() -> Self {
        let mut store = Self {
            mailboxes: BTreeMap::new(),
            subscriptions: BTreeSet::new(),
            active: BTreeMap::new(),
            modseq: 0,
            minted: 0,
            validity: 0,
            page: 2,
            fails: None,
            loses_bodies: false,
            calls: Vec::new(),
        };
        store.make(MailboxName::inbox(), None);
        store
    }

    /// Carries out a call of this session.
    pub(super) fn call(&mut self, session: usize, call: Call) -> Answer {
        let text = format!("{call:?}");
        let name = text.split([' ', '(', '{']).next().unwrap_or_default();
        self.calls.push(name.to_owned());
        if let Some((_, error)) = self.fails.take_if(|(fails, _)| *fails == name) {
            return Err(error);
        }
        match call {
            Call::Login { user, password } => match (user.as_str(), password.0.as_str()) {
                ("alice", "secret") => {
                    let account = AccountId::from_u128(1);
                    Ok(Reply::Principal(Principal { user, account }))
                }
                _ => Err(StoreError::AuthenticationFailed),
            },
            Call::Mailboxes => Ok(Reply::Mailboxes(Arc::new(self.list()))),
            Call::Create { name, special_use } => self.create(name, special_use),
            Call::Delete { name } => self.delete(&name),
            Call::Rename { from, to } => self.rename(&from, &to),
            Call::Subscribe { name, on } => {
                match on {
                    true => self.subscriptions.insert(name),
                    false => self.subscriptions.remove(&name),
                };
                Ok(Reply::Done)
            }
            Call::Status { name } => Ok(Reply::Status(self.named(&name)?.status())),
            Call::Select { name, read_write } => self.select(session, &name, read_write),
            Call::Deselect => {
                self.active.remove(&session);
                Ok(Reply::Done)
            }
            Call::Changes { since, released, .. } => self.changes(session, since, released),
            Call::Fetch { uids, want } => self.fetch(session, &uids, want),
            Call::Store { uids, change, unchanged_since } => {
                self.writable(session)?;
                self.store(session, &uids, &change, unchanged_since)
            }
            Call::Expunge { uids } => self.expunge(session, uids.as_ref()),
            Call::Copy { uids, to } => self.copy(session, &uids, &to, false),
            Call::Move { uids, to } => self.copy(session, &uids, &to, true),
            Call::Append { mailbox, messages } => self.append(&mailbox, messages),
            Call::Search { query } => self.search(session, &query),
            Call::ResolveRecipient { .. } | Call::Deliver { .. } => {
                Err(StoreError::Unsupported("no call of IMAP".into()))
            }
        }
    }

    /// Sessions, other than this one, for whom there is news.
    pub(super) fn watchers(&self, session: usize) -> Vec<usize> {
        self.active.keys().copied().filter(|other| *other != session).collect()
    }

    /// Loses what was kept for sessions that still see it.
    pub(super) fn forget_removed(&mut self) {
        self.mailboxes.values_mut().for_each(|mailbox| {
            mailbox.removed.values_mut().for_each(|(_, removed)| *removed = ModSeq(0));
        });
    }

    /// How many removed messages some session can still read.
    pub(super) fn readable_removed(&self) -> usize {
        let released = self.active.values().map(|active| active.released).min();
        let removed = self.mailboxes.values().flat_map(|mailbox| mailbox.removed.values());
        removed.filter(|(_, at)| released.is_some_and(|released| *at > released)).count()
    }

    /// The flags of all messages of a mailbox, in order.
    pub(super) fn flags_of(&self, name: &MailboxName) -> Vec<String> {
        let text =
            |m: &Message| m.flags.iter().map(|f| f.to_string()).collect::<Vec<_>>().join(" ");
        self.mailboxes[name].messages.values().map(text).collect()
    }

    fn next(&mut self) -> ModSeq {
        self.modseq += 1;
        ModSeq(self.modseq)
    }

    fn mint(&mut self) -> u32 {
        self.minted += 1;
        self.minted
    }

    fn make(&mut self, name: MailboxName, special_use: Option<String>) -> MailboxId {
        self.validity += 1;
        let mailbox = Mailbox {
            id: MailboxId::from_u128(self.mint().into()),
            uid_validity: UidValidity(self.validity.try_into().unwrap()),
            special_use,
            messages: BTreeMap::new(),
            removed: BTreeMap::new(),
            last_uid: 0,
            changed: ModSeq(self.modseq),
            claimed: 0,
        };
        let id = mailbox.id;
        self.mailboxes.insert(name, mailbox);
        id
    }

    fn named(&mut self, name: &MailboxName) -> Result<&mut Mailbox, StoreError> {
        self.mailboxes.get_mut(name).ok_or_else(|| StoreError::NotFound(name.to_string()))
    }

    fn writable(&self, session: usize) -> Result<(), StoreError> {
        match self.active.get(&session).is_some_and(|active| active.read_write) {
            true => Ok(()),
            false => Err(StoreError::Denied("read-only".into())),
        }
    }

    fn selected(&mut self, session: usize) -> Result<(&mut Mailbox, &mut Active), StoreError> {
        let gone = || StoreError::NotFound("the active mailbox".into());
        let active = self.active.get_mut(&session).ok_or_else(gone)?;
        let mailbox = self.mailboxes.values_mut().find(|m| m.id == active.mailbox);
        Ok((mailbox.ok_or_else(gone)?, active))
    }

    fn list(&self) -> MailboxList {
        let info = |(name, mailbox): (&MailboxName, &Mailbox)| MailboxInfo {
            id: mailbox.id,
            name: name.clone(),
            special_use: mailbox.special_use.clone(),
        };
        MailboxList {
            mailboxes: self.mailboxes.iter().map(info).collect(),
            subscriptions: self.subscriptions.iter().cloned().collect(),
        }
    }

    fn create(&mut self, name: MailboxName, special_use: Option<String>) -> Answer {
        if self.mailboxes.contains_key(&name) {
            return Err(StoreError::AlreadyExists(name.to_string()));
        }
        let same_use = |m: &Mailbox| special_use.is_some() && m.special_use == special_use;
        if self.mailboxes.values().any(same_use) {
            return Err(StoreError::Invalid("another mailbox has this use".into()));
        }
        let above = std::iter::successors(name.parent(), MailboxName::parent);
        let missing: Vec<_> = above.filter(|above| !self.mailboxes.contains_key(above)).collect();
        for above in missing {
            self.make(above, None);
        }
        Ok(Reply::Created(self.make(name, special_use)))
    }

    fn delete(&mut self, name: &MailboxName) -> Answer {
        if name.is_inbox() {
            return Err(StoreError::Denied("INBOX stays".into()));
        }
        self.named(name)?;
        self.mailboxes.remove(name);
        Ok(Reply::Done)
    }

    fn rename(&mut self, from: &MailboxName, to: &MailboxName) -> Answer {
        self.named(from)?;
        if self.mailboxes.contains_key(to) {
            return Err(StoreError::AlreadyExists(to.to_string()));
        }
        let moved: Vec<_> =
            self.mailboxes.keys().filter(|n| n.moved(from, to).is_some()).cloned().collect();
        for name in moved {
            let mailbox = self.mailboxes.remove(&name).unwrap();
            self.mailboxes.insert(name.moved(from, to).unwrap().unwrap(), mailbox);
        }
        Ok(Reply::Done)
    }

    fn select(&mut self, session: usize, name: &MailboxName, read_write: bool) -> Answer {
        self.active.remove(&session);
        let mailbox = self.named(name)?;
        let recent = mailbox.claim(read_write);
        let keywords: BTreeSet<Keyword> =
            mailbox.messages.values().flat_map(|m| m.flags.keywords().to_vec()).collect();
        let unseen = |(_, m): &(&Uid, &Message)| !m.flags.has(SystemFlag::Seen);
        let selected = Selected {
            status: mailbox.status(),
            uids: mailbox.messages.keys().copied().collect(),
            recent,
            first_unseen: mailbox.messages.iter().find(unseen).map(|(uid, _)| *uid),
            keywords: keywords.into_iter().collect(),
            read_write,
        };
        let released = selected.status.highest_modseq;
        let active = Active { mailbox: selected.status.mailbox, read_write, released };
        self.active.insert(session, active);
        Ok(Reply::Selected(Box::new(selected)))
    }

    fn changes(&mut self, session: usize, since: ModSeq, released: ModSeq) -> Answer {
        let upto = ModSeq(self.modseq);
        let (mailbox, active) = self.selected(session)?;
        active.released = released;
        let expunged = mailbox.removed.iter().filter(|(_, (_, m))| *m > since).map(|(u, _)| *u);
        let expunged = expunged.collect();
        let changed = mailbox.rows_since(since);
        let recent = mailbox.claim(active.read_write);
        Ok(Reply::Changes(Changes { upto, changed, expunged, recent }))
    }

    fn fetch(&mut self, session: usize, uids: &UidSet, want: Want) -> Answer {
        let page = self.page;
        let loses_bodies = std::mem::take(&mut self.loses_bodies);
        let (mailbox, active) = self.selected(session)?;
        let gone = mailbox.removed.iter().filter(|(_, (_, m))| *m > active.released);
        let gone = gone.map(|(uid, (message, _))| (uid, message));
        let all: BTreeMap<&Uid, &Message> = mailbox.messages.iter().chain(gone).collect();
        let fetched = |(uid, m): (&&Uid, &&Message)| FetchedMessage {
            uid: **uid,
            flags: m.flags.clone(),
            modseq: m.modseq,
            internal_date: m.date,
            save_date: NOW,
            size: m.body.len() as u64,
            message_id: m.id,
            thread_id: ThreadId::from_u128(m.id.as_u128()),
            derived: want.derived.then(|| m.derived.clone()),
            header: want.header.then(|| m.derived.header(&m.body)).flatten(),
            body: (want.body && !loses_bodies).then(|| m.body.clone()),
        };
        let mut messages: Vec<_> =
            all.iter().filter(|(uid, _)| uids.contains(***uid)).map(fetched).collect();
        let more = messages.len() > page;
        messages.truncate(page);
        Ok(Reply::Messages { messages, more })
    }

    fn store(
        &mut self,
        session: usize,
        uids: &UidSet,
        change: &crate::types::FlagChange,
        unchanged_since: Option<ModSeq>,
    ) -> Answer {
        let modseq = self.next();
        let (mailbox, _) = self.selected(session)?;
        let (mut rows, mut modified) = (Vec::new(), UidSet::default());
        for (uid, message) in mailbox.messages.iter_mut().filter(|(uid, _)| uids.contains(**uid)) {
            if unchanged_since.is_some_and(|since| message.modseq > since) {
                modified.insert(*uid);
                continue;
            }
            let flags = message.flags.changed(change);
            if flags != message.flags {
                message.flags = flags;
                message.modseq = modseq;
                mailbox.changed = modseq;
            }
            let (flags, modseq) = (message.flags.clone(), message.modseq);
            rows.push(FlagRow { uid: *uid, flags, modseq });
        }
        Ok(Reply::Stored { rows, modified })
    }

    fn expunge(&mut self, session: usize, uids: Option<&UidSet>) -> Answer {
        self.writable(session)?;
        let modseq = self.next();
        let (mailbox, _) = self.selected(session)?;
        let named = |uid: Uid| uids.is_none_or(|uids| uids.contains(uid));
        let deleted = mailbox.messages.iter().filter(|(uid, m)| named(**uid) && is_deleted(m));
        let deleted: Vec<Uid> = deleted.map(|(uid, _)| *uid).collect();
        mailbox.remove(&deleted, modseq);
        Ok(Reply::Expunged { uids: deleted.into_iter().collect(), modseq })
    }

    fn copy(&mut self, session: usize, uids: &UidSet, to: &MailboxName, removes: bool) -> Answer {
        self.named(to)?;
        let modseq = self.next();
        let (mailbox, _) = self.selected(session)?;
        let messages = mailbox.messages.iter().filter(|(uid, _)| uids.contains(**uid));
        let messages: Vec<_> = messages.map(|(uid, m)| (*uid, m.clone())).collect();
        if messages.is_empty() {
            return Ok(Reply::Copied(None));
        }
        if removes {
            let uids: Vec<Uid> = messages.iter().map(|m| m.0).collect();
            mailbox.remove(&uids, modseq);
        }
        let from = messages.iter().map(|m| m.0).collect();
        let target = self.named(to)?;
        let to = messages.into_iter().map(|(_, message)| target.add(message, modseq)).collect();
        let uid_validity = target.uid_validity;
        Ok(Reply::Copied(Some(Copied { uid_validity, from, to })))
    }

    pub(super) fn append(&mut self, name: &MailboxName, messages: Vec<NewMessage>) -> Answer {
        self.named(name)?;
        let modseq = self.next();
        let (mut uids, mut message_ids) = (Vec::new(), Vec::new());
        for NewMessage { flags, internal_date, body } in messages {
            let message = Message {
                flags,
                modseq,
                date: internal_date.unwrap_or(Timestamp::utc(NOW)),
                id: MessageId::from_u128(self.mint().into()),
                derived: Arc::new(mime::derive(&body)),
                body,
            };
            message_ids.push(message.id);
            uids.push(self.named(name)?.add(message, modseq));
        }
        let Mailbox { id: mailbox, uid_validity, .. } = *self.named(name)?;
        Ok(Reply::Appended { mailbox, uid_validity, uids, message_ids })
    }

    fn search(&mut self, session: usize, query: &Query) -> Answer {
        let (mailbox, _) = self.selected(session)?;
        let matches = |(uid, m): &(&Uid, &Message)| {
            let facts = Facts {
                uid: **uid,
                flags: &m.flags,
                modseq: m.modseq,
                internal_date: m.date,
                size: m.body.len() as u64,
                ids: Some((m.id, ThreadId::from_u128(m.id.as_u128()))),
            };
            let (derived, octets) = (Some(&*m.derived), Some(&m.body));
            query.matches(&Evidence { facts, derived, octets }, NOW) == Verdict::Yes
        };
        let found = mailbox.messages.iter().filter(matches).map(|(uid, m)| (*uid, m.modseq));
        Ok(Reply::Found(found.collect()))
    }
}
