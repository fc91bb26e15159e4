//! What clients ask of an account, and what they are answered: the calls of the node's mailbox layer.

use postroom_core::calls::{Changes, MailboxStatus, Reply, Selected};
use postroom_core::cluster::CallKind;
use postroom_core::error::StoreError;
use postroom_core::mailbox::{Arrival, Op, Seen, StoreFlags, Target};
use postroom_core::types::{
    Epoch, Flag, FlagChange, FlagChangeKind, Flags, MailboxId, MailboxName, ModSeq, SessionId,
    SystemFlag, ThreadId, Timestamp, TransactionId, Uid, UidSet, UidValidity,
};

#[derive(Clone, Debug)]
pub struct Request {
    pub account: usize,
    pub session: SessionId,
    pub transaction: TransactionId,
    pub ask: Ask,
}

#[derive(Clone, Debug)]
pub enum Ask {
    Select(MailboxName),
    /// The session had the mailbox active where it was open before.
    Attach {
        mailbox: MailboxId,
        uid_validity: UidValidity,
        released: ModSeq,
    },
    Changes {
        since: ModSeq,
        known: Option<Uid>,
        released: ModSeq,
    },
    /// The flags of messages that the session sees.
    Fetch(UidSet),
    Status(MailboxName),
    Write(Write),
}

#[derive(Clone, Debug)]
pub enum Write {
    Append(MailboxName, usize),
    /// As an MTA does, which has no session.
    Deliver,
    Flag(UidSet, SystemFlag, FlagChangeKind),
    Expunge,
    Create(MailboxName),
    Delete(MailboxName),
}

#[derive(Clone, Debug)]
pub enum Answer {
    Selected(Box<Selected>),
    Attached,
    Changes(Changes),
    Fetched(Vec<Seen>),
    Status(MailboxStatus),
    Done(Reply),
}

pub type Answered = Result<Answer, StoreError>;

/// What a node answers another.
#[derive(Clone, Debug)]
pub enum Response {
    Answered(Epoch, Answer),
    Failed(StoreError),
    NotMine(Option<usize>),
    /// The session is not known there: it attaches, and asks again.
    NotAttached,
}

impl Ask {
    /// What the call needs of the claim.
    pub fn kind(&self) -> CallKind {
        match self {
            Self::Write(_) => CallKind::Write,
            Self::Select(_) | Self::Attach { .. } | Self::Changes { .. } => CallKind::Validated,
            Self::Fetch(_) | Self::Status(_) => CallKind::Read,
        }
    }

    /// Whether it means the session's active mailbox.
    pub fn needs_active(&self) -> bool {
        match self {
            Self::Changes { .. } | Self::Fetch(_) => true,
            Self::Write(write) => matches!(write, Write::Flag(..) | Write::Expunge),
            Self::Select(_) | Self::Attach { .. } | Self::Status(_) => false,
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            Self::Select(_) => "select",
            Self::Attach { .. } => "attach",
            Self::Changes { .. } => "changes",
            Self::Fetch(_) => "fetch",
            Self::Status(_) => "status",
            Self::Write(Write::Append(..)) => "append",
            Self::Write(Write::Deliver) => "deliver",
            Self::Write(Write::Flag(..)) => "flag",
            Self::Write(Write::Expunge) => "expunge",
            Self::Write(Write::Create(_)) => "create",
            Self::Write(Write::Delete(_)) => "delete",
        }
    }
}

impl Write {
    /// The operation; `active`: the session's mailbox.
    pub fn op(&self, transaction: TransactionId, active: Option<MailboxId>) -> Option<Op> {
        let none = UidSet::default;
        Some(match self {
            Self::Append(name, messages) => {
                let messages = vec![arrival(transaction); *messages];
                Op::Append { target: Target::Mailbox(name.clone()), messages }
            }
            Self::Deliver => {
                let messages = vec![arrival(transaction)];
                Op::Append { target: Target::Delivery(None), messages }
            }
            Self::Flag(uids, flag, kind) => Op::Store(StoreFlags {
                mailbox: active?,
                uids: uids.clone(),
                change: FlagChange { kind: *kind, flags: Flags::of([Flag::System(*flag)]) },
                unchanged_since: None,
                done: none(),
                modified: none(),
            }),
            Self::Expunge => Op::Expunge { mailbox: active?, uids: None, done: none() },
            Self::Create(name) => Op::Create { name: name.clone(), special_use: None },
            Self::Delete(name) => Op::Delete { name: name.clone() },
        })
    }
}

/// A message that says which attempt it is of.
fn arrival(transaction: TransactionId) -> Arrival {
    Arrival {
        flags: Flags::default(),
        internal_date: Timestamp::utc(0),
        size: 100,
        thread_id: ThreadId(transaction.0),
        from: Vec::new(),
        to: Vec::new(),
        cc: Vec::new(),
        bcc: Vec::new(),
    }
}
