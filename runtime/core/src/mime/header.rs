//! A header as it stands in the octets: where it ends, and its fields.
//!
//! Lenient about what mailers have sent since ever: lines may end in LF alone, a line that is no
//! field (mbox `From `, rubbish) is a nameless one, and a header goes on until the first empty line
//! or the end, whatever it holds.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr;

use super::MAX_HEADER_OCTETS;

/// Where the body begins: behind the first empty line, or at the end when there is none.
pub(super) fn header_end(octets: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let line_end = line_end(octets, at);
        if matches!(&octets[at..line_end], b"\r\n" | b"\n" | b"") {
            return line_end;
        }
        at = line_end;
    }
}

/// The end of the line that begins at `at`, its line end included.
fn line_end(octets: &[u8], at: usize) -> usize {
    memchr(b'\n', &octets[at..]).map_or(octets.len(), |lf| at + lf + 1)
}

/// A field of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Its name; empty when the line is no field (RFC 5322 §2.2).
    pub(super) name: &'a [u8],
    /// What follows the colon, still folded, without the last line end.
    pub(super) value: &'a [u8],
    /// All of its lines, as a range of the header.
    pub(super) range: Range<usize>,
}

impl Field<'_> {
    /// Whether it has this name, in any case.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The fields of a header, in order, without the empty line at its end. Looks at the first
/// [`MAX_HEADER_OCTETS`] only.
pub(super) fn fields(header: &[u8]) -> Fields<'_> {
    Fields { header: &header[..header.len().min(MAX_HEADER_OCTETS)], at: 0 }
}

/// The fields of a header without a bound, for cutting sections.
pub(super) fn all_fields(header: &[u8]) -> Fields<'_> {
    Fields { header, at: 0 }
}

/// See [`fields`].
pub(super) struct Fields<'a> {
    header: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let start = self.at;
        let mut end = line_end(self.header, start);
        if matches!(&self.header[start..end], b"\r\n" | b"\n" | b"") {
            return None;
        }
        while matches!(self.header.get(end), Some(b' ' | b'\t')) {
            end = line_end(self.header, end);
        }
        self.at = end;
        let (name, value) = split(trim_line_end(&self.header[start..end]));
        Some(Field { name, value, range: start..end })
    }
}

/// RFC 5322 §2.2: a name is printable ASCII without colon; §4.5 allows white space behind it.
fn split(field: &[u8]) -> (&[u8], &[u8]) {
    let Some(colon) = memchr(b':', field) else { return (b"", field) };
    let name = field[..colon].trim_ascii_end();
    match !name.is_empty() && name.iter().all(u8::is_ascii_graphic) {
        true => (name, &field[colon + 1..]),
        false => (b"", field),
    }
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A field's value without its folds and without surrounding white space. A fold, with the white
/// space around it, becomes one space, which is what it means (RFC 5322 §3.2.2) and what can be
/// searched for. Other CR, and NUL, which IMAP's strings cannot hold, are left out.
pub(super) fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let value = value.trim_ascii();
    if !value.iter().any(|c| matches!(c, b'\r' | b'\n' | 0)) {
        return Cow::Borrowed(value);
    }
    let mut unfolded = Vec::with_capacity(value.len());
    for line in value.split(|c| *c == b'\n') {
        let before = unfolded.trim_ascii_end().len();
        if before > 0 {
            unfolded.truncate(before);
            unfolded.push(b' ');
        }
        let kept = line.trim_ascii().iter().filter(|c| !matches!(c, b'\r' | 0));
        unfolded.extend(kept);
    }
    unfolded.truncate(unfolded.trim_ascii_end().len());
    Cow::Owned(unfolded)
}

/// The fields that envelope, structure and threading are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Bcc,
    Cc,
    ContentDescription,
    ContentDisposition,
    ContentId,
    ContentLanguage,
    ContentLocation,
    ContentMd5,
    ContentTransferEncoding,
    ContentType,
    Date,
    From,
    InReplyTo,
    MessageId,
    References,
    ReplyTo,
    Sender,
    Subject,
    To,
}

/// Names in lower case, ascending.
const NAMES: [(&str, Name); 19] = [
    ("bcc", Name::Bcc),
    ("cc", Name::Cc),
    ("content-description", Name::ContentDescription),
    ("content-disposition", Name::ContentDisposition),
    ("content-id", Name::ContentId),
    ("content-language", Name::ContentLanguage),
    ("content-location", Name::ContentLocation),
    ("content-md5", Name::ContentMd5),
    ("content-transfer-encoding", Name::ContentTransferEncoding),
    ("content-type", Name::ContentType),
    ("date", Name::Date),
    ("from", Name::From),
    ("in-reply-to", Name::InReplyTo),
    ("message-id", Name::MessageId),
    ("references", Name::References),
    ("reply-to", Name::ReplyTo),
    ("sender", Name::Sender),
    ("subject", Name::Subject),
    ("to", Name::To),
];

/// The values of a header's known fields, in order.
pub(super) struct Known<'a>(Vec<(Name, &'a [u8])>);

impl<'a> Known<'a> {
    /// Those of the header.
    pub(super) fn of(header: &'a [u8]) -> Self {
        Self(fields(header).filter_map(|f| Some((known(f.name)?, f.value))).collect())
    }

    /// The value of the first field of this name: of fields that may stand once only, the first one
    /// counts (RFC 5322 §3.6 leaves it open).
    pub(super) fn first(&self, name: Name) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The values of all fields of this name.
    pub(super) fn all(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.0.iter().filter(move |(n, _)| *n == name).map(|(_, value)| *value)
    }
}

fn known(name: &[u8]) -> Option<Name> {
    let find = |(known, _): &&(&str, Name)| known.as_bytes().eq_ignore_ascii_case(name);
    NAMES.iter().find(find).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expected: &[(&str, &str)]) {
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let found: Vec<_> =
            fields(header.as_bytes()).map(|f| (text(f.name), text(&unfold(f.value)))).collect();
        let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(found, expected, "{header:?}");
    }

    #[test]
    fn a_fold_becomes_one_space() {
        check("Subject: a\r\n b \r\n\t c  d\r\n\r\n", &[("Subject", "a b c  d")]);
        check("Subject: a\r\n \0\r\n \r\n b\r\n", &[("Subject", "a b")]);
        check("Subject:\r\n a\r\n", &[("Subject", "a")]);
        check("Subject : a \n\n", &[("Subject", "a")]);
    }

    #[test]
    fn lines_that_are_no_fields_have_no_name() {
        check(
            "From joe@x Sat Jan  3 01:05:34 1996\r\nTo: a\r\nrubbish\r\n: b\r\n",
            &[
                ("", "From joe@x Sat Jan  3 01:05:34 1996"),
                ("To", "a"),
                ("", "rubbish"),
                ("", ": b"),
            ],
        );
        check(" folded into nothing\r\nTo: a\r\n", &[("", "folded into nothing"), ("To", "a")]);
    }

    #[test]
    fn a_header_ends_behind_its_first_empty_line() {
        for (octets, end) in [
            ("", 0),
            ("\r\n", 2),
            ("\nbody", 1),
            ("a: b", 4),
            ("a: b\r\n", 6),
            ("a: b\r\n\r\nbody", 8),
            ("a: b\n\nbody", 6),
            ("a: b\r\n \r\n\r\nbody", 11),
            ("a: b\r\r\n\r\nbody", 9),
        ] {
            assert_eq!(header_end(octets.as_bytes()), end, "{octets:?}");
        }
    }

    #[test]
    fn known_names_are_sorted_and_lower_case() {
        assert!(NAMES.is_sorted_by_key(|(name, _)| *name));
        assert!(NAMES.iter().all(|(name, _)| *name == name.to_ascii_lowercase()));
    }
}
