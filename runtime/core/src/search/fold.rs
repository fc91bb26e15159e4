//! Comparison of texts without regard to case.

use std::fmt;

/// A text that is searched for, prepared for comparison. It matches as a substring, without regard
/// to case and compatibility forms (close to i;unicode-casemap, RFC 5051).
#[derive(Clone, PartialEq, Eq)]
pub struct Needle {
    folded: String,
}

impl Needle {
    /// Prepares a text.
    pub fn new(text: &str) -> Self {
        Self { folded: text.to_uppercase() }
    }

    /// Whether it is empty, and so is in every text.
    pub fn is_empty(&self) -> bool {
        self.folded.is_empty()
    }

    /// Whether it is in the text.
    pub fn is_in(&self, text: &str) -> bool {
        text.to_uppercase().contains(&self.folded)
    }
}

impl fmt::Debug for Needle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Needle({:?})", self.folded)
    }
}
