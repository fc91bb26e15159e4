//! What one node knows of one slot.

use std::time::Duration;

use crate::cluster::claim::{ClaimRecord, Fence};
use crate::cluster::facts::NodeId;
use crate::cluster::pending::Ask;
use crate::types::Epoch;

/// How far this node is with a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Phase {
    /// Nothing is asked. A call goes where the table says, or the record is read.
    #[default]
    Unknown,
    /// The record is being read.
    Looking(Ask),
    /// The heartbeat of the record's claimant is being read.
    Doubting(Ask, ClaimRecord),
    /// The slot is being claimed; since when, and whether from a node that was taken to be dead.
    Claiming(Ask, Duration, bool),
    /// A pause before the record is read again.
    Resting(Duration),
    /// The record says that this node has it; whether it is to open it.
    Elsewhere(NodeId, bool),
    /// It is open here.
    Held(Held),
    /// It was open here: new calls wait, those that run end, at most until then. It is let go for this
    /// node.
    Ending(Duration, Fence, Option<NodeId>),
    /// Nothing that was started here runs any more: its accounts are being closed.
    Closing(Fence, Option<NodeId>),
    /// The release is being asked for.
    Releasing(Ask, Fence, Option<NodeId>),
    /// Storage did not answer the release: a pause before it is asked for again.
    ReleasePause(Duration, Fence, Option<NodeId>),
}

/// A claim of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Held {
    /// What commits carry.
    pub fence: Fence,
    /// Since when.
    pub since: Duration,
    /// When the last question was begun whose answer was that the claim stands.
    pub validated: Duration,
    /// The latest such question. An answer to one before the claim says nothing of it.
    pub asked: Option<Ask>,
}

/// Why a node that was tried is not simply tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Doubt {
    /// It says that it does not have the slot.
    Declined,
    /// The link gives no answer.
    Unreachable,
    /// Its host refuses the connection.
    Refused,
}

/// One slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub phase: Phase,
    /// The node that a call was last sent to in vain, how, and when that was known.
    pub doubt: Option<(NodeId, Doubt, Duration)>,
    /// Pauses made since something last came of it.
    pub pauses: u32,
    /// The highest epoch seen, and when it was last seen to be the record's.
    seen: Option<(Epoch, Duration)>,
    /// When an epoch lower than that was last seen: the present claim is no older.
    lower_seen: Option<Duration>,
}

impl Place {
    /// The fence, from the claim to the release.
    pub fn fence(&self) -> Option<Fence> {
        match &self.phase {
            Phase::Held(held) => Some(held.fence),
            Phase::Ending(_, fence, _)
            | Phase::Closing(fence, _)
            | Phase::Releasing(_, fence, _)
            | Phase::ReleasePause(_, fence, _) => Some(*fence),
            Phase::Unknown
            | Phase::Looking(_)
            | Phase::Doubting(..)
            | Phase::Claiming(..)
            | Phase::Resting(_)
            | Phase::Elsewhere(..) => None,
        }
    }

    /// The fence, while calls are started.
    pub fn serving(&self) -> Option<Fence> {
        self.held().map(|held| held.fence)
    }

    /// The claim, while calls are started.
    pub fn held(&self) -> Option<Held> {
        match &self.phase {
            Phase::Held(held) => Some(*held),
            _ => None,
        }
    }

    /// When a pause ends.
    pub fn wake(&self) -> Option<Duration> {
        match self.phase {
            Phase::Resting(until) | Phase::Ending(until, ..) | Phase::ReleasePause(until, ..) => {
                Some(until)
            }
            _ => None,
        }
    }

    /// What is doubted of this node.
    pub fn doubt_of(&self, node: &NodeId) -> Option<Doubt> {
        self.doubt.as_ref().filter(|(doubted, ..)| doubted == node).map(|(_, doubt, _)| *doubt)
    }

    /// The age up to which a node's heartbeat says that it lives. One whose host has refused the
    /// connection must have beaten since: it may have been started again.
    pub fn oldest_beat(&self, stale: Duration, now: Duration) -> Duration {
        match self.doubt {
            Some((_, Doubt::Refused, at)) => now.saturating_sub(at).min(stale),
            Some(_) | None => stale,
        }
    }

    /// The record had this epoch. The highest seen so far when it has gone back.
    pub fn note(&mut self, epoch: Option<Epoch>, now: Duration) -> Result<(), Epoch> {
        match (self.seen, epoch) {
            (None, None) => return Ok(()),
            (Some((seen, _)), None) => return Err(seen),
            (Some((seen, _)), Some(epoch)) if epoch < seen => return Err(seen),
            (Some((seen, at)), Some(epoch)) if epoch > seen => self.lower_seen = Some(at),
            (Some(_) | None, Some(_)) => {}
        }
        self.seen = epoch.map(|epoch| (epoch, now));
        Ok(())
    }

    /// The highest epoch seen.
    pub fn highest(&self) -> Option<Epoch> {
        self.seen.map(|(epoch, _)| epoch)
    }

    /// Until when the present claim is too new to be taken away; `None`: it is old enough, or nobody
    /// here knows how old it is.
    pub fn tenure_until(&self, min: Duration, now: Duration) -> Option<Duration> {
        self.lower_seen.map(|at| at + min).filter(|until| *until > now)
    }

    /// Storage was put back, and an operator has seen to it.
    pub fn forget_epochs(&mut self) {
        (self.seen, self.lower_seen) = (None, None);
    }
}
