//! How a row's value is stored: one octet that says which layout, a CRC-32C over layout, key and
//! payload, then the payload. Every engine stores and verifies it, whatever checksums it has itself:
//! a flipped bit, or a row that turns up under another key, is damage and never data.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StorageError;

/// The layout described above.
const LAYOUT: u8 = 1;
/// Octets before the payload.
pub const HEADER: usize = 5;

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    // The key's length goes first, so that no octet can move between key and payload.
    let mut start = [0; 9];
    start[..8].copy_from_slice(&(key.len() as u64).to_le_bytes());
    start[8] = LAYOUT;
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&start), key), payload)
}

/// The stored form of a payload under a raw key.
pub fn frame(key: &[u8], payload: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(HEADER + payload.len());
    framed.push(LAYOUT);
    framed.extend_from_slice(&checksum(key, payload).to_le_bytes());
    framed.extend_from_slice(payload);
    framed.into()
}

/// The payload of a stored row. `Damaged` when it is not what was stored under this key.
pub fn payload<'a>(key: &[u8], framed: &'a [u8]) -> Result<&'a [u8], StorageError> {
    let Some((header, payload)) = framed.split_first_chunk::<HEADER>() else {
        return Err(damaged(key, "is cut short"));
    };
    if header[0] != LAYOUT {
        return Err(damaged(key, "has an unknown layout"));
    }
    if header[1..] != checksum(key, payload).to_le_bytes() {
        return Err(damaged(key, "does not have its checksum"));
    }
    Ok(payload)
}

/// The stored form of one of this layer's own records.
pub fn encode<T: Serialize>(key: &[u8], record: &T) -> Bytes {
    let payload = postcard::to_stdvec(record).expect("records are plain data: always encodable");
    frame(key, &payload)
}

/// One of this layer's own records, from a verified payload.
pub fn decode<T: DeserializeOwned>(key: &[u8], payload: &[u8]) -> Result<T, StorageError> {
    match postcard::take_from_bytes(payload) {
        Ok((record, [])) => Ok(record),
        Ok(_) | Err(_) => Err(damaged(key, "is no record of its kind")),
    }
}

fn damaged(key: &[u8], what: &str) -> StorageError {
    /// Octets of a key that an error shows: enough for its space and kind.
    const SHOWN: usize = 40;
    let (cut, dots) = if key.len() > SHOWN { (SHOWN, "…") } else { (key.len(), "") };
    StorageError::Damaged(format!("row {}{dots} {what}", hex::encode(&key[..cut])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_of_a_row_is_damage() {
        let framed = frame(b"key", b"a payload");
        assert_eq!(payload(b"key", &framed), Ok(&b"a payload"[..]));
        for bit in 0..framed.len() * 8 {
            let mut flipped = framed.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(payload(b"key", &flipped), Err(StorageError::Damaged(_))), "{bit}");
        }
    }

    #[test]
    fn a_row_under_another_key_or_cut_short_is_damage() {
        let framed = frame(b"key", b"payload");
        assert!(payload(b"kez", &framed).is_err());
        assert!(payload(b"ke", &frame(b"key", b"payload")).is_err());
        for end in 0..framed.len() {
            assert!(payload(b"key", &framed[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_record_with_octets_after_it_is_damage() {
        let framed = encode(b"k", &7u64);
        let inside = payload(b"k", &framed).unwrap();
        assert_eq!(decode::<u64>(b"k", inside), Ok(7));
        assert!(decode::<u64>(b"k", &[inside, &[0]].concat()).is_err());
        assert!(decode::<u64>(b"k", &[]).is_err());
    }
}
