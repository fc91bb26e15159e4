//! The four kinds of record that a store component keeps, as `wit/store.wit` describes them. All
//! of them carry the state *after* an operation: flag deltas and defaults are resolved before.

use serde::{Deserialize, Serialize};

use crate::types::{
    AccountId, Flags, MailboxId, MailboxName, MessageId, ModSeq, ThreadId, Timestamp, Uid,
    UidValidity,
};

/// A property that later versions add: name and value, kept by stores that do not know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Property {
    /// Its name, unique within the record.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

/// A mail domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainRow {
    /// Lower case, A-labels.
    pub name: String,
    /// Another domain whose users this one's addresses mean.
    pub alias_of: Option<String>,
    /// Later additions.
    pub extra: Vec<Property>,
}

/// A user: somebody who can log in, receive mail, or is forwarded to another user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// `local@domain`, or just `local` where there is no domain. Lower case.
    pub name: String,
    /// The account that holds this user's mail, minted by the host. `None` for an alias, and where the
    /// store has nowhere to keep it.
    pub account: Option<AccountId>,
    /// Another user to whom this name's mail goes (an alias has no account of its own).
    pub alias_of: Option<String>,
    /// PHC string (Argon2); `None`: cannot log in by password.
    pub password: Option<String>,
    /// Most octets of mail in the account; `None`: no limit.
    pub quota_octets: Option<u64>,
    /// Later additions.
    pub extra: Vec<Property>,
}

/// A mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxRow {
    /// Survives RENAME.
    pub id: MailboxId,
    /// Full name.
    pub name: MailboxName,
    /// Of this incarnation.
    pub uid_validity: UidValidity,
    /// Special use with its backslash, such as `\Sent` (RFC 6154).
    pub special_use: Option<String>,
    /// Later additions.
    pub extra: Vec<Property>,
}

/// A message in a mailbox. Its octets are a body, kept apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    /// From the shared generator, unique in the account, never reused; what its body is kept under.
    pub name: String,
    /// Where it is.
    pub mailbox: MailboxId,
    /// Its number there.
    pub uid: Uid,
    /// Of its last change.
    pub modseq: ModSeq,
    /// Its flags.
    pub flags: Flags,
    /// INTERNALDATE.
    pub internal_date: Timestamp,
    /// When it came into this mailbox (RFC 8514), seconds since the Unix epoch.
    pub save_date: i64,
    /// Exact octets of the body.
    pub size: u64,
    /// Identity of its content; survives COPY and MOVE.
    pub message_id: MessageId,
    /// Its conversation.
    pub thread_id: ThreadId,
    /// Derived at delivery (E11): addresses of From, one string each, `name <local@domain>`.
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

/// What can change of a message, as it is after the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageChange {
    /// Where it is.
    pub mailbox: MailboxId,
    /// Its number there.
    pub uid: Uid,
    /// Of the change.
    pub modseq: ModSeq,
    /// All its flags.
    pub flags: Flags,
    /// All its properties.
    pub extra: Vec<Property>,
}
