//! Records between the kit's types, which are the WIT's, and the node's.

use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, MailboxRow, MessageChange, MessageRow, Property, UserRow};
use postroom_core::types::{
    AccountId, Flag, Flags, MailboxId, MailboxName, MessageId, ModSeq, ThreadId, Timestamp, Uid,
    UidValidity,
};
use postroom_kit::records as wit;

use crate::guest::{CheckPage, Finding, MessagePlace};

/// A record of the WIT that the node has under another type.
pub trait Row: wit::Record {
    /// The node's type.
    type Core: Clone + Send + 'static;
    /// Its name there.
    type CoreName: Clone + Send + 'static;

    /// To the node's.
    fn to_core(self) -> Self::Core;
    /// From the node's.
    fn from_core(row: Self::Core) -> Self;
    /// A name, to the node's.
    fn name_to_core(name: Self::Name) -> Self::CoreName;
    /// A name, from the node's.
    fn name_from_core(name: Self::CoreName) -> Self::Name;
}

const FITS: &str = "the contract's records fit the node's types";

/// An id, to the node's octets.
pub fn id(id: wit::Id) -> [u8; 16] {
    id.octets()
}

/// An id, from the node's octets.
pub fn wit_id(octets: [u8; 16]) -> wit::Id {
    wit::Id::from_octets(octets)
}

fn extra(extra: Vec<wit::Property>) -> Vec<Property> {
    extra.into_iter().map(|one| Property { name: one.name, value: one.value }).collect()
}

fn wit_extra(extra: Vec<Property>) -> Vec<wit::Property> {
    extra.into_iter().map(|one| wit::Property { name: one.name, value: one.value }).collect()
}

impl Row for wit::Domain {
    type Core = DomainRow;
    type CoreName = String;

    fn to_core(self) -> DomainRow {
        DomainRow { name: self.name, alias_of: self.alias_of, extra: extra(self.extra) }
    }

    fn from_core(row: DomainRow) -> Self {
        Self { name: row.name, alias_of: row.alias_of, extra: wit_extra(row.extra) }
    }

    fn name_to_core(name: String) -> String {
        name
    }

    fn name_from_core(name: String) -> String {
        name
    }
}

impl Row for wit::User {
    type Core = UserRow;
    type CoreName = String;

    fn to_core(self) -> UserRow {
        UserRow {
            name: self.name,
            account: self.account.map(|account| AccountId(id(account))),
            alias_of: self.alias_of,
            password: self.password,
            quota_octets: self.quota_octets,
            extra: extra(self.extra),
        }
    }

    fn from_core(row: UserRow) -> Self {
        Self {
            name: row.name,
            account: row.account.map(|account| wit_id(account.0)),
            alias_of: row.alias_of,
            password: row.password,
            quota_octets: row.quota_octets,
            extra: wit_extra(row.extra),
        }
    }

    fn name_to_core(name: String) -> String {
        name
    }

    fn name_from_core(name: String) -> String {
        name
    }
}

impl Row for wit::Mailbox {
    type Core = MailboxRow;
    type CoreName = MailboxId;

    fn to_core(self) -> MailboxRow {
        MailboxRow {
            id: MailboxId(id(self.id)),
            name: MailboxName::new(&self.name).expect(FITS),
            uid_validity: UidValidity(self.uid_validity.try_into().expect(FITS)),
            special_use: self.special_use,
            extra: extra(self.extra),
        }
    }

    fn from_core(row: MailboxRow) -> Self {
        Self {
            id: wit_id(row.id.0),
            name: row.name.into(),
            uid_validity: row.uid_validity.0.get(),
            special_use: row.special_use,
            extra: wit_extra(row.extra),
        }
    }

    fn name_to_core(name: wit::Id) -> MailboxId {
        MailboxId(id(name))
    }

    fn name_from_core(name: MailboxId) -> wit::Id {
        wit_id(name.0)
    }
}

/// A message, to the node's.
pub fn message(row: wit::Message) -> MessageRow {
    MessageRow {
        name: row.name,
        mailbox: MailboxId(id(row.mailbox)),
        uid: Uid::new(row.uid).expect(FITS),
        modseq: ModSeq(row.modseq),
        flags: flags(&row.flags),
        internal_date: Timestamp {
            seconds: row.internal_date.seconds,
            offset_minutes: row.internal_date.offset_minutes,
        },
        save_date: row.save_date,
        size: row.size,
        message_id: MessageId(id(row.message_id)),
        thread_id: ThreadId(id(row.thread_id)),
        from: row.from,
        to: row.to,
        cc: row.cc,
        bcc: row.bcc,
        extra: extra(row.extra),
    }
}

/// A message, from the node's.
pub fn wit_message(row: MessageRow) -> wit::Message {
    wit::Message {
        name: row.name,
        mailbox: wit_id(row.mailbox.0),
        uid: row.uid.get(),
        modseq: row.modseq.0,
        flags: wit_flags(&row.flags),
        internal_date: wit::Timestamp {
            seconds: row.internal_date.seconds,
            offset_minutes: row.internal_date.offset_minutes,
        },
        save_date: row.save_date,
        size: row.size,
        message_id: wit_id(row.message_id.0),
        thread_id: wit_id(row.thread_id.0),
        from: row.from,
        to: row.to,
        cc: row.cc,
        bcc: row.bcc,
        extra: wit_extra(row.extra),
    }
}

fn flags(texts: &[String]) -> Flags {
    Flags::of(texts.iter().map(|text| Flag::parse(text).expect(FITS)))
}

fn wit_flags(flags: &Flags) -> Vec<String> {
    flags.iter().map(|flag| flag.to_string()).collect()
}

/// A change of a message, to the node's.
pub fn change(change: wit::MessageChange) -> MessageChange {
    let MessagePlace { mailbox, uid } = place(change.place);
    MessageChange {
        mailbox,
        uid,
        modseq: ModSeq(change.modseq),
        flags: flags(&change.flags),
        extra: extra(change.extra),
    }
}

/// A change of a message, from the node's.
pub fn wit_change(change: MessageChange) -> wit::MessageChange {
    let MessageChange { mailbox, uid, modseq, flags, extra } = change;
    wit::MessageChange {
        place: wit_place(MessagePlace { mailbox, uid }),
        modseq: modseq.0,
        flags: wit_flags(&flags),
        extra: wit_extra(extra),
    }
}

/// A place, to the node's.
pub fn place(place: wit::MessagePlace) -> MessagePlace {
    MessagePlace { mailbox: MailboxId(id(place.mailbox)), uid: Uid::new(place.uid).expect(FITS) }
}

/// A place, from the node's.
pub fn wit_place(place: MessagePlace) -> wit::MessagePlace {
    wit::MessagePlace { mailbox: wit_id(place.mailbox.0), uid: place.uid.get() }
}

/// A page of a check, to the node's.
pub fn check_page(page: wit::CheckPage) -> CheckPage {
    let finding = |found: wit::Finding| Finding {
        name: found.name,
        problem: found.problem,
        repaired: found.repaired,
    };
    CheckPage {
        checked: page.checked,
        findings: page.findings.into_iter().map(finding).collect(),
        next: page.next,
    }
}

/// A page of a check, from the node's.
pub fn wit_check_page(page: CheckPage) -> wit::CheckPage {
    let finding = |found: Finding| wit::Finding {
        repaired: found.repaired,
        ..wit::Finding::new(found.name, found.problem)
    };
    wit::CheckPage {
        checked: page.checked,
        findings: page.findings.into_iter().map(finding).collect(),
        next: page.next,
        ..wit::CheckPage::empty()
    }
}

/// What the store said, before the node read it.
pub fn wit_error(error: StoreError) -> wit::StoreError {
    let text = error.to_string();
    match error {
        StoreError::NotFound(_) => wit::StoreError::NotFound(text),
        StoreError::AlreadyExists(_) => wit::StoreError::AlreadyExists(text),
        StoreError::Invalid(_) => wit::StoreError::Invalid(text),
        StoreError::Denied(_) | StoreError::Refused(_) => wit::StoreError::Denied(text),
        StoreError::Limit(_) | StoreError::OverQuota => wit::StoreError::Limit(text),
        StoreError::Busy(_) => wit::StoreError::Busy(text),
        StoreError::Unavailable(_) => wit::StoreError::Unavailable(text),
        StoreError::Damaged(_) => wit::StoreError::Damaged(text),
        StoreError::Unsupported(_) => wit::StoreError::Unsupported(text),
        StoreError::Broken(_)
        | StoreError::AuthenticationFailed
        | StoreError::Fenced
        | StoreError::UnknownOutcome => wit::StoreError::Other(text),
    }
}

/// What the node makes of a store's error.
pub fn error(error: wit::StoreError) -> StoreError {
    use wit::StoreError as Guest;
    match error {
        Guest::NotFound(text) => StoreError::NotFound(text),
        Guest::AlreadyExists(text) => StoreError::AlreadyExists(text),
        Guest::Invalid(text) => StoreError::Invalid(text),
        Guest::Denied(text) => StoreError::Denied(text),
        Guest::Limit(text) => StoreError::Limit(text),
        Guest::Busy(text) => StoreError::Busy(text),
        Guest::Unavailable(text) => StoreError::Unavailable(text),
        Guest::Damaged(text) => StoreError::Damaged(text),
        Guest::Unsupported(text) => StoreError::Unsupported(text),
        Guest::Other(text) => StoreError::Broken(text),
    }
}
