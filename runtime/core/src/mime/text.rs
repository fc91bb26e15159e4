//! Header and body text as people read it (UTF-8), for SEARCH and for addresses in rows.

use std::borrow::Cow;

use memchr::memmem;

use super::header::{Field, all_fields, fields, unfold};
use super::{Content, Derived, Part, charset, encoding};

/// Longest RFC 2047 word that is recognised, in octets. The standard has 75; mailers write whole
/// subjects into one.
const MAX_ENCODED_WORD: usize = 2_000;

/// A header value with its RFC 2047 words decoded; octets that are no UTF-8 are taken as
/// windows-1252, so that raw 8-bit headers of old mailers can be found.
pub fn decode_header(raw: &[u8]) -> String {
    let mut decoded = String::with_capacity(raw.len());
    // Characters may be cut apart between words of one charset, so their octets are joined first.
    let mut pending: Option<(&[u8], Vec<u8>)> = None;
    let mut rest = raw;
    while let Some((before, word, behind)) = next_word(rest) {
        rest = behind;
        // RFC 2047 §6.2: white space between two words is not shown.
        if pending.is_none() || !before.trim_ascii().is_empty() {
            flush(&mut pending, &mut decoded);
            decoded.push_str(&charset::guess(before));
        }
        match &mut pending {
            Some((charset, octets)) if charset.eq_ignore_ascii_case(word.charset) => {
                word.decode_to(octets);
            }
            _ => {
                flush(&mut pending, &mut decoded);
                let mut octets = Vec::new();
                word.decode_to(&mut octets);
                pending = Some((word.charset, octets));
            }
        }
    }
    flush(&mut pending, &mut decoded);
    decoded.push_str(&charset::guess(rest));
    decoded
}

fn flush(pending: &mut Option<(&[u8], Vec<u8>)>, decoded: &mut String) {
    if let Some((charset, octets)) = pending.take() {
        decoded.push_str(&charset::decode(charset, &octets));
    }
}

/// An RFC 2047 word.
struct Word<'a> {
    /// Without the language of RFC 2231 §5.
    charset: &'a [u8],
    is_base64: bool,
    text: &'a [u8],
}

impl Word<'_> {
    fn decode_to(&self, octets: &mut Vec<u8>) {
        if self.is_base64 {
            octets.extend(encoding::base64(self.text));
        } else {
            // RFC 2047 §4.2: an underline is a space.
            let spaced: Vec<u8> =
                self.text.iter().map(|c| if *c == b'_' { b' ' } else { *c }).collect();
            encoding::unescape(&spaced, octets);
        }
    }
}

/// The next word, with what stands before and behind it.
fn next_word(octets: &[u8]) -> Option<(&[u8], Word<'_>, &[u8])> {
    memmem::find_iter(octets, b"=?").find_map(|at| {
        let (word, length) = parse_word(&octets[at..])?;
        Some((&octets[..at], word, &octets[at + length..]))
    })
}

/// Octets of the RFC 2047 word that `octets` begin with.
pub(super) fn encoded_word(octets: &[u8]) -> Option<usize> {
    parse_word(octets).map(|(_, length)| length)
}

fn parse_word(octets: &[u8]) -> Option<(Word<'_>, usize)> {
    let octets = &octets[..octets.len().min(MAX_ENCODED_WORD)];
    let inner = octets.strip_prefix(b"=?")?;
    let charset_end = inner.iter().position(|c| !is_charset_char(*c))?;
    let (charset, rest) = inner.split_at(charset_end);
    let (is_base64, text) = match rest {
        [b'?', b'b' | b'B', b'?', text @ ..] => (true, text),
        [b'?', b'q' | b'Q', b'?', text @ ..] => (false, text),
        _ => return None,
    };
    let text = &text[..memmem::find(text, b"?=")?];
    // `=?`, two question marks, the encoding, `?=`.
    let length = charset.len() + text.len() + 7;
    let charset = charset.split(|c| *c == b'*').next().unwrap_or(charset);
    (!charset.is_empty()).then_some((Word { charset, is_base64, text }, length))
}

fn is_charset_char(c: u8) -> bool {
    c.is_ascii_alphanumeric() || b"-_.:+*'()".contains(&c)
}

/// Values of all header fields of this name in the message's own header, unfolded and decoded.
pub fn header_values(octets: &[u8], derived: &Derived, name: &str) -> Vec<String> {
    let header = derived.structure.header.of(octets).unwrap_or_default();
    let named = all_fields(header).filter(|field| field.is(name));
    named.map(|field| decode_header(&unfold(field.value))).collect()
}

/// Calls `each` with the decoded header of the message, then with the decoded MIME header of every
/// part (file names are there), until it returns `true`; whether it did. Headers come unfolded, one
/// field a line. Those of messages within the message are body ([`any_body_text`]).
pub fn any_header_text(
    octets: &[u8],
    derived: &Derived,
    each: &mut dyn FnMut(&str) -> bool,
) -> bool {
    let root = &derived.structure;
    each(&fields_text(octets, root)) || any_part_header(octets, root, each)
}

fn any_part_header(octets: &[u8], part: &Part, each: &mut dyn FnMut(&str) -> bool) -> bool {
    match &part.content {
        Content::Single => false,
        Content::Multipart(parts) => parts
            .iter()
            .any(|part| each(&fields_text(octets, part)) || any_part_header(octets, part, each)),
        Content::Message(message) => any_part_header(octets, &message.structure, each),
    }
}

fn fields_text(octets: &[u8], part: &Part) -> String {
    let line = |field: Field<'_>| {
        let name = String::from_utf8_lossy(field.name).into_owned();
        let colon = if name.is_empty() { "" } else { ": " };
        format!("{name}{colon}{}\n", decode_header(&unfold(field.value)))
    };
    fields(part.header.of(octets).unwrap_or_default()).map(line).collect()
}

/// Calls `each` with the decoded text of every text part and the decoded header of every message
/// within the message, in order, until it returns `true`; whether it did. HTML is handed over with
/// its tags. Attachments that are no text, and parts beyond the bounds, are not looked into.
pub fn any_body_text(octets: &[u8], derived: &Derived, each: &mut dyn FnMut(&str) -> bool) -> bool {
    any_part_text(octets, &derived.structure, each)
}

fn any_part_text(octets: &[u8], part: &Part, each: &mut dyn FnMut(&str) -> bool) -> bool {
    match &part.content {
        Content::Single => body_text(octets, part).is_some_and(|text| each(&text)),
        Content::Multipart(parts) => parts.iter().any(|part| any_part_text(octets, part, each)),
        Content::Message(message) => {
            each(&fields_text(octets, &message.structure))
                || any_part_text(octets, &message.structure, each)
        }
    }
}

/// The decoded text of a part; `None` when it holds no text.
fn body_text<'a>(octets: &'a [u8], part: &Part) -> Option<Cow<'a, str>> {
    // What reports and partial messages (message/…) say is text, too.
    if !part.is_text() && !part.media_type.eq_ignore_ascii_case(b"message") {
        return None;
    }
    let charset = part.param("charset").map_or(&b""[..], |charset| charset);
    match encoding::decode(&part.encoding, part.body.of(octets)?) {
        Cow::Borrowed(body) => Some(charset::decode(charset, body)),
        Cow::Owned(body) => Some(Cow::Owned(charset::decode(charset, &body).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::derive;
    use super::*;

    fn check(raw: &str, expected: &str) {
        assert_eq!(decode_header(raw.as_bytes()), expected, "{raw:?}");
    }

    #[test]
    fn words_are_decoded() {
        check("=?ISO-8859-1?Q?Andr=E9?= Pirard", "Andr\u{e9} Pirard");
        check("=?utf-8?b?w6TDtg==?=", "\u{e4}\u{f6}");
        check("=?utf-8*de?q?=C3=A4_b?=", "\u{e4} b");
        check("a =?utf-8?Q?b?= c", "a b c");
        check("Re: =?utf-8?Q?=3D=3F?=", "Re: =?");
    }

    #[test]
    fn white_space_between_words_is_not_shown() {
        check("=?utf-8?Q?a?= \t =?utf-8?Q?b?=", "ab");
        check("=?utf-8?Q?a?= x =?utf-8?Q?b?=", "a x b");
        check("=?utf-8?Q?a?= =?iso-8859-1?Q?=E4?=", "a\u{e4}");
    }

    #[test]
    fn characters_cut_apart_between_words_are_joined() {
        check("=?utf-8?Q?=C3?= =?utf-8?Q?=A4?=", "\u{e4}");
        check("=?UTF-8?B?4pc=?= =?utf-8?B?jw==?=", "\u{25cf}");
    }

    #[test]
    fn what_is_no_word_stays() {
        for raw in
            ["=?", "=?=?=?", "=?utf-8?X?a?=", "=?utf-8?Q?a", "=??Q?a?=", "a=b?c", "=?a b?Q?c?="]
        {
            check(raw, raw);
        }
        assert_eq!(decode_header(b"J\xf6rg"), "J\u{f6}rg");
        assert_eq!(decode_header(b"J\xc3\xb6rg"), "J\u{f6}rg");
    }

    type Each<'a> = &'a mut dyn FnMut(&str) -> bool;

    fn texts(message: &str, any: fn(&[u8], &Derived, Each<'_>) -> bool) -> Vec<String> {
        let mut texts = Vec::new();
        let found = any(message.as_bytes(), &derive(message.as_bytes()), &mut |text| {
            texts.push(text.to_owned());
            false
        });
        assert!(!found);
        texts
    }

    #[test]
    fn bodies_are_decoded_part_by_part() {
        let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n\
            --b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
            Content-Transfer-Encoding: quoted-printable\r\n\r\nJ=F6rg\r\n\
            --b\r\nContent-Type: image/png\r\n\r\nno text\r\n\
            --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: =?utf-8?Q?=C3=A4?=\r\n\r\ninner\r\n\
            --b\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+YjwvYj4=\r\n\
            --b--\r\n";
        assert_eq!(
            texts(message, any_body_text),
            ["J\u{f6}rg", "Subject: \u{e4}\n", "inner", "<b>b</b>"]
        );
    }

    #[test]
    fn header_text_has_a_line_for_each_field() {
        let message = "Subject: =?utf-8?Q?a?=\r\n b\r\nTo: c\r\nrubbish\r\n\r\nbody";
        assert_eq!(texts(message, any_header_text), ["Subject: a b\nTo: c\nrubbish\n"]);
        let derived = derive(message.as_bytes());
        assert_eq!(header_values(message.as_bytes(), &derived, "SUBJECT"), ["a b"]);
    }

    #[test]
    fn headers_of_parts_are_headers_and_those_of_inner_messages_are_body() {
        let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n\
            --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx\r\n\
            --b\r\nContent-Type: image/png; name=a.png\r\n\r\n\r\n--b--";
        let headers = [
            "Content-Type: multipart/mixed; boundary=b\n",
            "Content-Type: message/rfc822\n",
            "Content-Type: image/png; name=a.png\n",
        ];
        assert_eq!(texts(message, any_header_text), headers);
        assert_eq!(texts(message, any_body_text), ["Subject: inner\n", "x"]);
    }
}
