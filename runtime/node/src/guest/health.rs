//! What a component's instances share about it: how many went before their time, and whether it is on probation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use postroom_core::deploy::evidence::Wear;

/// For as long as the component is loaded.
#[derive(Default)]
pub(super) struct Health {
    lost: AtomicU64,
    worn: AtomicU64,
    probation: AtomicBool,
}

impl Health {
    /// One was lost by its own fault.
    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// One kept too much for itself, and is replaced.
    pub(super) fn worn(&self) {
        self.worn.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it is on probation: its calls have less CPU time then.
    pub(super) fn probation(&self) -> &AtomicBool {
        &self.probation
    }

    /// So far.
    pub(super) fn told(&self) -> Wear {
        let (lost, worn) = (&self.lost, &self.worn);
        Wear { lost: lost.load(Ordering::Relaxed), worn: worn.load(Ordering::Relaxed) }
    }
}
