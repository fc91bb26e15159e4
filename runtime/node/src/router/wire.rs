//! Calls and their answers as they travel between nodes.
//!
//! Each form has a version, which the link carries beside the octets. A node reads its own version and the
//! one before, and answers in the version it was asked in, so that a cluster can be brought to a new program
//! node by node. Version 1 is the first.

use bytes::Bytes;
use postroom_core::calls::{Changes, Copied, FlagRow, MailboxList, MailboxStatus, Reply, Selected};
use postroom_core::error::StoreError;
use postroom_core::mailbox::Seen;
use postroom_core::types::{
    Epoch, MailboxId, MessageId, ModSeq, SessionId, TransactionId, Uid, UidSet, UidValidity,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::mailbox::{Answer, Checked, Request, Swept};

/// The version that this program writes.
pub const VERSION: u32 = 1;

/// What a node asks of the one that has an account's slot open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Question {
    /// To carry out a call, whose session is one of the asking node; and to open the slot for it when nobody
    /// has it, because the asking node may not.
    Call(Request, bool),
    /// To leave a session's active mailbox.
    Leave {
        /// Of the asking node.
        session: SessionId,
        /// The call by which it was made active: one that was made active since stays.
        under: TransactionId,
    },
    /// To let go of every session of the asking node that is not among these (E8), and to say which of these
    /// have nothing active there.
    Active(Vec<SessionId>),
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    /// Done, by the claim with this epoch.
    Answered(Epoch, Box<Said>),
    /// Failed, under the claim with this epoch.
    Failed(Epoch, StoreError),
    /// The slot is not open here: look who has it.
    NotMine,
    /// The session has nothing active here: make it active again, then ask again.
    NotAttached,
    /// There is nothing to say.
    Noted,
    /// These sessions have nothing active here.
    Unknown(Vec<SessionId>),
}

/// An answer without its subscription, which the event stream between the nodes feeds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Said {
    /// Names.
    Mailboxes(MailboxList),
    /// Counts.
    Status(MailboxStatus),
    /// Octets.
    Used(u64),
    /// The active mailbox, and what its watchers see now.
    Selected(Box<Selected>, ModSeq),
    /// Active again, and what its watchers see now.
    Attached(ModSeq),
    /// What has happened.
    Changes(Changes),
    /// Messages, and whether there are more.
    Seen(Vec<Seen>, bool),
    /// Octets.
    Body(Option<Bytes>),
    /// A change was made.
    Done(Made),
    /// What was found.
    Checked(Checked),
    /// What was brought to another schema.
    Swept(Swept),
}

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Made {
    /// Done.
    Done,
    /// A mailbox.
    Created(MailboxId),
    /// Messages.
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
    /// Flags.
    Stored {
        /// Messages after the change.
        rows: Vec<FlagRow>,
        /// Messages left out.
        modified: UidSet,
    },
    /// Removals.
    Expunged {
        /// Of what.
        uids: UidSet,
        /// When.
        modseq: ModSeq,
    },
    /// Copies.
    Copied(Option<Copied>),
}

/// A message in this program's version.
///
/// # Errors
/// `Limit` when it cannot be written: it is a mistake in the program.
pub fn encode<T: Serialize>(message: &T) -> Result<Bytes, StoreError> {
    let octets = postcard::to_stdvec(message);
    let octets = octets.map_err(|error| StoreError::Limit(format!("a call to a node: {error}")))?;
    Ok(octets.into())
}

/// A message of this program's version that a peer has sent; `None`: it is none.
pub fn decode<T: DeserializeOwned>(octets: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(octets) {
        Ok((message, [])) => Some(message),
        Ok(_) | Err(_) => None,
    }
}

impl Said {
    /// An answer as it travels.
    ///
    /// # Errors
    /// `Broken` for an answer that no call to an account has.
    pub fn of(answer: Answer) -> Result<Self, StoreError> {
        Ok(match answer {
            Answer::Mailboxes(list) => Self::Mailboxes(list),
            Answer::Status(status) => Self::Status(status),
            Answer::Used(octets) => Self::Used(octets),
            Answer::Selected(selected, watch) => Self::Selected(selected, watch.borrow().at),
            Answer::Attached(watch) => Self::Attached(watch.borrow().at),
            Answer::Changes(changes) => Self::Changes(changes),
            Answer::Seen(seen, more) => Self::Seen(seen, more),
            Answer::Body(octets) => Self::Body(octets),
            Answer::Done(reply) => Self::Done(Made::of(reply)?),
            Answer::Checked(checked) => Self::Checked(checked),
            Answer::Swept(swept) => Self::Swept(swept),
        })
    }
}

impl Made {
    fn of(reply: Reply) -> Result<Self, StoreError> {
        Ok(match reply {
            Reply::Done => Self::Done,
            Reply::Created(id) => Self::Created(id),
            Reply::Appended { mailbox, uid_validity, uids, message_ids } => {
                Self::Appended { mailbox, uid_validity, uids, message_ids }
            }
            Reply::Stored { rows, modified } => Self::Stored { rows, modified },
            Reply::Expunged { uids, modseq } => Self::Expunged { uids, modseq },
            Reply::Copied(copied) => Self::Copied(copied),
            Reply::Principal(_)
            | Reply::Mailboxes(_)
            | Reply::Status(_)
            | Reply::Selected(_)
            | Reply::Changes(_)
            | Reply::Messages { .. }
            | Reply::Found(_)
            | Reply::Recipient(_) => {
                return Err(StoreError::Broken("a change was answered with something else".into()));
            }
        })
    }

    /// As the caller gets it.
    pub fn reply(self) -> Reply {
        match self {
            Self::Done => Reply::Done,
            Self::Created(id) => Reply::Created(id),
            Self::Appended { mailbox, uid_validity, uids, message_ids } => {
                Reply::Appended { mailbox, uid_validity, uids, message_ids }
            }
            Self::Stored { rows, modified } => Reply::Stored { rows, modified },
            Self::Expunged { uids, modseq } => Reply::Expunged { uids, modseq },
            Self::Copied(copied) => Reply::Copied(copied),
        }
    }
}

#[cfg(test)]
mod tests {
    use postroom_core::types::{AccountId, MailboxName};

    use super::*;
    use crate::mailbox::Ask;

    fn question() -> Question {
        let request = Request {
            account: AccountId([1; 16]),
            session: SessionId(7),
            transaction: TransactionId([2; 16]),
            quota: Some(10),
            ask: Ask::Select { name: MailboxName::inbox(), read_write: true },
        };
        Question::Call(request, true)
    }

    #[test]
    fn a_question_arrives_as_it_was_asked() {
        let octets = encode(&question()).unwrap();
        let arrived: Question = decode(&octets).unwrap();
        assert_eq!(format!("{arrived:?}"), format!("{:?}", question()));
    }

    #[test]
    fn what_is_cut_short_or_longer_is_no_message() {
        let octets = encode(&question()).unwrap();
        for length in 0..octets.len() {
            assert!(decode::<Question>(&octets[..length]).is_none(), "{length}");
        }
        assert!(decode::<Question>(&[&octets[..], &[0]].concat()).is_none());
    }
}
