//! What the layers above ask of an account, and its answers. Everything here can travel to another
//! node: no handles but the subscription to a mailbox's changes, which a link can feed.

use bytes::Bytes;
use postroom_core::calls::{Changes, MailboxList, MailboxStatus, Reply, Selected};
use postroom_core::mailbox::{Arrival, Seen, Target};
use postroom_core::types::{
    AccountId, FlagChange, MailboxName, ModSeq, SessionId, TransactionId, Uid, UidSet,
};
use tokio::sync::watch;

/// A call for one account.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which account.
    pub account: AccountId,
    /// For which session.
    pub session: SessionId,
    /// Under which id: a write has its effect once.
    pub transaction: TransactionId,
    /// The account's quota in octets, as the directory has it.
    pub quota: Option<u64>,
    /// What.
    pub ask: Ask,
}

/// What is asked. Those that need no name mean the session's active mailbox.
#[derive(Clone, Debug)]
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
    /// What has happened → [`Answer::Changes`].
    Changes {
        /// After this.
        since: ModSeq,
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
}

/// A change, as the call of the same name describes it.
#[derive(Clone, Debug)]
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
    /// The active mailbox, and the mod-sequence of its last change for who waits for the next one;
    /// [`DELETED`] when the mailbox is gone.
    Selected(Box<Selected>, watch::Receiver<ModSeq>),
    /// What has happened.
    Changes(Changes),
    /// Messages, ascending by UID, and whether there are more.
    Seen(Vec<Seen>, bool),
    /// Octets; `None` when the session does not see such a message.
    Body(Option<Bytes>),
    /// Done.
    Done(Reply),
}

/// What watchers of a mailbox see when it has been deleted.
pub const DELETED: ModSeq = ModSeq(u64::MAX);
