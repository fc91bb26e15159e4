//! Sections of a message (RFC 3501 §6.4.5, RFC 9051 §6.4.5.1), cut out of its octets.

use std::num::NonZeroU32;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::header::{Field, all_fields};
use super::{Content, Derived, Part, Span};

/// A section of a message: `BODY[…]` without its partial range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Part numbers from the outside in; empty for the message itself.
    pub part: Vec<NonZeroU32>,
    /// What of that part.
    pub text: SectionText,
}

/// What of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SectionText {
    /// All of it: the message with its header, or the part's content.
    #[default]
    All,
    /// HEADER
    Header,
    /// HEADER.FIELDS: only these headers; names as given.
    HeaderFields(Vec<String>),
    /// HEADER.FIELDS.NOT: all but these.
    HeaderFieldsNot(Vec<String>),
    /// TEXT
    Text,
    /// MIME: the part's own MIME header; only with a part number.
    Mime,
}

/// The octets of a section; `None` (NIL) when the message has no such part. Copies nothing, except
/// for a choice of header fields that do not lie together.
///
/// A message that is no multipart has the one part 1: its body (its MIME header is the message's
/// header). HEADER and TEXT of a numbered part are those of the message in a message/rfc822; other
/// parts have none.
pub fn section(octets: &Bytes, derived: &Derived, section: &Section) -> Option<Bytes> {
    let root = &derived.structure;
    if section.part.is_empty() {
        return of_message(octets, root, &section.text);
    }
    let part = find(root, &section.part)?;
    match (&section.text, &part.content) {
        (SectionText::All, _) => cut(octets, part.body),
        (SectionText::Mime, _) => cut(octets, part.header),
        (text, Content::Message(message)) => of_message(octets, &message.structure, text),
        (_, Content::Single | Content::Multipart(_)) => None,
    }
}

/// The part `<first.count>` of a section; empty when it begins behind the end.
pub fn partial(octets: &Bytes, first: u64, count: u64) -> Bytes {
    let clip = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(octets.len());
    octets.slice(clip(first)..clip(first.saturating_add(count)))
}

/// A section of the message of which `root` is the root part.
fn of_message(octets: &Bytes, root: &Part, text: &SectionText) -> Option<Bytes> {
    let is_one_of = |names: &[String], field: &Field<'_>| names.iter().any(|name| field.is(name));
    match text {
        SectionText::All => cut(octets, Span { start: root.header.start, end: root.body.end }),
        SectionText::Header => cut(octets, root.header),
        SectionText::Text => cut(octets, root.body),
        SectionText::HeaderFields(names) => {
            chosen(&cut(octets, root.header)?, |field| is_one_of(names, field))
        }
        SectionText::HeaderFieldsNot(names) => {
            chosen(&cut(octets, root.header)?, |field| !is_one_of(names, field))
        }
        SectionText::Mime => None,
    }
}

/// The part of this number within the message of which `root` is the root part.
fn find<'a>(root: &'a Part, numbers: &[NonZeroU32]) -> Option<&'a Part> {
    // Numbers count within a multipart; a message that is none has itself as number 1.
    let count = |container: &'a Part, number: &NonZeroU32| match &container.content {
        Content::Multipart(parts) => parts.get(usize::try_from(number.get() - 1).ok()?),
        Content::Single | Content::Message(_) => (number.get() == 1).then_some(container),
    };
    let (first, deeper) = numbers.split_first()?;
    deeper.iter().try_fold(count(root, first)?, |part, number| match &part.content {
        Content::Multipart(_) => count(part, number),
        Content::Message(message) => count(&message.structure, number),
        Content::Single => None,
    })
}

fn cut(octets: &Bytes, span: Span) -> Option<Bytes> {
    // The span is checked because it comes out of a cache, the octets out of a store.
    span.of(octets)?;
    Some(octets.slice(span.range()))
}

/// The chosen fields of a header, and the empty line that ends it, if it has one (RFC 3501 §6.4.5).
fn chosen(header: &Bytes, choose: impl Fn(&Field<'_>) -> bool) -> Option<Bytes> {
    let (mut ranges, mut end): (Vec<Range<usize>>, usize) = (Vec::new(), 0);
    let mut add = |range: Range<usize>| match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    };
    for field in all_fields(header) {
        end = field.range.end;
        if choose(&field) {
            add(field.range);
        }
    }
    if end < header.len() {
        add(end..header.len());
    }
    match ranges.as_slice() {
        [] => Some(Bytes::new()),
        [range] => Some(header.slice(range.clone())),
        ranges => {
            let length = ranges.iter().map(Range::len).sum();
            let mut octets = BytesMut::with_capacity(length);
            ranges.iter().for_each(|range| octets.extend_from_slice(&header[range.clone()]));
            Some(octets.freeze())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::derive;
    use super::*;

    /// `1.2`, `1.2.MIME`, `HEADER.FIELDS a b`: the grammar proper is the parser's.
    fn parsed(text: &str) -> Section {
        let words: Vec<&str> = text.split_whitespace().collect();
        let names = || words[1..].iter().map(|name| (*name).to_owned()).collect();
        let mut section = Section::default();
        let mut rest = words.first().copied().unwrap_or("");
        while let Some(number) = rest.split('.').next().and_then(|n| n.parse().ok()) {
            section.part.push(number);
            rest = rest.split_once('.').map_or("", |(_, rest)| rest);
        }
        section.text = match rest {
            "" => SectionText::All,
            "HEADER" => SectionText::Header,
            "TEXT" => SectionText::Text,
            "MIME" => SectionText::Mime,
            "HEADER.FIELDS" => SectionText::HeaderFields(names()),
            "HEADER.FIELDS.NOT" => SectionText::HeaderFieldsNot(names()),
            other => panic!("no section: {other}"),
        };
        section
    }

    fn check(message: &str, sections: &[(&str, Option<&str>)]) {
        let octets = Bytes::copy_from_slice(message.as_bytes());
        let derived = derive(&octets);
        for (name, expected) in sections {
            let found = section(&octets, &derived, &parsed(name));
            let found = found.as_ref().map(|found| std::str::from_utf8(found).unwrap());
            assert_eq!(found, *expected, "[{name}] of {message:?}");
        }
    }

    #[test]
    fn a_message_that_is_no_multipart_has_the_one_part_1() {
        let message = "Subject: a\r\nTo: b\r\n\r\nbody\r\n";
        check(
            message,
            &[
                ("", Some(message)),
                ("HEADER", Some("Subject: a\r\nTo: b\r\n\r\n")),
                ("TEXT", Some("body\r\n")),
                ("1", Some("body\r\n")),
                ("1.MIME", Some("Subject: a\r\nTo: b\r\n\r\n")),
                ("1.HEADER", None),
                ("1.TEXT", None),
                ("1.1", None),
                ("2", None),
            ],
        );
    }

    const NESTED: &str = "Subject: outer\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n\
        preamble\r\n\
        --a\r\n\r\none\r\n\
        --a\r\nContent-Type: message/rfc822\r\n\r\n\
        Subject: inner\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n\
        --b\r\nX: y\r\n\r\ntwo\r\n--b\r\n\r\nthree\r\n--b--\r\n\r\n\
        --a\r\nContent-Type: message/rfc822\r\n\r\nSubject: plain\r\n\r\nfour\r\n\
        --a--\r\nepilogue\r\n";

    #[test]
    fn parts_are_numbered_from_the_outside_in() {
        let inner = "Subject: inner\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n";
        let alternative = "--b\r\nX: y\r\n\r\ntwo\r\n--b\r\n\r\nthree\r\n--b--\r\n";
        check(
            NESTED,
            &[
                ("1", Some("one")),
                ("1.MIME", Some("\r\n")),
                ("2", Some(&format!("{inner}{alternative}"))),
                ("2.MIME", Some("Content-Type: message/rfc822\r\n\r\n")),
                ("2.HEADER", Some(inner)),
                ("2.TEXT", Some(alternative)),
                ("2.HEADER.FIELDS subject", Some("Subject: inner\r\n\r\n")),
                ("2.1", Some("two")),
                ("2.1.MIME", Some("X: y\r\n\r\n")),
                ("2.2", Some("three")),
                ("2.3", None),
                ("3.1", Some("four")),
                ("3.1.MIME", Some("Subject: plain\r\n\r\n")),
                ("3.TEXT", Some("four")),
                ("3.2", None),
                ("4", None),
            ],
        );
    }

    #[test]
    fn a_message_that_is_a_message_has_it_as_part_1() {
        check(
            "Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nbody",
            &[
                ("TEXT", Some("Subject: inner\r\n\r\nbody")),
                ("1", Some("Subject: inner\r\n\r\nbody")),
                ("1.HEADER", Some("Subject: inner\r\n\r\n")),
                ("1.1", Some("body")),
                ("1.1.1", None),
            ],
        );
    }

    #[test]
    fn header_fields_come_in_the_message_s_order_with_the_empty_line() {
        let message = "A: 1\r\nB: 2\r\n folded\r\nno field\r\na: 3\r\n\r\nbody";
        check(
            message,
            &[
                ("HEADER.FIELDS A", Some("A: 1\r\na: 3\r\n\r\n")),
                ("HEADER.FIELDS b x", Some("B: 2\r\n folded\r\n\r\n")),
                ("HEADER.FIELDS x", Some("\r\n")),
                ("HEADER.FIELDS.NOT a", Some("B: 2\r\n folded\r\nno field\r\n\r\n")),
                (
                    "HEADER.FIELDS.NOT x",
                    Some("A: 1\r\nB: 2\r\n folded\r\nno field\r\na: 3\r\n\r\n"),
                ),
            ],
        );
    }

    #[test]
    fn a_header_without_an_empty_line_gets_none() {
        check(
            "A: 1\r\nB: 2",
            &[
                ("HEADER", Some("A: 1\r\nB: 2")),
                ("HEADER.FIELDS A", Some("A: 1\r\n")),
                ("HEADER.FIELDS C", Some("")),
                ("TEXT", Some("")),
                ("1", Some("")),
            ],
        );
        check("", &[("", Some("")), ("HEADER", Some("")), ("TEXT", Some("")), ("1", Some(""))]);
    }

    #[test]
    fn a_header_alone_has_the_same_sections_of_it() {
        for message in [NESTED, "A: 1\r\nB: 2", "\r\nbody", "", "A: 1\r\n\r\n"] {
            let octets = Bytes::copy_from_slice(message.as_bytes());
            let derived = derive(&octets);
            let header = derived.header(&octets).unwrap();
            for name in ["HEADER", "HEADER.FIELDS subject a", "HEADER.FIELDS.NOT subject a"] {
                let of_all = section(&octets, &derived, &parsed(name));
                assert!(of_all.is_some());
                assert_eq!(section(&header, &derived, &parsed(name)), of_all, "[{name}]");
            }
        }
    }

    #[test]
    fn spans_of_another_message_give_nothing() {
        let derived = derive(NESTED.as_bytes());
        let other = Bytes::from_static(b"short");
        assert_eq!(section(&other, &derived, &parsed("TEXT")), None);
        assert_eq!(derived.header(&other), None);
        assert_eq!(section(&other, &derived, &parsed("2.1")), None);
    }

    #[test]
    fn slices_share_the_message_s_octets() {
        let octets = Bytes::from_static(NESTED.as_bytes());
        let derived = derive(&octets);
        for name in ["", "HEADER", "TEXT", "2", "2.1", "HEADER.FIELDS subject"] {
            let found = section(&octets, &derived, &parsed(name)).unwrap();
            let shares = octets.as_ptr_range().contains(&found.as_ptr());
            // The chosen field and the empty line do not lie together.
            assert_eq!(shares, name != "HEADER.FIELDS subject", "[{name}]");
        }
    }

    #[test]
    fn partial_ranges_end_where_the_section_ends() {
        let octets = Bytes::from_static(b"0123456789");
        for (first, count, expected) in [
            (0, 3, "012"),
            (8, 5, "89"),
            (10, 1, ""),
            (u64::MAX, u64::MAX, ""),
            (0, u64::MAX, "0123456789"),
        ] {
            assert_eq!(partial(&octets, first, count), expected.as_bytes(), "<{first}.{count}>");
        }
    }
}
