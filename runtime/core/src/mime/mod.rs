//! What is derived from a message's octets: envelope, body structure, sections, addresses, text.

use serde::{Deserialize, Serialize};

/// What FETCH needs of a message beside its octets; cached by content digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derived {}
