//! The records, as the WIT has them, and what is common to three of their kinds.

use std::fmt;

pub use crate::bindings::domains::postroom::store::types::{
    Call, CheckPage, Domain, Finding, Id, Mailbox, Message, MessageChange, MessagePlace, Property,
    Timestamp, User,
};
use crate::codec::Encode;
use crate::host::{MaybeSend, MaybeSync};

/// A record that is found by a name of its own: a domain, a user, a mailbox. (A [`Message`] is found
/// by its place.)
pub trait Record:
    Encode + Clone + PartialEq + fmt::Debug + MaybeSend + MaybeSync + 'static
{
    /// The name; in the order of `list`.
    type Name: Clone + Ord + fmt::Debug + fmt::Display + MaybeSend + MaybeSync + 'static;

    /// What the kind is called in the WIT, in logs and in findings.
    const KIND: &'static str;

    /// The record's name.
    fn name(&self) -> Self::Name;

    /// A key for a name: not empty, in the order of names.
    fn key(name: &Self::Name) -> Vec<u8>;
}

impl Record for Domain {
    type Name = String;
    const KIND: &'static str = "domain";

    fn name(&self) -> String {
        self.name.clone()
    }

    fn key(name: &String) -> Vec<u8> {
        text_key(name)
    }
}

impl Record for User {
    type Name = String;
    const KIND: &'static str = "user";

    fn name(&self) -> String {
        self.name.clone()
    }

    fn key(name: &String) -> Vec<u8> {
        text_key(name)
    }
}

impl Record for Mailbox {
    type Name = Id;
    const KIND: &'static str = "mailbox";

    fn name(&self) -> Id {
        self.id
    }

    fn key(name: &Id) -> Vec<u8> {
        name.octets().to_vec()
    }
}

/// A key must not be empty, a name may be: a letter in front.
fn text_key(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(b'n');
    key.extend_from_slice(name.as_bytes());
    key
}

impl Id {
    /// The id of these 128 bits.
    pub const fn from_u128(bits: u128) -> Self {
        Self { high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// Its 16 octets, big-endian: in the order of ids.
    pub fn octets(self) -> [u8; 16] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_be_bytes()
    }

    /// The id of these 16 octets.
    pub fn from_octets(octets: [u8; 16]) -> Self {
        Self::from_u128(u128::from_be_bytes(octets))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

impl Message {
    /// Where it is.
    pub fn place(&self) -> MessagePlace {
        MessagePlace { mailbox: self.mailbox, uid: self.uid }
    }

    /// Makes a change of it, for stores that keep a message in one piece.
    pub fn change(&mut self, change: MessageChange) {
        let MessageChange { place: _, modseq, flags, extra } = change;
        (self.modseq, self.flags, self.extra) = (modseq, flags, extra);
    }
}

impl MessagePlace {
    /// Its 20 octets, mailbox and UID, big-endian: in the order of places.
    pub fn octets(self) -> [u8; 20] {
        let mut octets = [0; 20];
        octets[..16].copy_from_slice(&self.mailbox.octets());
        octets[16..].copy_from_slice(&self.uid.to_be_bytes());
        octets
    }

    /// The place of these 20 octets.
    pub fn from_octets(octets: [u8; 20]) -> Self {
        let (mut mailbox, mut uid) = ([0; 16], [0; 4]);
        mailbox.copy_from_slice(&octets[..16]);
        uid.copy_from_slice(&octets[16..]);
        Self { mailbox: Id::from_octets(mailbox), uid: u32::from_be_bytes(uid) }
    }
}

impl fmt::Display for MessagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} of mailbox {}", self.uid, self.mailbox)
    }
}

impl Finding {
    /// A finding that is not repaired.
    pub fn new(name: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self {
            name: name.to_string(),
            problem: problem.to_string(),
            repaired: false,
            extra: Vec::new(),
        }
    }
}

impl CheckPage {
    /// A page on which nothing has been found yet.
    pub fn empty() -> Self {
        Self { checked: 0, findings: Vec::new(), next: None, extra: Vec::new() }
    }
}
