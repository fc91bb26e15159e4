//! Delivery of what an MTA hands in: hooks are asked (E18), the message is committed (E10), hooks
//! are told.
//!
//! Hooks are asked once for a delivery, before the first attempt to write: however often the write is
//! repeated, what they said stays the same. Until all of them have accepted nothing is kept, so a hook
//! that fails costs nothing but time: the MTA comes again.

use std::sync::Arc;

use bytes::Bytes;
use postroom_core::calls::{NewMessage, Recipient, Reply};
use postroom_core::error::StoreError;
use postroom_core::hook::{Changes, Delivered, Delivery, Verdict};
use postroom_core::mailbox::Target;
use postroom_core::types::{Flags, MailboxName, TransactionId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug_span, info, warn};

use crate::guest::{CallInfo, Hook, Hooks};
use crate::mailbox::{Answer, Ask, random};
use crate::storage::{Body, Engine, Space, StorageError, View};

use super::calls::{Asking, mixed_up};
use super::derived::off_threads;
use super::limits::{HOOKS_SHARE, LARGE_MESSAGE, MAX_UNTOLD, TELLING_PATIENCE};
use super::{MessageStore, SessionHandle};

/// A message as the MTA has handed it in.
pub(super) struct Arriving {
    pub(super) recipient: Recipient,
    pub(super) sender: Option<String>,
    pub(super) body: Bytes,
}

/// The hooks of this node.
pub(super) struct DeliveryHooks {
    /// In the order in which they are asked.
    all: Hooks,
    /// Deliveries of which they are being told.
    telling: TaskTracker,
    room: Arc<Semaphore>,
}

/// A message on its way through the hooks.
struct Passing<'a> {
    delivery: Delivery,
    target: Target,
    body: Bytes,
    /// Among all who hold large messages, once this is a copy of one.
    turn: Option<SemaphorePermit<'a>>,
}

impl MessageStore {
    pub(super) async fn deliver(
        &self,
        session: &SessionHandle,
        transaction: TransactionId,
        arriving: Arriving,
    ) -> Result<Reply, StoreError> {
        let until = self.write_deadline();
        let quota = self.inner.directory.quota(&arriving.recipient.user).await?;
        let asking = Asking { session, transaction, account: arriving.recipient.account, quota };
        if self.inner.hooks.all.is_empty() || self.has_happened(&asking).await? {
            let target = Target::Delivery(arriving.recipient.folder);
            return self.append(&asking, target, vec![message(arriving.body)], until).await;
        }
        let time = self.inner.patience.write / HOOKS_SHARE;
        let asked = tokio::time::timeout(time, self.ask_hooks(&asking, arriving)).await;
        let passing = asked.unwrap_or_else(|_| {
            warn!("the hooks did not answer in time; the delivery is put off");
            Err(StoreError::Unavailable("the hooks did not answer in time".into()))
        })?;
        let Passing { delivery, target, body, turn: _turn } = passing;
        let reply = self.append(&asking, target, vec![message(body)], until).await?;
        let view = self.account_view(&asking);
        self.inner.hooks.tell(call_info(&asking), view, delivered(delivery, &reply)?);
        Ok(reply)
    }

    /// Whether a transaction has had its effect: a caller who repeats it hears what it came to, and
    /// hooks hear of it no more.
    async fn has_happened(&self, asking: &Asking<'_>) -> Result<bool, StoreError> {
        let space = Space::Account(asking.account);
        let found = self.inner.engine.transaction(space, asking.transaction).await;
        let away = |error: StorageError| StoreError::Unavailable(error.to_string());
        Ok(found.map_err(away)?.is_some())
    }

    /// Asks each hook in its order about what the one before it has left.
    async fn ask_hooks(
        &self,
        asking: &Asking<'_>,
        arriving: Arriving,
    ) -> Result<Passing<'_>, StoreError> {
        let Arriving { recipient, sender, body } = arriving;
        let mailbox = self.destination(asking, recipient.folder.as_ref()).await?;
        let size = body.len() as u64;
        let delivery = Delivery { sender, user: recipient.user, mailbox, size };
        let target = Target::Delivery(recipient.folder);
        let mut passing = Passing { delivery, target, body, turn: None };
        for hook in &self.inner.hooks.all {
            match self.ask_hook(asking, &**hook, &passing).await? {
                Verdict::Accept(changes) => self.change(&mut passing, changes).await?,
                Verdict::Refuse(text) => {
                    info!(hook = hook.name(), text, "a hook refuses a delivery");
                    return Err(StoreError::Refused(text));
                }
            }
        }
        Ok(passing)
    }

    /// The mailbox that mail for this folder goes to.
    async fn destination(
        &self,
        asking: &Asking<'_>,
        folder: Option<&MailboxName>,
    ) -> Result<MailboxName, StoreError> {
        let Some(folder) = folder else { return Ok(MailboxName::inbox()) };
        match self.ask(asking, Ask::Status(folder.clone())).await {
            Ok(Answer::Status(_)) => Ok(folder.clone()),
            Err(StoreError::NotFound(_)) => Ok(MailboxName::inbox()),
            Ok(_) => Err(mixed_up()),
            Err(error) => Err(error),
        }
    }

    /// One hook's verdict. Whatever goes wrong with it is temporary for the MTA: the fault is not the
    /// mail's.
    async fn ask_hook(
        &self,
        asking: &Asking<'_>,
        hook: &dyn Hook,
        passing: &Passing<'_>,
    ) -> Result<Verdict, StoreError> {
        let (view, body) = (self.account_view(asking), unlinked(passing.body.clone()).await?);
        let asked = hook.before_delivery(call_info(asking), &view, &passing.delivery, body);
        let verdict = asked.await;
        count("before-delivery", hook, outcome(&verdict));
        verdict.map_err(|error| {
            warn!(hook = hook.name(), %error, "a hook has failed; the delivery is put off");
            match error.is_temporary() {
                true => error,
                false => StoreError::Broken(format!("hook {}: {error}", hook.name())),
            }
        })
    }

    async fn change<'a>(
        &'a self,
        passing: &mut Passing<'a>,
        changes: Changes,
    ) -> Result<(), StoreError> {
        if let Some(mailbox) = changes.mailbox {
            passing.delivery.mailbox = mailbox.clone();
            passing.target = Target::Filed(mailbox);
        }
        if !changes.fields.is_empty() {
            if passing.body.len() >= LARGE_MESSAGE && passing.turn.is_none() {
                passing.turn = Some(self.heavy_turn(passing.body.len() as u64).await?);
            }
            passing.body = changes.fields.before(&passing.body);
            passing.delivery.size = passing.body.len() as u64;
        }
        Ok(())
    }

    fn account_view(&self, asking: &Asking<'_>) -> View {
        let engine: Arc<dyn Engine> = self.inner.engine.clone();
        View::new(engine, Space::Account(asking.account))
    }
}

impl DeliveryHooks {
    pub(super) fn new(hooks: Hooks) -> Self {
        Self { all: hooks, telling: TaskTracker::new(), room: Arc::new(Semaphore::new(MAX_UNTOLD)) }
    }

    /// Tells the hooks of a delivery, one after the other, while its caller goes on.
    fn tell(&self, call: CallInfo, view: View, delivered: Delivered) {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            self.all.iter().for_each(|hook| count("after-delivery", &**hook, "untold"));
            warn!("hooks are not told of a delivery: too many are to be told");
            return;
        };
        let hooks = self.all.clone();
        let span = debug_span!("tell_hooks", transaction = %call.transaction);
        self.telling.spawn(tell_each(hooks, call, view, delivered, room).instrument(span));
    }

    /// Waits for what hooks are still being told, but not for ever.
    pub(super) async fn close(&self) {
        self.telling.close();
        if tokio::time::timeout(TELLING_PATIENCE, self.telling.wait()).await.is_err() {
            warn!(deliveries = self.telling.len(), "hooks are not told of some deliveries");
        }
    }
}

async fn tell_each(
    hooks: Hooks,
    call: CallInfo,
    view: View,
    delivered: Delivered,
    _room: OwnedSemaphorePermit,
) {
    for hook in &hooks {
        let told = hook.after_delivery(call, &view, &delivered).await;
        count("after-delivery", &**hook, if told.is_ok() { "ok" } else { "failed" });
        if let Err(error) = told {
            warn!(hook = hook.name(), %error, "a hook has failed after a delivery");
        }
    }
}

fn outcome(verdict: &Result<Verdict, StoreError>) -> &'static str {
    match verdict {
        Ok(Verdict::Accept(_)) => "ok",
        Ok(Verdict::Refuse(_)) => "refused",
        Err(_) => "failed",
    }
}

fn count(function: &'static str, hook: &dyn Hook, outcome: &'static str) {
    let labels = [
        ("function", function.to_owned()),
        ("hook", hook.name().to_owned()),
        ("outcome", outcome.to_owned()),
    ];
    metrics::counter!("postroom_hooks_total", &labels).increment(1);
}

fn call_info(asking: &Asking<'_>) -> CallInfo {
    CallInfo::new(asking.account, asking.transaction)
}

fn message(body: Bytes) -> NewMessage {
    NewMessage { flags: Flags::default(), internal_date: None, body }
}

/// Octets that a hook can read, and that no commit will ever link.
async fn unlinked(octets: Bytes) -> Result<Body, StoreError> {
    let hashed = octets.clone();
    let digest = match octets.len() < LARGE_MESSAGE {
        true => blake3::hash(&hashed),
        false => off_threads(move || blake3::hash(&hashed)).await?,
    };
    Ok(Body::Inline { key: random(), octets, digest: *digest.as_bytes() })
}

/// What was delivered, by the answer to the one message that was appended.
fn delivered(delivery: Delivery, reply: &Reply) -> Result<Delivered, StoreError> {
    let Reply::Appended { mailbox, uid_validity, uids, message_ids } = reply else {
        return Err(mixed_up());
    };
    let (Some(uid), Some(message_id)) = (uids.first(), message_ids.first()) else {
        return Err(mixed_up());
    };
    let (mailbox, uid_validity, uid) = (*mailbox, *uid_validity, *uid);
    Ok(Delivered { delivery, mailbox, uid_validity, uid, message_id: *message_id })
}
