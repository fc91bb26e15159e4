//! SEARCH CHARSET (RFC 3501 §6.4.4).

use encoding_rs::{Encoding, UTF_8};

/// What the response code BADCHARSET lists: the common ones. Every label of the WHATWG Encoding
/// Standard is understood.
pub const SUPPORTED_CHARSETS: &[&str] = &[
    "UTF-8",
    "US-ASCII",
    "ISO-8859-1",
    "ISO-8859-2",
    "ISO-8859-5",
    "ISO-8859-7",
    "ISO-8859-9",
    "ISO-8859-15",
    "WINDOWS-1250",
    "WINDOWS-1251",
    "WINDOWS-1252",
    "KOI8-R",
    "KOI8-U",
    "ISO-2022-JP",
    "SHIFT_JIS",
    "EUC-JP",
    "EUC-KR",
    "GB2312",
    "GB18030",
    "BIG5",
];

/// Why a search text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CharsetError {
    /// The charset is not known: NO \[BADCHARSET …\] with `supported`.
    #[error("this charset is not supported")]
    Unsupported {
        /// For the response code.
        supported: &'static [&'static str],
    },
    /// The text is not in its charset: BAD.
    #[error("the search text is not in its charset")]
    Malformed,
}

/// Whether texts in this charset can be read. For programs that have no text, in which
/// [`decode_charset`] would find out.
pub fn check_charset(charset: Option<&str>) -> Result<(), CharsetError> {
    encoding(charset).map(|_| ())
}

/// Decodes a search text. Without a charset it is UTF-8, of which IMAP's default US-ASCII is a part
/// (RFC 9051 §6.4.4); US-ASCII is read as UTF-8 too, because clients say the one and mean the other.
pub fn decode_charset(charset: Option<&str>, octets: &[u8]) -> Result<String, CharsetError> {
    let decoded = encoding(charset)?.decode_without_bom_handling_and_without_replacement(octets);
    decoded.map(|text| text.into_owned()).ok_or(CharsetError::Malformed)
}

fn encoding(charset: Option<&str>) -> Result<&'static Encoding, CharsetError> {
    match charset {
        None => Ok(UTF_8),
        Some(name) if name.eq_ignore_ascii_case("US-ASCII") => Ok(UTF_8),
        Some(name) => Encoding::for_label_no_replacement(name.as_bytes())
            .ok_or(CharsetError::Unsupported { supported: SUPPORTED_CHARSETS }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(charset: Option<&str>, octets: &[u8], expected: Result<&str, CharsetError>) {
        let decoded = decode_charset(charset, octets);
        assert_eq!(decoded.as_deref().map_err(|e| *e), expected, "{charset:?} {octets:?}");
    }

    #[test]
    fn search_texts_are_read_in_their_charset() {
        check(None, b"abc", Ok("abc"));
        check(None, b"\xc3\xa4", Ok("\u{e4}"));
        check(Some("us-ascii"), b"\xc3\xa4", Ok("\u{e4}"));
        check(Some("Utf-8"), b"\xc3\xa4", Ok("\u{e4}"));
        check(Some("ISO-8859-1"), b"\xe4", Ok("\u{e4}"));
        check(Some("koi8-r"), b"\xf0", Ok("\u{41f}"));
    }

    #[test]
    fn unknown_charsets_name_the_known_ones() {
        let unsupported = CharsetError::Unsupported { supported: SUPPORTED_CHARSETS };
        for name in ["X-UNKNOWN", "", "utf-7", "replacement"] {
            check(Some(name), b"abc", Err(unsupported));
        }
    }

    #[test]
    fn every_charset_that_is_listed_is_supported() {
        for name in SUPPORTED_CHARSETS {
            check(Some(name), b"abc", Ok("abc"));
        }
    }

    #[test]
    fn texts_that_are_not_in_their_charset_are_refused() {
        check(None, b"\xe4", Err(CharsetError::Malformed));
        check(Some("EUC-JP"), b"\xff", Err(CharsetError::Malformed));
    }
}
