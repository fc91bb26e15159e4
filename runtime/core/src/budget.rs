//! Memory for messages in arrival, over LMTP or by APPEND, shared by all sessions of a node: without
//! it, as many messages of the largest size as there are connections could be in memory at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most octets of messages in arrival on one node by default: a dozen of the largest size, or
/// thousands of usual ones.
pub const DEFAULT_BUDGET_OCTETS: u64 = 512 << 20;

/// Octets that sessions may hold together.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(DEFAULT_BUDGET_OCTETS)
    }
}

impl Budget {
    /// A budget of so many octets.
    pub fn new(octets: u64) -> Self {
        Self { left: AtomicU64::new(octets) }
    }

    /// Octets that nobody holds.
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    fn take(&self, octets: u64) -> bool {
        let take = |left: u64| left.checked_sub(octets);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// Octets that one message holds; dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    octets: u64,
}

impl Reservation {
    /// Holds nothing yet.
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { budget, octets: 0 }
    }

    /// Holds nothing, of the same budget.
    pub fn emptied(&self) -> Self {
        Self::new(self.budget.clone())
    }

    /// Makes sure that at least `octets` are held; `false` when the budget does not have them.
    #[must_use]
    pub fn hold(&mut self, octets: u64) -> bool {
        let more = octets.saturating_sub(self.octets);
        let held = more == 0 || self.budget.take(more);
        if held {
            self.octets += more;
        }
        held
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.octets, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_back_and_no_more_than_there_is_can_be_held() {
        let budget = Arc::new(Budget::new(100));
        let (mut first, mut second) =
            (Reservation::new(budget.clone()), Reservation::new(budget.clone()));
        assert!(first.hold(60) && first.hold(50), "what is held already is not taken again");
        assert!(!second.hold(41));
        assert!(second.hold(40));
        assert_eq!(budget.left(), 0);
        drop((first, second));
        assert_eq!(budget.left(), 100);
    }
}
