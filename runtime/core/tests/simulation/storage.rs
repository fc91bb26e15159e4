//! The storage that all nodes share: claims, heartbeats, accounts. Each effect is one step; when it
//! happens and who hears of it is decided by `engine`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postroom_core::cluster::{Beat, ClaimRecord, Claimant, Fence, NodeId, Release};
use postroom_core::mailbox::Step;
use postroom_core::mailbox::ledger::LedgerWrite;
use postroom_core::types::{Epoch, Slot, TransactionId};

use crate::Plant;
use crate::disk::Disk;

/// One atomic step on an account.
#[derive(Clone, Debug)]
pub struct Commit {
    pub account: usize,
    pub fence: Fence,
    pub expected_head: u64,
    /// With what is answered to whom asks again.
    pub transactions: Vec<(TransactionId, Bytes)>,
    pub steps: Vec<Step>,
    pub ledger: Vec<LedgerWrite>,
}

/// Why a commit has certainly had no effect.
#[derive(Clone, Debug)]
pub enum Refusal {
    AlreadyDone(TransactionId, Bytes),
    Fenced,
    HeadMoved,
    Broken(String),
}

#[derive(Clone, Default)]
pub struct Storage {
    pub claims: BTreeMap<Slot, ClaimRecord>,
    pub beats: BTreeMap<NodeId, (Claimant, Duration)>,
    pub accounts: BTreeMap<usize, Arc<Disk>>,
}

impl Storage {
    pub fn claim(
        &mut self,
        slot: Slot,
        claimant: &Claimant,
        previous: Option<Epoch>,
    ) -> Option<Fence> {
        if self.claims.get(&slot).map(|record| record.epoch) != previous {
            return None;
        }
        let epoch = Epoch(previous.map_or(0, |epoch| epoch.0) + 1);
        let record = ClaimRecord { epoch, claimant: claimant.clone(), released: None };
        self.claims.insert(slot, record);
        Some(Fence { slot, epoch, nonce: claimant.nonce })
    }

    /// Marks a claim as let go. False: the record is another, or is marked already.
    pub fn release(&mut self, fence: &Fence, to: Option<NodeId>) -> bool {
        match self.claims.get_mut(&fence.slot).filter(|record| record.admits(fence)) {
            Some(record) => {
                record.released = Some(Release { to });
                true
            }
            None => false,
        }
    }

    /// Whether nobody else lives under this name, or lived under it later.
    pub fn beat(&mut self, claimant: &Claimant, now: Duration) -> bool {
        if let Some((last, _)) = self.beats.get(&claimant.node)
            && (claimant.generation < last.generation
                || claimant.generation == last.generation && claimant.nonce != last.nonce)
        {
            return false;
        }
        self.beats.insert(claimant.node.clone(), (claimant.clone(), now));
        true
    }

    pub fn beat_of(&self, node: &NodeId, now: Duration) -> Option<Beat> {
        let (claimant, at) = self.beats.get(node)?;
        Some(Beat { generation: claimant.generation, age: now.saturating_sub(*at) })
    }

    pub fn admits(&self, fence: &Fence, plant: Option<Plant>) -> bool {
        let Some(record) = self.claims.get(&fence.slot) else { return false };
        match plant {
            Some(Plant::NoFence) => true,
            _ => record.admits(fence),
        }
    }

    /// The commit's checks in the order of the shipped engines: transactions, fence, head.
    pub fn commit(&mut self, commit: &Commit, plant: Option<Plant>) -> Result<u64, Refusal> {
        let disk = self.accounts.entry(commit.account).or_default();
        let before = commit
            .transactions
            .iter()
            .find_map(|(id, _)| Some(Refusal::AlreadyDone(*id, disk.done.get(id)?.clone())));
        if let Some(before) = before {
            return Err(before);
        }
        if !self.admits(&commit.fence, plant) {
            return Err(Refusal::Fenced);
        }
        let disk = Arc::make_mut(self.accounts.entry(commit.account).or_default());
        if disk.head != commit.expected_head {
            return Err(Refusal::HeadMoved);
        }
        commit.steps.iter().try_for_each(|step| disk.step(step)).map_err(Refusal::Broken)?;
        disk.write(&commit.ledger);
        if plant != Some(Plant::NoKey) {
            disk.done.extend(commit.transactions.iter().cloned());
        }
        disk.head += 1;
        Ok(disk.head)
    }
}
