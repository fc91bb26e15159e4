//! Finds the parts of a message: one pass over the octets for each level of nesting.

use std::ops::Range;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::budget::Budget;
use super::fields::{self, ContentType};
use super::header::{Known, Name, header_end};
use super::part::{Message, us_ascii};
use super::{
    Content, Derived, Envelope, MAX_DEPTH, MAX_HEADER_OCTETS, Part, Span, address, date, thread,
};

/// What is derived from a message's octets; see the module. Octets beyond 4 GiB, which no IMAP
/// literal can hold, are not looked at.
pub fn derive(octets: &[u8]) -> Derived {
    let octets = &octets[..octets.len().min(u32::MAX as usize)];
    let mut scan = Scan { octets, budget: Budget::new() };
    scan.budget.part();
    let entity = scan.entity(0..octets.len());
    let envelope = Envelope::of(&entity.fields, &mut scan.budget);
    let references = thread::references(&entity.fields);
    let sent = entity.fields.first(Name::Date).and_then(date::parse);
    let structure = scan.part(entity, Supposed::Text, 0);
    Derived {
        from: address::displayed(&envelope.from),
        to: address::displayed(&envelope.to),
        cc: address::displayed(&envelope.cc),
        bcc: address::displayed(&envelope.bcc),
        envelope,
        structure,
        message_id: references.message_id,
        in_reply_to: references.in_reply_to,
        references: references.references,
        sent,
        truncated: scan.budget.truncated,
    }
}

/// What a part without a Content-Type is (RFC 2045 §5.2, RFC 2046 §5.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supposed {
    Text,
    /// In a multipart/digest.
    Message,
}

/// A header and what it says, with the body behind it.
struct Entity<'a> {
    header: Range<usize>,
    body: Range<usize>,
    fields: Known<'a>,
}

/// The message, and what may still be derived from it.
struct Scan<'a> {
    octets: &'a [u8],
    budget: Budget,
}

impl<'a> Scan<'a> {
    /// Parts header and body.
    fn entity(&mut self, place: Range<usize>) -> Entity<'a> {
        let body = place.start + header_end(&self.octets[place.clone()]);
        self.budget.truncated |= body - place.start > MAX_HEADER_OCTETS;
        Entity {
            header: place.start..body,
            body: body..place.end,
            fields: Known::of(&self.octets[place.start..body]),
        }
    }

    /// The part that an entity is.
    fn part(&mut self, entity: Entity<'a>, supposed: Supposed, depth: usize) -> Part {
        let mut part = self.described(&entity, supposed);
        if part.media_type.eq_ignore_ascii_case(b"multipart") {
            match self.multipart(&part, entity.body.clone(), depth) {
                Ok(parts) => part.content = Content::Multipart(parts),
                Err(opaque) => opaque.apply(&mut part),
            }
        } else if is_message(&part) {
            match self.message(&part, entity.body.clone(), depth) {
                Some(message) => part.content = Content::Message(Box::new(message)),
                None => Opaque::Octets.apply(&mut part),
            }
        }
        let counts = part.is_text() || matches!(part.content, Content::Message(_));
        part.lines = if counts { count_lines(&self.octets[entity.body]) } else { 0 };
        part
    }

    /// A part by its header alone.
    fn described(&mut self, entity: &Entity<'a>, supposed: Supposed) -> Part {
        let (fields, budget) = (&entity.fields, &mut self.budget);
        let content_type = match fields.first(Name::ContentType) {
            Some(value) => fields::content_type(value, budget),
            None if supposed == Supposed::Message => Some(ContentType {
                media_type: Bytes::from_static(b"message"),
                subtype: Bytes::from_static(b"rfc822"),
                params: Vec::new(),
            }),
            None => None,
        };
        let mut text = |name| fields.first(name).and_then(|value| fields::text(value, budget));
        let mut part = Part {
            header: Span::new(entity.header.clone()),
            body: Span::new(entity.body.clone()),
            id: text(Name::ContentId),
            description: text(Name::ContentDescription),
            md5: text(Name::ContentMd5),
            location: text(Name::ContentLocation),
            ..Part::default()
        };
        if let Some(found) = content_type {
            part.media_type = found.media_type;
            part.subtype = found.subtype;
            part.params = found.params;
        }
        let encoding = fields.first(Name::ContentTransferEncoding);
        if let Some(encoding) = encoding.and_then(|value| fields::token(value, budget)) {
            part.encoding = encoding;
        }
        let disposition = fields.first(Name::ContentDisposition);
        part.disposition = disposition.and_then(|value| fields::disposition(value, budget));
        let language = fields.first(Name::ContentLanguage);
        part.language = language.map_or(Vec::new(), |value| fields::tokens(value, budget));
        part
    }

    /// The parts of a multipart, at least one.
    fn multipart(
        &mut self,
        multipart: &Part,
        body: Range<usize>,
        depth: usize,
    ) -> Result<Vec<Part>, Opaque> {
        if depth >= MAX_DEPTH {
            self.budget.truncated = true;
            return Err(Opaque::Octets);
        }
        let boundary = multipart.param("boundary").map_or(&b""[..], |boundary| boundary);
        let boundary = boundary.trim_ascii_end();
        if boundary.is_empty() {
            return Err(Opaque::Text);
        }
        let is_digest = multipart.subtype.eq_ignore_ascii_case(b"digest");
        let supposed = if is_digest { Supposed::Message } else { Supposed::Text };
        let (mut parts, mut fits) = (Vec::new(), true);
        for place in places(self.octets, body, boundary) {
            fits = self.budget.part();
            if !fits {
                break;
            }
            let entity = self.entity(place);
            parts.push(self.part(entity, supposed, depth + 1));
        }
        match (parts.is_empty(), fits) {
            (false, _) => Ok(parts),
            (true, true) => Err(Opaque::Text),
            (true, false) => Err(Opaque::Octets),
        }
    }

    /// The message in a message/rfc822; `None` when it cannot be looked into.
    fn message(&mut self, part: &Part, body: Range<usize>, depth: usize) -> Option<Message> {
        // RFC 2046 §5.2.1 allows no other encodings; a message that has one all the same can be
        // saved and decoded by the client, but has no sections.
        let plain = [&b"7bit"[..], b"8bit", b"binary"];
        if !plain.iter().any(|encoding| part.encoding.eq_ignore_ascii_case(encoding)) {
            return None;
        }
        if depth >= MAX_DEPTH || !self.budget.part() {
            self.budget.truncated = true;
            return None;
        }
        let entity = self.entity(body);
        let envelope = Envelope::of(&entity.fields, &mut self.budget);
        Some(Message { envelope, structure: self.part(entity, Supposed::Text, depth + 1) })
    }
}

/// How a multipart or message is shown that cannot be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opaque {
    /// There are no parts in it (RFC 2045 §5.2): a text, so that it can be read.
    Text,
    /// Beyond a bound, or encoded.
    Octets,
}

impl Opaque {
    fn apply(self, part: &mut Part) {
        let (media_type, subtype, params): (&'static [u8], &'static [u8], _) = match self {
            Self::Text => (b"text", b"plain", vec![us_ascii()]),
            Self::Octets => (b"application", b"octet-stream", Vec::new()),
        };
        part.media_type = Bytes::from_static(media_type);
        part.subtype = Bytes::from_static(subtype);
        part.params = params;
        part.content = Content::Single;
    }
}

/// message/rfc822 only: IMAP4rev1's grammar knows no other media type with an envelope, and
/// message/global may be encoded (RFC 6532 §3.7).
fn is_message(part: &Part) -> bool {
    part.media_type.eq_ignore_ascii_case(b"message") && part.subtype.eq_ignore_ascii_case(b"rfc822")
}

fn count_lines(body: &[u8]) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', body).count()).unwrap_or(u32::MAX)
}

/// Where the parts of a multipart lie, without the line ends that belong to the delimiters behind
/// them (RFC 2046 §5.1.1). Preamble and epilogue are no parts; a multipart that is not closed ends
/// with its body.
fn places(
    octets: &[u8],
    body: Range<usize>,
    boundary: &[u8],
) -> impl Iterator<Item = Range<usize>> {
    let mut delimiters = Delimiters::new(octets, body.clone(), boundary);
    let mut before = delimiters.next();
    std::iter::from_fn(move || {
        let opened = before.take().filter(|delimiter| !delimiter.closes)?;
        let start = opened.next_line;
        before = delimiters.next();
        let end = before.as_ref().map_or(body.end, |next| next.content_end);
        Some(start..end.max(start))
    })
}

/// A line that is a delimiter.
#[derive(Debug)]
struct Delimiter {
    /// Where the content before it ends: its line end belongs to the delimiter.
    content_end: usize,
    next_line: usize,
    /// It is the last one: `--boundary--`.
    closes: bool,
}

/// The delimiter lines of a multipart, in order.
struct Delimiters<'a> {
    octets: &'a [u8],
    body: Range<usize>,
    /// How far it has been searched; never beyond the body.
    at: usize,
    is_first_line: bool,
    /// Line end, `--`, boundary.
    finder: Finder<'static>,
}

impl<'a> Delimiters<'a> {
    fn new(octets: &'a [u8], body: Range<usize>, boundary: &[u8]) -> Self {
        let finder = Finder::new(&[b"\n--", boundary].concat()).into_owned();
        Self { octets, at: body.start, is_first_line: true, body, finder }
    }

    /// The line at `line`, of which `text_end` is where the boundary ends, if nothing else is in it:
    /// a boundary may be the beginning of another one (RFC 2046 §5.1.1).
    fn delimiter(&self, line: usize, text_end: usize) -> Option<Delimiter> {
        let rest = &self.octets[text_end..self.body.end];
        let (closes, behind) = match rest.strip_prefix(b"--") {
            Some(behind) => (true, behind),
            None => (false, rest),
        };
        let text = behind.iter().position(|c| !matches!(c, b' ' | b'\t')).unwrap_or(behind.len());
        let line_end = match &behind[text..] {
            [] => 0,
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            _ => return None,
        };
        let next_line = self.body.end - behind.len() + text + line_end;
        Some(Delimiter { content_end: self.content_end(line), next_line, closes })
    }

    fn content_end(&self, line: usize) -> usize {
        let before = &self.octets[self.body.start..line];
        let before = before.strip_suffix(b"\n").unwrap_or(before);
        self.body.start + before.strip_suffix(b"\r").unwrap_or(before).len()
    }
}

impl Iterator for Delimiters<'_> {
    type Item = Delimiter;

    fn next(&mut self) -> Option<Delimiter> {
        let length = self.finder.needle().len();
        if std::mem::take(&mut self.is_first_line) {
            // It has no line end before it.
            let (line, text_end) = (self.at, self.at + length - 1);
            if self.octets[line..self.body.end].starts_with(&self.finder.needle()[1..]) {
                self.at = text_end;
                if let Some(delimiter) = self.delimiter(line, text_end) {
                    return Some(delimiter);
                }
            }
        }
        loop {
            let found = self.at + self.finder.find(&self.octets[self.at..self.body.end])?;
            // The line end behind the boundary may be the one before the next delimiter.
            self.at = found + length;
            if let Some(delimiter) = self.delimiter(found + 1, self.at) {
                return Some(delimiter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &[&str]) {
        let places = places(body.as_bytes(), 0..body.len(), b"b");
        let found: Vec<_> = places.map(|place| &body[place]).collect();
        assert_eq!(found, expected, "{body:?}");
    }

    #[test]
    fn a_delimiter_is_a_whole_line() {
        check("--b\r\none\r\n--b--\r\n", &["one"]);
        check("--b\none\n--b--", &["one"]);
        check("pre\r\n--b \t\r\none\r\n\r\n--b--\r\npost", &["one\r\n"]);
        check("--b\r\nx --b\r\n--bc\r\n--b\r\ntwo", &["x --b\r\n--bc", "two"]);
        check("--b\r\n--b-\r\n--b--x\r\n--b--", &["--b-\r\n--b--x"]);
    }

    #[test]
    fn parts_may_be_empty() {
        check("--b\r\n--b\r\n\r\n--b--", &["", ""]);
        check("--b", &[""]);
        check("--b\r\n", &[""]);
    }

    #[test]
    fn without_an_opening_delimiter_there_are_no_parts() {
        check("", &[]);
        check("no parts", &[]);
        check("--b--\r\n--b\r\nlate", &[]);
        check("--bb\r\nx", &[]);
    }

    #[test]
    fn what_follows_the_closing_delimiter_is_no_part() {
        check("--b\r\none\r\n--b--\r\n--b\r\nlate", &["one"]);
    }
}
