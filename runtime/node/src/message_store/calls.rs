//! Each call: what is decided here, and what goes on to the account.

use postroom_core::calls::{Call, NewMessage, Recipient, Reply};
use postroom_core::error::StoreError;
use postroom_core::mailbox::limits::{MAX_APPEND_MESSAGES, MAX_MESSAGE_OCTETS};
use postroom_core::mailbox::{Arrival, Target};
use postroom_core::mime::{Derived, thread};
use postroom_core::types::{AccountId, MailboxName, ThreadId, Timestamp, TransactionId};
use tokio::time::Instant;
use tracing::warn;

use crate::mailbox::{Answer, Ask, Request, Write, now};

use super::delivery::Arriving;
use super::derived::derive;
use super::limits::{FIRST_REPEAT, MAX_REPEATS};
use super::{MessageStore, SessionHandle};

/// Addresses of one header that a message's row takes: stores show them in lists, nothing is
/// answered from them.
const ROW_ADDRESSES: usize = 32;
/// Octets of one of them.
const ROW_ADDRESS_OCTETS: usize = 512;

/// Whose account a call is for.
pub(super) struct Asking<'a> {
    pub(super) session: &'a SessionHandle,
    pub(super) transaction: TransactionId,
    pub(super) account: AccountId,
    /// Of the account, for a call by which it grows.
    pub(super) quota: Option<u64>,
}

/// A call's name, for logs and metrics.
pub(super) fn name(call: &Call) -> &'static str {
    match call {
        Call::Login { .. } => "login",
        Call::Mailboxes => "mailboxes",
        Call::Create { .. } => "create",
        Call::Delete { .. } => "delete",
        Call::Rename { .. } => "rename",
        Call::Subscribe { .. } => "subscribe",
        Call::Status { .. } => "status",
        Call::Select { .. } => "select",
        Call::Deselect => "deselect",
        Call::Changes { .. } => "changes",
        Call::Fetch { .. } => "fetch",
        Call::Store { .. } => "store",
        Call::Expunge { .. } => "expunge",
        Call::Copy { .. } => "copy",
        Call::Move { .. } => "move",
        Call::Append { .. } => "append",
        Call::Search { .. } => "search",
        Call::ResolveRecipient { .. } => "resolve-recipient",
        Call::Deliver { .. } => "deliver",
    }
}

impl MessageStore {
    pub(super) async fn perform(
        &self,
        session: &SessionHandle,
        transaction: TransactionId,
        call: Call,
    ) -> Result<Reply, StoreError> {
        match call {
            Call::Login { user, password } => {
                self.inner.directory.log_in(&user, password).await.map(Reply::Principal)
            }
            Call::ResolveRecipient { address } => {
                self.resolve_recipient(session, transaction, &address).await
            }
            Call::Deliver { recipient, sender, body } => {
                self.deliver(session, transaction, Arriving { recipient, sender, body }).await
            }
            Call::Deselect => {
                session.leave();
                Ok(Reply::Done)
            }
            call => {
                let mut asking = self.asking(session, transaction)?;
                if grows(&call) {
                    let user = session.principal()?.user;
                    asking.quota = self.inner.directory.quota(&user).await?;
                }
                self.for_account(&asking, call).await
            }
        }
    }

    /// Who asks, by the session's login. The directory is not asked: whoever reads mail does not
    /// depend on it.
    pub(super) fn asking<'a>(
        &self,
        session: &'a SessionHandle,
        transaction: TransactionId,
    ) -> Result<Asking<'a>, StoreError> {
        let account = session.principal()?.account;
        Ok(Asking { session, transaction, account, quota: None })
    }

    async fn for_account(&self, asking: &Asking<'_>, call: Call) -> Result<Reply, StoreError> {
        match call {
            Call::Mailboxes => match self.ask(asking, Ask::Mailboxes).await? {
                Answer::Mailboxes(list) => Ok(Reply::Mailboxes(list.into())),
                _ => Err(mixed_up()),
            },
            Call::Status { name } => match self.ask(asking, Ask::Status(name)).await? {
                Answer::Status(status) => Ok(Reply::Status(status)),
                _ => Err(mixed_up()),
            },
            Call::Select { name, read_write } => self.select(asking, name, read_write).await,
            Call::Changes { since, known, released } => {
                match self.ask(asking, Ask::Changes { since, known, released }).await? {
                    Answer::Changes(changes) => {
                        asking.session.told(changes.upto);
                        Ok(Reply::Changes(changes))
                    }
                    _ => Err(mixed_up()),
                }
            }
            Call::Fetch { uids, want } => self.fetch(asking, uids, want).await,
            Call::Search { query } => self.search(asking, query).await,
            Call::Append { mailbox, messages } => {
                let until = self.write_deadline();
                self.append(asking, Target::Mailbox(mailbox), messages, until).await
            }
            call => self.write(asking, change(call)?, self.write_deadline()).await,
        }
    }

    async fn select(
        &self,
        asking: &Asking<'_>,
        name: MailboxName,
        read_write: bool,
    ) -> Result<Reply, StoreError> {
        asking.session.leave();
        match self.ask(asking, Ask::Select { name, read_write }).await? {
            Answer::Selected(selected, watch) => {
                asking.session.selected(watch, selected.status.highest_modseq);
                Ok(Reply::Selected(selected))
            }
            _ => Err(mixed_up()),
        }
    }

    /// Passes a call on to its account.
    pub(super) async fn ask(&self, asking: &Asking<'_>, ask: Ask) -> Result<Answer, StoreError> {
        let request = Request {
            account: asking.account,
            session: asking.session.id(),
            transaction: asking.transaction,
            quota: asking.quota,
            ask,
        };
        self.inner.router.call(request).await
    }

    /// Until when a write that begins now may take:
    /// [`limits::WRITE_DEADLINE`](super::limits::WRITE_DEADLINE).
    pub(super) fn write_deadline(&self) -> Instant {
        Instant::now() + self.inner.patience.write
    }

    /// Passes a write on; one whose outcome is not known is asked for again, which has its effect
    /// once. All of it until a deadline.
    pub(super) async fn write(
        &self,
        asking: &Asking<'_>,
        write: Write,
        until: Instant,
    ) -> Result<Reply, StoreError> {
        match tokio::time::timeout_at(until, self.repeated(asking, write)).await {
            Ok(result) => result,
            // What has begun goes on.
            Err(_) => Err(StoreError::UnknownOutcome),
        }
    }

    async fn repeated(&self, asking: &Asking<'_>, write: Write) -> Result<Reply, StoreError> {
        let (mut pause, mut unknown) = (FIRST_REPEAT, false);
        for _ in 0..MAX_REPEATS {
            match self.ask_once(asking, write.clone()).await {
                Err(error) if is_unknown(&error, unknown) => {
                    unknown = true;
                    warn!("the outcome is not known; asking again");
                    tokio::time::sleep(pause).await;
                    pause *= 4;
                }
                result => return result,
            }
        }
        match self.ask_once(asking, write).await {
            Err(error) if is_unknown(&error, unknown) => Err(StoreError::UnknownOutcome),
            result => result,
        }
    }

    async fn ask_once(&self, asking: &Asking<'_>, write: Write) -> Result<Reply, StoreError> {
        match self.ask(asking, Ask::Write(write)).await? {
            Answer::Done(reply) => Ok(reply),
            _ => Err(mixed_up()),
        }
    }

    /// Adds messages, with what is derived from them (E11).
    pub(super) async fn append(
        &self,
        asking: &Asking<'_>,
        target: Target,
        messages: Vec<NewMessage>,
        until: Instant,
    ) -> Result<Reply, StoreError> {
        if messages.len() > MAX_APPEND_MESSAGES {
            return Err(StoreError::Limit(format!("{MAX_APPEND_MESSAGES} messages at once")));
        }
        let mut arrivals = Vec::with_capacity(messages.len());
        for message in messages {
            if message.body.len() as u64 > MAX_MESSAGE_OCTETS {
                let text = format!("{MAX_MESSAGE_OCTETS} octets in one message");
                return Err(StoreError::Limit(text));
            }
            let derived = derive(message.body.clone()).await?;
            let arrival = Arrival {
                flags: message.flags,
                internal_date: message.internal_date.unwrap_or(Timestamp::utc(now())),
                size: message.body.len() as u64,
                thread_id: self.thread(&derived),
                from: for_row(derived.from),
                to: for_row(derived.to),
                cc: for_row(derived.cc),
                bcc: for_row(derived.bcc),
            };
            arrivals.push((arrival, message.body));
        }
        self.write(asking, Write::Append { target, messages: arrivals }, until).await
    }

    /// The conversation of a message: named after the oldest message that it refers to, so that it
    /// is found without looking anything up; a message that names none starts its own.
    fn thread(&self, derived: &Derived) -> ThreadId {
        let oldest = thread::candidates(derived).first().map(|id| thread::thread_of(id));
        oldest.unwrap_or_else(|| ThreadId(self.inner.mint.next()))
    }

    async fn resolve_recipient(
        &self,
        session: &SessionHandle,
        transaction: TransactionId,
        address: &str,
    ) -> Result<Reply, StoreError> {
        let found = self.inner.directory.resolve(address).await?;
        let account = found.user.account;
        if let Some(quota) = found.user.quota_octets {
            let asking = Asking { session, transaction, account, quota: Some(quota) };
            match self.ask(&asking, Ask::Used).await? {
                Answer::Used(octets) if octets >= quota => return Err(StoreError::OverQuota),
                Answer::Used(_) => {}
                _ => return Err(mixed_up()),
            }
        }
        let (user, folder) = (found.user.name.clone(), found.folder);
        Ok(Reply::Recipient(Recipient { account, user, folder }))
    }
}

/// Whether a session's call adds to what its account holds, and is held against its quota. A move
/// adds as much as it takes away.
fn grows(call: &Call) -> bool {
    match call {
        Call::Append { .. } | Call::Copy { .. } => true,
        // Not for the session's own account.
        Call::Deliver { .. } | Call::ResolveRecipient { .. } => false,
        Call::Login { .. }
        | Call::Mailboxes
        | Call::Create { .. }
        | Call::Delete { .. }
        | Call::Rename { .. }
        | Call::Subscribe { .. }
        | Call::Status { .. }
        | Call::Select { .. }
        | Call::Deselect
        | Call::Changes { .. }
        | Call::Fetch { .. }
        | Call::Store { .. }
        | Call::Expunge { .. }
        | Call::Move { .. }
        | Call::Search { .. } => false,
    }
}

/// A change that needs nothing but its account.
fn change(call: Call) -> Result<Write, StoreError> {
    Ok(match call {
        Call::Create { name, special_use } => Write::Create { name, special_use },
        Call::Delete { name } => Write::Delete(name),
        Call::Rename { from, to } => Write::Rename { from, to },
        Call::Subscribe { name, on } => Write::Subscribe { name, on },
        Call::Store { uids, change, unchanged_since } => {
            Write::Store { uids, change, unchanged_since }
        }
        Call::Expunge { uids } => Write::Expunge { uids },
        Call::Copy { uids, to } => Write::Copy { uids, to },
        Call::Move { uids, to } => Write::Move { uids, to },
        Call::Login { .. }
        | Call::Mailboxes
        | Call::Status { .. }
        | Call::Select { .. }
        | Call::Deselect
        | Call::Changes { .. }
        | Call::Fetch { .. }
        | Call::Append { .. }
        | Call::Search { .. }
        | Call::ResolveRecipient { .. }
        | Call::Deliver { .. } => return Err(mixed_up()),
    })
}

/// The addresses that a row takes.
fn for_row(addresses: Vec<String>) -> Vec<String> {
    let short = |mut address: String| {
        let end = (0..=ROW_ADDRESS_OCTETS.min(address.len()))
            .rev()
            .find(|end| address.is_char_boundary(*end));
        address.truncate(end.unwrap_or(0));
        address
    };
    addresses.into_iter().take(ROW_ADDRESSES).map(short).collect()
}

/// An account answered another question than it was asked.
pub(super) fn mixed_up() -> StoreError {
    StoreError::Broken("the account answered another question".into())
}

/// Whether a write may have its effect all the same. One that cannot be asked for now says nothing of the time
/// before, when its outcome was unknown.
fn is_unknown(error: &StoreError, before: bool) -> bool {
    match error {
        StoreError::UnknownOutcome => true,
        StoreError::Busy(_) | StoreError::Unavailable(_) | StoreError::Fenced => before,
        _ => false,
    }
}
