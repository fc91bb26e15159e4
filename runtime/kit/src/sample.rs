//! Records to test with.

use crate::records::{
    Domain, Id, Mailbox, Message, MessageChange, Property, Record, Timestamp, User,
};

/// A record that can be made up.
pub trait Sample: Record {
    /// The record of this number; names ascend with numbers.
    fn sample(number: u32) -> Self;

    /// The same record with every other field changed.
    fn changed(&self, number: u32) -> Self;

    /// A record of which each field is as long as a host may make it.
    fn huge() -> Self;

    /// Records whose names betray another order than that of the WIT, or a letter that is changed, in
    /// the order of `list`.
    fn odd() -> Vec<Self>;

    /// The same record with these properties.
    fn with(&self, extra: Vec<Property>) -> Self;
}

fn extra(number: u32) -> Vec<Property> {
    let property = |name: &str, value: &[u8]| Property { name: name.into(), value: value.into() };
    match number % 3 {
        0 => Vec::new(),
        1 => vec![property("later", &number.to_be_bytes())],
        // Not in order, and empty: kept as they come.
        _ => vec![property("z", b"\0\xff"), property("a", b"")],
    }
}

/// What follows the number in names of domains: lower case, A-labels.
const DOMAINS: [&str; 5] =
    [".example", ".xn--bcher-kva.example", "-.a-b.co.example", "", ".0.1.in-addr.example"];
/// In names of users: lower case, no white space; composed letters and the same ones taken apart.
const USERS: [&str; 7] = [
    "-ü.example",
    "@example.org",
    "-u\u{308}@example.org",
    "+tag'=/?{}|~$&#!*%@example.org",
    "",
    "\"\\;--@xn--bcher-kva.example",
    "\u{200d}日本\u{1f600}@example.org",
];
/// In names of mailboxes: levels with spaces, in composed letters.
const MAILBOXES: [&str; 6] = [
    "-ü.example",
    " in the year/to do (\"q\")/ß",
    "/a/b/c/d/e/f",
    "",
    " '\\;-- &#!~$@+=?{}|<>",
    "\u{200d}日本/\u{1f600} .",
];
/// Of so many names one is as long as a name may be.
const LONG_ONE_IN: u32 = 16;

/// The name of this number; the first eight octets are the number, and decide the order.
fn name(number: u32, forms: &[&str], most: usize) -> String {
    let form = forms[number as usize % forms.len()];
    let name = format!("{number:08}{form}");
    match number % LONG_ONE_IN {
        13 => format!("{number:08}{}", "-l0ng".repeat(most))[..most].to_owned(),
        _ => name,
    }
}

fn domain_name(number: u32) -> String {
    name(number, &DOMAINS, 253)
}

fn user_name(number: u32) -> String {
    name(number, &USERS, 512)
}

fn mailbox_name(number: u32) -> String {
    name(number, &MAILBOXES, 1024)
}

impl Sample for Domain {
    fn sample(number: u32) -> Self {
        Self { name: domain_name(number), alias_of: None, extra: extra(number) }
    }

    fn changed(&self, number: u32) -> Self {
        Self { alias_of: Some(domain_name(number)), extra: extra(number + 1), ..self.clone() }
    }

    fn huge() -> Self {
        Self {
            name: "d".repeat(512),
            alias_of: Some("e".repeat(512)),
            extra: vec![Property { name: "x".repeat(64), value: vec![7; 200_000] }],
        }
    }

    fn odd() -> Vec<Self> {
        let names = ["0", "0-0", "0.0", "00", "a", "a-b", "a.b", "a.b.c", "a0", "aa", "z"];
        let number = |name: &&str| name.len() as u32;
        names.iter().map(|n| Self { name: (*n).into(), ..Self::sample(number(n)) }).collect()
    }

    fn with(&self, extra: Vec<Property>) -> Self {
        Self { extra, ..self.clone() }
    }
}

impl Sample for User {
    fn sample(number: u32) -> Self {
        Self {
            name: user_name(number),
            account: Some(Id::from_u128(u128::from(number) + 1)),
            alias_of: None,
            password: None,
            quota_octets: Some(u64::MAX - u64::from(number)),
            extra: extra(number),
        }
    }

    fn changed(&self, number: u32) -> Self {
        Self {
            account: None,
            alias_of: Some(user_name(number)),
            password: Some(format!("$argon2id${number}")),
            quota_octets: None,
            extra: extra(number + 1),
            ..self.clone()
        }
    }

    fn huge() -> Self {
        Self {
            name: "ü".repeat(256),
            password: Some("p".repeat(1000)),
            extra: vec![Property { name: "x".repeat(64), value: vec![0; 200_000] }],
            ..Self::sample(0)
        }
    }

    /// The order of letters in a dictionary, of UTF-16, of numbers in texts, and of texts without
    /// their accents is another one.
    fn odd() -> Vec<Self> {
        let names = [
            "!",
            "%",
            "0",
            "1",
            "10",
            "2",
            "_",
            "a",
            "a!",
            "a-b",
            "a/b",
            "a@b",
            "aa",
            "e\u{301}",
            "f",
            "z",
            "~",
            "ß",
            "\u{e9}",
            "\u{ff5e}",
            "\u{1f600}",
        ];
        let number = |name: &&str| name.len() as u32;
        names.iter().map(|n| Self { name: (*n).into(), ..Self::sample(number(n)) }).collect()
    }

    fn with(&self, extra: Vec<Property>) -> Self {
        Self { extra, ..self.clone() }
    }
}

impl Sample for Mailbox {
    fn sample(number: u32) -> Self {
        Self {
            id: Id { high: u64::from(number / 2), low: u64::MAX - u64::from(1 - number % 2) },
            name: mailbox_name(number),
            uid_validity: number + 1,
            special_use: None,
            extra: extra(number),
        }
    }

    fn changed(&self, number: u32) -> Self {
        Self {
            name: format!("renamed/{number}"),
            uid_validity: u32::MAX - number,
            special_use: Some("\\Sent".into()),
            extra: extra(number + 1),
            ..self.clone()
        }
    }

    fn huge() -> Self {
        Self {
            id: Id { high: u64::MAX, low: u64::MAX },
            name: "m".repeat(1024),
            extra: vec![Property { name: "x".repeat(64), value: vec![255; 200_000] }],
            ..Self::sample(0)
        }
    }

    /// Ids whose order as signed numbers, as texts, or by half is another one; names that are alike.
    fn odd() -> Vec<Self> {
        let top = 1 << 63;
        let halves = [(0, 1), (0, 9), (0, 10), (0, top), (0, u64::MAX), (1, 0), (9, 2), (10, 1)];
        let ids = halves.into_iter().chain([(top, 0), (top, u64::MAX), (u64::MAX, 0)]);
        let names = ["INBOX", "INBOX/x", "a", "a/b", "a b", "é", "a", "~", " ", "A", "\u{1f600}"];
        let row = |((high, low), name): ((u64, u64), &str)| Self {
            id: Id { high, low },
            name: name.to_owned(),
            ..Self::sample(low as u32 % 7)
        };
        ids.zip(names).map(row).collect()
    }

    fn with(&self, extra: Vec<Property>) -> Self {
        Self { extra, ..self.clone() }
    }
}

/// A name of its own for each message, in the letters that a name may have.
fn message_name(mailbox: Id, uid: u32) -> String {
    let id = u128::from_be_bytes(mailbox.octets());
    match uid % 4 {
        0 => format!("{id:x}-{uid}"),
        1 => format!("{id:X}_{uid}"),
        2 => format!("-{id:x}.{uid}."),
        _ => format!("{:Z<64}", format!("_{id:x}..{uid}--")),
    }
}

/// The message of this UID in a mailbox, with a name of its own.
pub fn message(mailbox: Id, uid: u32) -> Message {
    let address = |field: &str| vec![format!("ü <{field}{uid}@example.org>")];
    Message {
        name: message_name(mailbox, uid),
        mailbox,
        uid,
        modseq: u64::from(uid) << 20,
        flags: Vec::new(),
        internal_date: Timestamp {
            seconds: i64::from(uid) - 500,
            offset_minutes: -((uid % 1440) as i16),
        },
        save_date: -i64::from(uid),
        size: 0,
        message_id: Id::from_u128(u128::MAX - u128::from(uid)),
        thread_id: Id::from_u128(u128::from(uid)),
        from: address("from"),
        to: [address("to"), address("to-")].concat(),
        cc: Vec::new(),
        bcc: address("bcc"),
        extra: extra(uid),
    }
}

/// The change after which a message is as this row says.
pub fn change(row: &Message) -> MessageChange {
    let (flags, extra) = (row.flags.clone(), row.extra.clone());
    MessageChange { place: row.place(), modseq: row.modseq, flags, extra }
}
