//! The header of a message (RFC 5322), as far as a hook needs it.

use crate::error::Result;
use crate::host::Body;

/// Octets that are read at a time: most headers are shorter.
const PIECE: u32 = 16 << 10;

/// The header of a message without the empty line at its end; of one that is longer than `most`
/// octets, so much of it.
pub async fn header<B: Body>(message: &B, most: usize) -> Result<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        let piece = message.read(read.len() as u64, PIECE).await?;
        // An end may lie across two pieces.
        let from = read.len().saturating_sub(3);
        read.extend_from_slice(&piece);
        let end = read[from..].windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            read.truncate(from + end + 2);
        }
        if read.starts_with(b"\r\n") {
            return Ok(Vec::new());
        }
        if end.is_some() || piece.is_empty() || read.len() >= most {
            read.truncate(most);
            return Ok(read);
        }
    }
}

/// The value of the first field of this name, in any case: unfolded, without white space around it.
pub fn field(header: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(header);
    let mut lines = text.split("\r\n");
    while let Some(line) = lines.next() {
        let Some((found, value)) = line.split_once(':') else { continue };
        if !found.trim_end().eq_ignore_ascii_case(name) {
            continue;
        }
        let folded = lines.take_while(|line| line.starts_with([' ', '\t']));
        let value = std::iter::once(value).chain(folded).collect::<String>();
        return Some(value.trim().to_owned());
    }
    None
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::testing::{SpaceBody, block_on};

    fn check(message: &str, most: usize, expected: &str) {
        let read = block_on(header(&SpaceBody::new(message.as_bytes()), most)).unwrap();
        assert_eq!(String::from_utf8(read).unwrap(), expected);
    }

    #[test]
    fn a_header_ends_at_the_empty_line() {
        check("A: b\r\n\r\nbody\r\n\r\n", 100, "A: b\r\n");
        check("A: b\r\n", 100, "A: b\r\n");
        check("\r\nA: b\r\n\r\n", 100, "");
        check("A: b\r\n\r\n", 3, "A: ");
        // The empty line lies across two pieces, wherever it is cut.
        for before in 0..4 {
            let long = format!("A: {}\r\n", "x".repeat(PIECE as usize - 5 - before));
            check(&format!("{long}\r\nbody"), usize::MAX, &long);
        }
    }

    #[test]
    fn a_field_is_found_in_any_case_and_unfolded() {
        let header = b"X-A: one\r\nx-b : two\r\n\tand  three \r\nX-B: four\r\nrubbish\r\n";
        assert_eq!(field(header, "X-B").as_deref(), Some("two\tand  three"));
        assert_eq!(field(header, "x-a").as_deref(), Some("one"));
        assert_eq!(field(header, "X"), None);
    }
}
