//! The driver over the memory engine and the plainest store.

use super::*;
