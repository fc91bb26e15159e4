//! Charsets of mail, read into UTF-8.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use mail_parser::decoders::charsets::map::charset_decoder;

/// Reads octets in the charset of this name; what is no character in it becomes U+FFFD. An unknown
/// charset is guessed, and so is us-ascii, which is what many mailers write over anything.
pub(super) fn decode<'a>(charset: &[u8], octets: &'a [u8]) -> Cow<'a, str> {
    let charset = charset.trim_ascii();
    if charset.is_empty() || [&b"us-ascii"[..], b"ascii"].iter().any(|a| same(charset, a)) {
        return guess(octets);
    }
    match Encoding::for_label_no_replacement(charset) {
        Some(encoding) if encoding == UTF_8 => String::from_utf8_lossy(octets),
        Some(encoding) => encoding.decode(octets).0,
        // Those of mail that are not of the web: utf-7, cp850.
        None => match charset_decoder(charset) {
            Some(decoder) => Cow::Owned(decoder(octets)),
            None => guess(octets),
        },
    }
}

/// UTF-8 where the octets are that, else windows-1252, in which everything is something.
pub(super) fn guess(octets: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(octets) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(octets).0,
    }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(charset: &str, octets: &[u8], expected: &str) {
        assert_eq!(decode(charset.as_bytes(), octets), expected, "{charset}");
    }

    #[test]
    fn charsets_of_the_web_and_of_mail_are_known() {
        check("UTF-8", b"J\xc3\xb6rg", "J\u{f6}rg");
        check("iso-8859-1", b"J\xf6rg", "J\u{f6}rg");
        check("KOI8-R", b"\xf0\xd2\xc9", "\u{41f}\u{440}\u{438}");
        check("iso-2022-jp", b"\x1b$B%O\x1b(B", "\u{30cf}");
        check("gb2312", b"\xc4\xe3", "\u{4f60}");
        check("shift_jis", b"\x83n", "\u{30cf}");
        check("utf-7", b"+AOQ-", "\u{e4}");
        check("cp850", b"\x84", "\u{e4}");
    }

    #[test]
    fn wrong_and_unknown_names_are_guessed() {
        check("us-ascii", b"J\xc3\xb6rg", "J\u{f6}rg");
        check("x-unknown", b"J\xf6rg", "J\u{f6}rg");
        check("", b"J\xf6rg", "J\u{f6}rg");
        check("utf-8", b"J\xf6rg", "J\u{fffd}rg");
    }
}
