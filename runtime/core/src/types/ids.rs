//! Newtypes for every id and number, so that none can stand in for another.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The id of these 128 bits.
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits.to_be_bytes())
            }

            /// The id as a number, big-endian.
            pub const fn as_u128(self) -> u128 {
                u128::from_be_bytes(self.0)
            }

            /// Parses the 32 hexadecimal digits that `Display` prints.
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).ok()?;
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

id128! {
    /// One mail account. Minted by the host when the account is created, never reused.
    AccountId
}
impl AccountId {
    /// No account: what calls for the directory carry. Never minted, and nobody's.
    pub const NONE: Self = Self([0; 16]);
}

id128! {
    /// One mailbox; survives RENAME (RFC 8474 MAILBOXID).
    MailboxId
}
id128! {
    /// One message content; survives COPY and MOVE (RFC 8474 EMAILID).
    MessageId
}
id128! {
    /// One conversation (RFC 8474 THREADID).
    ThreadId
}
id128! {
    /// One call. A write that is sent again under the same id has its effect at most once.
    TransactionId
}

/// Number of slots that accounts hash into; fixed when a cluster is created.
pub const SLOTS: u16 = 4096;

/// The slot of an account: the unit of ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot in which `account` lives.
    pub fn of(account: AccountId) -> Self {
        let digest = blake3::hash(&account.0);
        let bytes = digest.as_bytes();
        Self(u16::from_be_bytes([bytes[0], bytes[1]]) % SLOTS)
    }
}

/// The fencing number of a slot's claim; rises by each claim. Never a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// One client connection (or command) of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A message's number in its mailbox: strictly ascending, never reused (RFC 9051 §2.3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uid(pub NonZeroU32);

impl Uid {
    /// The first UID of every mailbox.
    pub const MIN: Self = Self(NonZeroU32::MIN);
    /// The largest UID there can be.
    pub const MAX: Self = Self(NonZeroU32::MAX);

    /// `None` for zero.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The UID after this one; `None` when the mailbox has used up its UIDs.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Distinguishes incarnations of a mailbox name; never goes back within an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UidValidity(pub NonZeroU32);

impl fmt::Display for UidValidity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The account-wide change counter (RFC 7162). Zero means: before any change. At most 2^63 - 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ModSeq(pub u64);

impl ModSeq {
    /// The next change.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ModSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
