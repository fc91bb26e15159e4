//! Reading bodies: in runs that fit in memory together, and each run when it is its turn.

use std::iter::Peekable;

use postroom_core::error::StoreError;
use tokio::sync::SemaphorePermit;

use super::MessageStore;
use super::limits::{HEAVY_PATIENCE, MAX_HEAVY_READS};

/// Octets of one unit of what is read at a time.
const MEBIBYTE: u64 = 1 << 20;

/// Messages that are looked at together.
pub struct Run<T> {
    /// The messages.
    pub messages: Vec<T>,
    /// Octets of those whose bodies are to be read; `None`: there is none such.
    pub reads: Option<u64>,
}

impl<T> Run<T> {
    /// Takes the next messages: as many as have at most so many octets to be read together, and one
    /// even if it has more. `reads` says how many octets of a message are to be read, `None`: nothing
    /// of it.
    pub fn next(
        left: &mut Peekable<impl Iterator<Item = T>>,
        most: u64,
        reads: impl Fn(&T) -> Option<u64>,
    ) -> Self {
        let mut run = Self { messages: Vec::new(), reads: None };
        while let Some(next) = left.peek() {
            if let Some(octets) = reads(next) {
                let together = run.reads.unwrap_or(0).saturating_add(octets);
                if run.reads.is_some() && together > most {
                    break;
                }
                run.reads = Some(together);
            }
            run.messages.extend(left.next());
        }
        run
    }
}

impl MessageStore {
    /// A turn to read so many octets, among all who read bodies in this node.
    ///
    /// # Errors
    /// `Busy` when it does not come soon enough.
    pub(super) async fn heavy_turn(&self, octets: u64) -> Result<SemaphorePermit<'_>, StoreError> {
        let busy = || StoreError::Busy("too many messages are being read".into());
        let units = u32::try_from(octets.div_ceil(MEBIBYTE)).unwrap_or(u32::MAX);
        let units = units.clamp(1, MAX_HEAVY_READS);
        let turn = self.inner.heavy.acquire_many(units);
        let turn = tokio::time::timeout(HEAVY_PATIENCE, turn).await;
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The runs of messages with so many octets to be read, at most ten together.
    fn check(messages: &[Option<u64>], expected: &[(usize, Option<u64>)]) {
        let mut left = messages.iter().copied().peekable();
        let mut runs = Vec::new();
        while left.peek().is_some() {
            let run = Run::next(&mut left, 10, |octets| *octets);
            runs.push((run.messages.len(), run.reads));
        }
        assert_eq!(runs, expected, "{messages:?}");
    }

    #[test]
    fn a_run_has_one_message_at_least_and_otherwise_what_fits() {
        check(&[], &[]);
        check(&[Some(5), Some(5), Some(1)], &[(2, Some(10)), (1, Some(1))]);
        check(&[Some(11), Some(12)], &[(1, Some(11)), (1, Some(12))]);
        check(&[Some(u64::MAX), Some(u64::MAX)], &[(1, Some(u64::MAX)); 2]);
        check(&[None, Some(10), None, Some(0), Some(1)], &[(4, Some(10)), (1, Some(1))]);
        check(&[None, None], &[(2, None)]);
    }
}
