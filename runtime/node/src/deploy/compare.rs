//! Holds what two versions of a component read of the same mail against each other: a version that
//! answers politely and wrongly traps nowhere.

use std::sync::Arc;

use postroom_core::error::StoreError;
use postroom_core::records::{MailboxRow, MessageRow};
use postroom_core::types::{AccountId, MailboxId, TransactionId};

use crate::guest::{CallInfo, Kind, Messages, Page, Part, Records, StoreComponent};
use crate::mailbox::{error::read, random};
use crate::storage::{Engine, Space, View};

/// Accounts that are looked at before a version serves. Each costs some reads of each version.
pub(super) const ACCOUNTS: usize = 20;
/// Mailboxes of one account.
const MAILBOXES: usize = 4;
/// Messages of one mailbox.
const MESSAGES: u32 = 100;
/// Octets of one message.
const OCTETS: u64 = 64 << 10;
/// Times that an account is looked at again because it changed meanwhile, or could not be read for now; a busy
/// one is passed over then.
const MAX_LOOKS: usize = 3;

/// What one version reads of an account.
#[derive(PartialEq)]
struct Reading {
    mailboxes: Result<Page<MailboxRow>, StoreError>,
    messages: Vec<Result<Page<MessageRow>, StoreError>>,
    bodies: Vec<Result<Option<Octets>, StoreError>>,
}

/// The octets of a part, or what tells them from others.
#[derive(PartialEq)]
enum Octets {
    Digest([u8; 32]),
    Plain(bytes::Bytes),
}

/// Two versions over one engine.
pub(super) struct Comparison<'a> {
    pub(super) engine: &'a Arc<dyn Engine>,
    pub(super) kinds: &'a [Kind],
    pub(super) old: &'a StoreComponent,
    pub(super) new: &'a StoreComponent,
}

impl Comparison<'_> {
    /// Compares so many accounts after one; where they differ, in one line, and the last account.
    pub(super) async fn of_accounts(
        &self,
        after: Option<AccountId>,
        most: usize,
    ) -> Result<(Option<String>, Option<AccountId>), StoreError> {
        let after = after.map_or(Space::Directory, Space::Account);
        let spaces = read(self.engine.spaces(Some(after), most)).await?;
        let accounts = spaces.into_iter().filter_map(|space| match space {
            Space::Account(account) => Some(account),
            Space::Directory => None,
        });
        let mut last = None;
        for account in accounts {
            last = Some(account);
            if let Some(differs) = self.of_account(account).await? {
                return Ok((Some(differs), last));
            }
        }
        Ok((None, last))
    }

    async fn of_account(&self, account: AccountId) -> Result<Option<String>, StoreError> {
        let space = Space::Account(account);
        for look in 1..=MAX_LOOKS {
            let before = read(self.engine.head(space)).await?;
            let (old, new) =
                (self.reading(self.old, account).await, self.reading(self.new, account).await);
            if read(self.engine.head(space)).await? != before {
                continue;
            }
            if old.is_kept_out() || new.is_kept_out() {
                continue;
            }
            // That the new one alone is not available, time after time, is its own doing.
            if old.is_without_storage() || new.is_without_storage() && look < MAX_LOOKS {
                continue;
            }
            return Ok(differs(account, &old, &new));
        }
        Ok(None)
    }

    async fn reading(&self, store: &StoreComponent, account: AccountId) -> Reading {
        let call = CallInfo::new(account, TransactionId(random()));
        let view = View::new(self.engine.clone(), Space::Account(account));
        let keeps = |kind| self.kinds.contains(&kind);
        let mailboxes = match keeps(Kind::Mailboxes) {
            true => {
                let all = Records::<MailboxRow, MailboxId>::list(store, call, &view, None, 1_000);
                all.await
            }
            false => Ok(Page { rows: Vec::new(), more: false }),
        };
        let (mut messages, mut bodies) = (Vec::new(), Vec::new());
        let rows = mailboxes.iter().flat_map(|page| page.rows.iter());
        for mailbox in rows.take(MAILBOXES).filter(|_| keeps(Kind::Messages)) {
            let page = Messages::list(store, call, &view, mailbox.id, None, MESSAGES).await;
            if let Some(last) = page.as_ref().ok().and_then(|page| page.rows.last()) {
                let name = last.name.clone();
                let part = store.fetch(call, &view, mailbox.id, name, 0, OCTETS).await;
                bodies.push(part.map(|part| part.map(Octets::of)));
            }
            messages.push(page);
        }
        Reading { mailboxes, messages, bodies }
    }
}

impl Reading {
    fn errors(&self) -> impl Iterator<Item = &StoreError> {
        let mailboxes = self.mailboxes.as_ref().err().into_iter();
        let messages = self.messages.iter().filter_map(|page| page.as_ref().err());
        mailboxes.chain(messages).chain(self.bodies.iter().filter_map(|body| body.as_ref().err()))
    }

    /// Whether something was not read because others had all places.
    fn is_kept_out(&self) -> bool {
        self.errors().any(|error| matches!(error, StoreError::Busy(_)))
    }

    /// Whether something was not read because it was not available, as when storage is away.
    fn is_without_storage(&self) -> bool {
        self.errors().any(|error| matches!(error, StoreError::Unavailable(_)))
    }
}

impl Octets {
    fn of(part: Part) -> Self {
        match part {
            Part::Octets(octets) => Self::Plain(octets),
            Part::Body(body) => Self::Digest(body.digest()),
        }
    }
}

fn differs(account: AccountId, old: &Reading, new: &Reading) -> Option<String> {
    // What neither can read says nothing about the new one.
    if old == new || old.mailboxes.is_err() {
        return None;
    }
    let what = match (&new.mailboxes, new.messages.iter().find_map(|page| page.as_ref().err())) {
        (Err(error), _) => format!("its mailboxes cannot be read: {error}"),
        (_, Some(error)) => format!("its messages cannot be read: {error}"),
        _ if old.mailboxes != new.mailboxes => "its mailboxes are other ones".to_owned(),
        _ if old.messages != new.messages => "its messages are other ones".to_owned(),
        _ => "its messages have other octets".to_owned(),
    };
    Some(format!("account {account} is not read as before: {what}"))
}
