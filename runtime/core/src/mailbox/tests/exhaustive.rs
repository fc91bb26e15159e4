//! Two sessions on one mailbox: every sequence of a small alphabet up to a length, each answer and,
//! after each call, what both sessions see compared with the model.

use bytes::Bytes;

use super::harness::Pair;
use crate::calls::{Call, NewMessage, Want};
use crate::types::{
    Flag, FlagChange, FlagChangeKind, Flags, MailboxName, ModSeq, SessionId, SystemFlag, Timestamp,
    Uid, UidSet,
};

const A: SessionId = SessionId(1);
const B: SessionId = SessionId(2);
/// Length of the sequences; `POSTROOM_SEQUENCE_LENGTH` sets another one.
const LENGTH: u32 = 3;

/// What a session can do in a sequence.
#[derive(Clone, Copy, Debug)]
enum Letter {
    Append,
    DeleteFirst,
    SeeAll,
    UndeleteAll,
    Expunge,
    MoveSecond,
    CopyAll,
    /// Asks for changes and tells its client all of them.
    Tell,
    /// Asks for changes and keeps removals back.
    Hold,
    Reselect,
}

const LETTERS: [Letter; 10] = [
    Letter::Append,
    Letter::DeleteFirst,
    Letter::SeeAll,
    Letter::UndeleteAll,
    Letter::Expunge,
    Letter::MoveSecond,
    Letter::CopyAll,
    Letter::Tell,
    Letter::Hold,
    Letter::Reselect,
];

/// Both sides, and up to where each session knows.
#[derive(Clone)]
struct State {
    pair: Pair,
    since: [ModSeq; 2],
    known: [Option<Uid>; 2],
    released: [ModSeq; 2],
    appended: u32,
}

fn name(text: &str) -> MailboxName {
    MailboxName::new(text).unwrap()
}

fn uids(first: u32, last: u32) -> UidSet {
    UidSet::range(Uid::new(first).unwrap(), Uid::new(last).unwrap())
}

fn store(uids: UidSet, kind: FlagChangeKind, flag: SystemFlag) -> Call {
    let flags = Flags::of([Flag::System(flag)]);
    Call::Store { uids, change: FlagChange { kind, flags }, unchanged_since: None }
}

impl State {
    fn new() -> Self {
        let mut state = Self {
            pair: Pair::new(),
            since: [ModSeq(0); 2],
            known: [None; 2],
            released: [ModSeq(0); 2],
            appended: 0,
        };
        state.pair.call(A, Call::Create { name: name("other"), special_use: None });
        for _ in 0..2 {
            state.append(A);
        }
        state.select(A);
        state.select(B);
        state
    }

    fn append(&mut self, session: SessionId) {
        self.appended += 1;
        let body = Bytes::from(format!("message {}", self.appended));
        let internal_date = Some(Timestamp::utc(i64::from(self.appended)));
        let message = NewMessage { flags: Flags::default(), internal_date, body };
        let mailbox = MailboxName::inbox();
        self.pair.call(session, Call::Append { mailbox, messages: vec![message] });
    }

    fn select(&mut self, session: SessionId) {
        let read_write = true;
        self.pair.call(session, Call::Select { name: MailboxName::inbox(), read_write });
        let highest = self.pair.highest(session);
        self.since[at(session)] = highest;
        self.known[at(session)] = self.pair.last_uid(session);
        self.released[at(session)] = highest;
    }

    fn act(&mut self, session: SessionId, letter: Letter) {
        let all = uids(1, u32::MAX);
        let call = match letter {
            Letter::Append => return self.append(session),
            Letter::Reselect => return self.select(session),
            Letter::DeleteFirst => store(uids(1, 1), FlagChangeKind::Add, SystemFlag::Deleted),
            Letter::SeeAll => store(all, FlagChangeKind::Add, SystemFlag::Seen),
            Letter::UndeleteAll => store(all, FlagChangeKind::Remove, SystemFlag::Deleted),
            Letter::Expunge => Call::Expunge { uids: None },
            Letter::MoveSecond => Call::Move { uids: uids(2, 2), to: name("other") },
            Letter::CopyAll => Call::Copy { uids: all, to: MailboxName::inbox() },
            Letter::Tell | Letter::Hold => return self.ask(session, letter),
        };
        self.pair.call(session, call);
    }

    fn ask(&mut self, session: SessionId, letter: Letter) {
        let at = at(session);
        let (since, known) = (self.since[at], self.known[at]);
        self.pair.call(session, Call::Changes { since, known, released: self.released[at] });
        self.since[at] = self.pair.highest(session).max(since);
        self.known[at] = self.pair.last_uid(session);
        if matches!(letter, Letter::Tell) {
            self.released[at] = self.since[at];
            let (since, known) = (self.since[at], self.known[at]);
            self.pair.call(session, Call::Changes { since, known, released: since });
        }
    }

    /// What both see, which none of this changes.
    fn look(&mut self) {
        for session in [A, B] {
            let want = Want { body: true, ..Want::default() };
            self.pair.call(session, Call::Fetch { uids: uids(1, u32::MAX), want });
        }
        self.pair.call(A, Call::Status { name: MailboxName::inbox() });
    }
}

fn at(session: SessionId) -> usize {
    session.0 as usize - 1
}

fn explore(state: &State, length: u32, sequences: &mut u64, compared: &mut u64) {
    for session in [A, B] {
        for letter in LETTERS {
            let mut next = state.clone();
            next.pair.compared = 0;
            next.act(session, letter);
            next.look();
            next.pair.check_disk();
            *compared += next.pair.compared;
            *sequences += 1;
            if length > 1 {
                explore(&next, length - 1, sequences, compared);
            }
        }
    }
}

#[test]
fn two_sessions_see_what_the_model_says_in_every_order() {
    let length = std::env::var("POSTROOM_SEQUENCE_LENGTH").ok();
    let length = length.and_then(|text| text.parse().ok()).unwrap_or(LENGTH);
    let (mut sequences, mut compared) = (0, 0);
    explore(&State::new(), length, &mut sequences, &mut compared);
    println!(
        "two sessions, {} calls each, up to {length} in a row: {sequences} sequences, \
         {compared} answers compared, 0 differences",
        LETTERS.len()
    );
}
