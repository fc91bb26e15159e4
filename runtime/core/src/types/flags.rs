//! Message flags. `\Recent` is not among them: it is a mark of a mailbox (RFC 3501 §2.3.2).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The flags that IMAP itself defines and a client can set (RFC 9051 §2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum SystemFlag {
    /// `\Answered`
    Answered = 1,
    /// `\Flagged`
    Flagged = 2,
    /// `\Deleted`
    Deleted = 4,
    /// `\Seen`
    Seen = 8,
    /// `\Draft`
    Draft = 16,
}

impl SystemFlag {
    /// All of them, in the order in which they are printed.
    pub const ALL: [Self; 5] =
        [Self::Answered, Self::Flagged, Self::Deleted, Self::Seen, Self::Draft];

    /// The name with its backslash.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "\\Answered",
            Self::Flagged => "\\Flagged",
            Self::Deleted => "\\Deleted",
            Self::Seen => "\\Seen",
            Self::Draft => "\\Draft",
        }
    }
}

/// Longest keyword, in octets: what other servers accept, and it bounds a row.
pub const MAX_KEYWORD_OCTETS: usize = 128;
/// Most keywords on one message: bounds a row.
pub const MAX_KEYWORDS_PER_MESSAGE: usize = 64;

/// A keyword: a non-empty IMAP atom of at most [`MAX_KEYWORD_OCTETS`]. Compared without regard to
/// ASCII case, kept as it was first written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keyword(Arc<str>);

impl Keyword {
    /// `None` when the text is no IMAP atom or too long.
    pub fn new(text: &str) -> Option<Self> {
        let atom = |c: u8| c.is_ascii_graphic() && !b"(){%*\"\\]".contains(&c);
        let fits = !text.is_empty() && text.len() <= MAX_KEYWORD_OCTETS;
        (fits && text.bytes().all(atom)).then(|| Self(text.into()))
    }

    /// The keyword as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Keyword {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text).ok_or_else(|| format!("not a keyword: {text:?}"))
    }
}

impl From<Keyword> for String {
    fn from(keyword: Keyword) -> Self {
        keyword.0.as_ref().to_owned()
    }
}

impl PartialEq for Keyword {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Keyword {}

impl PartialOrd for Keyword {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Keyword {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let lower = |k: &Self| k.0.bytes().map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>();
        lower(self).cmp(&lower(other))
    }
}

impl std::hash::Hash for Keyword {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

/// One flag that a client can set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Flag {
    /// One of IMAP's own.
    System(SystemFlag),
    /// A client's own word.
    Keyword(Keyword),
}

impl Flag {
    /// Parses `\Seen` or a keyword; `None` for `\Recent`, unknown system flags and non-atoms.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with('\\') {
            return SystemFlag::ALL
                .into_iter()
                .find(|flag| flag.name().eq_ignore_ascii_case(text))
                .map(Self::System);
        }
        Keyword::new(text).map(Self::Keyword)
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(flag) => f.write_str(flag.name()),
            Self::Keyword(keyword) => f.write_str(keyword.as_str()),
        }
    }
}

/// The set of flags on one message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flags {
    system: u8,
    /// Sorted, without duplicates.
    keywords: Vec<Keyword>,
}

impl Flags {
    /// The set of these flags.
    pub fn of(flags: impl IntoIterator<Item = Flag>) -> Self {
        let mut set = Self::default();
        flags.into_iter().for_each(|flag| set.insert(flag));
        set
    }

    /// From system-flag bits (the discriminants of [`SystemFlag`]) and keywords.
    pub fn from_parts(system: u8, keywords: impl IntoIterator<Item = Keyword>) -> Self {
        let mut set = Self { system: system & 0x1f, keywords: Vec::new() };
        keywords.into_iter().for_each(|keyword| set.insert(Flag::Keyword(keyword)));
        set
    }

    /// The system flags as bits (the discriminants of [`SystemFlag`]).
    pub fn system_bits(&self) -> u8 {
        self.system
    }

    /// The keywords, sorted.
    pub fn keywords(&self) -> &[Keyword] {
        &self.keywords
    }

    /// Whether the system flag is set.
    pub fn has(&self, flag: SystemFlag) -> bool {
        self.system & flag as u8 != 0
    }

    /// Whether the flag is in the set.
    pub fn contains(&self, flag: &Flag) -> bool {
        match flag {
            Flag::System(flag) => self.has(*flag),
            Flag::Keyword(keyword) => self.keywords.binary_search(keyword).is_ok(),
        }
    }

    /// Adds a flag.
    pub fn insert(&mut self, flag: Flag) {
        match flag {
            Flag::System(flag) => self.system |= flag as u8,
            Flag::Keyword(keyword) => {
                if let Err(at) = self.keywords.binary_search(&keyword) {
                    self.keywords.insert(at, keyword);
                }
            }
        }
    }

    /// Takes a flag away.
    pub fn remove(&mut self, flag: &Flag) {
        match flag {
            Flag::System(flag) => self.system &= !(*flag as u8),
            Flag::Keyword(keyword) => {
                if let Ok(at) = self.keywords.binary_search(keyword) {
                    self.keywords.remove(at);
                }
            }
        }
    }

    /// All flags: system ones in IMAP's order, then keywords.
    pub fn iter(&self) -> impl Iterator<Item = Flag> + '_ {
        let system = SystemFlag::ALL.into_iter().filter(|flag| self.has(*flag)).map(Flag::System);
        system.chain(self.keywords.iter().cloned().map(Flag::Keyword))
    }

    /// This set after a change.
    pub fn changed(&self, change: &FlagChange) -> Self {
        match change.kind {
            FlagChangeKind::Replace => change.flags.clone(),
            FlagChangeKind::Add => {
                let mut set = self.clone();
                change.flags.iter().for_each(|flag| set.insert(flag));
                set
            }
            FlagChangeKind::Remove => {
                let mut set = self.clone();
                change.flags.iter().for_each(|flag| set.remove(&flag));
                set
            }
        }
    }
}

/// What STORE does with its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlagChangeKind {
    /// `FLAGS`
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}

/// A change of flags, resolved by the mailbox's owner against the flags of the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagChange {
    /// What is done.
    pub kind: FlagChangeKind,
    /// With which flags.
    pub flags: Flags,
}
