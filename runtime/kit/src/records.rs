//! The records, as the WIT has them: what each field means is written there. The SDK's bindings are
//! made over these types.

use std::fmt;

pub use crate::error::StoreError;

/// A 128-bit id, minted by the host. Ordered as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The upper 64 bits.
    pub high: u64,
    /// The lower 64 bits.
    pub low: u64,
}

/// A named value for what later versions add.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Property {
    /// Unique in its list.
    pub name: String,
    /// Any octets.
    pub value: Vec<u8>,
}

/// A moment with the zone in which it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// The zone: minutes east of UTC.
    pub offset_minutes: i16,
}

/// What every call carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// Whose records; zero for domains and users.
    pub account: Id,
    /// Follows one request.
    pub transaction: Id,
    /// Later additions.
    pub extra: Vec<Property>,
}

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// The record, in words.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
    /// Whether the call has repaired it.
    pub repaired: bool,
    /// Later additions.
    pub extra: Vec<Property>,
}

/// A page of a check.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckPage {
    /// Records looked at in this call.
    pub checked: u64,
    /// What is wrong with them.
    pub findings: Vec<Finding>,
    /// Where the next call goes on.
    pub next: Option<String>,
    /// Later additions.
    pub extra: Vec<Property>,
}

/// A mail domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Another domain whose users this one's addresses mean.
    pub alias_of: Option<String>,
    /// Later additions.
    pub extra: Vec<Property>,
}

/// A user or an alias of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User {
    /// The name.
    pub name: String,
    /// The account that holds the user's mail.
    pub account: Option<Id>,
    /// Another user to whom this name's mail goes.
    pub alias_of: Option<String>,
    /// What a password is verified against.
    pub password: Option<String>,
    /// Most octets of mail in the account.
    pub quota_octets: Option<u64>,
    /// Later additions.
    pub extra: Vec<Property>,
}

/// A mailbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mailbox {
    /// Its id.
    pub id: Id,
    /// Its full name.
    pub name: String,
    /// UIDVALIDITY of this incarnation.
    pub uid_validity: u32,
    /// Its special use with the backslash.
    pub special_use: Option<String>,
    /// Later additions.
    pub extra: Vec<Property>,
}

/// A message in a mailbox, without its octets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// From the host's generator.
    pub name: String,
    /// The mailbox.
    pub mailbox: Id,
    /// Its number there.
    pub uid: u32,
    /// Mod-sequence of its last change.
    pub modseq: u64,
    /// System flags and keywords: a set.
    pub flags: Vec<String>,
    /// INTERNALDATE.
    pub internal_date: Timestamp,
    /// When it came into this mailbox.
    pub save_date: i64,
    /// Octets of its body.
    pub size: u64,
    /// Identity of its content.
    pub message_id: Id,
    /// Its conversation.
    pub thread_id: Id,
    /// Addresses of its From field.
    pub from: Vec<String>,
    /// Of To.
    pub to: Vec<String>,
    /// Of Cc.
    pub cc: Vec<String>,
    /// Of Bcc.
    pub bcc: Vec<String>,
    /// Later additions.
    pub extra: Vec<Property>,
}

/// Where a message is. Ordered by mailbox, then UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessagePlace {
    /// The mailbox.
    pub mailbox: Id,
    /// The UID in it.
    pub uid: u32,
}

/// What can change of a message that is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageChange {
    /// Where the message is.
    pub place: MessagePlace,
    /// Its mod-sequence.
    pub modseq: u64,
    /// All its flags.
    pub flags: Vec<String>,
    /// All properties of the row.
    pub extra: Vec<Property>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<R> {
    /// In the order of their names.
    pub rows: Vec<R>,
    /// Whether more rows follow the last one; then there is at least one here.
    pub more: bool,
}

/// A record that is found by a name of its own: a domain, a user, a mailbox. (A [`Message`] is found
/// by its place.)
pub trait Record: Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The name; in the order of `list`.
    type Name: Clone + Ord + fmt::Debug + fmt::Display + Send + Sync + 'static;

    /// What the kind is called in logs and in findings.
    const KIND: &'static str;
    /// Its interface in the WIT.
    const INTERFACE: &'static str;

    /// The record's name.
    fn name(&self) -> Self::Name;
}

impl Record for Domain {
    type Name = String;
    const KIND: &'static str = "domain";
    const INTERFACE: &'static str = "domains";

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Record for User {
    type Name = String;
    const KIND: &'static str = "user";
    const INTERFACE: &'static str = "users";

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Record for Mailbox {
    type Name = Id;
    const KIND: &'static str = "mailbox";
    const INTERFACE: &'static str = "mailboxes";

    fn name(&self) -> Id {
        self.id
    }
}

impl Id {
    /// The id of these 128 bits.
    pub const fn from_u128(bits: u128) -> Self {
        Self { high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// Its 16 octets, big-endian: in the order of ids.
    pub fn octets(self) -> [u8; 16] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_be_bytes()
    }

    /// The id of these 16 octets.
    pub fn from_octets(octets: [u8; 16]) -> Self {
        Self::from_u128(u128::from_be_bytes(octets))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

impl Message {
    /// Where it is.
    pub fn place(&self) -> MessagePlace {
        MessagePlace { mailbox: self.mailbox, uid: self.uid }
    }

    /// Makes a change of it, for stores that keep a message in one piece.
    pub fn change(&mut self, change: MessageChange) {
        let MessageChange { place: _, modseq, flags, extra } = change;
        (self.modseq, self.flags, self.extra) = (modseq, flags, extra);
    }
}

impl MessagePlace {
    /// Its 20 octets, mailbox and UID, big-endian: in the order of places.
    pub fn octets(self) -> [u8; 20] {
        let mut octets = [0; 20];
        octets[..16].copy_from_slice(&self.mailbox.octets());
        octets[16..].copy_from_slice(&self.uid.to_be_bytes());
        octets
    }

    /// The place of these 20 octets.
    pub fn from_octets(octets: [u8; 20]) -> Self {
        let (mut mailbox, mut uid) = ([0; 16], [0; 4]);
        mailbox.copy_from_slice(&octets[..16]);
        uid.copy_from_slice(&octets[16..]);
        Self { mailbox: Id::from_octets(mailbox), uid: u32::from_be_bytes(uid) }
    }
}

impl fmt::Display for MessagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} of mailbox {}", self.uid, self.mailbox)
    }
}

impl Finding {
    /// A finding that is not repaired.
    pub fn new(name: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self {
            name: name.to_string(),
            problem: problem.to_string(),
            repaired: false,
            extra: Vec::new(),
        }
    }
}

impl CheckPage {
    /// A page on which nothing has been found yet.
    pub fn empty() -> Self {
        Self { checked: 0, findings: Vec::new(), next: None, extra: Vec::new() }
    }
}
