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

fn name(number: u32) -> String {
    format!("{number:08}-ü.example")
}

impl Sample for Domain {
    fn sample(number: u32) -> Self {
        Self { name: name(number), alias_of: None, extra: extra(number) }
    }

    fn changed(&self, number: u32) -> Self {
        Self { alias_of: Some(name(number)), extra: extra(number + 1), ..self.clone() }
    }

    fn huge() -> Self {
        Self {
            name: "d".repeat(512),
            alias_of: Some("e".repeat(512)),
            extra: vec![Property { name: "x".repeat(64), value: vec![7; 200_000] }],
        }
    }
}

impl Sample for User {
    fn sample(number: u32) -> Self {
        Self {
            name: name(number),
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
            alias_of: Some(name(number)),
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
}

impl Sample for Mailbox {
    fn sample(number: u32) -> Self {
        Self {
            id: Id { high: u64::from(number / 2), low: u64::MAX - u64::from(1 - number % 2) },
            name: name(number),
            uid_validity: number + 1,
            special_use: None,
            extra: extra(number),
        }
    }

    fn changed(&self, number: u32) -> Self {
        Self {
            name: format!("{}/renamed", name(number)),
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
}

/// The message of this UID in a mailbox, with a name of its own.
pub fn message(mailbox: Id, uid: u32) -> Message {
    let address = |field: &str| vec![format!("ü <{field}{uid}@example.org>")];
    Message {
        name: format!("{:x}-{uid}", u128::from_be_bytes(mailbox.octets())),
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
