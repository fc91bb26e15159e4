//! The whole way through router, writer and engine against the reference model: every short
//! sequence of two sessions, and long random ones of three.

use bytes::Bytes;
use postroom_core::calls::{Call, NewMessage, Reply, Want};
use postroom_core::mailbox::model::{Labels, Model};
use postroom_core::search::Query;
use postroom_core::types::{
    Flag, FlagChange, FlagChangeKind, Flags, Keyword, ModSeq, SessionId, SystemFlag, Timestamp,
    Uid, UidSet,
};

use super::{Bench, Client, Random, all, mailbox, setting, uid};

/// Seed of the random sequences; `POSTROOM_SEED` sets another one.
const SEED: u64 = 20_261_123;
/// Random sequences of [`STEPS`] calls; `POSTROOM_SEQUENCES` sets another number.
const SEQUENCES: u64 = 60;
const STEPS: u64 = 150;
/// Length of the sequences that are all tried; `POSTROOM_SEQUENCE_LENGTH` sets another one.
const LENGTH: u64 = 2;

/// The real thing and the model, with what each session knows.
struct Pair<'a> {
    clients: Vec<Client<'a>>,
    model: Model,
    labels: (Labels, Labels),
    since: Vec<ModSeq>,
    known: Vec<Option<Uid>>,
    released: Vec<ModSeq>,
    appended: u64,
    compared: u64,
    log: Vec<String>,
}

impl<'a> Pair<'a> {
    async fn new(bench: &'a Bench, user: &str, sessions: usize) -> Self {
        let mut clients = Vec::new();
        for _ in 0..sessions {
            clients.push(bench.client(user).await);
        }
        Self {
            clients,
            model: Model::new(),
            labels: Default::default(),
            since: vec![ModSeq(0); sessions],
            known: vec![None; sessions],
            released: vec![ModSeq(0); sessions],
            appended: 0,
            compared: 0,
            log: Vec::new(),
        }
    }

    /// Makes a call on both sides and compares the answers.
    async fn call(&mut self, at: usize, call: Call) {
        self.log.push(format!("{at}: {call:?}"));
        let answer = self.clients[at].call(call.clone()).await;
        let expected = self.model.call(SessionId(at as u64), &call, 0);
        let real = self.labels.0.describe(&answer);
        let model = self.labels.1.describe(&expected);
        assert_eq!(real, model, "after {:#?}", self.log);
        self.compared += 1;
        match answer {
            Ok(Reply::Selected(selected)) => {
                self.since[at] = selected.status.highest_modseq;
                self.known[at] = Uid::new(selected.status.uid_next.get() - 1);
                self.released[at] = self.since[at];
            }
            Ok(Reply::Changes(changes)) => {
                self.since[at] = changes.upto;
                let last = changes.changed.last().map(|row| row.uid);
                self.known[at] = self.known[at].max(last);
            }
            _ => {}
        }
    }

    async fn select(&mut self, at: usize, name: &str, read_write: bool) {
        self.call(at, Call::Select { name: mailbox(name), read_write }).await;
    }

    async fn append(&mut self, at: usize, name: &str, flags: Flags) {
        self.appended += 1;
        let body = Bytes::from(format!("Subject: {}\r\n\r\nbody", self.appended));
        let internal_date = Some(Timestamp::utc(self.appended as i64));
        let messages = vec![NewMessage { flags, internal_date, body }];
        self.call(at, Call::Append { mailbox: mailbox(name), messages }).await;
    }

    /// Asks for changes; with `tell`, the session's client is told of all removals.
    async fn ask(&mut self, at: usize, tell: bool) {
        let (since, known, released) = (self.since[at], self.known[at], self.released[at]);
        self.call(at, Call::Changes { since, known, released }).await;
        if tell {
            self.released[at] = self.since[at];
            let (since, known, released) = (self.since[at], self.known[at], self.released[at]);
            self.call(at, Call::Changes { since, known, released }).await;
        }
    }

    async fn fetch(&mut self, at: usize, uids: UidSet) {
        for (header, body) in [(true, false), (false, true), (true, true)] {
            let want = Want { header, body, ..Want::default() };
            self.call(at, Call::Fetch { uids: uids.clone(), want }).await;
        }
    }

    /// One of the things that a session can do in the exhaustive sequences.
    async fn letter(&mut self, at: usize, letter: u64) {
        let store = |uids, kind, flag| {
            let flags = Flags::of([Flag::System(flag)]);
            Call::Store { uids, change: FlagChange { kind, flags }, unchanged_since: None }
        };
        let one = UidSet::range(uid(1), uid(1));
        let call = match letter {
            0 => return self.append(at, "INBOX", Flags::default()).await,
            1 => store(one, FlagChangeKind::Add, SystemFlag::Deleted),
            2 => store(all(), FlagChangeKind::Add, SystemFlag::Seen),
            3 => store(all(), FlagChangeKind::Remove, SystemFlag::Deleted),
            4 => Call::Expunge { uids: None },
            5 => Call::Move { uids: UidSet::range(uid(2), uid(2)), to: mailbox("other") },
            6 => Call::Copy { uids: all(), to: mailbox("INBOX") },
            7 => return self.ask(at, true).await,
            8 => return self.ask(at, false).await,
            _ => return self.select(at, "INBOX", true).await,
        };
        self.call(at, call).await;
    }

    async fn random(&mut self, random: &mut Random) {
        let at = random.below(self.clients.len() as u64) as usize;
        let name = mailbox(random.pick(&["INBOX", "a", "a/b", "b", "INBOX/x"]));
        let other = mailbox(random.pick(&["INBOX", "a", "a/b", "b", "c/d"]));
        let uids = uids(random);
        let call = match random.below(22) {
            0 => Call::Create { name, special_use: None },
            1 => Call::Delete { name },
            2 => Call::Rename { from: name, to: other },
            3 => Call::Subscribe { name, on: random.below(2) == 0 },
            4 => Call::Mailboxes,
            5 => Call::Status { name },
            6..=8 => return self.append(at, name.as_str(), flags(random)).await,
            9..=11 => Call::Store { uids, change: change(random), unchanged_since: None },
            12 => {
                let since = ModSeq(self.since[at].0.saturating_sub(random.below(4)));
                Call::Store { uids, change: change(random), unchanged_since: Some(since) }
            }
            13 => Call::Expunge { uids: None },
            14 => Call::Expunge { uids: Some(uids) },
            15 => Call::Copy { uids, to: other },
            16 => Call::Move { uids, to: other },
            17 => {
                let query = Query::Flag(Flag::System(SystemFlag::Deleted));
                Call::Search { query: Query::Not(Box::new(query)) }
            }
            18 => return self.select(at, name.as_str(), random.below(4) > 0).await,
            19 => return self.ask(at, true).await,
            20 => return self.ask(at, false).await,
            _ => return self.fetch(at, uids).await,
        };
        self.call(at, call).await;
    }
}

fn uids(random: &mut Random) -> UidSet {
    if random.below(4) == 0 {
        return UidSet::range(Uid::MIN, Uid::MAX);
    }
    let first = random.below(9) as u32 + 1;
    UidSet::range(uid(first), uid(first + random.below(3) as u32))
}

fn flags(random: &mut Random) -> Flags {
    let word = |text: &str| Flag::Keyword(Keyword::new(text).unwrap());
    let flags = [
        Flag::System(SystemFlag::Seen),
        Flag::System(SystemFlag::Deleted),
        Flag::System(SystemFlag::Flagged),
        word("$Junk"),
        word("red"),
    ];
    Flags::of((0..random.below(3)).map(|_| random.pick(&flags)))
}

fn change(random: &mut Random) -> FlagChange {
    let kinds = [FlagChangeKind::Add, FlagChangeKind::Remove, FlagChangeKind::Replace];
    FlagChange { kind: random.pick(&kinds), flags: flags(random) }
}

#[tokio::test]
async fn two_sessions_are_answered_as_the_model_says_in_every_order() {
    let bench = Bench::new();
    let length = setting("POSTROOM_SEQUENCE_LENGTH", LENGTH);
    let (letters, mut compared) = (20u64, 0);
    let sequences = letters.pow(length as u32);
    for sequence in 0..sequences {
        // Accounts are cheap: a new one for each sequence.
        let mut pair = Pair::new(&bench, &format!("user{sequence}"), 2).await;
        pair.call(0, Call::Create { name: mailbox("other"), special_use: None }).await;
        for _ in 0..2 {
            pair.append(0, "INBOX", Flags::default()).await;
        }
        pair.select(0, "INBOX", true).await;
        pair.select(1, "INBOX", true).await;
        let mut left = sequence;
        for _ in 0..length {
            pair.letter((left % 2) as usize, left / 2 % 10).await;
            left /= letters;
            pair.fetch(0, all()).await;
            pair.fetch(1, all()).await;
        }
        compared += pair.compared;
    }
    println!(
        "two sessions: {sequences} sequences of {length}, {compared} answers compared, 0 differences"
    );
}

#[tokio::test]
async fn random_sequences_are_answered_as_the_model_says() {
    let seed = setting("POSTROOM_SEED", SEED);
    let sequences = setting("POSTROOM_SEQUENCES", SEQUENCES);
    println!(
        "seed {seed}: {sequences} sequences of {STEPS} calls (POSTROOM_SEED, POSTROOM_SEQUENCES)"
    );
    let (bench, mut compared) = (Bench::new(), 0);
    for sequence in 0..sequences {
        let mut random = Random(seed.wrapping_add(sequence));
        let mut pair = Pair::new(&bench, &format!("user{sequence}"), 3).await;
        for _ in 0..STEPS {
            pair.random(&mut random).await;
        }
        compared += pair.compared;
    }
    println!("{compared} answers compared, 0 differences");
}
