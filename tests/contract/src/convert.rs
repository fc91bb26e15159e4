//! Records between the SDK's types and the node's.

use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, MailboxRow, MessageChange, MessageRow, Property, UserRow};
use postroom_core::types::{
    AccountId, Flag, Flags, MailboxId, MailboxName, MessageId, ModSeq, ThreadId, Timestamp, Uid,
    UidValidity,
};
use postroom_guest as guest;
use postroom_node::guest::{CheckPage, Finding, MessagePlace};

/// A record of the SDK that the node has under another type.
pub trait Row: guest::Record {
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

pub(crate) fn id(id: guest::Id) -> [u8; 16] {
    id.octets()
}

pub(crate) fn guest_id(octets: [u8; 16]) -> guest::Id {
    guest::Id::from_octets(octets)
}

fn extra(extra: Vec<guest::Property>) -> Vec<Property> {
    extra.into_iter().map(|one| Property { name: one.name, value: one.value }).collect()
}

fn guest_extra(extra: Vec<Property>) -> Vec<guest::Property> {
    extra.into_iter().map(|one| guest::Property { name: one.name, value: one.value }).collect()
}

impl Row for guest::Domain {
    type Core = DomainRow;
    type CoreName = String;

    fn to_core(self) -> DomainRow {
        DomainRow { name: self.name, alias_of: self.alias_of, extra: extra(self.extra) }
    }

    fn from_core(row: DomainRow) -> Self {
        Self { name: row.name, alias_of: row.alias_of, extra: guest_extra(row.extra) }
    }

    fn name_to_core(name: String) -> String {
        name
    }

    fn name_from_core(name: String) -> String {
        name
    }
}

impl Row for guest::User {
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
            account: row.account.map(|account| guest_id(account.0)),
            alias_of: row.alias_of,
            password: row.password,
            quota_octets: row.quota_octets,
            extra: guest_extra(row.extra),
        }
    }

    fn name_to_core(name: String) -> String {
        name
    }

    fn name_from_core(name: String) -> String {
        name
    }
}

impl Row for guest::Mailbox {
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
            id: guest_id(row.id.0),
            name: row.name.into(),
            uid_validity: row.uid_validity.0.get(),
            special_use: row.special_use,
            extra: guest_extra(row.extra),
        }
    }

    fn name_to_core(name: guest::Id) -> MailboxId {
        MailboxId(id(name))
    }

    fn name_from_core(name: MailboxId) -> guest::Id {
        guest_id(name.0)
    }
}

/// A message, to the node's.
pub(crate) fn message(row: guest::Message) -> MessageRow {
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
pub(crate) fn guest_message(row: MessageRow) -> guest::Message {
    guest::Message {
        name: row.name,
        mailbox: guest_id(row.mailbox.0),
        uid: row.uid.get(),
        modseq: row.modseq.0,
        flags: guest_flags(&row.flags),
        internal_date: guest::Timestamp {
            seconds: row.internal_date.seconds,
            offset_minutes: row.internal_date.offset_minutes,
        },
        save_date: row.save_date,
        size: row.size,
        message_id: guest_id(row.message_id.0),
        thread_id: guest_id(row.thread_id.0),
        from: row.from,
        to: row.to,
        cc: row.cc,
        bcc: row.bcc,
        extra: guest_extra(row.extra),
    }
}

fn flags(texts: &[String]) -> Flags {
    Flags::of(texts.iter().map(|text| Flag::parse(text).expect(FITS)))
}

fn guest_flags(flags: &Flags) -> Vec<String> {
    flags.iter().map(|flag| flag.to_string()).collect()
}

/// A change of a message, to the node's.
pub(crate) fn change(change: guest::MessageChange) -> MessageChange {
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
pub(crate) fn guest_change(change: MessageChange) -> guest::MessageChange {
    let MessageChange { mailbox, uid, modseq, flags, extra } = change;
    guest::MessageChange {
        place: guest_place(MessagePlace { mailbox, uid }),
        modseq: modseq.0,
        flags: guest_flags(&flags),
        extra: guest_extra(extra),
    }
}

pub(crate) fn place(place: guest::MessagePlace) -> MessagePlace {
    MessagePlace { mailbox: MailboxId(id(place.mailbox)), uid: Uid::new(place.uid).expect(FITS) }
}

pub(crate) fn guest_place(place: MessagePlace) -> guest::MessagePlace {
    guest::MessagePlace { mailbox: guest_id(place.mailbox.0), uid: place.uid.get() }
}

pub(crate) fn check_page(page: guest::CheckPage) -> CheckPage {
    let finding = |found: guest::Finding| Finding {
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

pub(crate) fn guest_check_page(page: CheckPage) -> guest::CheckPage {
    let finding = |found: Finding| guest::Finding {
        repaired: found.repaired,
        ..guest::Finding::new(found.name, found.problem)
    };
    guest::CheckPage {
        checked: page.checked,
        findings: page.findings.into_iter().map(finding).collect(),
        next: page.next,
        ..guest::CheckPage::empty()
    }
}

/// What the store said, before the node read it.
pub(crate) fn guest_error(error: StoreError) -> guest::StoreError {
    let text = error.to_string();
    match error {
        StoreError::NotFound(_) => guest::StoreError::NotFound(text),
        StoreError::AlreadyExists(_) => guest::StoreError::AlreadyExists(text),
        StoreError::Invalid(_) => guest::StoreError::Invalid(text),
        StoreError::Denied(_) => guest::StoreError::Denied(text),
        StoreError::Limit(_) | StoreError::OverQuota => guest::StoreError::Limit(text),
        StoreError::Busy(_) => guest::StoreError::Busy(text),
        StoreError::Unavailable(_) => guest::StoreError::Unavailable(text),
        StoreError::Damaged(_) => guest::StoreError::Damaged(text),
        StoreError::Unsupported(_) => guest::StoreError::Unsupported(text),
        StoreError::Broken(_)
        | StoreError::AuthenticationFailed
        | StoreError::Fenced
        | StoreError::UnknownOutcome => guest::StoreError::Other(text),
    }
}

/// What the node makes of a store's error.
pub(crate) fn error(error: guest::StoreError) -> StoreError {
    use guest::StoreError as Guest;
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
