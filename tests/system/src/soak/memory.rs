//! What a node has of the machine: something that is kept with each swap shows here.

use std::fs;

use crate::cluster::ClusterNode;

/// After so many swaps it is looked at, beside the beginning and the end.
const LOOKS: [u32; 9] = [0, 1, 10, 50, 100, 200, 500, 1_000, 2_000];

/// One node, after so many swaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Swaps before.
    pub swaps: u32,
    /// The node.
    pub node: String,
    /// Its resident memory, in KiB.
    pub resident_kib: u64,
    /// Its mappings: lines of its `maps`.
    pub mappings: u64,
    /// Its threads.
    pub threads: u64,
}

impl Memory {
    /// Whether it is looked at after so many.
    pub fn is_due(swaps: u32) -> bool {
        LOOKS.contains(&swaps)
    }

    /// Of a node that runs.
    pub fn of(node: &ClusterNode, swaps: u32) -> Option<Self> {
        let process = format!("/proc/{}", node.pid()?);
        let status = fs::read_to_string(format!("{process}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let maps = fs::read_to_string(format!("{process}/maps")).ok()?;
        Some(Self {
            swaps,
            node: node.name.clone(),
            resident_kib: field("VmRSS:")?,
            mappings: maps.lines().count() as u64,
            threads: field("Threads:")?,
        })
    }
}
