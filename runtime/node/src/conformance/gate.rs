//! Storage made difficult, as a case of the kit wants it: short scans, and a fault at a capability
//! call.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use postroom_kit::{Fault, Knobs};
use tokio::sync::watch;

use crate::storage::{Gate, StorageError};

/// The gate before the storage of one subject.
#[derive(Debug)]
pub(super) struct Faults {
    knobs: Mutex<Knobs>,
    /// Told to those who wait: what has been met since the knobs were set.
    round: watch::Sender<Round>,
}

/// Whether a capability call can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Never,
    AsLongAsItTakes,
}

/// The time between two settings of the knobs.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    number: u64,
    met: Option<Fault>,
    /// Whether a call waits. One that cannot has its answer at once: what becomes of the operation is
    /// then up to the store, however fast it is, and the same in each run.
    waiting: bool,
}

impl Faults {
    /// None, so far.
    pub(super) fn none() -> Self {
        Self { knobs: Mutex::new(Knobs::EASY), round: watch::Sender::new(Round::default()) }
    }

    /// Sets the knobs, and lets go of what was held.
    pub(super) fn set(&self, knobs: Knobs) {
        let mut now = self.knobs.lock().unwrap_or_else(PoisonError::into_inner);
        self.round.send_modify(|round| {
            *round = Round { number: round.number + 1, ..Round::default() };
        });
        *now = knobs;
    }

    /// Whether the fault has been met.
    pub(super) fn met(&self) -> bool {
        self.round.borrow().met.is_some()
    }

    /// Comes back once a call is held.
    pub(super) async fn held(&self) {
        let mut round = self.round.subscribe();
        // It lives as long as the gate, which is borrowed here.
        let _ = round.wait_for(|round| round.waiting).await;
    }

    /// Counts a capability call, which can wait or not; the fault that it meets, and in which round.
    fn enter(&self, waits: Waits) -> Option<(Fault, u64)> {
        let mut knobs = self.knobs.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, fault) = knobs.fault.as_mut()?;
        if *fault == Fault::Pause && waits == Waits::Never {
            return None;
        }
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let fault = *fault;
        if fault != Fault::Hold {
            knobs.fault = None;
        }
        self.round.send_modify(|round| {
            round.met = Some(fault);
            round.waiting |= fault.waits() && waits == Waits::AsLongAsItTakes;
        });
        Some((fault, self.round.borrow().number))
    }
}

fn unavailable() -> StorageError {
    StorageError::Unavailable("as the conformance kit wants".to_owned())
}

#[async_trait]
impl Gate for Faults {
    async fn read(&self) -> Result<(), StorageError> {
        let Some((fault, number)) = self.enter(Waits::AsLongAsItTakes) else { return Ok(()) };
        if fault.waits() {
            let mut round = self.round.subscribe();
            let _ = round.wait_for(|round| round.number != number).await;
        }
        match fault {
            Fault::Pause => Ok(()),
            Fault::Fail | Fault::Hold => Err(unavailable()),
        }
    }

    fn write(&self) -> Result<(), StorageError> {
        self.enter(Waits::Never).map_or(Ok(()), |_| Err(unavailable()))
    }

    fn items(&self) -> usize {
        self.knobs.lock().unwrap_or_else(PoisonError::into_inner).scan_items as usize
    }
}
