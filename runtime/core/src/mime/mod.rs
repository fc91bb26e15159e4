//! What is derived from a message's octets: envelope, body structure, sections, addresses, text.
//!
//! [`derive`] reads a message once and notes where every header and body lies; sections are then
//! cut out of the octets without parsing again. The result is cached by the content's digest, so it
//! says nothing that depends on mailbox, session or time.
//!
//! The structure is found by a scanner of our own (`structure`), not by `mail-parser`: IMAP's counts
//! must be exact for the octets as stored, boundaries hold only where a whole line is one (RFC 2046
//! §5.1.1), and nesting must be bounded before anything is allocated for it. `mail-parser` 0.11
//! finds boundaries within lines and as prefixes of longer ones, frees nested messages by recursion
//! without a bound, and fails an assertion of its own at messages in messages in multiparts. It
//! decodes what ENVELOPE must show encoded. It serves for the charsets that `encoding_rs` lacks, and
//! in tests as another's view of well-formed mail.
//!
//! Whatever the octets are, nothing here panics, and every bound below is kept: what lies beyond is
//! opaque (see each), never an error, because the message is there and must be readable.

pub mod part;

pub mod envelope;

mod structure;

mod budget;

mod header;

mod fields;

mod address;

mod charset;

mod encoding;

mod date;

pub mod section;

pub mod text;

pub mod thread;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::Timestamp;

pub use envelope::{Address, Envelope};
pub use part::{Content, Disposition, Octets, Param, Part, Span};
pub use section::{Section, SectionText, partial, section};
pub use structure::derive;

/// The message as its root part; see [`Part`].
pub type Structure = Part;

/// Deepest nesting of multiparts and messages. A multipart or message that would lie deeper is one
/// opaque `application/octet-stream`. Bounds the stack, and the passes over the octets.
pub const MAX_DEPTH: usize = 32;
/// Most parts of one message, counted in the order in which they are found. Further ones are left
/// out of their multipart, and a multipart of which not one fits is opaque as above. Bounds
/// BODYSTRUCTURE.
pub const MAX_PARTS: usize = 2_000;
/// Most octets of one header that are looked at for fields; further ones are no fields for the
/// envelope and the structure, but are there in sections.
pub const MAX_HEADER_OCTETS: usize = 1 << 20;
/// Most addresses in the envelopes of one message, groups counted; further ones are left out.
pub const MAX_ADDRESSES: usize = 10_000;
/// Most octets of one value (subject, parameter, display name …): longer ones are cut off.
pub const MAX_VALUE_OCTETS: usize = 64 << 10;
/// Most octets of all values of one message together: when they are used up, further ones are left
/// out as if their fields were not there. Bounds the cache and the answers.
pub const MAX_DERIVED_OCTETS: usize = 1 << 20;
/// Most parameters of one field; further ones are left out.
pub const MAX_PARAMS: usize = 100;
/// Most message-ids that are kept for threading: the first and the newest of References.
pub const MAX_REFERENCES: usize = 100;

/// What FETCH, SEARCH and delivery need of a message beside its octets; cached by content digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derived {
    /// ENVELOPE.
    pub envelope: Envelope,
    /// BODYSTRUCTURE, and where everything lies.
    pub structure: Structure,
    /// Addresses of From for the row and for SEARCH, decoded, one string each: `name <local@domain>`
    /// or `local@domain`; of a group its members (E11).
    pub from: Vec<String>,
    /// Of To.
    pub to: Vec<String>,
    /// Of Cc.
    pub cc: Vec<String>,
    /// Of Bcc.
    pub bcc: Vec<String>,
    /// Message-ID without angle brackets.
    pub message_id: Option<String>,
    /// Message-ids of In-Reply-To, without angle brackets.
    pub in_reply_to: Vec<String>,
    /// Message-ids of References, oldest first, without angle brackets.
    pub references: Vec<String>,
    /// The Date header, in its own zone; `None` when there is none or it is no date.
    pub sent: Option<Timestamp>,
    /// Whether something did not fit the bounds, so that an answer from here alone may miss what
    /// the octets have.
    pub truncated: bool,
}

impl Derived {
    /// The header of the message that this was derived from, with the empty line that ends it, if
    /// there is one; shares its octets. [`section`] cuts the same sections HEADER, HEADER.FIELDS and
    /// HEADER.FIELDS.NOT of the message out of it as out of the whole. `None` when `octets` are too
    /// short: it was derived from another message.
    pub fn header(&self, octets: &Bytes) -> Option<Bytes> {
        let span = self.structure.header;
        span.of(octets)?;
        Some(octets.slice(span.range()))
    }
}
