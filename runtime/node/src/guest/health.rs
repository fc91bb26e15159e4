//! How many instances of a component went before their time.

use std::sync::atomic::{AtomicU64, Ordering};

use postroom_core::deploy::evidence::Wear;

/// Counts them, for as long as the component is loaded.
#[derive(Default)]
pub(super) struct Health {
    lost: AtomicU64,
    worn: AtomicU64,
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

    /// So far.
    pub(super) fn told(&self) -> Wear {
        let (lost, worn) = (&self.lost, &self.worn);
        Wear { lost: lost.load(Ordering::Relaxed), worn: worn.load(Ordering::Relaxed) }
    }
}
