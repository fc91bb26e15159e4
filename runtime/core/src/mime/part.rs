//! The part tree: what BODYSTRUCTURE says, and where each part lies in the message.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Envelope;

/// Text as it stands in the message: still encoded (RFC 2047), unfolded, without NUL. It need not be
/// ASCII or UTF-8; a session sends it as a literal when it fits no quoted string.
pub type Octets = Bytes;

/// A range of the message's octets: `start..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First octet.
    pub start: u32,
    /// The octet after the last one; never before `start`.
    pub end: u32,
}

impl Span {
    /// The span of `range`; what lies beyond 4 GiB is cut off (no IMAP literal is longer).
    pub(super) fn new(range: std::ops::Range<usize>) -> Self {
        let clip = |at| u32::try_from(at).unwrap_or(u32::MAX);
        let start = clip(range.start);
        Self { start, end: clip(range.end).max(start) }
    }

    /// Its octets.
    pub fn len(self) -> u32 {
        self.end - self.start
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// As a range for slices.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The octets themselves; `None` when the span lies outside `octets`, which means that it was
    /// derived from another message.
    pub fn of(self, octets: &[u8]) -> Option<&[u8]> {
        octets.get(self.range())
    }
}

/// A parameter of Content-Type or Content-Disposition, as it stands in the message: continuations
/// and charsets of RFC 2231 are the client's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// Its name, as written.
    pub name: Octets,
    /// Its value, without quotes.
    pub value: Octets,
}

/// Content-Disposition (RFC 2183).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disposition {
    /// `inline`, `attachment` …, as written.
    pub kind: Octets,
    /// Its parameters.
    pub params: Vec<Param>,
}

/// A MIME entity: the message itself (the root), a part of a multipart, or the message within a
/// message/rfc822 part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its header with the empty line that ends it, if there is one. For the root: the message's.
    pub header: Span,
    /// Its content as it stands in the message, without the line end that belongs to the boundary.
    pub body: Span,
    /// Media type as written, such as `text` (RFC 2045 §5.2's default when there is no valid one).
    pub media_type: Octets,
    /// Subtype as written, such as `plain`.
    pub subtype: Octets,
    /// Parameters of Content-Type; `charset=us-ascii` where RFC 2045 §5.2 supposes it.
    pub params: Vec<Param>,
    /// Content-ID.
    pub id: Option<Octets>,
    /// Content-Description, still encoded.
    pub description: Option<Octets>,
    /// Content-Transfer-Encoding as written; `7bit` when there is none.
    pub encoding: Octets,
    /// Line ends in the body. BODYSTRUCTURE shows it for text and message/rfc822.
    pub lines: u32,
    /// Content-MD5.
    pub md5: Option<Octets>,
    /// Content-Disposition.
    pub disposition: Option<Disposition>,
    /// Content-Language.
    pub language: Vec<Octets>,
    /// Content-Location.
    pub location: Option<Octets>,
    /// What is in it.
    pub content: Content,
}

/// What a part holds, and with it which form BODYSTRUCTURE has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Something without parts: `body-type-text` when [`Part::is_text`], else `body-type-basic`.
    /// Never message/rfc822 and never multipart.
    Single,
    /// A multipart (`body-type-mpart`). Never empty.
    Multipart(Vec<Part>),
    /// A message/rfc822 (`body-type-msg`).
    Message(Box<Message>),
}

/// A message within a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its ENVELOPE.
    pub envelope: Envelope,
    /// Its structure: header and body together are the body of the part that it lies in.
    pub structure: Part,
}

impl Part {
    /// Octets of the body as stored (BODYSTRUCTURE's size).
    pub fn octets(&self) -> u32 {
        self.body.len()
    }

    /// Whether BODYSTRUCTURE has the text form: media type `text` in any case.
    pub fn is_text(&self) -> bool {
        self.media_type.eq_ignore_ascii_case(b"text")
    }

    /// The value of a parameter of Content-Type; the name is compared without regard to case.
    pub fn param(&self, name: &str) -> Option<&Octets> {
        let named = |p: &&Param| p.name.eq_ignore_ascii_case(name.as_bytes());
        self.params.iter().find(named).map(|p| &p.value)
    }
}

/// An empty text: no header, no body.
impl Default for Part {
    fn default() -> Self {
        Self {
            header: Span::default(),
            body: Span::default(),
            media_type: Bytes::from_static(b"text"),
            subtype: Bytes::from_static(b"plain"),
            params: vec![us_ascii()],
            id: None,
            description: None,
            encoding: Bytes::from_static(b"7bit"),
            lines: 0,
            md5: None,
            disposition: None,
            language: Vec::new(),
            location: None,
            content: Content::Single,
        }
    }
}

/// RFC 2045 §5.2: what a text without a valid Content-Type is supposed to be.
pub(super) fn us_ascii() -> Param {
    Param { name: Bytes::from_static(b"charset"), value: Bytes::from_static(b"us-ascii") }
}
