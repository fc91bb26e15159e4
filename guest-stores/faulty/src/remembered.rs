//! What the store remembers of one account to serve it to another: a cache that is wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postroom_guest::codec::{from_row, to_row};
use postroom_guest::{Call, Id, Record};

use crate::rows::SCHEMAS;
use crate::sins::{Sin, chosen};

/// The last record of each kind with the account that it is of; `body`: octets.
static LAST: Mutex<BTreeMap<&'static str, (Id, Vec<u8>)>> = Mutex::new(BTreeMap::new());

/// The door to it.
pub(crate) struct Remembered;

impl Remembered {
    /// Whether there is any use in remembering.
    pub(crate) fn wanted() -> bool {
        chosen().is_some_and(|chosen| chosen.sin == Sin::Other)
    }

    /// Remembers the last of these rows.
    pub(crate) fn rows<'a, R: Record>(call: &Call, rows: impl Iterator<Item = &'a R>) {
        if let Some(row) = rows.last().filter(|_| Self::wanted()) {
            last().insert(R::KIND, (call.account, to_row(SCHEMAS.newest, row)));
        }
    }

    /// Remembers a body.
    pub(crate) fn body(call: &Call, octets: Vec<u8>) {
        last().insert("body", (call.account, octets));
    }

    /// A row of another account.
    pub(crate) fn row<R: Record>(call: &Call) -> Option<R> {
        let row = foreign(call, R::KIND)?;
        from_row(SCHEMAS.newest, &row, || R::KIND.to_owned()).ok()
    }

    /// A body of another account.
    pub(crate) fn octets(call: &Call) -> Option<Vec<u8>> {
        foreign(call, "body")
    }
}

fn foreign(call: &Call, what: &str) -> Option<Vec<u8>> {
    let last = last();
    let (account, octets) = last.get(what)?;
    (*account != call.account).then(|| octets.clone())
}

fn last() -> MutexGuard<'static, BTreeMap<&'static str, (Id, Vec<u8>)>> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}
