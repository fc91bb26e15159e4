//! What the admin API needs of the message store; a trait, so that it is tested without one.

use async_trait::async_trait;
use postroom_core::calls::{MailboxInfo, MailboxStatus, NewMessage, Secret};
use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, UserRow};
use postroom_core::types::{MailboxName, Uid};

use crate::guest::Page;
use crate::message_store::{CheckEvent, Export, ExportedMessage, MessageStore, NewUser};
use crate::router::{NodeStatus, SlotPlace};
use crate::storage::keeping::Backup;

/// The operators' part of the message store. Each function is described there.
#[async_trait]
pub trait Operations: Send + Sync {
    /// Users by name, after a name.
    async fn users(&self, after: Option<String>, limit: u32) -> Result<Page<UserRow>, StoreError>;
    /// Makes a user.
    async fn create_user(&self, user: NewUser) -> Result<UserRow, StoreError>;
    /// Sets a password.
    async fn set_password(&self, user: &str, password: Secret) -> Result<(), StoreError>;
    /// Removes a user's name.
    async fn remove_user(&self, user: &str) -> Result<(), StoreError>;
    /// Domains by name, after a name.
    async fn domains(
        &self,
        after: Option<String>,
        limit: u32,
    ) -> Result<Page<DomainRow>, StoreError>;
    /// Makes a domain.
    async fn create_domain(
        &self,
        name: &str,
        alias_of: Option<&str>,
    ) -> Result<DomainRow, StoreError>;
    /// Removes a domain.
    async fn remove_domain(&self, name: &str) -> Result<(), StoreError>;
    /// A user's mailboxes.
    async fn mailboxes_of(
        &self,
        user: &str,
    ) -> Result<Vec<(MailboxInfo, MailboxStatus)>, StoreError>;
    /// Makes a mailbox if it is not there.
    async fn ensure_mailbox(&self, user: &str, name: &MailboxName) -> Result<(), StoreError>;
    /// Adds messages, all or none.
    async fn import(
        &self,
        user: &str,
        mailbox: &MailboxName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Uid>, StoreError>;
    /// Reads a mailbox out.
    async fn export(
        &self,
        user: &str,
        mailbox: &MailboxName,
    ) -> Result<Box<dyn Exporting>, StoreError>;
    /// Checks everything.
    async fn check(
        &self,
        repair: bool,
        event: &mut (dyn FnMut(CheckEvent) + Send),
    ) -> Result<(), StoreError>;
    /// Holds everything against its checksums.
    async fn scrub(&self, event: &mut (dyn FnMut(CheckEvent) + Send)) -> Result<(), StoreError>;
    /// Begins a backup.
    async fn backup(&self) -> Result<Backup, StoreError>;
    /// The nodes of the cluster.
    fn nodes(&self) -> Result<Vec<NodeStatus>, StoreError> {
        Err(alone())
    }
    /// Which node has a user's mailboxes open.
    async fn place_of(&self, _user: &str) -> Result<SlotPlace, StoreError> {
        Err(alone())
    }
    /// Lets everything go that is open here; false: not in time.
    async fn drain(&self) -> Result<bool, StoreError> {
        Err(alone())
    }
}

/// What a node of its own says of its cluster.
pub fn alone() -> StoreError {
    StoreError::Unsupported(
        "this node is in no cluster (cluster.listen in its configuration)".into(),
    )
}

/// An export under way.
#[async_trait]
pub trait Exporting: Send {
    /// Messages when it began.
    fn total(&self) -> u64;
    /// The next message; `None` after the last one. After `Damaged` it goes on.
    async fn next(&mut self) -> Option<Result<ExportedMessage, StoreError>>;
}

#[async_trait]
impl Operations for MessageStore {
    async fn users(&self, after: Option<String>, limit: u32) -> Result<Page<UserRow>, StoreError> {
        self.users(after, limit).await
    }

    async fn create_user(&self, user: NewUser) -> Result<UserRow, StoreError> {
        self.create_user(user).await
    }

    async fn set_password(&self, user: &str, password: Secret) -> Result<(), StoreError> {
        self.set_password(user, password).await
    }

    async fn remove_user(&self, user: &str) -> Result<(), StoreError> {
        self.remove_user(user).await
    }

    async fn domains(
        &self,
        after: Option<String>,
        limit: u32,
    ) -> Result<Page<DomainRow>, StoreError> {
        self.domains(after, limit).await
    }

    async fn create_domain(
        &self,
        name: &str,
        alias_of: Option<&str>,
    ) -> Result<DomainRow, StoreError> {
        self.create_domain(name, alias_of).await
    }

    async fn remove_domain(&self, name: &str) -> Result<(), StoreError> {
        self.remove_domain(name).await
    }

    async fn mailboxes_of(
        &self,
        user: &str,
    ) -> Result<Vec<(MailboxInfo, MailboxStatus)>, StoreError> {
        self.mailboxes_of(user).await
    }

    async fn ensure_mailbox(&self, user: &str, name: &MailboxName) -> Result<(), StoreError> {
        self.ensure_mailbox(user, name).await
    }

    async fn import(
        &self,
        user: &str,
        mailbox: &MailboxName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Uid>, StoreError> {
        self.import(user, mailbox, messages).await
    }

    async fn export(
        &self,
        user: &str,
        mailbox: &MailboxName,
    ) -> Result<Box<dyn Exporting>, StoreError> {
        Ok(Box::new(self.export(user, mailbox).await?))
    }

    async fn check(
        &self,
        repair: bool,
        event: &mut (dyn FnMut(CheckEvent) + Send),
    ) -> Result<(), StoreError> {
        self.check(repair, event).await
    }

    async fn scrub(&self, event: &mut (dyn FnMut(CheckEvent) + Send)) -> Result<(), StoreError> {
        self.scrub(event).await
    }

    async fn backup(&self) -> Result<Backup, StoreError> {
        self.backup().await
    }

    fn nodes(&self) -> Result<Vec<NodeStatus>, StoreError> {
        Ok(self.cluster().ok_or_else(alone)?.status())
    }

    async fn place_of(&self, user: &str) -> Result<SlotPlace, StoreError> {
        let account = self.principal(user).await?.account;
        self.cluster().ok_or_else(alone)?.place_of(account).await
    }

    async fn drain(&self) -> Result<bool, StoreError> {
        Ok(self.cluster().ok_or_else(alone)?.drain().await)
    }
}

#[async_trait]
impl Exporting for Export {
    fn total(&self) -> u64 {
        self.total()
    }

    async fn next(&mut self) -> Option<Result<ExportedMessage, StoreError>> {
        self.next().await
    }
}
