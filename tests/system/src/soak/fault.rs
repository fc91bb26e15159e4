//! What is done to a cluster, with the goal for each: how long a client may wait meanwhile (design: open,
//! milliseconds; owner process killed, under 1 s; owner's host lost, under 6 s; drain or rebalance, at most 2 s).

use std::time::Duration;

use clap::ValueEnum;

/// One kind of disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// Nothing: how it is between two of them
    Calm,
    /// `kill -9` of a node, which is started again
    Kill,
    /// SIGSTOP of a node past the take-over of all that it has open, and back
    Pause,
    /// SIGSTOP of a node that has sent a commit and not yet heard what became of it; past the take-over, and back
    PauseInCommit,
    /// SIGSTOP of a node whose commit is held back on the way, and arrives after the take-over: it must be refused
    LateCommit,
    /// A node's host is lost: neither other nodes nor storage hear of it, until it comes back
    HostLost,
    /// One node can reach no other one; all reach storage. Nothing may be taken over
    Isolate,
    /// The link of two nodes, one way or both. Nothing may be taken over
    Link,
    /// Everything between nodes takes 100 ms longer
    Slow,
    /// `postroom cluster drain`; the node is then stopped, and started again
    Drain,
    /// SIGTERM, and started again
    Stop,
    /// PostgreSQL is stopped in good order and started again
    StorageRestart,
    /// `kill -9` of PostgreSQL, which is started again
    StorageKill,
    /// SIGSTOP of PostgreSQL, and back
    StorageHalt,
    /// One node alone loses storage, until what it had open is taken over
    StorageOfOne,
}

impl Fault {
    /// All that can be done.
    pub fn all() -> Vec<Self> {
        Self::value_variants().iter().copied().filter(|fault| *fault != Self::Calm).collect()
    }

    /// As it is written on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value().map(|value| value.get_name().to_owned());
        value.unwrap_or_default()
    }

    /// Longest that a client of another node may wait; `None`: nothing is promised.
    pub fn goal(self) -> Option<Duration> {
        match self {
            Self::Kill => Some(Duration::from_secs(1)),
            Self::Drain | Self::Stop => Some(Duration::from_secs(2)),
            Self::Pause
            | Self::PauseInCommit
            | Self::LateCommit
            | Self::HostLost
            | Self::StorageOfOne => Some(Duration::from_secs(6)),
            // Whoever needs what is away waits until it is back, or hears "not now".
            Self::Isolate
            | Self::Link
            | Self::Slow
            | Self::StorageRestart
            | Self::StorageKill
            | Self::StorageHalt
            | Self::Calm => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_calm_is_none() {
        let names: std::collections::BTreeSet<String> =
            Fault::all().into_iter().map(Fault::name).collect();
        assert_eq!(names.len(), Fault::value_variants().len() - 1);
        assert!(names.contains("pause-in-commit") && !names.contains("calm"));
    }
}
