//! What an operator's commands need, whichever way they reach the mail: straight from a data folder
//! ([`super::local`]) or through a running node's admin API ([`super::remote`]). Blocking: a command
//! does one thing at a time.

use anyhow::Result;
use postroom_core::archive::ArchivedMessage;
use postroom_core::types::MailboxName;

use crate::front::admin::wire::{Domain, Finding, Mailbox, NewUser, User};
use crate::storage::keeping::BackupPiece;

/// What a check says while it goes on.
#[derive(Clone, Debug)]
pub enum CheckLine {
    /// So many more records were looked at.
    Checked(u64),
    /// Something is wrong.
    Finding(Finding),
    /// So many more things are wrong than could be told.
    LeftOut(u64),
}

/// What an export says of one message.
pub enum Exported {
    /// Messages to come, said once and first.
    Total(u64),
    /// A message.
    Message(ArchivedMessage),
    /// A message that could not be read; the export goes on.
    Damaged(String),
}

/// What an operator's commands can do.
pub trait Operator {
    /// All users, by name.
    fn users(&mut self) -> Result<Vec<User>>;
    /// Makes a user.
    fn add_user(&mut self, user: NewUser) -> Result<User>;
    /// Sets a password.
    fn set_password(&mut self, user: &str, password: &str) -> Result<()>;
    /// Removes a user's name.
    fn remove_user(&mut self, user: &str) -> Result<()>;
    /// All domains, by name.
    fn domains(&mut self) -> Result<Vec<Domain>>;
    /// Makes a domain.
    fn add_domain(&mut self, name: &str, alias_of: Option<&str>) -> Result<Domain>;
    /// Removes a domain.
    fn remove_domain(&mut self, name: &str) -> Result<()>;
    /// A user's mailboxes, by name.
    fn mailboxes(&mut self, user: &str) -> Result<Vec<Mailbox>>;
    /// Makes a mailbox if it is not there.
    fn ensure_mailbox(&mut self, user: &str, mailbox: &MailboxName) -> Result<()>;
    /// Adds messages to a mailbox, all or none.
    fn import(
        &mut self,
        user: &str,
        mailbox: &MailboxName,
        messages: Vec<ArchivedMessage>,
    ) -> Result<()>;
    /// Reads a mailbox out, ascending by UID; stops at the first error of `take`.
    fn export(
        &mut self,
        user: &str,
        mailbox: &MailboxName,
        take: &mut dyn FnMut(Exported) -> Result<()>,
    ) -> Result<()>;
    /// Checks everything.
    fn check(&mut self, repair: bool, take: &mut dyn FnMut(CheckLine)) -> Result<()>;
    /// Holds everything against its checksums; octets for records.
    fn scrub(&mut self, take: &mut dyn FnMut(CheckLine)) -> Result<()>;
    /// Copies everything, up to and with [`BackupPiece::Done`]; stops at the first error of `take`.
    fn backup(&mut self, take: &mut dyn FnMut(BackupPiece) -> Result<()>) -> Result<()>;
    /// Finishes; whatever was done is durable.
    fn close(self: Box<Self>) -> Result<()>;
}
