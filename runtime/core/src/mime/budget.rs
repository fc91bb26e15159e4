//! What may still be derived from a message before it is opaque.

use bytes::Bytes;

use super::{MAX_ADDRESSES, MAX_DERIVED_OCTETS, MAX_PARTS, MAX_VALUE_OCTETS, Octets};

/// Octets that a value costs beside its own: what keeping it takes in memory, so that a million
/// empty ones are not free.
const VALUE_OVERHEAD: usize = 32;

/// What is left of the bounds of one message.
#[derive(Debug)]
pub(super) struct Budget {
    octets: usize,
    addresses: usize,
    parts: usize,
    /// Whether something did not fit.
    pub(super) truncated: bool,
}

impl Budget {
    /// All of it.
    pub(super) fn new() -> Self {
        Self {
            octets: MAX_DERIVED_OCTETS,
            addresses: MAX_ADDRESSES,
            parts: MAX_PARTS,
            truncated: false,
        }
    }

    /// A copy of the value, cut off at [`MAX_VALUE_OCTETS`]; `None` when the budget is used up.
    pub(super) fn value(&mut self, value: &[u8]) -> Option<Octets> {
        let kept = &value[..value.len().min(MAX_VALUE_OCTETS)];
        let left = self.octets.checked_sub(kept.len() + VALUE_OVERHEAD);
        self.truncated |= kept.len() < value.len() || left.is_none();
        self.octets = left?;
        Some(Bytes::copy_from_slice(kept))
    }

    /// Whether one more address fits; takes it.
    pub(super) fn address(&mut self) -> bool {
        let left = self.addresses.checked_sub(1);
        self.truncated |= left.is_none();
        self.addresses = left.unwrap_or(0);
        left.is_some()
    }

    /// Whether one more part fits; takes it.
    pub(super) fn part(&mut self) -> bool {
        let left = self.parts.checked_sub(1);
        self.truncated |= left.is_none();
        self.parts = left.unwrap_or(0);
        left.is_some()
    }
}
