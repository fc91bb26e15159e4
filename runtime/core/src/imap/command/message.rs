//! FETCH, STORE, COPY and MOVE.

use std::num::NonZeroU64;

use crate::types::{FlagChange, MailboxName, ModSeq};

pub use crate::mime::{Section, SectionText};

use super::{Numbering, SequenceSet};

/// Most data items of one FETCH: bounds the answer for each message.
pub const MAX_FETCH_ITEMS: usize = 100;
/// Most header names in one `HEADER.FIELDS`: bounds the comparison for each message.
pub const MAX_HEADER_FIELDS: usize = 200;
/// Deepest part number of a section (`1.2.3`): deeper MIME is not looked into.
pub const MAX_SECTION_DEPTH: usize = 100;
/// Most flags in one flag list: what one message can have, and the system flags.
pub const MAX_FLAGS: usize = 80;

/// FETCH.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetch {
    /// What the set holds.
    pub numbering: Numbering,
    /// Which messages.
    pub set: SequenceSet,
    /// At least one; macros are expanded. UID is *not* added for UID FETCH: the session does.
    pub items: Vec<FetchItem>,
    /// `(CHANGEDSINCE n)` (RFC 7162 §3.1.4.1).
    pub changed_since: Option<ModSeq>,
}

/// A data item of FETCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchItem {
    /// BODY: structure without extension data.
    Body,
    /// BODYSTRUCTURE
    BodyStructure,
    /// ENVELOPE
    Envelope,
    /// FLAGS
    Flags,
    /// INTERNALDATE
    InternalDate,
    /// RFC822: as `BODY[]`, under that name.
    Rfc822,
    /// RFC822.HEADER: as `BODY.PEEK[HEADER]`.
    Rfc822Header,
    /// RFC822.SIZE
    Rfc822Size,
    /// RFC822.TEXT: as `BODY[TEXT]`.
    Rfc822Text,
    /// UID
    Uid,
    /// MODSEQ
    ModSeq,
    /// EMAILID
    EmailId,
    /// THREADID
    ThreadId,
    /// `BODY[…]<…>` and `BODY.PEEK[…]<…>`
    Section {
        /// What.
        section: Section,
        /// Which octets of it.
        partial: Option<Partial>,
        /// Does not set `\Seen`.
        peek: bool,
    },
}

impl FetchItem {
    /// Whether fetching it sets `\Seen`.
    pub fn sets_seen(&self) -> bool {
        match self {
            Self::Rfc822 | Self::Rfc822Text => true,
            Self::Section { peek, .. } => !peek,
            Self::Body
            | Self::BodyStructure
            | Self::Envelope
            | Self::Flags
            | Self::InternalDate
            | Self::Rfc822Header
            | Self::Rfc822Size
            | Self::Uid
            | Self::ModSeq
            | Self::EmailId
            | Self::ThreadId => false,
        }
    }
}

/// `<first.count>`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// First octet, from 0.
    pub first: u64,
    /// Most octets.
    pub count: NonZeroU64,
}

/// STORE.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// What the set holds.
    pub numbering: Numbering,
    /// Which messages.
    pub set: SequenceSet,
    /// `(UNCHANGEDSINCE n)` (RFC 7162 §3.1.3).
    pub unchanged_since: Option<ModSeq>,
    /// What happens to their flags.
    pub change: FlagChange,
    /// `.SILENT`
    pub silent: bool,
}

/// COPY or MOVE.
#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    /// What the set holds.
    pub numbering: Numbering,
    /// Which messages.
    pub set: SequenceSet,
    /// Where to.
    pub to: MailboxName,
}
