//! Raw keys: how spaces, their areas and the engine's own records share one ordered map.
//!
//! A raw key is a space (1 or 17 octets), a kind (1 octet), and what the kind says. All rows of an
//! account lie together, so that its commits touch few pages and its end is easy to find.

use postroom_core::types::{AccountId, Slot, TransactionId};

use super::{Area, Key, Space};

/// What a raw key starts with: whose rows.
const NODE: u8 = 0;
const DIRECTORY: u8 = 1;
const ACCOUNT: u8 = 2;

/// The octet after a space: which kind of row.
const HEAD: u8 = 0;
const TRANSACTION: u8 = 1;
const LINK: u8 = 2;
const BODY: u8 = 3;
const OCTETS: u8 = 4;
const ROW: u8 = 5;

/// The octet after `NODE`: which of the node's own rows.
const IDENTITY: u8 = 0;
const CLAIM: u8 = 1;
const SEGMENT: u8 = 2;
const CHECKPOINT: u8 = 3;

/// The first key that could belong to a space.
pub const FIRST_SPACE: [u8; 1] = [DIRECTORY];
/// Above every key of every space.
pub const AFTER_SPACES: [u8; 1] = [ACCOUNT + 1];

fn space(space: Space, kind: u8, room: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(18 + room);
    match space {
        Space::Directory => key.push(DIRECTORY),
        Space::Account(account) => {
            key.push(ACCOUNT);
            key.extend_from_slice(&account.0);
        }
    }
    key.push(kind);
    key
}

/// The number of commits in a space. Each space that holds anything has it, as its first row.
pub fn head(of: Space) -> Vec<u8> {
    space(of, HEAD, 0)
}

/// The remembered answer of a transaction.
pub fn transaction(of: Space, id: TransactionId) -> Vec<u8> {
    let mut key = space(of, TRANSACTION, 16);
    key.extend_from_slice(&id.0);
    key
}

/// The remembered answers of all transactions: from (included) to (excluded).
pub fn transactions(of: Space) -> (Vec<u8>, Vec<u8>) {
    (space(of, TRANSACTION, 0), space(of, TRANSACTION + 1, 0))
}

/// Which body a name means.
pub fn link(of: Space, name: &str) -> Vec<u8> {
    let mut key = space(of, LINK, name.len());
    key.extend_from_slice(name.as_bytes());
    key
}

/// All names of bodies of a space: from (included) to (excluded).
pub fn links(of: Space) -> (Vec<u8>, Vec<u8>) {
    (space(of, LINK, 0), space(of, LINK + 1, 0))
}

/// The name in a key of [`links`], as far as it is text.
pub fn link_name(of: Space, raw: &[u8]) -> String {
    let name = raw.get(space(of, LINK, 0).len()..).unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// Where a body is and how many links it has.
pub fn body(of: Space, body: &[u8; 16]) -> Vec<u8> {
    let mut key = space(of, BODY, 16);
    key.extend_from_slice(body);
    key
}

/// The space and the body of a key of [`body`].
pub fn body_of(raw: &[u8]) -> Option<(Space, [u8; 16])> {
    let space = space_of(raw)?;
    let id: [u8; 16] = raw.get(raw.len().checked_sub(16)?..)?.try_into().ok()?;
    (raw == body(space, &id)).then_some((space, id))
}

/// The octets of a body that is kept in a row. Apart from its record, so that one more link does
/// not write them again.
pub fn octets(of: Space, body: &[u8; 16]) -> Vec<u8> {
    let mut key = space(of, OCTETS, 16);
    key.extend_from_slice(body);
    key
}

/// A row of an area.
pub fn row(of: Space, at: &Key) -> Vec<u8> {
    area(of, at.area, &at.octets)
}

/// How many octets of a raw key of an area come before the caller's own.
pub fn area_prefix(of: Space) -> usize {
    match of {
        Space::Directory => 3,
        Space::Account(_) => 19,
    }
}

/// The range of an area from `start` (included) to `end` (excluded; empty: to its end).
pub fn rows(of: Space, at: Area, start: &[u8], end: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let end = match end.is_empty() {
        true => {
            let mut end = space(of, ROW, 1);
            end.push(at as u8 + 1);
            end
        }
        false => area(of, at, end),
    };
    (area(of, at, start), end)
}

fn area(of: Space, at: Area, octets: &[u8]) -> Vec<u8> {
    let mut key = space(of, ROW, octets.len() + 1);
    key.push(at as u8);
    key.extend_from_slice(octets);
    key
}

/// The claim on a slot.
pub fn claim(slot: Slot) -> Vec<u8> {
    let [high, low] = slot.0.to_be_bytes();
    vec![NODE, CLAIM, high, low]
}

/// Whether this is the key of a claim.
pub fn is_claim(raw: &[u8]) -> bool {
    raw.starts_with(&[NODE, CLAIM])
}

/// How much of a segment is in use.
pub fn segment(id: u64) -> Vec<u8> {
    let mut key = vec![NODE, SEGMENT];
    key.extend_from_slice(&id.to_be_bytes());
    key
}

/// The accounts of all segments: from (included) to (excluded).
pub fn segments() -> (Vec<u8>, Vec<u8>) {
    (vec![NODE, SEGMENT], vec![NODE, SEGMENT + 1])
}

/// The segment that a key of [`segments`] is about.
pub fn segment_of(raw: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(raw.get(2..)?.try_into().ok()?))
}

/// Up to where in the commit log the rows are durable.
pub fn checkpoint() -> Vec<u8> {
    vec![NODE, CHECKPOINT]
}

/// The id of the data directory that these rows belong to.
pub fn identity() -> Vec<u8> {
    vec![NODE, IDENTITY]
}

/// The space that a raw key belongs to; `None` for the node's own and for rubbish.
pub fn space_of(raw: &[u8]) -> Option<Space> {
    match raw.split_first()? {
        (&DIRECTORY, _) => Some(Space::Directory),
        (&ACCOUNT, rest) => Some(Space::Account(AccountId(rest.get(..16)?.try_into().ok()?))),
        _ => None,
    }
}

/// The first key after every key of a space.
pub fn after_space(of: Space) -> Vec<u8> {
    // No kind is as high as this octet.
    space(of, u8::MAX, 0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn all_keys_of_a_space_lie_between_its_head_and_its_end() {
        for of in [
            Space::Directory,
            Space::Account(AccountId([0; 16])),
            Space::Account(AccountId([255; 16])),
        ] {
            let top = Key { area: Area::Message, octets: Bytes::from(vec![255; 2047]) };
            for key in [
                transaction(of, TransactionId([255; 16])),
                link(of, "\u{10ffff}"),
                body(of, &[255; 16]),
                octets(of, &[255; 16]),
                row(of, &top),
            ] {
                assert!(head(of) < key && key < after_space(of), "{of:?}");
                assert_eq!(space_of(&key), Some(of));
                assert!(FIRST_SPACE[..] <= key[..] && key[..] < AFTER_SPACES[..]);
            }
        }
    }

    #[test]
    fn the_node_own_rows_belong_to_no_space() {
        for key in [claim(Slot(4095)), segment(u64::MAX), identity(), checkpoint()] {
            assert_eq!(space_of(&key), None);
            assert!(key[..] < FIRST_SPACE[..]);
        }
        assert_eq!(segment_of(&segment(77)), Some(77));
    }

    #[test]
    fn the_body_of_its_key_is_found_and_of_no_other() {
        for of in [Space::Directory, Space::Account(AccountId([9; 16]))] {
            assert_eq!(body_of(&body(of, &[7; 16])), Some((of, [7; 16])));
            assert_eq!(body_of(&octets(of, &[7; 16])), None);
            assert_eq!(body_of(&head(of)), None);
        }
        assert_eq!(body_of(&claim(Slot(1))), None);
    }

    #[test]
    fn an_empty_end_reaches_to_the_end_of_the_area_only() {
        let of = Space::Directory;
        let (start, end) = rows(of, Area::User, b"", b"");
        let inside = |area, octets: &[u8]| {
            let key = row(of, &Key { area, octets: Bytes::copy_from_slice(octets) });
            start <= key && key < end
        };
        assert!(inside(Area::User, b"") && inside(Area::User, &[255; 2047]));
        assert!(!inside(Area::Domain, &[255; 2047]) && !inside(Area::Mailbox, b""));
    }
}
