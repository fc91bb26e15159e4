//! The load: one caller that appends, delivers, flags, copies, moves and removes, and notes what it
//! is told.

use std::sync::{Mutex, MutexGuard, PoisonError};

use postroom_core::calls::{Call, NewMessage, Reply};
use postroom_core::error::StoreError;
use postroom_core::types::{
    Flag, FlagChange, FlagChangeKind, Flags, SystemFlag, Timestamp, Uid, UidSet,
};

use super::super::{Client, Random, mailbox};
use super::told::{ACCOUNTS, MAILBOXES, Place, Told, message};
use crate::message_store::MessageStore;

/// Steps of one caller, if power lasts.
const STEPS: u64 = 40;

type Done = Result<(), StoreError>;

/// One caller, with two sessions of its account.
pub struct Worker<'a> {
    store: &'a MessageStore,
    told: &'a Mutex<Told>,
    random: Random,
    name: String,
    account: &'static str,
}

/// Its sessions, and the last message that it has put into INBOX and neither copied nor moved.
struct Caller<'a> {
    told: &'a Mutex<Told>,
    account: &'static str,
    /// Has INBOX selected.
    inbox: Client<'a>,
    /// Has Bin selected.
    bin: Client<'a>,
    latest: Option<(Uid, String)>,
}

impl<'a> Worker<'a> {
    /// A caller with a name that no other has.
    pub fn new(
        store: &'a MessageStore,
        told: &'a Mutex<Told>,
        mut random: Random,
        name: String,
    ) -> Self {
        let account = random.pick(&ACCOUNTS);
        Self { store, told, random, name, account }
    }

    /// Works until something fails.
    pub async fn work(mut self) -> Done {
        let mut caller = self.begin().await?;
        for number in 0..STEPS {
            let attempt = format!("{}-{number}", self.name);
            let latest = caller.latest.clone();
            match (self.random.below(12), latest) {
                (0..=3, _) | (_, None) => caller.append(attempt).await?,
                (4..=5, _) => caller.deliver(attempt).await?,
                (6..=7, Some((uid, _))) => caller.flag(uid).await?,
                (8, Some((uid, attempt))) => caller.copy(uid, attempt).await?,
                (9, Some((uid, attempt))) => caller.move_away(uid, attempt).await?,
                (10, _) => caller.throw_away(attempt).await?,
                (_, Some(_)) => caller.look(self.random.pick(&MAILBOXES)).await?,
            }
        }
        Ok(())
    }

    async fn begin(&self) -> Result<Caller<'a>, StoreError> {
        let session = async || -> Result<Client<'a>, StoreError> {
            Ok(Client { store: self.store, session: self.store.session_of(self.account).await? })
        };
        let (inbox, bin) = (session().await?, session().await?);
        for name in &MAILBOXES[1..] {
            match inbox.call(Call::Create { name: mailbox(name), special_use: None }).await {
                Ok(_) | Err(StoreError::AlreadyExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for (client, name) in [(&inbox, "INBOX"), (&bin, "Bin")] {
            client.call(Call::Select { name: mailbox(name), read_write: true }).await?;
        }
        Ok(Caller { told: self.told, account: self.account, inbox, bin, latest: None })
    }
}

fn one(uid: Uid) -> UidSet {
    UidSet::range(uid, uid)
}

/// Another answer than the call has.
fn wrong(reply: &Reply) -> ! {
    panic!("{reply:?}")
}

impl Caller<'_> {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, name: &'static str) -> Place {
        (self.account, name)
    }

    /// An attempt's message has come into a mailbox.
    fn arrived(&self, name: &'static str, attempt: &str, reply: &Reply) -> Uid {
        let Reply::Appended { uid_validity, uids, .. } = reply else { wrong(reply) };
        let (place, uid) = (self.place(name), uids[0]);
        let mut told = self.told();
        told.gave_out(place, *uid_validity, uid);
        told.means(place, uid, attempt);
        told.placed.insert((place, uid), attempt.to_owned());
        told.acknowledged.insert((self.account, attempt.to_owned()));
        uid
    }

    async fn append_to(
        &self,
        name: &'static str,
        attempt: &str,
        flags: Flags,
    ) -> Result<Uid, StoreError> {
        self.told().attempts += 1;
        let internal_date = Some(Timestamp::utc(7));
        let messages = vec![NewMessage { flags, internal_date, body: message(attempt) }];
        let reply = self.inbox.call(Call::Append { mailbox: mailbox(name), messages }).await?;
        Ok(self.arrived(name, attempt, &reply))
    }

    async fn append(&mut self, attempt: String) -> Done {
        let uid = self.append_to("INBOX", &attempt, Flags::default()).await?;
        self.latest = Some((uid, attempt));
        Ok(())
    }

    async fn deliver(&self, attempt: String) -> Done {
        self.told().attempts += 1;
        let resolve = Call::ResolveRecipient { address: format!("{}@example.org", self.account) };
        let recipient = match self.inbox.call(resolve).await? {
            Reply::Recipient(recipient) => recipient,
            other => wrong(&other),
        };
        let deliver = Call::Deliver { recipient, sender: None, body: message(&attempt) };
        let reply = self.inbox.call(deliver).await?;
        self.arrived("INBOX", &attempt, &reply);
        Ok(())
    }

    async fn flag(&self, uid: Uid) -> Done {
        let flags = Flags::of([Flag::System(SystemFlag::Flagged)]);
        let change = FlagChange { kind: FlagChangeKind::Add, flags };
        let store = Call::Store { uids: one(uid), change, unchanged_since: None };
        let reply = self.inbox.call(store).await?;
        let Reply::Stored { rows, .. } = &reply else { wrong(&reply) };
        let place = self.place("INBOX");
        let mut told = self.told();
        told.flagged.insert((place, uid));
        told.changed(place, rows[0].modseq);
        Ok(())
    }

    /// An attempt's message is in another mailbox now.
    fn transferred(&self, to: &'static str, attempt: String, reply: &Reply) {
        let Reply::Copied(Some(copied)) = reply else { wrong(reply) };
        let (place, uid) = (self.place(to), copied.to.iter().next().expect("one was copied"));
        let mut told = self.told();
        told.gave_out(place, copied.uid_validity, uid);
        told.means(place, uid, &attempt);
        told.placed.insert((place, uid), attempt);
    }

    async fn copy(&mut self, uid: Uid, attempt: String) -> Done {
        self.latest = None;
        let copy = Call::Copy { uids: one(uid), to: mailbox("Copies") };
        let reply = self.inbox.call(copy).await?;
        self.transferred("Copies", attempt, &reply);
        Ok(())
    }

    async fn move_away(&mut self, uid: Uid, attempt: String) -> Done {
        self.latest = None;
        let at = (self.place("INBOX"), uid);
        {
            // From here on it may be in either mailbox, but it must be in one.
            let mut told = self.told();
            told.placed.remove(&at);
            told.flagged.remove(&at);
        }
        let moving = Call::Move { uids: one(uid), to: mailbox("Moved") };
        let reply = self.inbox.call(moving).await?;
        self.transferred("Moved", attempt, &reply);
        self.told().removed.insert(at);
        Ok(())
    }

    async fn throw_away(&self, attempt: String) -> Done {
        let flags = Flags::of([Flag::System(SystemFlag::Deleted)]);
        let uid = self.append_to("Bin", &attempt, flags).await?;
        let at = (self.place("Bin"), uid);
        {
            // From here on it may be gone.
            let mut told = self.told();
            told.placed.remove(&at);
            told.leaving.insert((self.account, attempt));
        }
        let reply = self.bin.call(Call::Expunge { uids: Some(one(uid)) }).await?;
        let Reply::Expunged { modseq, .. } = &reply else { wrong(&reply) };
        let mut told = self.told();
        told.removed.insert(at);
        told.changed(at.0, *modseq);
        Ok(())
    }

    async fn look(&self, name: &'static str) -> Done {
        let reply = self.inbox.call(Call::Status { name: mailbox(name) }).await?;
        let Reply::Status(status) = &reply else { wrong(&reply) };
        self.told().counts(self.place(name), status);
        Ok(())
    }
}
