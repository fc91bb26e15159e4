//! The view against a mailbox and a client that are as plain as can be.

use std::collections::BTreeMap;

use proptest::prelude::*;

use std::sync::Arc;

use super::*;
use crate::calls::MailboxStatus;
use crate::mailbox::{Facts, Mailbox};
use crate::records::MailboxRow;
use crate::types::{Flag, MailboxId, MailboxName, MessageId, ThreadId, Timestamp, UidValidity};

/// A mailbox: messages by UID with flags and mod-sequence, and the removals.
#[derive(Default)]
struct Server {
    messages: BTreeMap<Uid, (Flags, ModSeq)>,
    removed: Vec<(Uid, ModSeq)>,
    last_uid: u32,
    modseq: u64,
}

/// A client that believes what it is told: for each number the message and its flags.
#[derive(Default)]
struct Client {
    messages: Vec<(Uid, Flags)>,
}

fn uid(n: u32) -> Uid {
    Uid::new(n).unwrap()
}

fn flags(text: &str) -> Flags {
    Flags::of(text.split_whitespace().filter_map(Flag::parse))
}

impl Server {
    fn with(messages: u32) -> Self {
        let mut server = Self::default();
        (0..messages).for_each(|_| server.append());
        server
    }

    fn next(&mut self) -> ModSeq {
        self.modseq += 1;
        ModSeq(self.modseq)
    }

    fn append(&mut self) {
        self.last_uid += 1;
        let modseq = self.next();
        self.messages.insert(uid(self.last_uid), (Flags::default(), modseq));
    }

    fn set(&mut self, which: usize, new: Flags) -> Option<FlagRow> {
        let uid = *self.messages.keys().nth(which % self.messages.len().max(1))?;
        let modseq = self.next();
        self.messages.insert(uid, (new.clone(), modseq));
        Some(FlagRow { uid, flags: new, modseq })
    }

    fn remove(&mut self, which: usize) {
        let uid = self.messages.keys().nth(which % self.messages.len().max(1)).copied();
        if let Some(uid) = uid {
            self.messages.remove(&uid);
            let modseq = self.next();
            self.removed.push((uid, modseq));
        }
    }

    fn selected(&self) -> Selected {
        Selected {
            status: MailboxStatus {
                mailbox: MailboxId::from_u128(1),
                messages: self.messages.len() as u32,
                recent: 0,
                unseen: 0,
                deleted: 0,
                size: 0,
                uid_next: uid(self.last_uid + 1),
                uid_validity: UidValidity(1.try_into().unwrap()),
                highest_modseq: ModSeq(self.modseq),
            },
            uids: self.messages.keys().copied().collect(),
            recent: UidSet::default(),
            first_unseen: None,
            keywords: Vec::new(),
            read_write: true,
        }
    }

    fn changes(&self, since: ModSeq) -> Changes {
        let row = |(uid, (flags, modseq)): (&Uid, &(Flags, ModSeq))| FlagRow {
            uid: *uid,
            flags: flags.clone(),
            modseq: *modseq,
        };
        Changes {
            upto: ModSeq(self.modseq),
            changed: self.messages.iter().map(row).filter(|row| row.modseq > since).collect(),
            expunged: self.removed.iter().filter(|r| r.1 > since).map(|r| r.0).collect(),
            recent: UidSet::default(),
        }
    }
}

impl Server {
    /// The same mailbox as the session's owner has it.
    fn mailbox(&self) -> Mailbox {
        let row = MailboxRow {
            id: MailboxId::from_u128(1),
            name: MailboxName::inbox(),
            uid_validity: UidValidity(1.try_into().unwrap()),
            special_use: None,
            extra: Vec::new(),
        };
        let mut mailbox = Mailbox::new(row, ModSeq(0));
        mailbox.counters.highest_modseq = ModSeq(self.modseq);
        let open = mailbox.open.as_mut().unwrap();
        for (uid, (flags, modseq)) in &self.messages {
            let keywords = open.keywords.assign(flags, || u64::MAX).unwrap();
            open.index.push(&facts(*uid, flags, keywords, *modseq)).unwrap();
        }
        let ghosts = Arc::make_mut(&mut open.ghosts);
        for (uid, modseq) in &self.removed {
            ghosts.insert((*modseq, *uid), facts(*uid, &Flags::default(), 0, *modseq));
        }
        mailbox
    }

    /// What its owner answers to a view, in a piece of so many rows.
    fn piece(&self, view: &View, rows: usize) -> Changes {
        self.mailbox().changes_within(view.since(), view.known(), rows)
    }
}

fn facts(uid: Uid, flags: &Flags, keywords: u64, modseq: ModSeq) -> Facts {
    Facts {
        uid,
        modseq,
        system: flags.system_bits(),
        keywords,
        internal_date: Timestamp::utc(0),
        save_date: 0,
        size: 1,
        message_id: MessageId::from_u128(1),
        thread_id: ThreadId::from_u128(1),
    }
}

impl Client {
    fn of(server: &Server) -> Self {
        let messages = server.messages.iter().map(|(uid, m)| (*uid, m.0.clone())).collect();
        Self { messages }
    }

    /// Believes the notices; asks the server for what it does not know, as clients do.
    fn hear(&mut self, notices: Vec<Notice>, view: &View, server: &Server) {
        for notice in notices {
            match notice {
                Notice::Expunge(n) => drop(self.messages.remove(n as usize - 1)),
                Notice::Exists(n) => {
                    assert!(n as usize > self.messages.len(), "EXISTS takes nothing away");
                    for sequence in self.messages.len() as u32 + 1..=n {
                        let uid = view.uid_at(sequence).expect("a number that was told");
                        let flags = server.messages.get(&uid).map(|m| m.0.clone());
                        self.messages.push((uid, flags.unwrap_or_default()));
                    }
                }
                Notice::Flags { sequence, uid, flags, .. } => {
                    let known = &mut self.messages[sequence as usize - 1];
                    assert_eq!(known.0, uid);
                    known.1 = flags;
                }
                Notice::Keywords(_) | Notice::Recent(_) | Notice::Silent { .. } => {}
            }
        }
        let numbers: Vec<Uid> = self.messages.iter().map(|m| m.0).collect();
        assert_eq!(numbers, view.uids, "both ends number alike");
        assert!(view.exists() as usize == numbers.len() && view.released <= view.since);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append,
    Set(usize, bool),
    Remove(usize),
    /// The session's own STORE, shown or silent.
    Own(usize, bool, Echo),
    /// Of so many rows at most.
    Flush(Expunges, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let expunges = prop_oneof![Just(Expunges::Tell), Just(Expunges::Hold)];
    let echo = prop_oneof![Just(Echo::Show), Just(Echo::Silent)];
    prop_oneof![
        Just(Step::Append),
        (any::<usize>(), any::<bool>()).prop_map(|(n, on)| Step::Set(n, on)),
        any::<usize>().prop_map(Step::Remove),
        (any::<usize>(), any::<bool>(), echo).prop_map(|(n, on, echo)| Step::Own(n, on, echo)),
        (expunges, 1usize..6).prop_map(|(expunges, rows)| Step::Flush(expunges, rows)),
    ]
}

fn flag(on: bool) -> Flags {
    flags(if on { "\\Seen work" } else { "" })
}

proptest! {
    /// Whatever happens in the mailbox, whenever the client is told and in whatever pieces: in
    /// between both ends number alike, and after the last piece the client knows the mailbox as it
    /// is.
    #[test]
    fn the_client_ends_with_what_the_mailbox_has(steps in prop::collection::vec(step(), 0..40)) {
        let mut server = Server::with(5);
        let (mut view, mut client) = (View::new(&server.selected()), Client::of(&server));
        // Each piece tells of one message or commit at least.
        let rest = vec![Step::Flush(Expunges::Tell, 1); 2 * steps.len() + 1];
        for step in steps.into_iter().chain(rest) {
            match step {
                Step::Append => server.append(),
                Step::Set(n, on) => drop(server.set(n, flag(on))),
                Step::Remove(n) => server.remove(n),
                Step::Own(n, on, echo) => {
                    let row = server.set(n, flag(on)).filter(|r| view.sequence_of(r.uid).is_some());
                    if let Some(row) = row {
                        let sequence = view.sequence_of(row.uid).unwrap();
                        if echo == Echo::Silent {
                            client.messages[sequence as usize - 1].1 = row.flags.clone();
                        }
                        let notices = view.stored(vec![row], echo);
                        client.hear(notices, &view, &server);
                    }
                }
                Step::Flush(expunges, rows) => {
                    let notices = view.tell(server.piece(&view, rows), expunges);
                    let told = notices.iter().any(|n| matches!(n, Notice::Expunge(_)));
                    prop_assert!(!told || expunges == Expunges::Tell);
                    client.hear(notices, &view, &server);
                }
            }
        }
        let truth: Vec<_> = server.messages.iter().map(|(u, m)| (*u, m.0.clone())).collect();
        prop_assert_eq!(client.messages, truth);
        prop_assert_eq!(view.released(), ModSeq(server.modseq));
        prop_assert!(!view.holds_expunges() && !view.is_ahead());
    }
}

#[test]
fn a_new_message_that_was_flagged_after_the_first_piece_ends_is_told() {
    let mut server = Server::with(5);
    let (mut view, mut client) = (View::new(&server.selected()), Client::of(&server));
    (0..3).for_each(|_| server.append());
    server.set(5, flag(true));
    let first = server.piece(&view, 2);
    assert_eq!((first.upto, first.changed.len()), (ModSeq(5), 2), "in the order of UIDs");
    client.hear(view.tell(first, Expunges::Tell), &view, &server);
    assert_eq!(view.known(), Some(uid(7)));
    let second = server.piece(&view, 2);
    client.hear(view.tell(second, Expunges::Tell), &view, &server);
    assert_eq!(view.uids, (1..=8).map(uid).collect::<Vec<_>>());
    while view.since() < ModSeq(server.modseq) {
        let piece = server.piece(&view, 2);
        assert_eq!(view.tell(piece, Expunges::Tell), [], "these were asked for");
    }
    assert_eq!(client.messages[5].1, flag(true));
}

/// A view of messages 1 to 5, and what is told of these changes.
fn check(changes: Changes, expunges: Expunges, expected: &[Notice]) -> View {
    let mut view = View::new(&Server::with(5).selected());
    assert_eq!(view.tell(changes, expunges), expected);
    view
}

fn gone(uids: &[u32], upto: u64) -> Changes {
    let expunged = uids.iter().map(|n| uid(*n)).collect();
    Changes { upto: ModSeq(upto), expunged, ..Changes::default() }
}

fn row(n: u32, modseq: u64) -> FlagRow {
    FlagRow { uid: uid(n), flags: flags("\\Seen"), modseq: ModSeq(modseq) }
}

#[test]
fn expunges_are_told_from_the_highest_number_down() {
    let notices = [Notice::Expunge(4), Notice::Expunge(2)];
    let view = check(gone(&[2, 4], 7), Expunges::Tell, &notices);
    assert_eq!(view.uid_at(2), Some(uid(3)));
    assert_eq!((view.sequence_of(uid(5)), view.sequence_of(uid(4))), (Some(3), None));
}

#[test]
fn a_held_expunge_keeps_its_number_and_its_body() {
    let mut view = check(gone(&[2], 6), Expunges::Hold, &[]);
    assert_eq!(view.uid_at(2), Some(uid(2)));
    assert_eq!((view.since(), view.released()), (ModSeq(6), ModSeq(5)));
    let arrival = Changes { upto: ModSeq(7), changed: vec![row(6, 7)], ..Changes::default() };
    let notices = view.tell(arrival, Expunges::Hold);
    assert_eq!(notices, [Notice::Exists(6), Notice::Recent(0)]);
    assert_eq!(view.tell(gone(&[], 7), Expunges::Tell), [Notice::Expunge(2)]);
    assert_eq!(view.released(), ModSeq(7));
}

#[test]
fn a_message_that_came_and_went_is_never_mentioned() {
    let mut changes = gone(&[6], 7);
    changes.recent = UidSet::range(uid(6), uid(6));
    check(changes, Expunges::Tell, &[]);
}

#[test]
fn a_message_told_as_gone_does_not_come_back() {
    let mut view = check(gone(&[5], 6), Expunges::Tell, &[Notice::Expunge(5)]);
    let late = Changes { upto: ModSeq(7), changed: vec![row(5, 7)], ..Changes::default() };
    assert_eq!(view.tell(late, Expunges::Tell), []);
    assert_eq!(view.exists(), 4);
}

#[test]
fn recent_follows_arrivals_and_expunges() {
    let mut server = Server::with(2);
    let mut selected = server.selected();
    selected.recent = UidSet::range(uid(2), uid(2));
    let mut view = View::new(&selected);
    assert_eq!(view.recent(), 1);
    server.append();
    let mut changes = server.changes(view.since());
    changes.recent = UidSet::range(uid(3), uid(3));
    assert_eq!(view.tell(changes, Expunges::Tell), [Notice::Exists(3), Notice::Recent(2)]);
    assert_eq!(view.tell(gone(&[2], 4), Expunges::Tell), [Notice::Expunge(2)]);
    assert_eq!((view.recent(), view.is_recent(uid(2)), view.is_recent(uid(3))), (1, false, true));
}

#[test]
fn what_a_fetch_has_shown_is_not_told_again() {
    let mut view = check(Changes::default(), Expunges::Tell, &[]);
    assert!(view.is_news(uid(3), ModSeq(6)));
    assert_eq!(view.learn(uid(3), &flags("\\Seen"), ModSeq(6)), None);
    assert!(!view.is_news(uid(3), ModSeq(6)) && view.is_ahead());
    let changed = vec![row(3, 6), row(4, 7)];
    let told =
        view.tell(Changes { upto: ModSeq(7), changed, ..Changes::default() }, Expunges::Hold);
    let flags = flags("\\Seen");
    let (sequence, uid, modseq) = (4, uid(4), ModSeq(7));
    assert_eq!(told, [Notice::Flags { sequence, uid, flags, recent: false, modseq }]);
}

#[test]
fn new_keywords_are_told_before_the_flags_that_have_them() {
    let mut view = check(Changes::default(), Expunges::Tell, &[]);
    let row = FlagRow { uid: uid(1), flags: flags("work"), modseq: ModSeq(6) };
    let notices = view.stored(vec![row.clone()], Echo::Show);
    assert!(
        matches!(&notices[..], [Notice::Keywords(all), Notice::Flags { .. }] if all.len() == 1)
    );
    let notices = view.stored(vec![FlagRow { modseq: ModSeq(7), ..row }], Echo::Silent);
    assert!(matches!(notices[..], [Notice::Silent { .. }]));
}

#[test]
fn sets_are_clipped_to_what_the_client_knows() {
    let view = check(gone(&[2], 6), Expunges::Tell, &[Notice::Expunge(2)]);
    let clip = |first, last| view.clip(&UidSet::range(uid(first), uid(last))).to_string();
    assert_eq!(clip(1, u32::MAX), "1:5");
    assert_eq!(clip(2, 2), "");
    assert_eq!(clip(2, 4), "3:4");
    assert_eq!(view.count(&UidSet::range(uid(1), Uid::MAX)), 4);
    assert_eq!((view.uid_at(0), view.uid_at(5)), (None, None));
}
