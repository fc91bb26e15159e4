//! IMAP commands as values: what a client asked for, checked for form but not yet for sense.
//!
//! `imap/parse` makes them, the session (`imap/session`) carries them out. Sequence sets are kept
//! unresolved, search texts as raw octets: what they mean depends on the session's view and on the
//! charset. APPEND is not among the bodies: its message is too large for a command buffer, so the
//! session reads its head apart ([`AppendHead`], `parse::append_head`).

mod mailbox;
mod message;
mod search;
mod set;

use std::fmt;

use crate::types::{Flags, MailboxName, Timestamp};

use super::list_match::ListPattern;

pub use mailbox::{List, ListReturn, ListSelect, MAX_LIST_PATTERNS, SpecialUse, StatusItem};
pub use message::{
    Fetch, FetchItem, MAX_FETCH_ITEMS, MAX_FLAGS, MAX_HEADER_FIELDS, MAX_SECTION_DEPTH, Partial,
    Section, SectionText, Store, Transfer,
};
pub use search::{
    MAX_SEARCH_DEPTH, MAX_SEARCH_KEYS, Search, SearchHeader, SearchKey, SearchReturn,
};
pub use set::{MAX_SET_RANGES, SequenceSet, SetNumber, SetRange};

/// Longest tag, in octets: it is repeated in an answer; clients use fewer than ten.
pub const MAX_TAG_OCTETS: usize = 128;
/// Most words in one option list (ENABLE, STATUS items, LIST options, CREATE uses).
pub const MAX_WORDS: usize = 50;
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
    /// The literal that follows: the message. Not a literal8.
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
