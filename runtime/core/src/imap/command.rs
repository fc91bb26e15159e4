//! IMAP commands as values: what a client asked for, checked for form but not yet for sense.
//!
//! `imap/parse` makes them, the session (`imap/session`) carries them out. Sequence sets are kept
//! unresolved, search texts as raw octets: what they mean depends on the session's view and on the
//! charset. APPEND is not among the bodies: its message is too large for a command buffer, so the
//! session reads its head apart ([`AppendHead`], `parse::append_head`).

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

use crate::types::{
    Flag, FlagChange, Flags, MailboxName, MessageId, ModSeq, ThreadId, Timestamp, Uid, UidSet,
};

pub use crate::mime::{Section, SectionText};

use super::list_match::ListPattern;

/// Longest tag, in octets: it is repeated in an answer; clients use fewer than ten.
pub const MAX_TAG_OCTETS: usize = 128;
/// Most ranges in one sequence set: what a client can need when it lists single messages of a
/// large mailbox in one line; bounds what resolving costs.
pub const MAX_SET_RANGES: usize = 16_384;
/// Deepest nesting of search keys (NOT, OR, parentheses): bounds the parser's and the evaluation's
/// stack. Chains of OR nest once for each alternative.
pub const MAX_SEARCH_DEPTH: usize = 100;
/// Most search keys in one program: bounds the work for each message.
pub const MAX_SEARCH_KEYS: usize = 1_000;
/// Most data items of one FETCH: bounds the answer for each message.
pub const MAX_FETCH_ITEMS: usize = 100;
/// Most header names in one `HEADER.FIELDS`: bounds the comparison for each message.
pub const MAX_HEADER_FIELDS: usize = 200;
/// Deepest part number of a section (`1.2.3`): deeper MIME is not looked into.
pub const MAX_SECTION_DEPTH: usize = 100;
/// Most patterns of one extended LIST: bounds the comparison for each mailbox.
pub const MAX_LIST_PATTERNS: usize = 20;
/// Most words in one option list (ENABLE, STATUS items, LIST options, CREATE uses).
pub const MAX_WORDS: usize = 50;
/// Most flags in one flag list: what one message can have, and the system flags.
pub const MAX_FLAGS: usize = 80;
/// Most parameter pairs of ID (RFC 2971 §3.3).
pub const MAX_ID_PAIRS: usize = 30;

/// A command's tag: 1 to [`MAX_TAG_OCTETS`] ASCII characters that are safe to send back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub(super) String);

impl Tag {
    /// `None` when the text is no tag (RFC 9051 §9 `tag`).
    pub fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= MAX_TAG_OCTETS;
        (fits && text.bytes().all(is_tag_char)).then(|| Self(text.to_owned()))
    }

    /// The tag itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 9051 §9: `1*<any ASTRING-CHAR except "+">`.
pub(super) fn is_tag_char(c: u8) -> bool {
    c.is_ascii_graphic() && !b"(){%*\"\\+".contains(&c)
}

/// Octets that are never printed: credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretOctets(pub Vec<u8>);

impl fmt::Debug for SecretOctets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretOctets(…)")
    }
}

/// One complete command.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Names the command in its answer.
    pub tag: Tag,
    /// What is asked for.
    pub body: CommandBody,
}

/// Whether numbers in a command and in its answers are sequence numbers or UIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// Message sequence numbers.
    Sequence,
    /// UIDs: the command was given with `UID` in front.
    Uid,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandBody {
    /// CAPABILITY
    Capability,
    /// NOOP
    Noop,
    /// LOGOUT
    Logout,
    /// STARTTLS
    StartTls,
    /// LOGIN
    Login {
        /// User name.
        user: String,
        /// Password, UTF-8 or whatever the client uses.
        password: SecretOctets,
    },
    /// AUTHENTICATE
    Authenticate {
        /// SASL mechanism in upper case.
        mechanism: String,
        /// Initial response, decoded (RFC 4959); `=` gives an empty one.
        initial: Option<SecretOctets>,
    },
    /// SELECT
    Select {
        /// Which.
        mailbox: MailboxName,
        /// `(CONDSTORE)` was given (RFC 7162 §3.1.8).
        condstore: bool,
    },
    /// EXAMINE
    Examine {
        /// Which.
        mailbox: MailboxName,
        /// `(CONDSTORE)` was given.
        condstore: bool,
    },
    /// CREATE; a trailing delimiter of the name is gone (RFC 9051 §6.3.4).
    Create {
        /// Its name.
        mailbox: MailboxName,
        /// `(USE (…))` (RFC 6154 §3), possibly empty.
        special_use: Vec<SpecialUse>,
    },
    /// DELETE
    Delete(MailboxName),
    /// RENAME
    Rename {
        /// The name now.
        from: MailboxName,
        /// The name then.
        to: MailboxName,
    },
    /// SUBSCRIBE
    Subscribe(MailboxName),
    /// UNSUBSCRIBE
    Unsubscribe(MailboxName),
    /// LIST
    List(List),
    /// LSUB
    Lsub {
        /// Reference name.
        reference: ListPattern,
        /// Pattern.
        pattern: ListPattern,
    },
    /// NAMESPACE (RFC 2342)
    Namespace,
    /// STATUS
    Status {
        /// Which mailbox.
        mailbox: MailboxName,
        /// At least one, without duplicates, in the client's order.
        items: Vec<StatusItem>,
    },
    /// CHECK
    Check,
    /// CLOSE
    Close,
    /// UNSELECT (RFC 3691)
    Unselect,
    /// EXPUNGE
    Expunge,
    /// UID EXPUNGE (RFC 4315)
    UidExpunge(SequenceSet),
    /// SEARCH and UID SEARCH
    Search(Search),
    /// FETCH and UID FETCH
    Fetch(Fetch),
    /// STORE and UID STORE
    Store(Store),
    /// COPY and UID COPY
    Copy(Transfer),
    /// MOVE and UID MOVE (RFC 6851)
    Move(Transfer),
    /// IDLE (RFC 2177); the session reads `DONE`.
    Idle,
    /// ID (RFC 2971); `None` for NIL.
    Id(Option<Vec<(String, Option<String>)>>),
    /// ENABLE (RFC 5161): capability names in upper case, at least one.
    Enable(Vec<String>),
}

/// An APPEND up to its message: `tag APPEND mailbox [flags] [date] {size}`.
#[derive(Clone, Debug, PartialEq)]
pub struct AppendHead {
    /// Names the command in its answer.
    pub tag: Tag,
    /// Where to.
    pub mailbox: MailboxName,
    /// Flags of the new message.
    pub flags: Flags,
    /// INTERNALDATE; `None`: now.
    pub internal_date: Option<Timestamp>,
    /// The literal that follows: the message.
    pub literal: LiteralHeader,
}

/// The announcement of a literal, `{n}`, `{n+}` or `~{n}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiteralHeader {
    /// Octets that follow the line end.
    pub octets: u64,
    /// The client does not wait for the continuation request (RFC 7888).
    pub non_sync: bool,
    /// A literal8, which may hold NUL (RFC 3516).
    pub binary: bool,
}

/// A special use of a mailbox (RFC 6154 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecialUse {
    /// `\All`
    All,
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Flagged`
    Flagged,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
    /// A use that this server does not know, with its backslash, as the client wrote it.
    Other(String),
}

impl SpecialUse {
    /// Those that RFC 6154 defines.
    pub const KNOWN: [Self; 7] = [
        Self::All,
        Self::Archive,
        Self::Drafts,
        Self::Flagged,
        Self::Junk,
        Self::Sent,
        Self::Trash,
    ];

    /// The name with its backslash.
    pub fn name(&self) -> &str {
        match self {
            Self::All => "\\All",
            Self::Archive => "\\Archive",
            Self::Drafts => "\\Drafts",
            Self::Flagged => "\\Flagged",
            Self::Junk => "\\Junk",
            Self::Sent => "\\Sent",
            Self::Trash => "\\Trash",
            Self::Other(name) => name,
        }
    }

    /// The use of this name (with backslash, in any case).
    pub fn from_name(name: &str) -> Self {
        let known = Self::KNOWN.into_iter().find(|u| u.name().eq_ignore_ascii_case(name));
        known.unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

/// LIST (RFC 9051 §6.3.9, RFC 5258, RFC 5819, RFC 6154).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    /// Selection options.
    pub select: ListSelect,
    /// Reference name: what the patterns are put behind ([`ListPattern::under`]).
    pub reference: ListPattern,
    /// At least one.
    pub patterns: Vec<ListPattern>,
    /// Return options.
    pub returns: ListReturn,
    /// Extended syntax was used: an empty pattern is then no question for the delimiter
    /// (RFC 9051 §6.3.9).
    pub extended: bool,
}

/// Which mailboxes LIST selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListSelect {
    /// SUBSCRIBED: subscribed names, whether they exist or not.
    pub subscribed: bool,
    /// REMOTE: also remote ones (there are none).
    pub remote: bool,
    /// RECURSIVEMATCH: also parents of what matches; comes only with `subscribed` or `special_use`.
    pub recursive_match: bool,
    /// SPECIAL-USE: only those with a special use.
    pub special_use: bool,
}

/// What LIST says of each mailbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListReturn {
    /// SUBSCRIBED
    pub subscribed: bool,
    /// CHILDREN
    pub children: bool,
    /// SPECIAL-USE
    pub special_use: bool,
    /// STATUS (…) (RFC 5819)
    pub status: Option<Vec<StatusItem>>,
}

/// An item of STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    /// MESSAGES
    Messages,
    /// RECENT
    Recent,
    /// UIDNEXT
    UidNext,
    /// UIDVALIDITY
    UidValidity,
    /// UNSEEN
    Unseen,
    /// DELETED (RFC 9051)
    Deleted,
    /// SIZE (RFC 8438)
    Size,
    /// HIGHESTMODSEQ (RFC 7162)
    HighestModSeq,
    /// MAILBOXID (RFC 8474)
    MailboxId,
}

impl StatusItem {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Messages,
        Self::Recent,
        Self::UidNext,
        Self::UidValidity,
        Self::Unseen,
        Self::Deleted,
        Self::Size,
        Self::HighestModSeq,
        Self::MailboxId,
    ];

    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Messages => "MESSAGES",
            Self::Recent => "RECENT",
            Self::UidNext => "UIDNEXT",
            Self::UidValidity => "UIDVALIDITY",
            Self::Unseen => "UNSEEN",
            Self::Deleted => "DELETED",
            Self::Size => "SIZE",
            Self::HighestModSeq => "HIGHESTMODSEQ",
            Self::MailboxId => "MAILBOXID",
        }
    }
}

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

/// A number in a sequence set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetNumber {
    /// A sequence number or a UID.
    Number(NonZeroU32),
    /// `*`: the largest one in use.
    Largest,
}

/// A range in a sequence set; the order of its ends means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetRange {
    /// One end.
    pub first: SetNumber,
    /// The other end, the same for a single number.
    pub last: SetNumber,
}

/// A sequence set: 1 to [`MAX_SET_RANGES`] ranges in the client's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceSet(pub Vec<SetRange>);

impl SequenceSet {
    /// The numbers meant when `largest` is the largest one in use: ascending, disjoint,
    /// non-adjacent inclusive ranges. Numbers above `largest` stay in. With none in use (`None`),
    /// ranges with `*` mean nothing.
    pub fn resolve(&self, largest: Option<NonZeroU32>) -> Vec<(NonZeroU32, NonZeroU32)> {
        let number = |n| match n {
            SetNumber::Number(n) => Some(n),
            SetNumber::Largest => largest,
        };
        let ends = |r: &SetRange| Some((number(r.first)?, number(r.last)?));
        let mut ranges: Vec<_> =
            self.0.iter().filter_map(ends).map(|(a, b)| (a.min(b), a.max(b))).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(NonZeroU32, NonZeroU32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first.get() <= before.1.get().saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        merged
    }

    /// The same as a set of UIDs, when the set holds UIDs.
    pub fn to_uids(&self, largest: Option<Uid>) -> UidSet {
        let mut uids = UidSet::default();
        for (first, last) in self.resolve(largest.map(|uid| uid.0)) {
            uids.insert_range(Uid(first), Uid(last));
        }
        uids
    }
}
