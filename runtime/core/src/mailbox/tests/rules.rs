//! Rules that deserve a sentence of their own.

use bytes::Bytes;

use super::harness::Pair;
use crate::calls::{Call, NewMessage};
use crate::types::{
    Flag, FlagChange, FlagChangeKind, Flags, MailboxName, SessionId, SystemFlag, Timestamp, Uid,
    UidSet,
};

const ME: SessionId = SessionId(1);

fn name(text: &str) -> MailboxName {
    MailboxName::new(text).unwrap()
}

fn uids(first: u32, last: u32) -> UidSet {
    UidSet::range(Uid::new(first).unwrap(), Uid::new(last).unwrap())
}

fn append(number: i64) -> Call {
    let body = Bytes::from(format!("message {number}"));
    let internal_date = Some(Timestamp::utc(number));
    let message = NewMessage { flags: Flags::default(), internal_date, body };
    Call::Append { mailbox: MailboxName::inbox(), messages: vec![message] }
}

fn add(uids: UidSet, flag: SystemFlag) -> Call {
    let change = FlagChange { kind: FlagChangeKind::Add, flags: Flags::of([Flag::System(flag)]) };
    Call::Store { uids, change, unchanged_since: None }
}

#[test]
fn what_a_later_version_left_with_messages_stays_with_them() {
    let mut pair = Pair::new();
    pair.call(ME, Call::Create { name: name("other"), special_use: None });
    (1..=3).for_each(|number| pair.call(ME, append(number)));
    pair.visit_of_a_later_version();
    let calls = [
        (Call::Select { name: MailboxName::inbox(), read_write: true }, [3, 0]),
        (append(4), [3, 0]),
        (add(uids(1, 4), SystemFlag::Seen), [3, 0]),
        (Call::Copy { uids: uids(3, 4), to: name("other") }, [3, 1]),
        (Call::Copy { uids: uids(1, 1), to: MailboxName::inbox() }, [4, 1]),
        (Call::Move { uids: uids(2, 2), to: name("other") }, [3, 2]),
        (add(uids(1, 5), SystemFlag::Deleted), [3, 2]),
        (Call::Expunge { uids: Some(uids(1, 1)) }, [2, 2]),
        (Call::Select { name: name("other"), read_write: true }, [2, 2]),
        (add(uids(1, 3), SystemFlag::Flagged), [2, 2]),
    ];
    for (call, expected) in calls {
        let text = format!("{call:?}");
        pair.call(ME, call);
        pair.check_disk();
        assert_eq!(pair.disk.with_properties(), expected, "{text}");
    }
}
