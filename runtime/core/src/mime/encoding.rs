//! Content-Transfer-Encoding (RFC 2045 §6), undone for reading: damaged input gives what can be
//! read of it, never an error.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Takes base64 as mailers write it: padding or none, stray bits at the end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The octets of a body in this encoding; of an unknown one as they are.
pub(super) fn decode<'a>(encoding: &[u8], body: &'a [u8]) -> Cow<'a, [u8]> {
    if encoding.eq_ignore_ascii_case(b"base64") {
        Cow::Owned(base64(body))
    } else if encoding.eq_ignore_ascii_case(b"quoted-printable") {
        Cow::Owned(quoted_printable(body))
    } else {
        Cow::Borrowed(body)
    }
}

/// Decodes base64; octets that are none are passed over (RFC 2045 §6.8). Several padded texts in a
/// row are read one after the other.
pub(super) fn base64(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3);
    let mut digits = Vec::with_capacity(text.len());
    for padded in text.split(|c| *c == b'=') {
        digits.clear();
        digits.extend(padded.iter().filter(|c| is_base64(**c)));
        // One digit alone says nothing: six bits are no octet.
        if digits.len() % 4 == 1 {
            digits.pop();
        }
        // Only digits are left, so there is nothing that could fail.
        let _ = LENIENT.decode_vec(&digits, &mut decoded);
    }
    decoded
}

fn is_base64(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/')
}

/// Decodes quoted-printable (RFC 2045 §6.7); what is no escape stays as it is.
pub(super) fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|c| *c == b'\n') {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        let line_end = &line[content.len()..];
        // White space at the end of a line was added in transport.
        let content = content.trim_ascii_end();
        match content.strip_suffix(b"=") {
            Some(soft) => unescape(soft, &mut decoded),
            None => {
                unescape(content, &mut decoded);
                decoded.extend_from_slice(line_end);
            }
        }
    }
    decoded
}

/// Replaces `=XX`.
pub(super) fn unescape(text: &[u8], decoded: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'=', rest) {
        decoded.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let octet = match rest {
            [_, high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        decoded.push(octet.unwrap_or(b'='));
        rest = &rest[octet.map_or(1, |_| 3)..];
    }
    decoded.extend_from_slice(rest);
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(encoding: &str, body: &str, expected: &[u8]) {
        assert_eq!(decode(encoding.as_bytes(), body.as_bytes()), expected, "{encoding} {body:?}");
    }

    #[test]
    fn base64_is_read_as_far_as_it_goes() {
        check("BASE64", "SGVsbG8=\r\n", b"Hello");
        check("base64", "SGVs\r\nbG8", b"Hello");
        check("base64", "SGVsbG8=SGVsbG8=", b"HelloHello");
        check("base64", "SG!Vs bG8", b"Hello");
        check("base64", "SGVsb", b"Hel");
        check("base64", "====", b"");
    }

    #[test]
    fn quoted_printable_is_read_as_far_as_it_goes() {
        check("Quoted-Printable", "J=C3=B6rg =\r\nX  \r\nY", b"J\xc3\xb6rg X\r\nY");
        check("quoted-printable", "a=zz=4=\n=3d=", b"a=zz=4=");
        check("quoted-printable", "=", b"");
    }

    #[test]
    fn other_encodings_leave_octets_as_they_are() {
        check("8bit", "=41", b"=41");
        check("x-uuencode", "=41", b"=41");
    }
}
