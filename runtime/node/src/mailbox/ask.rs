//! What the layers above ask of an account, and its answers. Everything here can travel to another
//! node: no handles but the subscription to a mailbox's changes, which a link can feed.

use std::borrow::Cow;

use bytes::Bytes;
use postroom_core::calls::{Changes, MailboxList, MailboxStatus, Reply, Selected};
use postroom_core::mailbox::{Arrival, Seen, Target};
use postroom_core::types::{
    AccountId, FlagChange, MailboxId, MailboxName, ModSeq, SessionId, TransactionId, Uid, UidSet,
    UidValidity,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::guest::Finding;

/// A call for one account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Which account.
    pub account: AccountId,
    /// For which session.
    pub session: SessionId,
    /// Under which id: a write has its effect once.
    pub transaction: TransactionId,
    /// The account's quota in octets, as the directory has it, for a call by which it grows.
    pub quota: Option<u64>,
    /// What.
    pub ask: Ask,
}

/// What is asked. Those that need no name mean the session's active mailbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Names and subscriptions → [`Answer::Mailboxes`].
    Mailboxes,
    /// Counts of one mailbox → [`Answer::Status`].
    Status(MailboxName),
    /// Octets in the account → [`Answer::Used`].
    Used,
    /// Makes a mailbox active → [`Answer::Selected`].
    Select {
        /// Its name.
        name: MailboxName,
        /// Not EXAMINE.
        read_write: bool,
    },
    /// Makes a mailbox active for a session that had it active where the account was open before →
    /// [`Answer::Attached`].
    Attach {
        /// Which.
        mailbox: MailboxId,
        /// As it was when the session selected it: with another one its messages are others.
        uid_validity: UidValidity,
        /// Not EXAMINE.
        read_write: bool,
        /// Removals up to here have been told to its client.
        released: ModSeq,
    },
    /// What has happened → [`Answer::Changes`].
    Changes {
        /// After this.
        since: ModSeq,
        /// Messages above it are new.
        known: Option<Uid>,
        /// Removals up to here are told.
        released: ModSeq,
    },
    /// What the index knows of messages → [`Answer::Seen`].
    Seen {
        /// Which.
        uids: UidSet,
        /// At most so many.
        limit: usize,
    },
    /// A message's octets, verified → [`Answer::Body`].
    Body(Uid),
    /// A change → [`Answer::Done`].
    Write(Write),
    /// One step of a check → [`Answer::Checked`].
    Check {
        /// Which.
        step: CheckStep,
        /// Whether what can be mended is mended.
        repair: bool,
    },
    /// One step of bringing rows to the schema that is written → [`Answer::Swept`].
    Sweep(SweepStep),
}

/// A part of an account's rows that a store component brings to the schema that is written, small enough
/// not to keep its writer for long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepStep {
    /// Which of its rows.
    pub of: SweptKind,
    /// From a cursor of its own on.
    pub after: Option<String>,
    /// In which round that schema is the right one: a node that knows of another one refuses.
    pub round: u64,
}

/// The kinds of record in an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SweptKind {
    /// Mailboxes.
    Mailboxes,
    /// Messages.
    Messages,
}

/// What a step of a sweep came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Records looked at.
    pub records: u64,
    /// Rows written.
    pub rewritten: u64,
    /// A record that could not be read, and why: its rows stay as they are.
    pub problem: Option<String>,
    /// Where the next step goes on; `None`: all has been looked at.
    pub next: Option<String>,
}

/// A part of the check of an account, small enough not to keep its writer for long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckStep {
    /// The store component looks at its mailboxes, from a cursor of its own on.
    Mailboxes(Option<String>),
    /// The store component looks at its messages, from a cursor of its own on.
    Messages(Option<String>),
    /// Mailboxes against the ledger.
    Pairs,
    /// The messages of one mailbox against the ledger, with their octets.
    Contents(Contents),
    /// The account's own counters.
    Totals,
}

/// Where the check of a mailbox's messages is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Which mailbox.
    pub mailbox: MailboxId,
    /// The last UID looked at.
    pub after: Option<Uid>,
    /// What was found so far.
    pub tally: Tally,
    /// The number of the account's commits when this mailbox was begun: its counters are judged only
    /// if nothing but the check itself was committed since.
    pub head: u64,
}

/// What is counted in a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Messages.
    pub messages: u32,
    /// Without `\Seen`.
    pub unseen: u32,
    /// With `\Deleted`.
    pub deleted: u32,
    /// Octets.
    pub size: u64,
    /// From the recent mark on.
    pub recent: u32,
    /// The largest UID.
    pub last: u32,
    /// The highest mod-sequence.
    pub modseq: u64,
}

/// What a step of a check came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Records looked at.
    pub checked: u64,
    /// What is wrong, with the kind of record.
    pub findings: Vec<(Cow<'static, str>, Finding)>,
    /// The next step; `None`: done.
    pub next: Option<CheckStep>,
}

/// A change, as the call of the same name describes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Write {
    /// CREATE.
    Create {
        /// Its name.
        name: MailboxName,
        /// Its special use.
        special_use: Option<String>,
    },
    /// DELETE.
    Delete(MailboxName),
    /// RENAME.
    Rename {
        /// Its name now.
        from: MailboxName,
        /// Its name from then on.
        to: MailboxName,
    },
    /// SUBSCRIBE, UNSUBSCRIBE.
    Subscribe {
        /// The name.
        name: MailboxName,
        /// Which of the two.
        on: bool,
    },
    /// APPEND, and delivery.
    Append {
        /// Where to.
        target: Target,
        /// What, with its octets.
        messages: Vec<(Arrival, Bytes)>,
    },
    /// STORE.
    Store {
        /// Of which messages.
        uids: UidSet,
        /// How.
        change: FlagChange,
        /// Not of those changed after this.
        unchanged_since: Option<ModSeq>,
    },
    /// EXPUNGE.
    Expunge {
        /// Only these.
        uids: Option<UidSet>,
    },
    /// COPY.
    Copy {
        /// Which.
        uids: UidSet,
        /// Where to.
        to: MailboxName,
    },
    /// MOVE.
    Move {
        /// Which.
        uids: UidSet,
        /// Where to.
        to: MailboxName,
    },
}

/// What is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Names.
    Mailboxes(MailboxList),
    /// Counts.
    Status(MailboxStatus),
    /// Octets.
    Used(u64),
    /// The active mailbox, and what its watchers see.
    Selected(Box<Selected>, watch::Receiver<News>),
    /// Active again, with what its watchers see.
    Attached(watch::Receiver<News>),
    /// What has happened.
    Changes(Changes),
    /// Messages, ascending by UID, and whether there are more.
    Seen(Vec<Seen>, bool),
    /// Octets; `None` when the session does not see such a message.
    Body(Option<Bytes>),
    /// Done.
    Done(Reply),
    /// What was found.
    Checked(Checked),
    /// What was brought to another schema.
    Swept(Swept),
}

/// What watchers of a mailbox see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// The mod-sequence of its last change; [`DELETED`] when it is gone.
    pub at: ModSeq,
    /// Counts how often something may have happened of which nobody here was told, because the mailbox was
    /// open on another node: whoever sees another number than before asks.
    pub missed: u32,
}

impl News {
    /// Of a change that is known.
    pub fn at(modseq: ModSeq) -> Self {
        Self { at: modseq, missed: 0 }
    }
}

/// The last change of a mailbox that has been deleted.
pub const DELETED: ModSeq = ModSeq(u64::MAX);
