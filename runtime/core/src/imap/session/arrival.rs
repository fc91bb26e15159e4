//! The message of an APPEND as it arrives, within the memory that all sessions of the node share.

use std::sync::Arc;

use bytes::Bytes;

use crate::budget::{Budget, Reservation};

/// So much is taken when a message is announced; more is taken as octets really arrive, so that
/// announcing costs the client as much as the server. Most mail fits.
const FIRST_OCTETS: usize = 64 * 1024;

/// Why a message is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// Too many messages arrive on this node at the moment.
    NoRoom,
    /// There is a NUL octet in it.
    Nul,
}

/// A message of which some octets have arrived.
pub(super) struct Arrival {
    octets: Vec<u8>,
    /// How many there will be.
    announced: usize,
    held: Reservation,
}

impl Arrival {
    /// For a message of so many octets.
    pub(super) fn new(announced: u64, budget: Arc<Budget>) -> Result<Self, Unwanted> {
        // What does not fit the address space does not fit the budget.
        let announced = usize::try_from(announced).map_err(|_| Unwanted::NoRoom)?;
        let mut new = Self { octets: Vec::new(), announced, held: Reservation::new(budget) };
        new.make_room(announced.min(FIRST_OCTETS))?;
        Ok(new)
    }

    /// How many octets are still to come.
    pub(super) fn left(&self) -> u64 {
        (self.announced - self.octets.len()) as u64
    }

    /// Keeps octets, no more than are left.
    pub(super) fn push(&mut self, octets: &[u8]) -> Result<(), Unwanted> {
        if octets.contains(&0) {
            return Err(Unwanted::Nul);
        }
        self.make_room(octets.len())?;
        self.octets.extend_from_slice(octets);
        Ok(())
    }

    /// The message, and what holds its memory: to be dropped with it.
    pub(super) fn finish(self) -> (Bytes, Reservation) {
        (self.octets.into(), self.held)
    }

    fn make_room(&mut self, more: usize) -> Result<(), Unwanted> {
        let needed = self.octets.len() + more;
        if needed <= self.octets.capacity() {
            return Ok(());
        }
        let doubled = self.octets.capacity().saturating_mul(2);
        let capacity = doubled.min(self.announced).max(needed);
        if !self.held.hold(capacity as u64) {
            return Err(Unwanted::NoRoom);
        }
        self.octets.reserve_exact(capacity - self.octets.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_taken_as_octets_arrive_and_given_back_with_the_message() {
        let all = 10 * FIRST_OCTETS as u64;
        let budget = Arc::new(Budget::new(all));
        let announced = 5 * FIRST_OCTETS;
        let mut arrival = Arrival::new(announced as u64, budget.clone()).unwrap();
        assert_eq!(budget.left(), all - FIRST_OCTETS as u64);
        for octets in vec![b'x'; announced].chunks(FIRST_OCTETS - 1) {
            arrival.push(octets).unwrap();
            assert_eq!(budget.left(), all - arrival.octets.capacity() as u64);
        }
        assert_eq!((arrival.left(), arrival.octets.capacity()), (0, announced));
        let (message, held) = arrival.finish();
        assert_eq!((message.len(), budget.left()), (announced, all - announced as u64));
        drop((message, held));
        assert_eq!(budget.left(), all);
    }

    #[test]
    fn what_is_announced_costs_no_more_than_the_first_octets() {
        let budget = Arc::new(Budget::new(FIRST_OCTETS as u64));
        let arrival = Arrival::new(u64::from(u32::MAX), budget.clone()).unwrap();
        assert_eq!((arrival.octets.capacity(), budget.left()), (FIRST_OCTETS, 0));
        assert_eq!(Arrival::new(1, budget).err(), Some(Unwanted::NoRoom));
    }

    #[test]
    fn a_nul_octet_is_found_wherever_it_stands() {
        for at in 0..3 {
            let mut octets = *b"abc";
            octets[at] = 0;
            let mut arrival = Arrival::new(3, Arc::default()).unwrap();
            let pushed = octets.chunks(1).try_for_each(|octet| arrival.push(octet));
            assert_eq!(pushed, Err(Unwanted::Nul));
        }
    }
}
