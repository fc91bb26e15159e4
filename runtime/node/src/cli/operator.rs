//! What an operator's commands need, whichever way they reach the mail: straight from a data folder
//! ([`super::local`]) or through a running node's admin API ([`super::remote`]). Blocking: a command
//! does one thing at a time.

use anyhow::Result;
use postroom_core::archive::ArchivedMessage;
use postroom_core::types::MailboxName;
use serde::{Deserialize, Serialize};

/// A user as commands print it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLine {
    /// Its name.
    pub name: String,
    /// Its account.
    pub account: String,
    /// Another user to whom this name's mail goes.
    pub alias_of: Option<String>,
    /// Whether it can log in.
    pub can_log_in: bool,
    /// Most octets of mail.
    pub quota_octets: Option<u64>,
}

/// A domain as commands print it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainLine {
    /// Its name.
    pub name: String,
    /// Another domain whose users this one's addresses mean.
    pub alias_of: Option<String>,
}

/// A mailbox as commands print it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxLine {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its special use, with backslash.
    pub special_use: Option<String>,
    /// Messages in it.
    pub messages: u32,
    /// Without `\Seen`.
    pub unseen: u32,
    /// Not yet claimed as recent.
    pub recent: u32,
    /// With `\Deleted`.
    pub deleted: u32,
    /// Octets.
    pub size: u64,
    /// The next UID.
    pub uid_next: u32,
    /// UIDVALIDITY.
    pub uid_validity: u32,
    /// The mod-sequence of the last change in it.
    pub highest_modseq: u64,
}

/// A user to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserToAdd {
    /// Its name.
    pub name: String,
    /// Its password; `None`: cannot log in.
    pub password: Option<String>,
    /// Another user to whom this name's mail goes.
    pub alias_of: Option<String>,
    /// Most octets of mail.
    pub quota_octets: Option<u64>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingLine {
    /// Kind of record.
    pub kind: String,
    /// Whose; `None` for the directory.
    pub account: Option<String>,
    /// Which.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
    /// Whether it was mended.
    pub repaired: bool,
}

/// What a check says while it goes on.
#[derive(Clone, Debug)]
pub enum CheckLine {
    /// So many more records were looked at.
    Checked(u64),
    /// Something is wrong.
    Finding(FindingLine),
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
    fn users(&mut self) -> Result<Vec<UserLine>>;
    /// Makes a user.
    fn add_user(&mut self, user: UserToAdd) -> Result<UserLine>;
    /// Sets a password.
    fn set_password(&mut self, user: &str, password: &str) -> Result<()>;
    /// Removes a user's name.
    fn remove_user(&mut self, user: &str) -> Result<()>;
    /// All domains, by name.
    fn domains(&mut self) -> Result<Vec<DomainLine>>;
    /// Makes a domain.
    fn add_domain(&mut self, name: &str, alias_of: Option<&str>) -> Result<DomainLine>;
    /// Removes a domain.
    fn remove_domain(&mut self, name: &str) -> Result<()>;
    /// A user's mailboxes, by name.
    fn mailboxes(&mut self, user: &str) -> Result<Vec<MailboxLine>>;
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
    /// Finishes; whatever was done is durable.
    fn close(self: Box<Self>) -> Result<()>;
}
