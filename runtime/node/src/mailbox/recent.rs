//! Large bodies that were read a moment ago. Clients fetch a large message in parts
//! (`BODY[]<0.65536>` and so on), and each part would cost reading and hashing the whole of it,
//! because octets are let out only when all of them are what the ledger says.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use postroom_core::types::AccountId;

use super::limits::{MIN_RECENT_OCTETS, RECENT_BODIES_OCTETS};

/// An account and the digest of octets in it: what is remembered can be gone, but never be wrong,
/// and no account learns from how long a read takes what another one holds.
type Key = (AccountId, [u8; 32]);

/// Bodies of all accounts, the last used ones. Each has [`MIN_RECENT_OCTETS`] at least, so that few
/// have to be looked through.
pub struct RecentBodies {
    room: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The last used one is the last one.
    bodies: VecDeque<(Key, Bytes)>,
    octets: usize,
}

impl Default for RecentBodies {
    fn default() -> Self {
        Self::new(RECENT_BODIES_OCTETS)
    }
}

impl RecentBodies {
    /// Room for so many octets together.
    pub fn new(room: usize) -> Self {
        Self { room, kept: Mutex::default() }
    }

    /// The octets with this digest, if they are still known.
    pub fn get(&self, account: AccountId, digest: [u8; 32]) -> Option<Bytes> {
        let mut kept = self.lock();
        let at = kept.place(&(account, digest))?;
        let body = kept.bodies.remove(at)?;
        kept.bodies.push_back(body.clone());
        Some(body.1)
    }

    /// Remembers octets that were found to have this digest, unless they are too few to be worth it
    /// or more than there is room for.
    pub fn put(&self, account: AccountId, digest: [u8; 32], octets: &Bytes) {
        let key = (account, digest);
        let mut kept = self.lock();
        let fits = (MIN_RECENT_OCTETS..=self.room).contains(&octets.len());
        if !fits || kept.place(&key).is_some() {
            return;
        }
        kept.octets += octets.len();
        kept.bodies.push_back((key, octets.clone()));
        while kept.octets > self.room {
            let Some((_, oldest)) = kept.bodies.pop_front() else { return };
            kept.octets -= oldest.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A panic under it can only lose what is remembered.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn place(&self, key: &Key) -> Option<usize> {
        self.bodies.iter().position(|(known, _)| known == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: AccountId = AccountId([1; 16]);

    fn body(octets: usize) -> Bytes {
        Bytes::from(vec![b'x'; octets])
    }

    #[test]
    fn the_last_used_bodies_are_kept_within_the_room() {
        let recent = RecentBodies::new(3 * MIN_RECENT_OCTETS);
        for digest in 1..=3 {
            recent.put(ALICE, [digest; 32], &body(MIN_RECENT_OCTETS));
        }
        assert!(recent.get(ALICE, [1; 32]).is_some());
        recent.put(ALICE, [4; 32], &body(MIN_RECENT_OCTETS + 1));
        let known = [1, 2, 3, 4].map(|digest| recent.get(ALICE, [digest; 32]).is_some());
        assert_eq!(known, [true, false, false, true], "1 was used after 2 and 3");
        assert_eq!(recent.lock().octets, 2 * MIN_RECENT_OCTETS + 1);
    }

    #[test]
    fn what_is_too_small_or_too_large_or_known_takes_no_room() {
        let recent = RecentBodies::new(2 * MIN_RECENT_OCTETS);
        recent.put(ALICE, [1; 32], &body(MIN_RECENT_OCTETS - 1));
        recent.put(ALICE, [2; 32], &body(2 * MIN_RECENT_OCTETS + 1));
        assert!(recent.lock().bodies.is_empty());
        recent.put(ALICE, [3; 32], &body(MIN_RECENT_OCTETS));
        recent.put(ALICE, [3; 32], &body(MIN_RECENT_OCTETS));
        assert_eq!(recent.lock().octets, MIN_RECENT_OCTETS);
    }

    #[test]
    fn an_account_knows_its_own_reads_only() {
        let recent = RecentBodies::default();
        recent.put(ALICE, [1; 32], &body(MIN_RECENT_OCTETS));
        assert_eq!(recent.get(AccountId([2; 16]), [1; 32]), None);
    }
}
