//! The default store with rows of another schema: what a message's key says is not in its row, and its
//! name takes half the octets ([`rows`]). It reads the rows of the default store, and writes them as
//! long as the host says so: a deployment in its place can be rolled back until it is permanent.

// The default store's own code, not its crate: two components in one would export everything twice.
#[path = "../../keyed/src/check.rs"]
mod check;
#[path = "../../keyed/src/messages.rs"]
mod messages;
mod rows;

use postroom_guest::RowPerRecord;

/// The store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keyed;

postroom_guest::export! {
    Keyed: domains, users, mailboxes, messages;
    manifest: { "schema": { "reads": [1, 2], "writes": [1, 2] }, "medium": "host", "asks": {} }
}

impl RowPerRecord for Keyed {
    // Domains, users and mailboxes are the same in both.
    const SCHEMA: u8 = rows::SCHEMAS.newest;
    const OLDEST: u8 = rows::SCHEMAS.oldest;
}
