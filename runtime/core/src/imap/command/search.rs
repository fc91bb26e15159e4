//! SEARCH.

use std::num::NonZeroU32;

use crate::types::{Flag, MessageId, ModSeq, ThreadId};

use super::{Numbering, SequenceSet};

/// Deepest nesting of search keys (NOT, OR, parentheses): bounds the parser's and the evaluation's
/// stack. Chains of OR nest once for each alternative.
pub const MAX_SEARCH_DEPTH: usize = 100;
/// Most search keys in one program: bounds the work for each message.
pub const MAX_SEARCH_KEYS: usize = 1_000;

/// SEARCH.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What answers name, and whether a set in the *answer* holds UIDs.
    pub numbering: Numbering,
    /// `RETURN (…)` (RFC 4731); `None`: answer with the plain SEARCH response.
    pub returns: Option<SearchReturn>,
    /// CHARSET as given; `None`: US-ASCII (which RFC 9051 widens to UTF-8).
    pub charset: Option<String>,
    /// The program.
    pub key: SearchKey,
}

/// What an extended SEARCH returns. `RETURN ()` has become `all`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchReturn {
    /// MIN
    pub min: bool,
    /// MAX
    pub max: bool,
    /// ALL
    pub all: bool,
    /// COUNT
    pub count: bool,
}

/// A search key. Texts are octets in the command's charset.
#[derive(Clone, Debug, PartialEq)]
pub enum SearchKey {
    /// Every one of them matches; several keys in a row, or in parentheses. Never empty.
    And(Vec<SearchKey>),
    /// OR
    Or(Box<SearchKey>, Box<SearchKey>),
    /// NOT
    Not(Box<SearchKey>),
    /// ALL
    All,
    /// A set of sequence numbers.
    Sequence(SequenceSet),
    /// UID
    Uid(SequenceSet),
    /// ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, KEYWORD
    Flag(Flag),
    /// UNANSWERED, …, UNKEYWORD
    NotFlag(Flag),
    /// RECENT
    Recent,
    /// OLD: not recent.
    Old,
    /// NEW: recent and not seen.
    New,
    /// FROM, TO, CC, BCC, SUBJECT: the text is in that header.
    Header(SearchHeader, Vec<u8>),
    /// HEADER: the text is in a header of this name; an empty text asks only whether there is one.
    AnyHeader {
        /// Name of the header, as given.
        name: Vec<u8>,
        /// Text in it.
        text: Vec<u8>,
    },
    /// BODY
    Body(Vec<u8>),
    /// TEXT
    Text(Vec<u8>),
    /// BEFORE: INTERNALDATE, disregarding time and zone, is earlier than this day.
    Before(time::Date),
    /// ON
    On(time::Date),
    /// SINCE: this day or later.
    Since(time::Date),
    /// SENTBEFORE: as BEFORE with the Date header.
    SentBefore(time::Date),
    /// SENTON
    SentOn(time::Date),
    /// SENTSINCE
    SentSince(time::Date),
    /// LARGER: more octets than this.
    Larger(u64),
    /// SMALLER: fewer octets than this.
    Smaller(u64),
    /// MODSEQ: this mod-sequence or a later one (RFC 7162 §3.1.5). The entry name that may stand
    /// before it is checked and dropped: this server keeps one mod-sequence a message.
    ModSeq(ModSeq),
    /// OLDER: INTERNALDATE is at least this many seconds ago (RFC 5032).
    Older(NonZeroU32),
    /// YOUNGER: INTERNALDATE is at most this many seconds ago.
    Younger(NonZeroU32),
    /// EMAILID (RFC 8474); `None`: an id that this server never gave out, matches nothing.
    EmailId(Option<MessageId>),
    /// THREADID (RFC 8474); `None` as above.
    ThreadId(Option<ThreadId>),
}

/// A header that has a search key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchHeader {
    /// BCC
    Bcc,
    /// CC
    Cc,
    /// FROM
    From,
    /// SUBJECT
    Subject,
    /// TO
    To,
}

impl SearchHeader {
    /// The name of key and header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bcc => "BCC",
            Self::Cc => "CC",
            Self::From => "FROM",
            Self::Subject => "SUBJECT",
            Self::To => "TO",
        }
    }
}
