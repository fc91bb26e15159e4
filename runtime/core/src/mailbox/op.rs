//! What changes an account, and what a plan of it says is to be done.

use serde::{Deserialize, Serialize};

use crate::calls::{Copied, FlagRow, Reply};
use crate::records::{MailboxRow, MessageChange, MessageRow};
use crate::types::{
    FlagChange, Flags, MailboxId, MailboxName, MessageId, ModSeq, ThreadId, Timestamp, Uid, UidSet,
    UidValidity,
};

use super::ledger::LedgerWrite;
use super::state::Account;

/// A change of an account. What a call asks for, with sessions resolved to mailboxes.
#[derive(Clone, Debug)]
pub enum Op {
    /// Makes INBOX where there is none: the first operation of every account.
    EnsureInbox,
    /// [`crate::calls::Call::Create`].
    Create {
        /// Its name.
        name: MailboxName,
        /// Its special use.
        special_use: Option<String>,
    },
    /// [`crate::calls::Call::Delete`].
    Delete {
        /// Its name.
        name: MailboxName,
    },
    /// [`crate::calls::Call::Rename`].
    Rename {
        /// Its name now.
        from: MailboxName,
        /// Its name from then on.
        to: MailboxName,
    },
    /// [`crate::calls::Call::Subscribe`].
    Subscribe {
        /// The name.
        name: MailboxName,
        /// Whether it is added.
        on: bool,
    },
    /// [`crate::calls::Call::Append`] and [`crate::calls::Call::Deliver`].
    Append {
        /// Where to.
        target: Target,
        /// What, in order.
        messages: Vec<Arrival>,
    },
    /// [`crate::calls::Call::Store`].
    Store(StoreFlags),
    /// [`crate::calls::Call::Expunge`].
    Expunge {
        /// From which mailbox.
        mailbox: MailboxId,
        /// Only these.
        uids: Option<UidSet>,
        /// Removed by the commits before this one.
        done: UidSet,
    },
    /// [`crate::calls::Call::Copy`].
    Copy {
        /// From which mailbox.
        from: MailboxId,
        /// Which.
        uids: UidSet,
        /// Where to.
        to: MailboxName,
    },
    /// [`crate::calls::Call::Move`].
    Move(MoveMessages),
    /// The host's own care: links of bodies that nobody needs, and rows of the ledger.
    Settle(Settled),
}

/// Where messages are added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// To this mailbox.
    Mailbox(MailboxName),
    /// To this mailbox where it exists, otherwise to INBOX, which is made if need be (E10).
    Delivery(Option<MailboxName>),
    /// To this mailbox, which is made with the missing levels above it if need be (E18).
    Filed(MailboxName),
}

/// A message that is to be added: what is known of it before it has a place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arrival {
    /// With these flags.
    pub flags: Flags,
    /// INTERNALDATE.
    pub internal_date: Timestamp,
    /// Octets.
    pub size: u64,
    /// Its conversation.
    pub thread_id: ThreadId,
    /// Addresses of From.
    pub from: Vec<String>,
    /// Of To.
    pub to: Vec<String>,
    /// Of Cc.
    pub cc: Vec<String>,
    /// Of Bcc.
    pub bcc: Vec<String>,
}

/// A change of flags.
#[derive(Clone, Debug)]
pub struct StoreFlags {
    /// In which mailbox.
    pub mailbox: MailboxId,
    /// Of which messages.
    pub uids: UidSet,
    /// How.
    pub change: FlagChange,
    /// Leaving out messages changed after this.
    pub unchanged_since: Option<ModSeq>,
    /// Handled by the commits before this one.
    pub done: UidSet,
    /// Left out by the commits before this one.
    pub modified: UidSet,
}

/// A move.
#[derive(Clone, Debug)]
pub struct MoveMessages {
    /// From which mailbox.
    pub from: MailboxId,
    /// Which.
    pub uids: UidSet,
    /// Where to.
    pub to: MailboxName,
    /// Moved by the commits before this one.
    pub done: Option<Copied>,
    /// Whether it is RENAME of INBOX, which answers without UIDs.
    pub rename: bool,
}

/// What the host has found to be needed by nobody any more.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Names whose bodies are let go.
    pub names: Vec<String>,
    /// Rows of the ledger that go.
    pub ledger: Vec<LedgerWrite>,
    /// In which mailbox which removals are settled.
    pub settled: Option<(MailboxId, ModSeq)>,
    /// In which mailbox so many tombstones up to a mod-sequence are forgotten.
    pub pruned: Option<(MailboxId, ModSeq, u64)>,
}

/// What a plan has found.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What is to be done with records, in order.
    pub steps: Vec<Step>,
    /// What is answered once it is durable.
    pub outcome: Outcome,
    /// What is to be planned after that commit before anything is answered.
    pub rest: Option<Op>,
}

/// A change of records, to be carried out by store components in the host's transaction.
#[derive(Clone, Debug)]
pub enum Step {
    /// New mailboxes.
    InsertMailboxes(Vec<MailboxRow>),
    /// Mailboxes with another name.
    UpdateMailboxes(Vec<MailboxRow>),
    /// A mailbox goes, with its messages.
    DropMailbox(MailboxId),
    /// New messages, in the order of the operation's bodies.
    Insert(Vec<MessageRow>),
    /// Messages with other flags and another mod-sequence.
    Reflag(Vec<MessageChange>),
    /// Copies: each is the source's row with these changes, and its body under another name.
    Copy {
        /// From where.
        from: MailboxId,
        /// Of what.
        copies: Vec<CopyRow>,
    },
    /// Messages go; their bodies stay until they are settled.
    Remove {
        /// From where.
        mailbox: MailboxId,
        /// Which, ascending.
        uids: Vec<Uid>,
        /// Of the removal.
        modseq: ModSeq,
    },
    /// Links of bodies that nobody needs.
    Unlink(Vec<String>),
    /// The host's own rows.
    Ledger(Vec<LedgerWrite>),
}

/// One copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRow {
    /// The source's UID.
    pub source: Uid,
    /// Where it goes.
    pub mailbox: MailboxId,
    /// Its UID there.
    pub uid: Uid,
    /// Of the copy.
    pub modseq: ModSeq,
    /// Flags as they are in the draft.
    pub flags: Flags,
    /// SAVEDATE.
    pub save_date: i64,
    /// Its name.
    pub name: String,
}

/// What is remembered of an operation under its transaction id, and answered. Rows that STORE
/// answers are read again from the mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Done,
    /// A mailbox was made.
    Created(MailboxId),
    /// Messages were added.
    Appended {
        /// Where.
        mailbox: MailboxId,
        /// Of the mailbox.
        uid_validity: UidValidity,
        /// Of the messages.
        uids: Vec<Uid>,
        /// Of their contents.
        message_ids: Vec<MessageId>,
    },
    /// Flags are as asked for.
    Stored {
        /// Where.
        mailbox: MailboxId,
        /// On these messages.
        done: UidSet,
        /// But not on these.
        modified: UidSet,
    },
    /// Messages were removed.
    Expunged {
        /// Which.
        uids: UidSet,
        /// Of the removal.
        modseq: ModSeq,
    },
    /// Messages were copied or moved.
    Copied {
        /// Of the target; `None` when there was nothing to copy.
        uid_validity: Option<UidValidity>,
        /// In the source.
        from: UidSet,
        /// In the target.
        to: UidSet,
    },
}

impl Outcome {
    /// The answer to the caller, read from the state in which the operation is committed.
    pub fn reply(self, account: &Account) -> Reply {
        match self {
            Self::Done => Reply::Done,
            Self::Created(id) => Reply::Created(id),
            Self::Appended { mailbox, uid_validity, uids, message_ids } => {
                Reply::Appended { mailbox, uid_validity, uids, message_ids }
            }
            Self::Stored { mailbox, done, modified } => {
                Reply::Stored { rows: rows_of(account, mailbox, &done), modified }
            }
            Self::Expunged { uids, modseq } => Reply::Expunged { uids, modseq },
            Self::Copied { uid_validity, from, to } => {
                Reply::Copied(uid_validity.map(|uid_validity| Copied { uid_validity, from, to }))
            }
        }
    }
}

fn rows_of(account: &Account, mailbox: MailboxId, uids: &UidSet) -> Vec<FlagRow> {
    let open = account.mailbox(mailbox).and_then(|mailbox| mailbox.open.as_ref());
    let Some(open) = open else { return Vec::new() };
    let row = |facts: super::index::Facts| FlagRow {
        uid: facts.uid,
        flags: open.flags(&facts),
        modseq: facts.modseq,
    };
    open.index.matching(uids).map(row).collect()
}
