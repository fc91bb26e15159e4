//! LIST, LSUB and STATUS: what is said of mailboxes that are not selected.

use crate::calls::MailboxStatus;
use crate::imap::command::{SpecialUse, StatusItem};
use crate::imap::object_id;
use crate::types::MailboxName;
use crate::types::name::DELIMITER;

use super::text::{mailbox, put};

/// An attribute of a mailbox in LIST (RFC 9051 §7.3.1, RFC 6154).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListAttribute {
    /// `\NonExistent`: only a level of other names, or a subscription without a mailbox. To clients
    /// that know RFC 5258 it says `\Noselect` too.
    NonExistent,
    /// `\Noselect`
    NoSelect,
    /// `\HasChildren`
    HasChildren,
    /// `\HasNoChildren`
    HasNoChildren,
    /// `\Marked`
    Marked,
    /// `\Unmarked`
    Unmarked,
    /// `\Subscribed`
    Subscribed,
    /// Its special use.
    Use(SpecialUse),
}

impl ListAttribute {
    fn name(&self) -> &str {
        match self {
            Self::NonExistent => "\\NonExistent",
            Self::NoSelect => "\\Noselect",
            Self::HasChildren => "\\HasChildren",
            Self::HasNoChildren => "\\HasNoChildren",
            Self::Marked => "\\Marked",
            Self::Unmarked => "\\Unmarked",
            Self::Subscribed => "\\Subscribed",
            Self::Use(special_use) => special_use.name(),
        }
    }
}

/// One line of LIST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListLine<'a> {
    /// Its attributes.
    pub attributes: &'a [ListAttribute],
    /// Its name.
    pub name: &'a MailboxName,
    /// Names below it match the selection option SUBSCRIBED, which it perhaps does not itself, and
    /// are not listed themselves (RFC 5258 §3.5, RECURSIVEMATCH).
    pub subscribed_below: bool,
}

/// Writes a LIST response.
pub fn list(out: &mut Vec<u8>, line: &ListLine<'_>) {
    named(out, "LIST", line.attributes, line.name);
    if line.subscribed_below {
        out.extend_from_slice(b" (\"CHILDINFO\" (\"SUBSCRIBED\"))");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an LSUB response.
pub fn lsub(out: &mut Vec<u8>, attributes: &[ListAttribute], name: &MailboxName) {
    named(out, "LSUB", attributes, name);
    out.extend_from_slice(b"\r\n");
}

/// Writes the answer to an empty pattern: the delimiter and the root of the reference
/// (RFC 9051 §6.3.9), which here is always the empty name.
pub fn list_delimiter(out: &mut Vec<u8>) {
    put!(out, "* LIST (\\Noselect) \"{DELIMITER}\" \"\"\r\n");
}

/// Writes a STATUS response with these items.
pub fn mailbox_status(
    out: &mut Vec<u8>,
    name: &MailboxName,
    status: &MailboxStatus,
    items: &[StatusItem],
) {
    out.extend_from_slice(b"* STATUS ");
    mailbox(out, name);
    out.extend_from_slice(b" (");
    for (i, item) in items.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"" } else { b" " });
        put!(out, "{} ", item.name());
        status_value(out, status, *item);
    }
    out.extend_from_slice(b")\r\n");
}

fn status_value(out: &mut Vec<u8>, status: &MailboxStatus, item: StatusItem) {
    match item {
        StatusItem::Messages => put!(out, "{}", status.messages),
        StatusItem::Recent => put!(out, "{}", status.recent),
        StatusItem::UidNext => put!(out, "{}", status.uid_next),
        StatusItem::UidValidity => put!(out, "{}", status.uid_validity),
        StatusItem::Unseen => put!(out, "{}", status.unseen),
        StatusItem::Deleted => put!(out, "{}", status.deleted),
        StatusItem::Size => put!(out, "{}", status.size),
        StatusItem::HighestModSeq => put!(out, "{}", status.highest_modseq),
        StatusItem::MailboxId => put!(out, "({})", object_id::mailbox_id(status.mailbox)),
    }
}

fn named(out: &mut Vec<u8>, word: &str, attributes: &[ListAttribute], name: &MailboxName) {
    let attributes: Vec<&str> = attributes.iter().map(ListAttribute::name).collect();
    put!(out, "* {word} ({}) \"{DELIMITER}\" ", attributes.join(" "));
    mailbox(out, name);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{MailboxId, ModSeq, Uid, UidValidity};

    fn check(write: impl FnOnce(&mut Vec<u8>), wire: &str) {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{wire}\r\n"));
    }

    #[test]
    fn list_lines_carry_attributes_and_encoded_names() {
        let name = MailboxName::new("Entwürfe/a b").unwrap();
        let attributes = [ListAttribute::HasNoChildren, ListAttribute::Use(SpecialUse::Drafts)];
        let mut line = ListLine { attributes: &attributes, name: &name, subscribed_below: false };
        check(|out| list(out, &line), r#"* LIST (\HasNoChildren \Drafts) "/" "Entw&APw-rfe/a b""#);
        line = ListLine { attributes: &[], subscribed_below: true, ..line };
        let wire = r#"* LIST () "/" "Entw&APw-rfe/a b" ("CHILDINFO" ("SUBSCRIBED"))"#;
        check(|out| list(out, &line), wire);
        let wire = r#"* LSUB (\NonExistent \Noselect) "/" INBOX"#;
        let attributes = [ListAttribute::NonExistent, ListAttribute::NoSelect];
        check(|out| lsub(out, &attributes, &MailboxName::inbox()), wire);
        check(list_delimiter, r#"* LIST (\Noselect) "/" """#);
    }

    #[test]
    fn status_answers_the_items_in_the_order_asked() {
        let status = MailboxStatus {
            mailbox: MailboxId::from_u128(255),
            messages: 1,
            recent: 2,
            unseen: 3,
            deleted: 4,
            size: 5,
            uid_next: Uid::new(6).unwrap(),
            uid_validity: UidValidity(7.try_into().unwrap()),
            highest_modseq: ModSeq(8),
        };
        let wire = "* STATUS INBOX (MESSAGES 1 RECENT 2 UIDNEXT 6 UIDVALIDITY 7 UNSEEN 3 \
                    DELETED 4 SIZE 5 HIGHESTMODSEQ 8 MAILBOXID (F000000000000000000000000000000ff))";
        let inbox = MailboxName::inbox();
        check(|out| mailbox_status(out, &inbox, &status, &StatusItem::ALL), wire);
        let items = [StatusItem::Unseen, StatusItem::Messages];
        let wire = "* STATUS INBOX (UNSEEN 3 MESSAGES 1)";
        check(|out| mailbox_status(out, &inbox, &status, &items), wire);
    }
}
