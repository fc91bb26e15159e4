//! What an engine has done, for `stats` and for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::EngineStats;

/// Counts that only rise.
#[derive(Debug)]
pub struct Counters {
    engine: &'static str,
    commits: AtomicU64,
    refused: AtomicU64,
    groups: AtomicU64,
    syncs: AtomicU64,
    row_octets: AtomicU64,
    segment_octets: AtomicU64,
    snapshot_octets: AtomicU64,
    bodies: AtomicU64,
    recoveries: AtomicU64,
    rebuilds: AtomicU64,
}

/// Adds to a count of our own and to the metric of that name.
macro_rules! count {
    ($this:ident . $counter:ident, $metric:literal, $by:expr) => {{
        $this.$counter.fetch_add($by, Ordering::Relaxed);
        metrics::counter!($metric, "engine" => $this.engine).increment($by);
    }};
}

impl Counters {
    /// Nothing yet, of the engine of this name.
    pub fn new(engine: &'static str) -> Self {
        Self {
            engine,
            commits: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            row_octets: AtomicU64::new(0),
            segment_octets: AtomicU64::new(0),
            snapshot_octets: AtomicU64::new(0),
            bodies: AtomicU64::new(0),
            recoveries: AtomicU64::new(0),
            rebuilds: AtomicU64::new(0),
        }
    }

    /// A group became durable.
    pub fn group(&self, commits: u64, refused: u64) {
        count!(self.groups, "postroom_storage_groups_total", 1);
        count!(self.commits, "postroom_storage_commits_total", commits);
        self.refused(refused);
    }

    /// Commits that had no effect.
    pub fn refused(&self, commits: u64) {
        count!(self.refused, "postroom_storage_refused_total", commits);
    }

    /// The medium was waited for.
    pub fn synced(&self) {
        count!(self.syncs, "postroom_storage_syncs_total", 1);
    }

    /// Octets went to the file of rows.
    pub fn wrote_rows(&self, octets: usize) {
        count!(self.row_octets, "postroom_storage_row_octets_total", octets as u64);
    }

    /// Octets went to a segment.
    pub fn wrote_segment(&self, octets: u64) {
        count!(self.segment_octets, "postroom_storage_segment_octets_total", octets);
    }

    /// Octets went to a snapshot of the rows.
    pub fn wrote_snapshot(&self, octets: u64) {
        count!(self.snapshot_octets, "postroom_storage_snapshot_octets_total", octets);
    }

    /// A body was made.
    pub fn body(&self) {
        count!(self.bodies, "postroom_storage_bodies_total", 1);
    }

    /// The database was opened again after a failure.
    pub fn recovered(&self) {
        count!(self.recoveries, "postroom_storage_recoveries_total", 1);
    }

    /// Damaged rows were made anew.
    pub fn rebuilt(&self) {
        count!(self.rebuilds, "postroom_storage_rebuilds_total", 1);
    }

    /// How many times damaged rows were made anew.
    pub fn rebuilds(&self) -> u64 {
        self.rebuilds.load(Ordering::Relaxed)
    }

    /// All of them.
    pub fn stats(&self) -> EngineStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineStats {
            commits: of(&self.commits),
            refused: of(&self.refused),
            groups: of(&self.groups),
            syncs: of(&self.syncs),
            written_octets: of(&self.row_octets)
                + of(&self.segment_octets)
                + of(&self.snapshot_octets),
            segment_octets: of(&self.segment_octets),
            bodies: of(&self.bodies),
            recoveries: of(&self.recoveries),
            rebuilds: self.rebuilds(),
        }
    }
}
