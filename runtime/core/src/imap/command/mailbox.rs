//! LIST, STATUS and the special uses of mailboxes.

use crate::imap::list_match::ListPattern;

/// Most patterns of one extended LIST: bounds the comparison for each mailbox.
pub const MAX_LIST_PATTERNS: usize = 20;

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
