//! What is done to a cluster, with the goal for each: how long a client may wait meanwhile (design: open,
//! milliseconds; owner process killed, under 1 s; owner's host lost, under 6 s; drain or rebalance, at most 2 s).
//! What is done to nodes and database comes first, then what is done with versions of the store component.

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
    /// Another good version of the store component, which becomes permanent
    Swap,
    /// A version that traps at start
    SwapStart,
    /// A version that traps as it writes a message
    SwapTrap,
    /// A version that traps at each hundredth message that an instance writes
    SwapHundredth,
    /// A version that traps at each twentieth body that an instance reads
    SwapReads,
    /// A version that spins at each fiftieth message
    SwapSpin,
    /// A version that keeps 4 MiB for good with each message
    SwapLeak,
    /// A version that answers politely and wrongly
    SwapWrong,
    /// A version that now and then answers politely and wrongly: its verification does not meet it
    SwapSly,
    /// A version that now and then loses a flag as it writes
    SwapLossy,
    /// A version that takes ten times as long
    SwapSlow,
    /// A version that asks for more than the store is granted
    SwapAsks,
    /// A version that was built for another version of the interface
    SwapWorld,
    /// A version whose file is cut off
    SwapCut,
    /// Two deployments at once, at two nodes: one of them begins
    SwapTwice,
    /// PostgreSQL is stopped and started again while a good version is deployed
    SwapStorage,
    /// `kill -9` of a node at one of the steps of a deployment: its canary, or another one
    SwapKill,
}

impl Fault {
    /// All that can be done.
    pub fn all() -> Vec<Self> {
        Self::value_variants().iter().copied().filter(|fault| *fault != Self::Calm).collect()
    }

    /// What is done to nodes, links and database.
    pub fn of_cluster() -> Vec<Self> {
        Self::all().into_iter().filter(|fault| !fault.is_swap()).collect()
    }

    /// What is done with versions of the store component.
    pub fn of_versions() -> Vec<Self> {
        Self::all().into_iter().filter(|fault| fault.is_swap()).collect()
    }

    /// Whether a version of the store component is deployed.
    pub fn is_swap(self) -> bool {
        self >= Self::Swap
    }

    /// Whether no client may notice it: nothing but the store component changes.
    pub fn is_silent(self) -> bool {
        self.is_swap() && !matches!(self, Self::SwapStorage | Self::SwapKill)
    }

    /// Whether one node is hit more than others.
    pub fn is_of_one(self) -> bool {
        !self.is_silent()
            && !matches!(
                self,
                Self::Slow
                    | Self::StorageRestart
                    | Self::StorageKill
                    | Self::StorageHalt
                    | Self::SwapStorage
            )
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
            Self::SwapKill => Some(Duration::from_secs(1)),
            // Whoever needs what is away waits until it is back, or hears "not now".
            Self::Isolate
            | Self::Link
            | Self::Slow
            | Self::StorageRestart
            | Self::StorageKill
            | Self::StorageHalt
            | Self::SwapStorage
            | Self::Calm => None,
            // What a swap costs is told by command, against the same run without.
            Self::Swap
            | Self::SwapStart
            | Self::SwapTrap
            | Self::SwapHundredth
            | Self::SwapReads
            | Self::SwapSpin
            | Self::SwapLeak
            | Self::SwapWrong
            | Self::SwapSly
            | Self::SwapLossy
            | Self::SwapSlow
            | Self::SwapAsks
            | Self::SwapWorld
            | Self::SwapCut
            | Self::SwapTwice => None,
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
        let (cluster, versions) = (Fault::of_cluster(), Fault::of_versions());
        assert_eq!(cluster.len() + versions.len(), names.len());
        assert_eq!(
            (cluster.last(), versions.first()),
            (Some(&Fault::StorageOfOne), Some(&Fault::Swap))
        );
    }
}
