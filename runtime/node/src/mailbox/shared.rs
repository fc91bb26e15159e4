//! What an account's writer and its readers share, under one short lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use postroom_core::mailbox::limits::MAX_GHOSTS;
use postroom_core::mailbox::{Account, Active, Mailbox, Sessions};
use postroom_core::types::{MailboxId, ModSeq, SessionId, Uid, UidSet};
use tokio::sync::watch;
use tracing::warn;

use super::ask::{DELETED, News};

/// The committed state and who looks at it.
pub struct Shared {
    /// What is committed; `None` before it was read, and while an outcome is unknown.
    pub state: Option<Account>,
    /// What was committed before the state was dropped: removed messages are found in it.
    pub previous: Option<Account>,
    /// Who has what active.
    pub sessions: Sessions,
    /// Subscriptions, one sender for each mailbox that anybody has had active.
    watches: HashMap<MailboxId, watch::Sender<News>>,
    /// Mailboxes whose claims of what is recent are in memory only.
    pub claimed: BTreeSet<MailboxId>,
    /// Open mailboxes with removals that a session brought along from where they were open before.
    departing: BTreeSet<MailboxId>,
    /// Mailboxes with removed messages that are not settled.
    unsettled: BTreeSet<MailboxId>,
    /// Open mailboxes, by when they were last made active or used.
    opened: BTreeMap<MailboxId, u64>,
    clock: u64,
    /// Removed messages of one mailbox that are kept for sessions that have not told of them.
    max_ghosts: usize,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            state: None,
            previous: None,
            sessions: Sessions::default(),
            watches: HashMap::new(),
            claimed: BTreeSet::new(),
            departing: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            opened: BTreeMap::new(),
            clock: 0,
            max_ghosts: MAX_GHOSTS,
        }
    }
}

/// A snapshot of a session's active mailbox.
pub struct ActiveMailbox {
    /// How the session has it.
    pub active: Active,
    /// As it is committed.
    pub mailbox: Arc<Mailbox>,
}

impl Shared {
    /// Makes an open mailbox active; `None` when it is not open (or not there).
    pub fn select(
        &mut self,
        session: SessionId,
        id: MailboxId,
        read_write: bool,
    ) -> Option<(Arc<Mailbox>, UidSet, watch::Receiver<News>)> {
        self.state.as_ref()?.mailbox(id)?.open.as_ref()?;
        let recent = self.recent(id, read_write);
        let mailbox = self.state.as_ref()?.mailbox(id)?.clone();
        let highest = mailbox.counters.highest_modseq;
        self.sessions.select(session, id, read_write, highest);
        self.used(id);
        let watch = self.watches.entry(id).or_insert_with(|| watch::channel(News::at(highest)).0);
        Some((mailbox, recent, watch.subscribe()))
    }

    /// Makes an open mailbox active for a session that had it active on another node and has told its
    /// client of removals up to `released`. `removals` are those after it, as they were when `removed`
    /// was the last one; `None` when that is not so any more, or the mailbox is not open.
    pub fn attach(
        &mut self,
        session: SessionId,
        id: MailboxId,
        read_write: bool,
        (released, removed): (ModSeq, ModSeq),
        removals: &[(ModSeq, Uid)],
    ) -> Option<watch::Receiver<News>> {
        let mailbox = self.state.as_mut()?.mailbox_mut(id)?;
        let highest = mailbox.counters.highest_modseq;
        // Or those that are asked for were forgotten meanwhile.
        let forgotten = released < removed && released < mailbox.counters.low_water;
        if mailbox.counters.removed != removed || forgotten {
            return None;
        }
        mailbox.open.as_mut()?.depart(removals);
        self.note_departing(id);
        self.sessions.select(session, id, read_write, released);
        self.used(id);
        Some(
            self.watches
                .entry(id)
                .or_insert_with(|| watch::channel(News::at(highest)).0)
                .subscribe(),
        )
    }

    /// A draft that is on its way does not know of removals that a session brought along.
    fn note_departing(&mut self, id: MailboxId) {
        let open = self.state.as_ref().and_then(|account| account.mailbox(id)?.open.as_ref());
        if open.is_some_and(|open| !open.departed.is_empty()) {
            self.departing.insert(id);
        }
    }

    /// What is recent, claimed when the session may write.
    pub fn recent(&mut self, id: MailboxId, claim: bool) -> UidSet {
        let Some(account) = &mut self.state else { return UidSet::default() };
        match account.mailbox(id) {
            Some(mailbox) if mailbox.counters.recent > 0 => match claim {
                true => {
                    self.claimed.insert(id);
                    account.mailbox_mut(id).map_or_else(UidSet::default, Mailbox::claim_recent)
                }
                false => mailbox.recent(),
            },
            _ => UidSet::default(),
        }
    }

    /// The session's active mailbox; `None` when it has none or it has been deleted.
    pub fn active(&self, session: SessionId) -> Option<ActiveMailbox> {
        let active = self.sessions.active(session)?;
        let mailbox = self.state.as_ref()?.mailbox(active.mailbox)?.clone();
        Some(ActiveMailbox { active, mailbox })
    }

    /// Notes that a mailbox is in use.
    pub fn used(&mut self, id: MailboxId) {
        self.clock += 1;
        self.opened.insert(id, self.clock);
    }

    /// Puts a committed state in place of the one before and tells the watchers of what changed.
    pub fn install(&mut self, mut account: Account, touched: &BTreeSet<MailboxId>) {
        if let Some(before) = self.state.as_ref().or(self.previous.as_ref()) {
            account.adopt(before, self.claimed.iter().copied(), self.departing.iter().copied());
        }
        self.previous = None;
        self.state = Some(account);
        // The draft may bring back what sessions were told of while it was on its way.
        let ghosts: Vec<MailboxId> = self.unsettled.union(touched).copied().collect();
        ghosts.into_iter().for_each(|id| self.forget_told(id));
        std::mem::take(&mut self.departing).into_iter().for_each(|id| self.note_departing(id));
        touched.iter().for_each(|id| self.shed(*id));
        for id in touched {
            self.note_unsettled(*id);
            let mailbox = self.state.as_ref().and_then(|account| account.mailbox(*id));
            let highest = mailbox.map_or(DELETED, |mailbox| mailbox.counters.highest_modseq);
            if mailbox.is_some_and(|mailbox| mailbox.open.is_some()) {
                self.used(*id);
            } else {
                self.opened.remove(id);
            }
            self.announce(*id, highest);
        }
    }

    /// Puts a state that was read in its place, and tells every watcher: what they missed is not
    /// known.
    pub fn install_read(&mut self, account: Account) {
        let all: Vec<MailboxId> = account.by_name().map(|mailbox| mailbox.row.id).collect();
        self.unsettled.clear();
        all.iter().for_each(|id| {
            let counters = account.mailbox(*id).map(|mailbox| mailbox.counters);
            if counters.is_some_and(|counters| counters.settled < counters.removed) {
                self.unsettled.insert(*id);
            }
        });
        let watched: BTreeSet<MailboxId> = self.watches.keys().copied().collect();
        self.opened.clear();
        self.install(account, &watched);
    }

    fn note_unsettled(&mut self, id: MailboxId) {
        let mailbox = self.state.as_ref().and_then(|account| account.mailbox(id));
        match mailbox.is_some_and(|mailbox| mailbox.counters.settled < mailbox.counters.removed) {
            true => self.unsettled.insert(id),
            false => self.unsettled.remove(&id),
        };
    }

    /// The next mailbox with removals that can be settled now.
    pub fn next_settleable(&self) -> Option<(MailboxId, ModSeq, ModSeq)> {
        let due = |id: &MailboxId| self.settleable(*id).map(|(after, upto)| (*id, after, upto));
        self.unsettled.iter().find_map(due)
    }

    fn announce(&mut self, id: MailboxId, highest: ModSeq) {
        let Some(watch) = self.watches.get(&id) else { return };
        watch.send_replace(News::at(highest));
        if highest == DELETED || watch.is_closed() {
            self.watches.remove(&id);
        }
    }

    /// Drops the state: it is not known what is committed.
    pub fn drop_state(&mut self) {
        if let Some(state) = self.state.take() {
            self.previous = Some(state);
        }
    }

    /// Forgets removed messages of a mailbox that every session has been told of.
    pub fn forget_told(&mut self, id: MailboxId) {
        let told = self.sessions.told(id);
        let Some(account) = &mut self.state else { return };
        let open = account.mailbox(id).and_then(|mailbox| mailbox.open.as_ref());
        let first = open.and_then(|open| open.first_removal());
        if first.is_some_and(|first| told.is_none_or(|told| first <= told))
            && let Some(open) = account.mailbox_mut(id).and_then(|mailbox| mailbox.open.as_mut())
        {
            open.forget(told);
        }
    }

    /// Takes a mailbox from the sessions that are most behind while more of its removed messages are
    /// kept for them than may be. Their next call finds no active mailbox.
    fn shed(&mut self, id: MailboxId) {
        let ghosts = |shared: &Self| {
            let mailbox = shared.state.as_ref().and_then(|account| account.mailbox(id));
            mailbox.and_then(|mailbox| mailbox.open.as_ref()).map_or(0, |open| open.ghosts.len())
        };
        while ghosts(self) > self.max_ghosts
            && let Some(slowest) = self.sessions.slowest(id)
        {
            warn!(session = slowest.0, mailbox = %id, "does not take in what was removed");
            self.sessions.deselect(slowest);
            self.forget_told(id);
        }
    }

    /// Takes a mailbox from every session that has it active, and wakes them: what they know of it
    /// holds no longer.
    pub fn evict(&mut self, id: MailboxId) {
        while let Some(session) = self.sessions.slowest(id) {
            self.sessions.deselect(session);
        }
        self.announce(id, DELETED);
    }

    /// Removals of a mailbox that can be settled now: after which mod-sequence, up to which.
    pub fn settleable(&self, id: MailboxId) -> Option<(ModSeq, ModSeq)> {
        let counters = self.state.as_ref()?.mailbox(id)?.counters;
        let told = self.sessions.told(id).unwrap_or(counters.removed);
        let upto = told.min(counters.removed);
        (upto > counters.settled).then_some((counters.settled, upto))
    }

    /// Closes mailboxes that no session has active, all but the last used `keep`. Only the writer
    /// does, between batches: a draft would bring them back.
    pub fn close_idle(&mut self, keep: usize) {
        let sessions = &self.sessions;
        let idle = self.opened.iter().filter(|(id, _)| sessions.count(**id) == 0);
        let mut idle: Vec<(u64, MailboxId)> = idle.map(|(id, used)| (*used, *id)).collect();
        idle.sort_unstable();
        let close = idle.len().saturating_sub(keep);
        for (_, id) in &idle[..close] {
            self.opened.remove(id);
            self.watches.remove(id);
            let Some(account) = &mut self.state else { continue };
            if let Some(mailbox) = account.mailbox_mut(*id) {
                mailbox.open = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use postroom_core::mailbox::{Arrival, Context, Draft, Op, StoreFlags, Target};
    use postroom_core::types::{
        Flag, FlagChange, FlagChangeKind, Flags, MailboxName, SystemFlag, ThreadId, Timestamp, Uid,
    };

    use super::*;

    const SLOW: SessionId = SessionId(1);
    const QUICK: SessionId = SessionId(2);

    /// Ids that were never there before.
    fn mint(minted: &mut u128) -> [u8; 16] {
        *minted += 1;
        minted.to_be_bytes()
    }

    fn commit(shared: &mut Shared, minted: &mut u128, op: &Op) {
        let mut draft = Draft::new(&shared.state.clone().unwrap_or_default());
        let mut context = Context { now: 1, quota: None, mint: &mut || mint(minted) };
        draft.plan(op, &mut context).unwrap();
        let (account, touched) = draft.into_account();
        shared.install(account, &touched);
    }

    fn arrival() -> Arrival {
        Arrival {
            flags: Flags::of([Flag::System(SystemFlag::Deleted)]),
            internal_date: Timestamp::utc(0),
            size: 1,
            thread_id: ThreadId([1; 16]),
            from: Vec::new(),
            to: Vec::new(),
            cc: Vec::new(),
            bcc: Vec::new(),
        }
    }

    fn uids(first: u32, last: u32) -> UidSet {
        UidSet::range(Uid::new(first).unwrap(), Uid::new(last).unwrap())
    }

    /// INBOX with six messages, of which two removed ones are kept; two sessions have it active.
    fn inbox() -> (Shared, u128, MailboxId, watch::Receiver<News>) {
        let (mut shared, mut minted) = (Shared { max_ghosts: 2, ..Shared::default() }, 0);
        let target = Target::Delivery(None);
        commit(&mut shared, &mut minted, &Op::Append { target, messages: vec![arrival(); 6] });
        let state = shared.state.as_ref().unwrap();
        let id = state.find(&MailboxName::inbox()).unwrap().row.id;
        let (_, _, watch) = shared.select(SLOW, id, true).unwrap();
        shared.select(QUICK, id, true).unwrap();
        (shared, minted, id, watch)
    }

    fn expunge(shared: &mut Shared, minted: &mut u128, mailbox: MailboxId, uids: UidSet) {
        let (uids, done) = (Some(uids), UidSet::default());
        commit(shared, minted, &Op::Expunge { mailbox, uids, done });
    }

    #[test]
    fn the_session_that_is_most_behind_loses_the_mailbox_when_too_much_is_kept_for_it() {
        let (mut shared, mut minted, id, mut watch) = inbox();
        expunge(&mut shared, &mut minted, id, uids(1, 2));
        assert!(shared.active(SLOW).is_some(), "two are kept for it");
        let told = shared.state.as_ref().unwrap().mailbox(id).unwrap().counters.removed;
        shared.sessions.release(QUICK, told);
        watch.mark_unchanged();
        expunge(&mut shared, &mut minted, id, uids(3, 4));
        assert!(shared.active(SLOW).is_none());
        assert!(watch.has_changed().unwrap(), "and hears that there is something to ask for");
        let active = shared.active(QUICK).expect("two are kept for the other");
        assert_eq!(active.mailbox.open.as_ref().unwrap().ghosts.len(), 2);
    }

    #[test]
    fn nobody_loses_a_mailbox_that_others_only_flag() {
        let (mut shared, mut minted, id, _) = inbox();
        let change = FlagChange {
            kind: FlagChangeKind::Add,
            flags: Flags::of([Flag::System(SystemFlag::Seen)]),
        };
        let store = StoreFlags {
            mailbox: id,
            uids: uids(1, 6),
            change,
            unchanged_since: None,
            done: UidSet::default(),
            modified: UidSet::default(),
        };
        commit(&mut shared, &mut minted, &Op::Store(store));
        assert!(shared.active(SLOW).is_some() && shared.active(QUICK).is_some());
    }
}
