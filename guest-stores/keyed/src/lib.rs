//! Postroom's default store: a row for each record on the host's ordered keys.
//!
//! Domains, users and mailboxes are one row each, under their names, as the SDK does it
//! ([`RowPerRecord`]); a message is two rows under its mailbox and UID ([`messages`]), one that never
//! changes and a small one that every flag change writes. Bodies stay with the host, linked under the
//! messages' names. Nothing is remembered between calls.

mod check;
mod messages;
mod rows;

use postroom_guest::RowPerRecord;

/// The store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keyed;

postroom_guest::export! {
    Keyed: domains, users, mailboxes, messages;
    manifest: { "schema": { "reads": [1, 1], "writes": [1, 1] }, "medium": "host", "asks": {} }
}

impl RowPerRecord for Keyed {
    const SCHEMA: u8 = rows::SCHEMAS.newest;
}
