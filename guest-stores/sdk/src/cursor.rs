//! Keys as the opaque text that a check's cursor is.

use std::fmt::Write;

use crate::error::{Result, StoreError};

/// A key as text.
pub fn encode(key: &[u8]) -> String {
    key.iter().fold(String::with_capacity(2 * key.len()), |mut text, octet| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// The key of a text that [`encode`] made; `invalid` for every other one.
pub fn decode(cursor: &str) -> Result<Vec<u8>> {
    let digit = |octet: u8| char::from(octet).to_digit(16).map(|digit| digit as u8);
    let pairs = cursor.as_bytes().chunks(2);
    let octet = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    pairs
        .map(octet)
        .collect::<Option<_>>()
        .ok_or_else(|| StoreError::Invalid(format!("{cursor:?} is no cursor of this store")))
}
