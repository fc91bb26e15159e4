//! The message store's calls: the only way in which a front end reaches mail (E1). A protocol
//! session (`imap`, `lmtp`) says which call it wants; node's `message_store` carries it out, on
//! this node or on the one that has the account open, and answers with a [`Reply`].
//!
//! Calls that need a selected mailbox name it by the session: a session has at most one mailbox
//! *active* at a time ([`Call::Select`] … [`Call::Deselect`]).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::mime::Derived;
use crate::search::Query;
use crate::types::{
    AccountId, FlagChange, Flags, MailboxId, MailboxName, MessageId, ModSeq, ThreadId, Timestamp,
    Uid, UidSet, UidValidity,
};

/// A text that is never printed: passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a front end asks of the message store. Whether a call reads or writes, and whether it may
/// be repeated without a transaction id, is said at each.
#[derive(Clone, Debug)]
pub enum Call {
    /// Checks a password. Reads. → [`Reply::Principal`]. Errors: `AuthenticationFailed`, and `Busy`
    /// when too many are being checked.
    Login {
        /// User name as the client gave it.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// All mailboxes and subscriptions of the account. Reads. → [`Reply::Mailboxes`].
    Mailboxes,
    /// Makes a mailbox and the missing levels above it. Writes. → [`Reply::Created`]. Errors:
    /// `AlreadyExists`, `Limit`; `Invalid` when the special use is unknown, or another mailbox's.
    Create {
        /// Its name.
        name: MailboxName,
        /// Its special use (RFC 6154), if any.
        special_use: Option<String>,
    },
    /// Removes a mailbox and its messages; mailboxes below it stay. Writes. → [`Reply::Done`].
    /// Errors: `NotFound`; `Denied` for INBOX.
    Delete {
        /// Its name.
        name: MailboxName,
    },
    /// Renames a mailbox and those below it. Renaming INBOX moves its messages into the new mailbox
    /// and leaves an INBOX with its id, UIDVALIDITY and UIDNEXT (RFC 9051 §6.3.6). Writes. →
    /// [`Reply::Done`]. Errors: `NotFound`, `AlreadyExists`, `Invalid`.
    Rename {
        /// Its name now.
        from: MailboxName,
        /// Its name from then on.
        to: MailboxName,
    },
    /// Adds a name to the subscriptions, whether such a mailbox exists or not, or takes it away.
    /// Writes, repeatable. → [`Reply::Done`]. Errors: `Limit`.
    Subscribe {
        /// The name.
        name: MailboxName,
        /// `true` adds, `false` takes away.
        on: bool,
    },
    /// Counts of a mailbox, without reading messages (E12). Reads. → [`Reply::Status`]. Errors:
    /// `NotFound`.
    Status {
        /// Its name.
        name: MailboxName,
    },
    /// Makes a mailbox active for this session, after leaving the one that was. Reads, but a
    /// read-write selection claims what is recent (E11). → [`Reply::Selected`]. Errors: `NotFound`.
    Select {
        /// Its name.
        name: MailboxName,
        /// `false` for EXAMINE.
        read_write: bool,
    },
    /// Leaves the active mailbox. Repeatable. → [`Reply::Done`].
    Deselect,
    /// What has happened in the active mailbox since. Reads, but may claim what is recent. →
    /// [`Reply::Changes`]. Errors: `NotFound` when the mailbox has been deleted.
    Changes {
        /// The highest mod-sequence up to which this session knows flags, arrivals and removals.
        since: ModSeq,
        /// The largest UID that this session has been told of, or that was given out before it came:
        /// messages above it are new to it. `None`: none.
        known: Option<Uid>,
        /// Removals up to this mod-sequence have been told to the client: their bodies need not be
        /// kept for this session any longer.
        released: ModSeq,
    },
    /// Reads messages of the active mailbox, ascending by UID, as many as fit a reply; the caller
    /// asks again from the UID after the last one while `more` is set. UIDs that never were, or
    /// that this session no longer sees, are passed over; messages that cannot be read come without
    /// what could not be read. → [`Reply::Messages`].
    Fetch {
        /// Which.
        uids: UidSet,
        /// What beside the index's facts.
        want: Want,
    },
    /// Changes flags in the active mailbox. Writes. → [`Reply::Stored`]. Errors: `Denied` when
    /// selected read-only; `Limit` for too many keywords.
    Store {
        /// Of which messages; ones that are gone are passed over.
        uids: UidSet,
        /// How.
        change: FlagChange,
        /// Leave out messages whose mod-sequence is higher (RFC 7162 §3.1.3).
        unchanged_since: Option<ModSeq>,
    },
    /// Removes the messages of the active mailbox that have `\Deleted`. Writes. →
    /// [`Reply::Expunged`]; the session learns of the removals through [`Call::Changes`]. Errors:
    /// `Denied` when selected read-only.
    Expunge {
        /// Only these (UID EXPUNGE); `None`: all.
        uids: Option<UidSet>,
    },
    /// Copies messages of the active mailbox, all or none. Writes. → [`Reply::Copied`]. Errors:
    /// `NotFound` (the target), `OverQuota`, `Limit`.
    Copy {
        /// Which; ones that are gone are passed over.
        uids: UidSet,
        /// Where to.
        to: MailboxName,
    },
    /// As copy, and removes the originals in the same commit (RFC 6851). → [`Reply::Copied`].
    Move {
        /// Which.
        uids: UidSet,
        /// Where to.
        to: MailboxName,
    },
    /// Adds messages, all or none. Writes. → [`Reply::Appended`]. Errors: `NotFound`, `OverQuota`,
    /// `Limit`.
    Append {
        /// Where to.
        mailbox: MailboxName,
        /// What.
        messages: Vec<NewMessage>,
    },
    /// Searches the active mailbox. Reads. → [`Reply::Found`]. Sequence numbers in the query have
    /// been resolved to UIDs by the session's view.
    Search {
        /// What for.
        query: Query,
    },
    /// Finds the account that a recipient's mail goes to: aliases, sub-address. Reads. →
    /// [`Reply::Recipient`]. Errors: `NotFound`; `OverQuota` when it is full already.
    ResolveRecipient {
        /// `local@domain` or `local`, as the MTA gave it, without angle brackets.
        address: String,
    },
    /// Delivers one message to one recipient: ensure-inbox, UID, row, counters in one commit (E10).
    /// Hooks are asked before, and told after it (E18). Writes. → [`Reply::Appended`]. Errors:
    /// `OverQuota`, `Limit`; `Refused` by a hook.
    Deliver {
        /// To whom.
        recipient: Recipient,
        /// The envelope's sender, without angle brackets; `None`: nobody (`<>`).
        sender: Option<String>,
        /// The message as it is to be stored: with the trace fields that the session has added.
        body: Bytes,
    },
}

/// What [`Call::Fetch`] reads beside uid, mod-sequence, flags, dates, size and ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Envelope and body structure.
    pub derived: bool,
    /// The message's header, with the empty line that ends it, if there is one.
    pub header: bool,
    /// The whole body.
    pub body: bool,
}

/// A message to be added.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// With these flags.
    pub flags: Flags,
    /// INTERNALDATE; `None`: now.
    pub internal_date: Option<Timestamp>,
    /// Its octets, CRLF line ends.
    pub body: Bytes,
}

/// Where a recipient's mail goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The account.
    pub account: AccountId,
    /// Its user name, for the trace header.
    pub user: String,
    /// Folder from the sub-address (`user+folder`); INBOX takes what names no existing mailbox.
    pub folder: Option<MailboxName>,
}

/// Who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user's name, normalised.
    pub user: String,
    /// The user's account.
    pub account: AccountId,
}

/// A mailbox in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxInfo {
    /// Its id.
    pub id: MailboxId,
    /// Its name.
    pub name: MailboxName,
    /// Its special use, with backslash.
    pub special_use: Option<String>,
}

/// All mailboxes of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxList {
    /// By name, ascending.
    pub mailboxes: Vec<MailboxInfo>,
    /// Subscribed names, ascending; a name need not exist.
    pub subscriptions: Vec<MailboxName>,
}

/// Counts of a mailbox (RFC 9051 §6.3.11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxStatus {
    /// Its id.
    pub mailbox: MailboxId,
    /// Messages in it.
    pub messages: u32,
    /// Not yet claimed as recent by any session.
    pub recent: u32,
    /// Without `\Seen`.
    pub unseen: u32,
    /// With `\Deleted`.
    pub deleted: u32,
    /// Octets.
    pub size: u64,
    /// The next UID.
    pub uid_next: Uid,
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The mod-sequence of the last change in it.
    pub highest_modseq: ModSeq,
}

/// A selected mailbox as it was at that moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Selected {
    /// Counts.
    pub status: MailboxStatus,
    /// UIDs of all messages, ascending: the sequence numbers of the session's view.
    pub uids: Vec<Uid>,
    /// Messages that are recent for this session.
    pub recent: UidSet,
    /// The first message without `\Seen`.
    pub first_unseen: Option<Uid>,
    /// Keywords in use in the mailbox.
    pub keywords: Vec<crate::types::Keyword>,
    /// Whether the session may write.
    pub read_write: bool,
}

/// A message whose flags changed, or that is new.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlagRow {
    /// Which.
    pub uid: Uid,
    /// Its flags now.
    pub flags: Flags,
    /// Of its last change.
    pub modseq: ModSeq,
}

/// What has happened in a mailbox after a mod-sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Everything up to here is told. Below the mailbox's last change there is more to ask for, from
    /// here on and above the largest UID that was told.
    pub upto: ModSeq,
    /// New messages and changed flags, ascending by UID. A new one is one that the view lacks; it can
    /// be later than `upto`.
    pub changed: Vec<FlagRow>,
    /// Removed messages.
    pub expunged: UidSet,
    /// Messages that became recent for this session.
    pub recent: UidSet,
}

/// A message as [`Call::Fetch`] answers it.
#[derive(Clone, Debug)]
pub struct FetchedMessage {
    /// Its UID.
    pub uid: Uid,
    /// Its flags (without `\Recent`, which the session's view knows).
    pub flags: Flags,
    /// Of its last change.
    pub modseq: ModSeq,
    /// INTERNALDATE.
    pub internal_date: Timestamp,
    /// SAVEDATE, seconds since the Unix epoch.
    pub save_date: i64,
    /// Octets.
    pub size: u64,
    /// EMAILID.
    pub message_id: MessageId,
    /// THREADID.
    pub thread_id: ThreadId,
    /// If wanted, and the message could be read.
    pub derived: Option<Arc<Derived>>,
    /// If wanted, and the message could be read.
    pub header: Option<Bytes>,
    /// If wanted, and the message could be read.
    pub body: Option<Bytes>,
}

/// What COPY and MOVE did: `from` and `to` correspond in ascending order (RFC 4315 §3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Of the target.
    pub uid_validity: UidValidity,
    /// Copied messages, in the source.
    pub from: UidSet,
    /// Their copies, in the target.
    pub to: UidSet,
}

/// Answers to [`Call`]s.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Done; there is nothing to say.
    Done,
    /// To [`Call::Login`].
    Principal(Principal),
    /// To [`Call::Mailboxes`].
    Mailboxes(Arc<MailboxList>),
    /// To [`Call::Create`].
    Created(MailboxId),
    /// To [`Call::Status`].
    Status(MailboxStatus),
    /// To [`Call::Select`].
    Selected(Box<Selected>),
    /// To [`Call::Changes`].
    Changes(Changes),
    /// To [`Call::Fetch`].
    Messages {
        /// Ascending by UID.
        messages: Vec<FetchedMessage>,
        /// Whether some that were asked for did not fit this reply.
        more: bool,
    },
    /// To [`Call::Store`].
    Stored {
        /// Messages after the change, also ones that it left as they were; ascending by UID.
        rows: Vec<FlagRow>,
        /// Messages left out because of `unchanged_since`.
        modified: UidSet,
    },
    /// To [`Call::Expunge`].
    Expunged {
        /// What was removed.
        uids: UidSet,
        /// The mod-sequence of the removal.
        modseq: ModSeq,
    },
    /// To [`Call::Copy`] and [`Call::Move`]; `None` when there was nothing to copy.
    Copied(Option<Copied>),
    /// To [`Call::Append`] and [`Call::Deliver`].
    Appended {
        /// Where.
        mailbox: MailboxId,
        /// Of the mailbox.
        uid_validity: UidValidity,
        /// Of the messages, in the order in which they were given.
        uids: Vec<Uid>,
        /// Of their contents, in that order.
        message_ids: Vec<MessageId>,
    },
    /// To [`Call::Search`]: ascending by UID, with mod-sequences.
    Found(Vec<(Uid, ModSeq)>),
    /// To [`Call::ResolveRecipient`].
    Recipient(Recipient),
}
