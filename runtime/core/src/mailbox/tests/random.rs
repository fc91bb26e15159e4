//! Long random sequences with several sessions and mailboxes, in batches of one to four.

use bytes::Bytes;
use proptest::prelude::*;

use super::harness::Pair;
use crate::calls::{Call, NewMessage, Want};
use crate::types::{
    Flag, FlagChange, FlagChangeKind, Flags, Keyword, MailboxName, ModSeq, SessionId, SystemFlag,
    Timestamp, Uid, UidSet,
};

const NAMES: [&str; 7] = ["INBOX", "a", "a/b", "a/b/c", "b", "INBOX/x", "c/d"];

fn name() -> impl Strategy<Value = MailboxName> {
    prop::sample::select(&NAMES[..]).prop_map(|name| MailboxName::new(name).unwrap())
}

fn flags() -> impl Strategy<Value = Flags> {
    let system = prop::sample::subsequence(SystemFlag::ALL.to_vec(), 0..3);
    let words = prop::sample::subsequence(vec!["red", "Blue", "$Junk"], 0..2);
    (system, words).prop_map(|(system, words)| {
        let words = words.into_iter().map(|word| Flag::Keyword(Keyword::new(word).unwrap()));
        Flags::of(system.into_iter().map(Flag::System).chain(words))
    })
}

fn uids() -> impl Strategy<Value = UidSet> {
    let range = (1u32..12, 0u32..4);
    prop_oneof![
        1 => Just(UidSet::range(Uid::MIN, Uid::MAX)),
        3 => prop::collection::vec(range, 1..3).prop_map(|ranges| {
            let mut set = UidSet::default();
            for (first, more) in ranges {
                set.insert_range(Uid::new(first).unwrap(), Uid::new(first + more).unwrap());
            }
            set
        }),
    ]
}

fn message() -> impl Strategy<Value = NewMessage> {
    (flags(), any::<u64>(), -1439i16..1440).prop_map(|(flags, text, zone)| NewMessage {
        flags,
        internal_date: Some(Timestamp { seconds: (text >> 30) as i64, offset_minutes: zone }),
        body: Bytes::from(format!("{text:x}").repeat((text % 5) as usize + 1)),
    })
}

fn change() -> impl Strategy<Value = FlagChange> {
    let kind = prop::sample::select(vec![
        FlagChangeKind::Add,
        FlagChangeKind::Remove,
        FlagChangeKind::Replace,
    ]);
    (kind, flags()).prop_map(|(kind, flags)| FlagChange { kind, flags })
}

/// Calls whose mod-sequences are guesses around what there is: too old, right, in the future.
fn modseq() -> impl Strategy<Value = ModSeq> {
    (0u64..60).prop_map(ModSeq)
}

fn write() -> impl Strategy<Value = Call> {
    let special = prop::option::weighted(0.2, prop::sample::select(vec!["\\Sent", "\\Junk"]));
    let messages = prop::collection::vec(message(), 1..3);
    prop_oneof![
        2 => (name(), special).prop_map(|(name, use_)| Call::Create {
            name,
            special_use: use_.map(str::to_owned)
        }),
        1 => name().prop_map(|name| Call::Delete { name }),
        1 => (name(), name()).prop_map(|(from, to)| Call::Rename { from, to }),
        1 => (name(), any::<bool>()).prop_map(|(name, on)| Call::Subscribe { name, on }),
        5 => (name(), messages)
            .prop_map(|(mailbox, messages)| Call::Append { mailbox, messages }),
        5 => (uids(), change(), prop::option::weighted(0.3, modseq())).prop_map(
            |(uids, change, unchanged_since)| Call::Store { uids, change, unchanged_since }
        ),
        2 => prop::option::of(uids()).prop_map(|uids| Call::Expunge { uids }),
        2 => (uids(), name()).prop_map(|(uids, to)| Call::Copy { uids, to }),
        2 => (uids(), name()).prop_map(|(uids, to)| Call::Move { uids, to }),
    ]
}

fn read() -> impl Strategy<Value = Call> {
    let want = Want { body: true, ..Want::default() };
    prop_oneof![
        1 => Just(Call::Mailboxes),
        1 => name().prop_map(|name| Call::Status { name }),
        4 => (name(), prop::bool::weighted(0.8))
            .prop_map(|(name, read_write)| Call::Select { name, read_write }),
        1 => Just(Call::Deselect),
        3 => (0u64..3, 0u32..3, 0u64..3).prop_map(|(a, b, c)| Call::Changes {
            since: ModSeq(a),
            known: Uid::new(b),
            released: ModSeq(c)
        }),
        3 => uids().prop_map(move |uids| Call::Fetch { uids, want }),
    ]
}

/// A batch of writes, or a read.
fn step() -> impl Strategy<Value = Vec<(SessionId, Call)>> {
    let session = || (1u64..4).prop_map(SessionId);
    prop_oneof![
        1 => (session(), write()).prop_map(|one| vec![one]),
        1 => (session(), read()).prop_map(|one| vec![one]),
        1 => prop::collection::vec((session(), write()), 2..5),
    ]
}

/// Turns the small numbers of a question for changes into mod-sequences that a session would ask
/// with: what it was told last, or a little less.
fn realistic(pair: &Pair, session: SessionId, call: Call) -> Call {
    match call {
        Call::Changes { since, known, released } => {
            let (highest, told) = (pair.highest(session).0, pair.told(session).0);
            // Nobody asks for what was before it came, or what it has let go of.
            let since = highest.saturating_sub(since.0).max(told);
            let released = since.saturating_sub(released.0);
            let last = pair.last_uid(session).map_or(0, Uid::get);
            let known = Uid::new(last.saturating_sub(known.map_or(0, Uid::get)));
            Call::Changes { since: ModSeq(since), known, released: ModSeq(released) }
        }
        call => call,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_sequences_answer_as_the_model_does(steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair::new();
        for batch in steps {
            pair.pass(1);
            let batch: Vec<_> = batch
                .into_iter()
                .map(|(session, call)| (session, realistic(&pair, session, call)))
                .collect();
            // STORE answers rows as they are after its batch: compared only alone.
            let parted = batch.iter().any(|(_, call)| matches!(call, Call::Store { .. }));
            match parted {
                true => batch.into_iter().for_each(|(session, call)| pair.call(session, call)),
                false => pair.batch(batch),
            }
            pair.check_disk();
        }
    }
}
