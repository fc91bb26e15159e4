//! Postroom's default store: a row for each record on the host's ordered keys.
//!
//! Domains, users and mailboxes are one row each, under their names, as the SDK does it
//! ([`RowPerRecord`]); a message is two rows under its mailbox and UID ([`messages`]), one that never
//! changes and a small one that every flag change writes. Bodies stay with the host, linked under the
//! messages' names. Nothing is remembered between calls.

mod check;
mod messages;

use postroom_guest::RowPerRecord;

/// Schema of every row that this version writes: the row's first octet.
const SCHEMA: u8 = 1;

/// The store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keyed;

postroom_guest::export! {
    Keyed: domains, users, mailboxes, messages;
    manifest: { "schema": { "reads": [1, 1], "writes": 1 }, "medium": "host", "asks": {} }
}

impl RowPerRecord for Keyed {
    const SCHEMA: u8 = SCHEMA;
}
