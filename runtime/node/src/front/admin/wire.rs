//! The JSON of the admin API, for both of its ends. Types with a password have no `Debug`.

use postroom_core::calls::{MailboxInfo, MailboxStatus, Secret};
use postroom_core::records::{DomainRow, UserRow};
use serde::{Deserialize, Serialize};

use crate::message_store;

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<R> {
    /// In order of their names.
    pub rows: Vec<R>,
    /// Whether more follow: ask again `after` the last name.
    pub more: bool,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its account. None for an alias, and while nobody has seen a user whom others keep.
    pub account: Option<String>,
    /// Another user to whom this name's mail goes.
    pub alias_of: Option<String>,
    /// Whether it can log in.
    pub can_log_in: bool,
    /// Most octets of mail.
    pub quota_octets: Option<u64>,
}

/// A user to be made.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// Its password; without: cannot log in.
    #[serde(default)]
    pub password: Option<String>,
    /// Another user to whom this name's mail goes.
    #[serde(default)]
    pub alias_of: Option<String>,
    /// Most octets of mail.
    #[serde(default)]
    pub quota_octets: Option<u64>,
}

/// A password to be set.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The password.
    pub password: String,
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its name.
    pub name: String,
    /// Another domain whose users this one's addresses mean.
    #[serde(default)]
    pub alias_of: Option<String>,
}

/// A mailbox with its counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
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

/// What an import has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// UIDs of the messages, in the order in which they were sent.
    pub uids: Vec<u32>,
}

/// One line of a check's answer. The last one is `Done` or `Failed`; an answer without it was cut
/// off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckLine {
    /// So many more records were looked at.
    Checked(u64),
    /// Something is wrong.
    Finding(Finding),
    /// There are more findings than an answer holds.
    LeftOut(u64),
    /// The check came to its end.
    Done,
    /// It did not.
    Failed(Failure),
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Kind of record.
    pub kind: String,
    /// Whose; without: of the directory.
    pub account: Option<String>,
    /// Which.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
    /// Whether it was mended.
    pub repaired: bool,
}

/// Why a request had no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A word for programs, such as `not-found`.
    pub kind: String,
    /// A line for people.
    pub error: String,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            name: row.name,
            account: row.account.map(|account| account.to_string()),
            can_log_in: row.password.is_some() && row.alias_of.is_none(),
            alias_of: row.alias_of,
            quota_octets: row.quota_octets,
        }
    }
}

impl From<NewUser> for message_store::NewUser {
    fn from(new: NewUser) -> Self {
        Self {
            name: new.name,
            password: new.password.map(Secret),
            alias_of: new.alias_of,
            quota_octets: new.quota_octets,
        }
    }
}

impl From<DomainRow> for Domain {
    fn from(row: DomainRow) -> Self {
        Self { name: row.name, alias_of: row.alias_of }
    }
}

impl From<(MailboxInfo, MailboxStatus)> for Mailbox {
    fn from((info, status): (MailboxInfo, MailboxStatus)) -> Self {
        Self {
            name: info.name.as_str().to_owned(),
            id: info.id.to_string(),
            special_use: info.special_use,
            messages: status.messages,
            unseen: status.unseen,
            recent: status.recent,
            deleted: status.deleted,
            size: status.size,
            uid_next: status.uid_next.get(),
            uid_validity: status.uid_validity.0.get(),
            highest_modseq: status.highest_modseq.0,
        }
    }
}

impl From<message_store::CheckFinding> for Finding {
    fn from(found: message_store::CheckFinding) -> Self {
        Self {
            kind: found.kind,
            account: found.account,
            name: found.name,
            problem: found.problem,
            repaired: found.repaired,
        }
    }
}
