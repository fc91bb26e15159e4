//! The host's own rows of an account: what no store component is trusted with.
//!
//! Keys start with a letter for the kind of row; values are a version octet and a postcard record.
//! All of them are written in the commit that they belong to.
//!
//! | key | value |
//! |---|---|
//! | `h` | [`AccountRow`]: mod-sequence, UIDVALIDITY high-water mark, octets used |
//! | `m` mailbox | [`CountersRow`] |
//! | `d` mailbox uid | [`BodyRow`]: name and digest of a message's octets |
//! | `t` mailbox modseq uid | [`BodyRow`] of a removed message: its tombstone |
//! | `u` name | nothing: a subscription |
//! | `x` mailbox | nothing: a deleted mailbox whose `d` and `t` rows are not settled yet |
//! | `r` | [`RestoredRow`]: the restore from a backup after which the account was guarded |
//! | `s` mailbox uid | [`UnsettledRow`]: a message of which an outside medium was not told yet |

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::StoreError;
use crate::types::{MailboxId, MailboxName, ModSeq, Uid};

/// Version of every value; another one is refused.
const VERSION: u8 = 1;

/// The account as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    /// The last change.
    pub modseq: ModSeq,
    /// The highest UIDVALIDITY that any mailbox ever had (E13).
    pub uid_validity: u32,
    /// Octets of all messages.
    pub used_octets: u64,
}

/// What the host counts in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersRow {
    /// The next UID; the largest one is never given away, so that there is always a next.
    pub uid_next: Uid,
    /// The last change in it.
    pub highest_modseq: ModSeq,
    /// Messages.
    pub messages: u32,
    /// Without `\Seen`.
    pub unseen: u32,
    /// With `\Deleted`.
    pub deleted: u32,
    /// Octets.
    pub size: u64,
    /// Messages from this UID on have not been claimed as recent by any session.
    pub recent_mark: Uid,
    /// How many there are.
    pub recent: u32,
    /// Tombstones kept.
    pub tombstones: u64,
    /// Tombstones up to this mod-sequence may have been forgotten.
    pub low_water: ModSeq,
    /// The last removal.
    pub removed: ModSeq,
    /// Bodies of messages removed up to this mod-sequence have been let go.
    pub settled: ModSeq,
}

impl CountersRow {
    /// Of an empty mailbox that was made by this change.
    pub fn new(created: ModSeq) -> Self {
        Self {
            uid_next: Uid::MIN,
            highest_modseq: created,
            messages: 0,
            unseen: 0,
            deleted: 0,
            size: 0,
            recent_mark: Uid::MIN,
            recent: 0,
            tombstones: 0,
            low_water: created,
            removed: created,
            settled: created,
        }
    }
}

/// Under which name a message's octets are kept, and what they must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRow {
    /// The message's name.
    pub name: String,
    /// BLAKE3 of its octets.
    pub digest: [u8; 32],
}

/// What an outside medium is to be told: a message was written, and this is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsettledRow {
    /// The message's name.
    pub name: String,
    /// Of the last change: a row that was written again is another one.
    pub modseq: ModSeq,
}

/// Until which restore from a backup no UID of the account can have been announced before it was restored
/// and mean another message now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredRow {
    /// How many times all that is stored had been restored.
    pub times: u64,
}

/// A change of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerWrite {
    /// Sets a row.
    Put(Bytes, Bytes),
    /// Removes a row.
    Delete(Bytes),
    /// Removes all rows from the first key (included) to the second (excluded).
    DeleteRange(Bytes, Bytes),
}

/// Encodes a row.
pub fn encode<T: Serialize>(row: &T) -> Bytes {
    postcard::to_extend(row, vec![VERSION]).expect("rows have no unserialisable parts").into()
}

/// Decodes a row.
///
/// # Errors
/// `Damaged` when the octets are no such row, `Unsupported` when a later version wrote them.
pub fn decode<T: DeserializeOwned>(octets: &[u8]) -> Result<T, StoreError> {
    match octets.split_first() {
        Some((&VERSION, row)) => {
            postcard::from_bytes(row).map_err(|error| StoreError::Damaged(error.to_string()))
        }
        Some((version, _)) => Err(StoreError::Unsupported(format!(
            "a row of version {version}; this program reads version {VERSION}"
        ))),
        None => Err(StoreError::Damaged("an empty row".into())),
    }
}

/// Key of the account row.
pub fn account_key() -> Bytes {
    Bytes::from_static(b"h")
}

/// Key of the row about restores.
pub fn restored_key() -> Bytes {
    Bytes::from_static(b"r")
}

fn key(kind: u8, parts: &[&[u8]]) -> Bytes {
    let mut key = vec![kind];
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key.into()
}

/// Key of a mailbox's counters.
pub fn counters_key(mailbox: MailboxId) -> Bytes {
    key(b'm', &[&mailbox.0])
}

/// Key of a message's body row.
pub fn body_key(mailbox: MailboxId, uid: Uid) -> Bytes {
    key(b'd', &[&mailbox.0, &uid.get().to_be_bytes()])
}

/// Key of a removed message's tombstone.
pub fn tombstone_key(mailbox: MailboxId, modseq: ModSeq, uid: Uid) -> Bytes {
    key(b't', &[&mailbox.0, &modseq.0.to_be_bytes(), &uid.get().to_be_bytes()])
}

/// Key of a subscription.
pub fn subscription_key(name: &MailboxName) -> Bytes {
    key(b'u', &[name.as_str().as_bytes()])
}

/// Key of a deleted mailbox that is not settled yet.
pub fn dropped_key(mailbox: MailboxId) -> Bytes {
    key(b'x', &[&mailbox.0])
}

/// Key of a message of which an outside medium was not told yet.
pub fn unsettled_key(mailbox: MailboxId, uid: Uid) -> Bytes {
    key(b's', &[&mailbox.0, &uid.get().to_be_bytes()])
}

/// All keys of one kind: first, and after the last.
pub fn range_of(kind: RowKind) -> (Bytes, Bytes) {
    let kind = kind as u8;
    (key(kind, &[]), key(kind + 1, &[]))
}

/// Kinds of row that are read over all mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RowKind {
    /// Counters of mailboxes.
    Counters = b'm',
    /// Subscribed names.
    Subscriptions = b'u',
    /// Deleted mailboxes that are not settled yet.
    Dropped = b'x',
    /// Messages of which an outside medium was not told yet.
    Unsettled = b's',
}

/// All body rows of a mailbox: first key, and after the last.
pub fn bodies_of(mailbox: MailboxId) -> (Bytes, Bytes) {
    (key(b'd', &[&mailbox.0]), after(key(b'd', &[&mailbox.0])))
}

/// The tombstones of a mailbox after one mod-sequence up to another: first key, and after the last.
pub fn tombstones_of(mailbox: MailboxId, after: ModSeq, upto: ModSeq) -> (Bytes, Bytes) {
    let bound = |modseq: ModSeq| (modseq.0 + 1).to_be_bytes();
    (key(b't', &[&mailbox.0, &bound(after)]), key(b't', &[&mailbox.0, &bound(upto)]))
}

/// The least key that does not start with `prefix` and is larger. Prefixes here start with a
/// letter, so there is one.
fn after(prefix: Bytes) -> Bytes {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if last < u8::MAX {
            next.push(last + 1);
            break;
        }
    }
    next.into()
}

/// The mailbox in a key of a counters row or a deleted mailbox.
pub fn mailbox_in(key: &[u8]) -> Result<MailboxId, StoreError> {
    let id = key.get(1..).and_then(|id| id.try_into().ok()).map(MailboxId);
    id.ok_or_else(|| damaged(key))
}

/// The mailbox in a key of a message that is not settled.
pub fn unsettled_in(key: &[u8]) -> Result<MailboxId, StoreError> {
    let id = key.get(1..17).and_then(|id| id.try_into().ok()).map(MailboxId);
    id.ok_or_else(|| damaged(key))
}

/// The UID in a key of a body row.
pub fn uid_in(key: &[u8]) -> Result<Uid, StoreError> {
    let number = key.get(17..).and_then(|uid| uid.try_into().ok()).map(u32::from_be_bytes);
    number.and_then(Uid::new).ok_or_else(|| damaged(key))
}

/// The mod-sequence and the UID in a tombstone's key.
pub fn tombstone_in(key: &[u8]) -> Result<(ModSeq, Uid), StoreError> {
    let modseq = key.get(17..25).and_then(|part| part.try_into().ok()).map(u64::from_be_bytes);
    let number = key.get(25..).and_then(|uid| uid.try_into().ok()).map(u32::from_be_bytes);
    match (modseq, number.and_then(Uid::new)) {
        (Some(modseq), Some(uid)) => Ok((ModSeq(modseq), uid)),
        _ => Err(damaged(key)),
    }
}

/// The name in a subscription's key.
pub fn subscription_in(key: &[u8]) -> Result<MailboxName, StoreError> {
    let text = key.get(1..).and_then(|name| std::str::from_utf8(name).ok());
    text.and_then(|text| MailboxName::new(text).ok()).ok_or_else(|| damaged(key))
}

fn damaged(key: &[u8]) -> StoreError {
    StoreError::Damaged(format!("ledger key {}", hex::encode(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_lie_in_their_ranges() {
        let mailbox = MailboxId([0xff; 16]);
        let uid = Uid::new(7).unwrap();
        let body = body_key(mailbox, uid);
        let (start, end) = bodies_of(mailbox);
        assert!(start <= body && body < end);
        assert_eq!(uid_in(&body), Ok(uid));
        let unsettled = unsettled_key(mailbox, uid);
        let (start, end) = range_of(RowKind::Unsettled);
        assert!(start <= unsettled && unsettled < end);
        assert!(end <= tombstone_key(MailboxId([0; 16]), ModSeq(0), Uid::MIN));
        assert_eq!(unsettled_in(&unsettled), Ok(mailbox));
        let tombstone = tombstone_key(mailbox, ModSeq(9), uid);
        assert_eq!(tombstone_in(&tombstone), Ok((ModSeq(9), uid)));
        let inside = |after, upto| {
            let (start, end) = tombstones_of(mailbox, ModSeq(after), ModSeq(upto));
            start <= tombstone && tombstone < end
        };
        assert!(inside(8, 9) && inside(0, 100));
        assert!(!inside(9, 100) && !inside(0, 8));
    }

    #[test]
    fn rows_of_another_version_or_none_are_refused() {
        let row = AccountRow { modseq: ModSeq(5), uid_validity: 7, used_octets: 1 };
        assert_eq!(decode::<AccountRow>(&encode(&row)), Ok(row));
        assert!(matches!(decode::<AccountRow>(&[2, 1]), Err(StoreError::Unsupported(_))));
        assert!(matches!(decode::<AccountRow>(&[1]), Err(StoreError::Damaged(_))));
        assert!(matches!(decode::<AccountRow>(&[]), Err(StoreError::Damaged(_))));
        assert!(matches!(mailbox_in(b"mxx"), Err(StoreError::Damaged(_))));
        assert!(matches!(tombstone_in(b"t"), Err(StoreError::Damaged(_))));
        assert!(matches!(unsettled_in(b"s"), Err(StoreError::Damaged(_))));
    }
}
