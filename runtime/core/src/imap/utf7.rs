//! Modified UTF-7, the wire form of mailbox names (RFC 3501 §5.1.3). Strict in both directions:
//! each text has exactly one encoding, and only that one is read.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Base64 with `,` for `/`, without padding, whose unused bits must be zero.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::IMAP_MUTF7,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// The encoding of a text: printable ASCII stands for itself, `&` becomes `&-`.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if is_direct(c) {
            out.push(c);
            out.push_str(if c == '&' { "-" } else { "" });
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let end = rest.find(is_direct).unwrap_or(rest.len());
        let units: Vec<u8> = rest[..end].encode_utf16().flat_map(u16::to_be_bytes).collect();
        out.push('&');
        BASE64.encode_string(units, &mut out);
        out.push('-');
        rest = &rest[end..];
    }
    out
}

/// The text of an encoding; `None` when it is not what [`encode`] would make of that text.
pub fn decode(encoded: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(encoded.len());
    let mut rest = encoded;
    // Two shifts in a row are one run of text cut in two: `encode` never does that.
    let mut after_shift = false;
    while let Some((&octet, tail)) = rest.split_first() {
        if octet != b'&' {
            is_direct(char::from(octet)).then(|| out.push(char::from(octet)))?;
            (rest, after_shift) = (tail, false);
            continue;
        }
        let end = tail.iter().position(|&b| b == b'-')?;
        match end {
            0 => out.push('&'),
            _ if after_shift => return None,
            _ => decode_shifted(&tail[..end], &mut out)?,
        }
        (rest, after_shift) = (&tail[end + 1..], end > 0);
    }
    Some(out)
}

/// Whether the character stands for itself (`&` nearly does).
fn is_direct(c: char) -> bool {
    matches!(c, ' '..='~')
}

/// What stands between `&` and `-`: characters that do not stand for themselves, in UTF-16.
fn decode_shifted(base64: &[u8], out: &mut String) -> Option<()> {
    let octets = BASE64.decode(base64).ok()?;
    let (units, []) = octets.as_chunks::<2>() else { return None };
    for c in char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit))) {
        let c = c.ok().filter(|c| !is_direct(*c))?;
        out.push(c);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn check(encoded: &str, text: Option<&str>) {
        assert_eq!(decode(encoded.as_bytes()).as_deref(), text, "{encoded}");
        if let Some(text) = text {
            assert_eq!(encode(text), encoded);
        }
    }

    #[test]
    fn names_of_the_rfc_and_of_the_world_have_their_encoding() {
        check("~peter/mail/&U,BTFw-/&ZeVnLIqe-", Some("~peter/mail/台北/日本語"));
        check("&Jjo-!", Some("☺!"));
        check("Entw&APw-rfe", Some("Entwürfe"));
        check("a&-b", Some("a&b"));
        check("&-&-", Some("&&"));
        check("&-&AOk-", Some("&é"));
        check("&2D3eAA-", Some("😀"));
        check("&AAA-", Some("\0"));
        check("", Some(""));
    }

    #[test]
    fn every_other_spelling_is_refused() {
        check("&", None); // not closed
        check("&AOk", None); // not closed
        check("&AOk.-", None); // no base64
        check("&AGE-", None); // an a, which stands for itself
        check("&ACY-", None); // an ampersand
        check("&AOk-&AOk-", None); // one run cut in two (RFC 3501: superfluous shift)
        check("&AOl-", None); // unused bits are not zero
        check("&AO-", None); // half a unit
        check("&AOk=-", None); // padding
        check("&2D0-", None); // half a surrogate pair
        check("&3gDYPQ-", None); // surrogates the wrong way round
        check("é", None); // raw UTF-8
        check("a\tb", None); // a control character
        check("&U/BTFw-", None); // '/' in base64 (it is ',' here)
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in any::<String>()) {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|b| (0x20..0x7f).contains(&b)));
            prop_assert_eq!(decode(encoded.as_bytes()), Some(text));
        }

        #[test]
        fn what_can_be_read_has_no_other_spelling(encoded in "[&a-cA-C,+0-]{0,12}") {
            if let Some(text) = decode(encoded.as_bytes()) {
                prop_assert_eq!(encode(&text), encoded);
            }
        }
    }
}
