//! The records, as the WIT has them, and what a store needs to know of three of their kinds. They
//! are the conformance kit's, over which the bindings are made: what a case inserts is what a store
//! gets.

pub use postroom_kit::records::{
    Call, CheckPage, Domain, Finding, Id, Mailbox, Message, MessageChange, MessagePlace, Page,
    Property, Timestamp, User,
};

use crate::codec::Encode;

/// A record that is found by a name of its own: a domain, a user, a mailbox. (A [`Message`] is found
/// by its place.)
pub trait Record: postroom_kit::Record + Encode {
    /// A key for a name: not empty, in the order of names.
    fn key(name: &Self::Name) -> Vec<u8>;
}

impl Record for Domain {
    fn key(name: &String) -> Vec<u8> {
        text_key(name)
    }
}

impl Record for User {
    fn key(name: &String) -> Vec<u8> {
        text_key(name)
    }
}

impl Record for Mailbox {
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
