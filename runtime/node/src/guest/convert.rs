//! Rows between core's types and the WIT's.
//!
//! Going out nothing can fail. Coming back everything is checked: a guest can answer anything, and
//! what breaks the interface's promises is [`StoreError::Broken`], never believed and never a panic.

use std::collections::HashSet;

use postroom_core::error::StoreError;
use postroom_core::records::{DomainRow, MailboxRow, MessageChange, MessageRow, Property, UserRow};
use postroom_core::types::{
    AccountId, Flag, Flags, MailboxId, MailboxName, MessageId, ModSeq, ThreadId, Timestamp,
    TransactionId, Uid, UidValidity,
};

use super::api::{CallInfo, CheckPage, Finding, MessagePlace};
use super::bindings::postroom::store::types as wit;

/// Longest name of a domain or user in octets: RFC 5321 §4.5.3.1 and slack.
const MAX_NAME_OCTETS: usize = 512;
/// Longest password verifier in octets: a PHC string has some 100.
const MAX_PASSWORD_OCTETS: usize = 1024;
/// Longest special use in octets.
const MAX_SPECIAL_USE_OCTETS: usize = 64;
/// Longest message name in octets, as the WIT says.
const MAX_MESSAGE_NAME_OCTETS: usize = 64;
/// Most octets of all addresses and properties of one row: what one stored value can hold.
const MAX_ROW_OCTETS: usize = crate::storage::MAX_VALUE_OCTETS;
/// Most properties of one row.
const MAX_PROPERTIES: usize = 256;
/// Largest mod-sequence (RFC 7162 §3.1.4).
const MAX_MODSEQ: u64 = i64::MAX as u64;
/// Most findings of one page of a check.
const MAX_FINDINGS: usize = 4096;
/// Longest text of an error or a finding that is passed on, in characters.
const MAX_TEXT_CHARS: usize = 500;

/// The promise was broken in this way.
pub(super) fn broken(what: impl std::fmt::Display) -> StoreError {
    StoreError::Broken(what.to_string())
}

/// This promise of the WIT was broken in this way; of two words where it is the interface's.
pub(super) fn breaks(promise: &str, what: impl std::fmt::Display) -> StoreError {
    broken(format_args!("[{promise}] {what}"))
}

/// A row, from the guest: the host gave no other than such as it takes.
fn row<R: Convert>(row: R::Wit) -> Result<R, StoreError> {
    R::from_wit(row).map_err(|error| match error {
        StoreError::Broken(what) => breaks("store.rule.7", what),
        other => other,
    })
}

/// A record that the WIT has too, with the name it is found by.
pub(super) trait Convert: Sized + Send + 'static {
    /// Its WIT type.
    type Wit: Send + Sync + Clone + 'static;
    /// Its name.
    type Name: Ord + Clone + Send + Sync + 'static;
    /// The WIT type of its name.
    type WitName: Send + Sync + Clone + 'static;

    /// To the guest.
    fn to_wit(self) -> Self::Wit;
    /// From the guest: checked.
    fn from_wit(row: Self::Wit) -> Result<Self, StoreError>;
    /// Its name.
    fn name(&self) -> Self::Name;
    /// A name, to the guest.
    fn name_to_wit(name: Self::Name) -> Self::WitName;
}

impl Convert for DomainRow {
    type Wit = wit::Domain;
    type Name = String;
    type WitName = String;

    fn to_wit(self) -> wit::Domain {
        wit::Domain { name: self.name, alias_of: self.alias_of, extra: properties(self.extra) }
    }

    fn from_wit(row: wit::Domain) -> Result<Self, StoreError> {
        Ok(Self {
            name: plain_name(row.name)?,
            alias_of: row.alias_of.map(plain_name).transpose()?,
            extra: checked_properties(row.extra)?,
        })
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn name_to_wit(name: String) -> String {
        name
    }
}

impl Convert for UserRow {
    type Wit = wit::User;
    type Name = String;
    type WitName = String;

    fn to_wit(self) -> wit::User {
        wit::User {
            name: self.name,
            account: self.account.map(|account| id(account.0)),
            alias_of: self.alias_of,
            password: self.password,
            quota_octets: self.quota_octets,
            extra: properties(self.extra),
        }
    }

    fn from_wit(row: wit::User) -> Result<Self, StoreError> {
        let password = row.password.map(|text| bounded(text, MAX_PASSWORD_OCTETS, "a password"));
        Ok(Self {
            name: plain_name(row.name)?,
            account: row.account.map(account).transpose()?,
            alias_of: row.alias_of.map(plain_name).transpose()?,
            password: password.transpose()?,
            quota_octets: row.quota_octets,
            extra: checked_properties(row.extra)?,
        })
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn name_to_wit(name: String) -> String {
        name
    }
}

fn account(id: wit::Id) -> Result<AccountId, StoreError> {
    match AccountId(octets(id)) {
        AccountId::NONE => Err(broken("an account id is zero")),
        account => Ok(account),
    }
}

impl Convert for MailboxRow {
    type Wit = wit::Mailbox;
    type Name = MailboxId;
    type WitName = wit::Id;

    fn to_wit(self) -> wit::Mailbox {
        wit::Mailbox {
            id: id(self.id.0),
            name: self.name.into(),
            uid_validity: self.uid_validity.0.get(),
            special_use: self.special_use,
            extra: properties(self.extra),
        }
    }

    fn from_wit(row: wit::Mailbox) -> Result<Self, StoreError> {
        let name = MailboxName::new(&row.name).map_err(broken)?;
        if name.as_str() != row.name {
            return Err(broken("a mailbox name came back changed"));
        }
        let validity = row.uid_validity.try_into().map_err(|_| broken("UIDVALIDITY is zero"))?;
        if row.special_use.as_ref().is_some_and(|text| !text.starts_with('\\')) {
            return Err(broken("a special use has no backslash"));
        }
        let use_ = row.special_use.map(|text| bounded(text, MAX_SPECIAL_USE_OCTETS, "a use"));
        Ok(Self {
            id: MailboxId(octets(row.id)),
            name,
            uid_validity: UidValidity(validity),
            special_use: use_.transpose()?,
            extra: checked_properties(row.extra)?,
        })
    }

    fn name(&self) -> MailboxId {
        self.id
    }

    fn name_to_wit(name: MailboxId) -> wit::Id {
        id(name.0)
    }
}

impl Convert for MessageRow {
    type Wit = wit::Message;
    type Name = MessagePlace;
    type WitName = wit::MessagePlace;

    fn to_wit(self) -> wit::Message {
        wit::Message {
            name: self.name,
            mailbox: id(self.mailbox.0),
            uid: self.uid.get(),
            modseq: self.modseq.0,
            flags: flag_texts(&self.flags),
            internal_date: wit::Timestamp {
                seconds: self.internal_date.seconds,
                offset_minutes: self.internal_date.offset_minutes,
            },
            save_date: self.save_date,
            size: self.size,
            message_id: id(self.message_id.0),
            thread_id: id(self.thread_id.0),
            from: self.from,
            to: self.to,
            cc: self.cc,
            bcc: self.bcc,
            extra: properties(self.extra),
        }
    }

    fn from_wit(row: wit::Message) -> Result<Self, StoreError> {
        let lists = [&row.from, &row.to, &row.cc, &row.bcc];
        let addresses: usize = lists.into_iter().flatten().map(String::len).sum();
        if addresses > MAX_ROW_OCTETS {
            return Err(broken("the addresses of a message are longer than a row can be"));
        }
        if row.modseq > MAX_MODSEQ {
            return Err(broken("a mod-sequence is above 2^63 - 1"));
        }
        Ok(Self {
            name: message_name(row.name)?,
            mailbox: MailboxId(octets(row.mailbox)),
            uid: Uid::new(row.uid).ok_or_else(|| broken("a UID is zero"))?,
            modseq: ModSeq(row.modseq),
            flags: flags(&row.flags)?,
            internal_date: timestamp(row.internal_date)?,
            save_date: row.save_date,
            size: row.size,
            message_id: MessageId(octets(row.message_id)),
            thread_id: ThreadId(octets(row.thread_id)),
            from: row.from,
            to: row.to,
            cc: row.cc,
            bcc: row.bcc,
            extra: checked_properties(row.extra)?,
        })
    }

    fn name(&self) -> MessagePlace {
        MessagePlace { mailbox: self.mailbox, uid: self.uid }
    }

    fn name_to_wit(place: MessagePlace) -> wit::MessagePlace {
        wit::MessagePlace { mailbox: id(place.mailbox.0), uid: place.uid.get() }
    }
}

/// A change of a message, to the guest.
pub(super) fn change(change: MessageChange) -> wit::MessageChange {
    let MessageChange { mailbox, uid, modseq, flags, extra } = change;
    wit::MessageChange {
        place: MessageRow::name_to_wit(MessagePlace { mailbox, uid }),
        modseq: modseq.0,
        flags: flag_texts(&flags),
        extra: properties(extra),
    }
}

/// What every call carries.
pub(super) fn call(info: CallInfo) -> wit::Call {
    let TransactionId(transaction) = info.transaction;
    let schema = info.schema.map(|schema| wit::Property {
        name: "schema".to_owned(),
        value: schema.to_string().into_bytes(),
    });
    let migrate = wit::Property { name: "migrate".to_owned(), value: Vec::new() };
    let extra = schema.into_iter().chain(info.migrate.then_some(migrate)).collect();
    wit::Call { account: id(info.account.0), transaction: id(transaction), extra }
}

/// An id, to the guest.
pub(super) fn id(octets: [u8; 16]) -> wit::Id {
    let number = u128::from_be_bytes(octets);
    // Both halves are exact: that is what a half is.
    wit::Id { high: (number >> 64) as u64, low: number as u64 }
}

fn octets(id: wit::Id) -> [u8; 16] {
    (u128::from(id.high) << 64 | u128::from(id.low)).to_be_bytes()
}

/// What a guest's error means to the caller.
pub(super) fn error(error: wit::StoreError) -> StoreError {
    match error {
        wit::StoreError::NotFound(text) => StoreError::NotFound(line(&text)),
        wit::StoreError::AlreadyExists(text) => StoreError::AlreadyExists(line(&text)),
        wit::StoreError::Invalid(text) => StoreError::Invalid(line(&text)),
        wit::StoreError::Denied(text) => StoreError::Denied(line(&text)),
        wit::StoreError::Limit(text) => StoreError::Limit(line(&text)),
        wit::StoreError::Busy(text) => StoreError::Busy(line(&text)),
        wit::StoreError::Unavailable(text) => StoreError::Unavailable(line(&text)),
        wit::StoreError::Damaged(text) => StoreError::Damaged(line(&text)),
        wit::StoreError::Unsupported(text) => StoreError::Unsupported(line(&text)),
        wit::StoreError::Other(text) => StoreError::Broken(line(&text)),
    }
}

/// The rows of these names, in their order: as many, each of its name.
pub(super) fn selected<R: Convert>(
    names: &[R::Name],
    rows: Vec<Option<R::Wit>>,
) -> Result<Vec<Option<R>>, StoreError> {
    if rows.len() != names.len() {
        let (asked, got) = (names.len(), rows.len());
        let what = format_args!("select of {asked} names answered {got} rows");
        return Err(breaks("select.1", what));
    }
    let checked = rows.into_iter().zip(names).map(|(row, name)| {
        let row = row.map(self::row::<R>).transpose()?;
        match row.as_ref().is_some_and(|row| row.name() != *name) {
            true => Err(breaks("select.1", "select answered another record than it was asked for")),
            false => Ok(row),
        }
    });
    checked.collect()
}

/// A page of rows: ascending, after the cursor, no more than asked for, never `more` of nothing.
pub(super) fn listed<R: Convert>(
    after: Option<R::Name>,
    limit: u32,
    rows: Vec<R::Wit>,
    more: bool,
) -> Result<Vec<R>, StoreError> {
    if rows.len() > limit as usize {
        return Err(breaks("list.3", "list answered more rows than it was asked for"));
    }
    if more && rows.is_empty() {
        return Err(breaks("page.1", "list says that more rows follow none"));
    }
    let rows = rows.into_iter().map(row::<R>).collect::<Result<Vec<_>, _>>()?;
    let mut last = after;
    for row in &rows {
        let name = row.name();
        if last.as_ref().is_some_and(|last| *last >= name) {
            return Err(breaks("list.1", "list answered rows out of order"));
        }
        last = Some(name);
    }
    Ok(rows)
}

/// A page of a check.
pub(super) fn checked(after: Option<&str>, page: wit::CheckPage) -> Result<CheckPage, StoreError> {
    if page.findings.len() > MAX_FINDINGS {
        return Err(broken(format_args!("check answered more than {MAX_FINDINGS} findings")));
    }
    if page.next.is_some() && page.next.as_deref() == after {
        let what = "check answered the cursor that it was given: it would never end";
        return Err(breaks("check.3", what));
    }
    let finding = |found: wit::Finding| Finding {
        name: line(&found.name),
        problem: line(&found.problem),
        repaired: found.repaired,
    };
    let findings = page.findings.into_iter().map(finding).collect();
    Ok(CheckPage { checked: page.checked, findings, next: page.next })
}

/// A guest's text as it is passed on: one line, not too long.
pub(super) fn line(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_TEXT_CHARS).collect()
}

fn plain_name(name: String) -> Result<String, StoreError> {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !c.is_ascii_uppercase();
    if name.is_empty() || !name.chars().all(plain) {
        return Err(broken("a name is empty, has white space or capitals"));
    }
    bounded(name, MAX_NAME_OCTETS, "a name")
}

fn message_name(name: String) -> Result<String, StoreError> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(allowed) {
        return Err(broken("a message name has other characters than the host's"));
    }
    bounded(name, MAX_MESSAGE_NAME_OCTETS, "a message name")
}

fn bounded(text: String, most: usize, what: &str) -> Result<String, StoreError> {
    match text.len() <= most {
        true => Ok(text),
        false => Err(broken(format_args!("{what} has more than {most} octets"))),
    }
}

fn flag_texts(flags: &Flags) -> Vec<String> {
    flags.iter().map(|flag| flag.to_string()).collect()
}

fn flags(texts: &[String]) -> Result<Flags, StoreError> {
    let most = postroom_core::types::flags::MAX_KEYWORDS_PER_MESSAGE + 8;
    if texts.len() > most {
        return Err(broken(format_args!("a message has more than {most} flags")));
    }
    let parse = |text: &String| {
        Flag::parse(text).ok_or_else(|| broken(format_args!("{:?} is no flag", line(text))))
    };
    Ok(Flags::of(texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?))
}

fn timestamp(time: wit::Timestamp) -> Result<Timestamp, StoreError> {
    let time = Timestamp { seconds: time.seconds, offset_minutes: time.offset_minutes };
    if !(-1439..=1439).contains(&time.offset_minutes) || time.local().is_none() {
        return Err(broken("a date is outside the calendar"));
    }
    Ok(time)
}

fn properties(extra: Vec<Property>) -> Vec<wit::Property> {
    extra.into_iter().map(|p| wit::Property { name: p.name, value: p.value }).collect()
}

fn checked_properties(extra: Vec<wit::Property>) -> Result<Vec<Property>, StoreError> {
    let octets: usize = extra.iter().map(|p| p.name.len() + p.value.len()).sum();
    if extra.len() > MAX_PROPERTIES || octets > MAX_ROW_OCTETS {
        return Err(broken("a row has more properties than it can have"));
    }
    let names: HashSet<&str> = extra.iter().map(|p| p.name.as_str()).collect();
    if names.len() != extra.len() {
        return Err(broken("a row has a property twice"));
    }
    Ok(extra.into_iter().map(|p| Property { name: p.name, value: p.value }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_id_of_zero_is_no_account_but_a_broken_promise() {
        let user = |account| wit::User {
            name: "anna".to_owned(),
            account,
            alias_of: None,
            password: None,
            quota_octets: None,
            extra: Vec::new(),
        };
        let read = |account| UserRow::from_wit(user(account)).map(|row| row.account);
        assert_eq!(read(None), Ok(None));
        assert_eq!(read(Some(id([7; 16]))), Ok(Some(AccountId([7; 16]))));
        assert_eq!(read(Some(id([0; 16]))), Err(broken("an account id is zero")));
    }
}
