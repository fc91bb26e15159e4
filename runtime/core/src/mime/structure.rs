//! Finds the parts of a message.

use super::{Derived, Part, Span};

/// What is derived from a message's octets; see the module.
pub fn derive(octets: &[u8]) -> Derived {
    let structure = Part { body: Span::new(0..octets.len()), ..Part::default() };
    Derived { structure, ..Derived::default() }
}
