//! The query: a boolean tree in terms of UIDs.

use time::Date;

use crate::types::{Flag, MessageId, ModSeq, ThreadId, UidSet};

use super::Needle;

/// Most nodes of one query: bounds the work for each message.
pub const MAX_QUERY_NODES: usize = 4_000;
/// Deepest nesting of one query: bounds the stack.
pub const MAX_QUERY_DEPTH: usize = 250;

/// A search program (RFC 3501 §6.4.4, RFC 9051 §6.4.4; RFC 5032, 7162, 8474).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// ALL
    All,
    /// Every one of them; `All` when empty.
    And(Vec<Query>),
    /// At least one of them; nothing when empty.
    Or(Vec<Query>),
    /// NOT
    Not(Box<Query>),
    /// One of these UIDs: UID, a sequence set, and by the view's marks RECENT, OLD, NEW.
    Uids(UidSet),
    /// Has the flag or keyword: SEEN, KEYWORD …; UNSEEN and the like are `Not` of it.
    Flag(Flag),
    /// INTERNALDATE, disregarding time and zone, is before this day.
    Before(Date),
    /// … is this day.
    On(Date),
    /// … is this day or later.
    Since(Date),
    /// The Date header, disregarding time and zone, is before this day. A message without a valid
    /// one matches none of the three.
    SentBefore(Date),
    /// … is this day.
    SentOn(Date),
    /// … is this day or later.
    SentSince(Date),
    /// More octets than this.
    Larger(u64),
    /// Fewer octets than this.
    Smaller(u64),
    /// Of this mod-sequence or a later one (RFC 7162 §3.1.5).
    ModSeq(ModSeq),
    /// EMAILID (RFC 8474).
    EmailId(MessageId),
    /// THREADID (RFC 8474).
    ThreadId(ThreadId),
    /// INTERNALDATE is at least this many seconds ago (RFC 5032).
    Older(u32),
    /// INTERNALDATE is at most this many seconds ago (RFC 5032).
    Younger(u32),
    /// The text is in one of the addresses of FROM, TO, CC or BCC, as `name <local@domain>`.
    Address(AddressField, Needle),
    /// The text is in the subject.
    Subject(Needle),
    /// The text is in a header field of this name (compared without regard to case); an empty text
    /// asks only whether there is one.
    Header(String, Needle),
    /// The text is in the body: text parts, decoded, and headers of messages within the message.
    Body(Needle),
    /// The text is in the header or the body.
    Text(Needle),
}

/// A header with addresses that SEARCH has a key for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressField {
    /// FROM
    From,
    /// TO
    To,
    /// CC
    Cc,
    /// BCC
    Bcc,
}

impl AddressField {
    /// The name of the header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::From => "From",
            Self::To => "To",
            Self::Cc => "Cc",
            Self::Bcc => "Bcc",
        }
    }
}

/// How much of a message an answer can need; ascending by cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Facts of the index.
    Index,
    /// The message's ids.
    Ids,
    /// What was derived from it.
    Derived,
    /// Its octets.
    Body,
}

/// The query has more than [`MAX_QUERY_NODES`] or is deeper than [`MAX_QUERY_DEPTH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the search has too many keys or is nested too deeply")]
pub struct TooComplex;

impl Query {
    /// The same question with cheap keys first, nested ANDs and ORs merged.
    pub fn prepared(self) -> Result<Self, TooComplex> {
        Ok(self)
    }

    /// The most that an answer can need.
    pub fn level(&self) -> Level {
        Level::Body
    }

    /// Whether an answer can need what was derived from the message (or more).
    pub fn needs_derived(&self) -> bool {
        self.level() >= Level::Derived
    }

    /// Whether an answer can need the message's octets.
    pub fn needs_body(&self) -> bool {
        self.level() >= Level::Body
    }
}
