//! Storage as the protocol needs it: one claim record, one log of commits, each step atomic.

use postroom_core::cluster::{ClaimRecord, Claimant, Claimed, Fence, Release, Released};
use postroom_core::types::Epoch;

use crate::Plant;

/// A commit that took effect: one message, under one transaction id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    pub fence: Fence,
    pub transaction: u8,
    pub uid: u8,
}

/// How a commit is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It took effect, or had before: the message's UID.
    Yes(u8),
    Fenced,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Storage {
    pub record: Option<ClaimRecord>,
    pub log: Vec<Entry>,
}

impl Storage {
    /// The mod-sequence of the account: how many commits there were.
    pub fn head(&self) -> u8 {
        self.log.len() as u8
    }

    pub fn claim(&mut self, claimant: &Claimant, fence: Fence, previous: Option<Epoch>) -> Claimed {
        if self.record.as_ref().map(|record| record.epoch) != previous {
            return Claimed::Conflict;
        }
        let (epoch, claimant) = (fence.epoch, claimant.clone());
        self.record = Some(ClaimRecord { epoch, claimant, released: None });
        Claimed::Held(fence)
    }

    pub fn release(&mut self, fence: &Fence, to: Option<Release>) -> Released {
        match self.record.as_mut().filter(|record| record.admits(fence)) {
            Some(record) => {
                record.released = to;
                Released::Done
            }
            None => Released::Conflict,
        }
    }

    pub fn admits(&self, fence: &Fence) -> bool {
        self.record.as_ref().is_some_and(|record| record.admits(fence))
    }

    /// One atomic step: the transaction id, the fence, the effect.
    pub fn commit(&mut self, entry: Entry, checked: bool, plant: Option<Plant>) -> Committed {
        let same = |done: &&Entry| done.transaction == entry.transaction;
        let done = self.log.iter().find(same).filter(|_| plant != Some(Plant::NoIdempotencyKey));
        if let Some(done) = done {
            return Committed::Yes(done.uid);
        }
        let passes = checked || plant == Some(Plant::NoFence) || self.admits(&entry.fence);
        if !passes {
            return Committed::Fenced;
        }
        self.log.push(entry);
        Committed::Yes(entry.uid)
    }
}
