//! What commands and the admin API need beyond [`super::MessageStore::call`].

use bytes::Bytes;
use postroom_core::calls::{
    Call, MailboxInfo, MailboxStatus, NewMessage, Principal, Reply, Secret,
};
use postroom_core::error::StoreError;
use postroom_core::mailbox::Seen;
use postroom_core::records::{DomainRow, UserRow};
use postroom_core::types::{Flags, MailboxName, MessageId, Timestamp, Uid, UidSet};

use crate::guest::Page;

use super::calls::mixed_up;
use super::limits::LIST_PAGE;
use super::{MessageStore, SessionHandle};

/// What a user is made from.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// `local@domain`, or `local` where there is no domain.
    pub name: String,
    /// `None`: cannot log in.
    pub password: Option<Secret>,
    /// Another user to whom this name's mail goes.
    pub alias_of: Option<String>,
    /// Most octets of mail; `None`: no limit.
    pub quota_octets: Option<u64>,
}

/// A message on its way out of the store.
#[derive(Clone, Debug)]
pub struct ExportedMessage {
    /// Its UID.
    pub uid: Uid,
    /// Its flags.
    pub flags: Flags,
    /// INTERNALDATE.
    pub internal_date: Timestamp,
    /// EMAILID.
    pub message_id: MessageId,
    /// Its octets as they were appended.
    pub body: Bytes,
}

/// The messages of one mailbox, one after the other, without holding them in memory.
pub struct Export {
    store: MessageStore,
    session: SessionHandle,
    page: std::vec::IntoIter<Seen>,
    /// Where the next page starts; `None`: this is the last one.
    next: Option<Uid>,
    total: u64,
}

impl Export {
    /// The next message by UID; `None` after the last one. After an error the next call goes on with
    /// the message after it.
    pub async fn next(&mut self) -> Option<Result<ExportedMessage, StoreError>> {
        loop {
            if let Some(seen) = self.page.next() {
                match self.read(seen).await {
                    Ok(None) => continue,
                    Ok(Some(message)) => return Some(Ok(message)),
                    Err(error) => return Some(Err(error)),
                }
            }
            let first = self.next.take()?;
            if let Err(error) = self.turn_page(first).await {
                return Some(Err(error));
            }
        }
    }

    /// Messages in the mailbox when the export began: for a progress bar.
    pub fn total(&self) -> u64 {
        self.total
    }

    async fn turn_page(&mut self, first: Uid) -> Result<(), StoreError> {
        let asking = self.store.asking(&self.session, self.store.transaction())?;
        let uids = UidSet::range(first, Uid::MAX);
        let (seen, more) = self.store.seen(&asking, uids, LIST_PAGE as usize).await?;
        self.next = seen.last().filter(|_| more).and_then(|seen| seen.facts.uid.next());
        self.page = seen.into_iter();
        Ok(())
    }

    async fn read(&self, seen: Seen) -> Result<Option<ExportedMessage>, StoreError> {
        let asking = self.store.asking(&self.session, self.store.transaction())?;
        let body = self.store.body(&asking, seen.facts.uid).await?;
        Ok(body.map(|body| ExportedMessage {
            uid: seen.facts.uid,
            flags: seen.flags,
            internal_date: seen.facts.internal_date,
            message_id: seen.facts.message_id,
            body,
        }))
    }
}

impl MessageStore {
    /// Domains by name, after a name.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn domains(
        &self,
        after: Option<String>,
        limit: u32,
    ) -> Result<Page<DomainRow>, StoreError> {
        self.inner.directory.domains(after, limit).await
    }

    /// Makes a domain, or an alias of another domain.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound` (what it is an alias of), `Invalid`.
    pub async fn create_domain(
        &self,
        name: &str,
        alias_of: Option<&str>,
    ) -> Result<DomainRow, StoreError> {
        self.inner.directory.create_domain(name, alias_of).await
    }

    /// Removes a domain without users.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` (while it has users).
    pub async fn remove_domain(&self, name: &str) -> Result<(), StoreError> {
        self.inner.directory.remove_domain(name).await
    }

    /// Users by name, after a name.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn users(
        &self,
        after: Option<String>,
        limit: u32,
    ) -> Result<Page<UserRow>, StoreError> {
        self.inner.directory.users(after, limit).await
    }

    /// Makes a user with a new account, or an alias.
    ///
    /// # Errors
    /// `AlreadyExists`, `NotFound` (its domain, or what it is an alias of), `Invalid`.
    pub async fn create_user(&self, user: NewUser) -> Result<UserRow, StoreError> {
        self.inner.directory.create_user(user).await
    }

    /// Sets a user's password.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn set_password(&self, user: &str, password: Secret) -> Result<(), StoreError> {
        self.inner.directory.set_password(user, password).await
    }

    /// Removes a user from the directory. Its account's mail stays in storage, out of reach. Also for
    /// a user whom others keep and have removed: whoever gets the name next gets a new account.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`; `Unsupported` for a user whom others still keep.
    pub async fn remove_user(&self, user: &str) -> Result<(), StoreError> {
        self.inner.directory.remove_user(user).await
    }

    /// The user of this name (aliases resolved; in dev mode it appears), without a password: for
    /// commands of the operator.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn principal(&self, user: &str) -> Result<Principal, StoreError> {
        self.inner.directory.principal(user).await
    }

    /// A session of this user, without a password.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn session_of(&self, user: &str) -> Result<SessionHandle, StoreError> {
        let principal = self.principal(user).await?;
        let session = self.session();
        session.log_in(principal);
        Ok(session)
    }

    async fn operator(&self, session: &SessionHandle, call: Call) -> Result<Reply, StoreError> {
        self.call(session, self.transaction(), call).await
    }

    /// A user's mailboxes by name, with their counts.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn mailboxes_of(
        &self,
        user: &str,
    ) -> Result<Vec<(MailboxInfo, MailboxStatus)>, StoreError> {
        let session = self.session_of(user).await?;
        let Reply::Mailboxes(list) = self.operator(&session, Call::Mailboxes).await? else {
            return Err(mixed_up());
        };
        let mut mailboxes = Vec::with_capacity(list.mailboxes.len());
        for info in &list.mailboxes {
            let status = Call::Status { name: info.name.clone() };
            match self.operator(&session, status).await {
                Ok(Reply::Status(status)) => mailboxes.push((info.clone(), status)),
                Ok(_) => return Err(mixed_up()),
                // Deleted meanwhile.
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(mailboxes)
    }

    /// Makes a mailbox (and missing levels above) if it is not there.
    ///
    /// # Errors
    /// `NotFound` (the user), `Invalid`, `Limit`.
    pub async fn ensure_mailbox(&self, user: &str, name: &MailboxName) -> Result<(), StoreError> {
        let session = self.session_of(user).await?;
        let create = Call::Create { name: name.clone(), special_use: None };
        match self.operator(&session, create).await {
            Ok(_) | Err(StoreError::AlreadyExists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Adds messages to a user's mailbox, all or none.
    ///
    /// # Errors
    /// `NotFound`, `OverQuota`, `Limit`.
    pub async fn import(
        &self,
        user: &str,
        mailbox: &MailboxName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Uid>, StoreError> {
        let session = self.session_of(user).await?;
        let append = Call::Append { mailbox: mailbox.clone(), messages };
        match self.operator(&session, append).await? {
            Reply::Appended { uids, .. } => Ok(uids),
            _ => Err(mixed_up()),
        }
    }

    /// Reads a user's mailbox out.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`.
    pub async fn export(&self, user: &str, mailbox: &MailboxName) -> Result<Export, StoreError> {
        let session = self.session_of(user).await?;
        let select = Call::Select { name: mailbox.clone(), read_write: false };
        let Reply::Selected(selected) = self.operator(&session, select).await? else {
            return Err(mixed_up());
        };
        let total = u64::from(selected.status.messages);
        let page = Vec::new().into_iter();
        Ok(Export { store: self.clone(), session, page, next: Some(Uid::MIN), total })
    }
}
