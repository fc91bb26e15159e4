//! Their commands in our words.

use imap_codec::imap_types::auth::AuthMechanism;
use imap_codec::imap_types::command::{
    Command as TheirCommand, CommandBody as Their, FetchModifier, SelectParameter, StoreModifier,
};
use imap_codec::imap_types::core::{AString, Charset, IString};
use imap_codec::imap_types::datetime::NaiveDate;
use imap_codec::imap_types::extensions::binary::LiteralOrLiteral8;
use imap_codec::imap_types::fetch::{
    Macro, MacroOrMessageDataItemNames, MessageDataItemName as Item, Part, Section as TheirSection,
};
use imap_codec::imap_types::flag::{Flag as TheirFlag, StoreResponse, StoreType};
use imap_codec::imap_types::mailbox::{ListMailbox, Mailbox};
use imap_codec::imap_types::search::SearchKey as Key;
use imap_codec::imap_types::sequence::{SeqOrUid, Sequence, SequenceSet as TheirSet};
use imap_codec::imap_types::status::StatusDataItemName;

use crate::imap::command::*;
use crate::imap::list_match::ListPattern;
use crate::imap::utf7;
use crate::types::{
    Flag, FlagChange, FlagChangeKind, Flags, MailboxName, ModSeq, SystemFlag, Timestamp,
};

/// What a command asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Meaning {
    Append(AppendHead),
    Other(Command),
}

/// Forgets what they do not tell apart.
pub(super) fn normal(command: Command) -> Command {
    let body = match command.body {
        CommandBody::Id(Some(pairs)) if pairs.is_empty() => CommandBody::Id(None),
        body => body,
    };
    Command { body, ..command }
}

/// `None` for what this server does not offer, and for mailbox names that it does not take.
pub(super) fn meaning(theirs: &TheirCommand<'_>) -> Option<Meaning> {
    let tag = Tag::new(theirs.tag.inner())?;
    if let Their::Append { mailbox, flags: their_flags, date, message } = &theirs.body {
        return Some(Meaning::Append(AppendHead {
            tag,
            mailbox: name(mailbox)?,
            flags: flags(their_flags)?,
            internal_date: date.as_ref().map(|date| {
                let date = date.as_ref();
                let offset_minutes = i16::try_from(date.offset().local_minus_utc() / 60).unwrap();
                Timestamp { seconds: date.timestamp(), offset_minutes }
            }),
            literal: literal(message),
        }));
    }
    Some(Meaning::Other(normal(Command { tag, body: body(&theirs.body)? })))
}

fn literal(message: &LiteralOrLiteral8<'_>) -> LiteralHeader {
    use imap_codec::imap_types::core::LiteralMode;
    let (octets, mode, binary) = match message {
        LiteralOrLiteral8::Literal(literal) => (literal.data().len(), literal.mode(), false),
        LiteralOrLiteral8::Literal8(literal) => (literal.data.len(), literal.mode, true),
    };
    let non_sync = mode == LiteralMode::NonSync;
    LiteralHeader { octets: octets as u64, non_sync, binary }
}

fn body(theirs: &Their<'_>) -> Option<CommandBody> {
    Some(match theirs {
        Their::Capability => CommandBody::Capability,
        Their::Noop => CommandBody::Noop,
        Their::Logout => CommandBody::Logout,
        Their::StartTLS => CommandBody::StartTls,
        Their::Check => CommandBody::Check,
        Their::Close => CommandBody::Close,
        Their::Unselect => CommandBody::Unselect,
        Their::Expunge => CommandBody::Expunge,
        Their::Idle => CommandBody::Idle,
        Their::ExpungeUid { sequence_set } => CommandBody::UidExpunge(set(sequence_set)),
        Their::Search { charset, criteria, uid } => CommandBody::Search(Search {
            numbering: numbering(*uid),
            returns: None,
            charset: charset.as_ref().map(|charset| match charset {
                Charset::Atom(atom) => atom.inner().to_owned(),
                Charset::Quoted(quoted) => quoted.inner().to_owned(),
            }),
            key: keys(criteria.as_ref())?,
        }),
        Their::Fetch { sequence_set, macro_or_item_names, uid, modifiers } => {
            CommandBody::Fetch(Fetch {
                numbering: numbering(*uid),
                set: set(sequence_set),
                items: items(macro_or_item_names)?,
                changed_since: changed_since(modifiers)?,
            })
        }
        Their::Store { sequence_set, kind, response, flags, uid, modifiers } => {
            let kind = match kind {
                StoreType::Replace => FlagChangeKind::Replace,
                StoreType::Add => FlagChangeKind::Add,
                StoreType::Remove => FlagChangeKind::Remove,
            };
            CommandBody::Store(Store {
                numbering: numbering(*uid),
                set: set(sequence_set),
                unchanged_since: modifiers
                    .last()
                    .map(|StoreModifier::UnchangedSince(n)| ModSeq(*n)),
                change: FlagChange { kind, flags: self::flags(flags)? },
                silent: *response == StoreResponse::Silent,
            })
        }
        Their::Copy { sequence_set, mailbox, uid } => {
            CommandBody::Copy(transfer(sequence_set, mailbox, *uid)?)
        }
        Their::Move { sequence_set, mailbox, uid } => {
            CommandBody::Move(transfer(sequence_set, mailbox, *uid)?)
        }
        other => return access(other).or_else(|| about_mailboxes(other)),
    })
}

fn access(theirs: &Their<'_>) -> Option<CommandBody> {
    Some(match theirs {
        Their::Login { username, password } => CommandBody::Login {
            user: String::from_utf8(octets(username)).ok()?,
            password: SecretOctets(octets(password.declassify())),
        },
        Their::Authenticate { mechanism, initial_response } => CommandBody::Authenticate {
            mechanism: mechanism_name(mechanism),
            initial: initial_response.as_ref().map(|r| SecretOctets(r.declassify().to_vec())),
        },
        Their::Id { parameters } => CommandBody::Id(parameters.as_ref().map(|pairs| {
            let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
            let key = |key: &IString<'_>| text(&key.clone().into_inner());
            pairs.iter().map(|(k, v)| (key(k), v.0.as_ref().map(key))).collect()
        })),
        Their::Enable { capabilities } => CommandBody::Enable(
            capabilities.as_ref().iter().map(|word| word.to_string().to_uppercase()).collect(),
        ),
        _ => return None,
    })
}

fn mechanism_name(mechanism: &AuthMechanism<'_>) -> String {
    mechanism.to_string().to_uppercase()
}

fn about_mailboxes(theirs: &Their<'_>) -> Option<CommandBody> {
    let condstore = |parameters: &[SelectParameter]| {
        let known = parameters.iter().all(|p| matches!(p, SelectParameter::CondStore));
        known.then_some(!parameters.is_empty())
    };
    Some(match theirs {
        Their::Select { mailbox, parameters } => {
            CommandBody::Select { mailbox: name(mailbox)?, condstore: condstore(parameters)? }
        }
        Their::Examine { mailbox, parameters } => {
            CommandBody::Examine { mailbox: name(mailbox)?, condstore: condstore(parameters)? }
        }
        Their::Create { mailbox } => {
            let text = text_of(mailbox)?;
            let mailbox = MailboxName::new(text.strip_suffix('/').unwrap_or(&text)).ok()?;
            CommandBody::Create { mailbox, special_use: vec![] }
        }
        Their::Delete { mailbox } => CommandBody::Delete(name(mailbox)?),
        Their::Subscribe { mailbox } => CommandBody::Subscribe(name(mailbox)?),
        Their::Unsubscribe { mailbox } => CommandBody::Unsubscribe(name(mailbox)?),
        Their::Rename { from, to } => CommandBody::Rename { from: name(from)?, to: name(to)? },
        Their::List { reference, mailbox_wildcard } => CommandBody::List(List {
            reference: list_pattern(text_of(reference))?,
            patterns: vec![pattern(mailbox_wildcard)?],
            ..List::default()
        }),
        Their::Lsub { reference, mailbox_wildcard } => CommandBody::Lsub {
            reference: list_pattern(text_of(reference))?,
            pattern: pattern(mailbox_wildcard)?,
        },
        Their::Status { mailbox, item_names } => {
            let mut items = Vec::new();
            for item in item_names.iter().map(status_item) {
                let item = item?;
                if !items.contains(&item) {
                    items.push(item);
                }
            }
            (!items.is_empty()).then_some(CommandBody::Status { mailbox: name(mailbox)?, items })?
        }
        _ => return None,
    })
}

fn status_item(theirs: &StatusDataItemName) -> Option<StatusItem> {
    Some(match theirs {
        StatusDataItemName::Messages => StatusItem::Messages,
        StatusDataItemName::Recent => StatusItem::Recent,
        StatusDataItemName::UidNext => StatusItem::UidNext,
        StatusDataItemName::UidValidity => StatusItem::UidValidity,
        StatusDataItemName::Unseen => StatusItem::Unseen,
        StatusDataItemName::Deleted => StatusItem::Deleted,
        StatusDataItemName::HighestModSeq => StatusItem::HighestModSeq,
        _ => return None,
    })
}

fn octets(theirs: &AString<'_>) -> Vec<u8> {
    match theirs {
        AString::Atom(atom) => atom.inner().as_bytes().to_vec(),
        AString::String(string) => string.clone().into_inner().into_owned(),
    }
}

fn text_of(theirs: &Mailbox<'_>) -> Option<String> {
    match theirs {
        Mailbox::Inbox => Some("INBOX".to_owned()),
        Mailbox::Other(other) => utf7::decode(&octets(other.inner())),
    }
}

fn name(theirs: &Mailbox<'_>) -> Option<MailboxName> {
    MailboxName::new(&text_of(theirs)?).ok()
}

fn pattern(theirs: &ListMailbox<'_>) -> Option<ListPattern> {
    let octets = match theirs {
        ListMailbox::Token(token) => token.as_ref().to_vec(),
        ListMailbox::String(string) => string.clone().into_inner().into_owned(),
    };
    list_pattern(utf7::decode(&octets))
}

/// `None` stands for what is no modified UTF-7.
fn list_pattern(text: Option<String>) -> Option<ListPattern> {
    text.map_or_else(|| Some(ListPattern::unmatchable()), |text| ListPattern::new(&text))
}

fn numbering(uid: bool) -> Numbering {
    if uid { Numbering::Uid } else { Numbering::Sequence }
}

fn set(theirs: &TheirSet) -> SequenceSet {
    let number = |n: &SeqOrUid| match n {
        SeqOrUid::Value(n) => SetNumber::Number(*n),
        SeqOrUid::Asterisk => SetNumber::Largest,
    };
    let range = |sequence: &Sequence| match sequence {
        Sequence::Single(n) => SetRange { first: number(n), last: number(n) },
        Sequence::Range(a, b) => SetRange { first: number(a), last: number(b) },
    };
    SequenceSet(theirs.0.as_ref().iter().map(range).collect())
}

fn transfer(set: &TheirSet, mailbox: &Mailbox<'_>, uid: bool) -> Option<Transfer> {
    Some(Transfer { numbering: numbering(uid), set: self::set(set), to: name(mailbox)? })
}

fn flags(theirs: &[TheirFlag<'_>]) -> Option<Flags> {
    let flags: Option<Vec<Flag>> =
        theirs.iter().map(|flag| Flag::parse(&flag.to_string())).collect();
    flags.map(Flags::of)
}

fn changed_since(modifiers: &[FetchModifier]) -> Option<Option<ModSeq>> {
    let mut since = None;
    for modifier in modifiers {
        match modifier {
            FetchModifier::ChangedSince(n) if n.get() <= i64::MAX as u64 => {
                since = Some(ModSeq(n.get()));
            }
            _ => return None,
        }
    }
    Some(since)
}

fn items(theirs: &MacroOrMessageDataItemNames<'_>) -> Option<Vec<FetchItem>> {
    use FetchItem::{Body, Envelope, Flags, InternalDate, Rfc822Size};
    match theirs {
        MacroOrMessageDataItemNames::Macro(of) => Some(match of {
            Macro::Fast => vec![Flags, InternalDate, Rfc822Size],
            Macro::All => vec![Flags, InternalDate, Rfc822Size, Envelope],
            Macro::Full => vec![Flags, InternalDate, Rfc822Size, Envelope, Body],
            _ => return None,
        }),
        MacroOrMessageDataItemNames::MessageDataItemNames(items) => {
            items.iter().map(item).collect()
        }
    }
}

fn item(theirs: &Item<'_>) -> Option<FetchItem> {
    Some(match theirs {
        Item::Body => FetchItem::Body,
        Item::BodyStructure => FetchItem::BodyStructure,
        Item::Envelope => FetchItem::Envelope,
        Item::Flags => FetchItem::Flags,
        Item::InternalDate => FetchItem::InternalDate,
        Item::Rfc822 => FetchItem::Rfc822,
        Item::Rfc822Header => FetchItem::Rfc822Header,
        Item::Rfc822Size => FetchItem::Rfc822Size,
        Item::Rfc822Text => FetchItem::Rfc822Text,
        Item::Uid => FetchItem::Uid,
        Item::ModSeq => FetchItem::ModSeq,
        Item::BodyExt { section, partial, peek } => FetchItem::Section {
            section: section.as_ref().map_or(Some(Section::default()), self::section)?,
            partial: partial
                .map(|(first, count)| Partial { first: first.into(), count: count.into() }),
            peek: *peek,
        },
        Item::Binary { .. } | Item::BinarySize { .. } => return None,
    })
}

fn section(theirs: &TheirSection<'_>) -> Option<Section> {
    let numbers = |part: &Option<Part>| {
        part.as_ref().map(|part| part.0.as_ref().to_vec()).unwrap_or_default()
    };
    let names = |names: &[AString<'_>]| {
        let name = |name| {
            let name = String::from_utf8(octets(name)).ok()?;
            let fits = |c: u8| c.is_ascii_graphic() && c != b':';
            (!name.is_empty() && name.bytes().all(fits)).then_some(name)
        };
        names.iter().map(name).collect::<Option<Vec<_>>>()
    };
    let (part, text) = match theirs {
        TheirSection::Part(part) => (part.0.as_ref().to_vec(), SectionText::All),
        TheirSection::Header(part) => (numbers(part), SectionText::Header),
        TheirSection::Text(part) => (numbers(part), SectionText::Text),
        TheirSection::Mime(part) => (part.0.as_ref().to_vec(), SectionText::Mime),
        TheirSection::HeaderFields(part, fields) => {
            (numbers(part), SectionText::HeaderFields(names(fields.as_ref())?))
        }
        TheirSection::HeaderFieldsNot(part, fields) => {
            (numbers(part), SectionText::HeaderFieldsNot(names(fields.as_ref())?))
        }
    };
    Some(Section { part, text })
}

fn keys(theirs: &[Key<'_>]) -> Option<SearchKey> {
    match theirs {
        [single] => key(single),
        several => several.iter().map(key).collect::<Option<_>>().map(SearchKey::And),
    }
}

fn key(theirs: &Key<'_>) -> Option<SearchKey> {
    let flag = |flag| SearchKey::Flag(Flag::System(flag));
    let not = |flag| SearchKey::NotFlag(Flag::System(flag));
    let header = |header, text| SearchKey::Header(header, octets(text));
    Some(match theirs {
        Key::And(all) => keys(all.as_ref())?,
        Key::Or(left, right) => SearchKey::Or(Box::new(key(left)?), Box::new(key(right)?)),
        Key::Not(inner) => SearchKey::Not(Box::new(key(inner)?)),
        Key::SequenceSet(set) => SearchKey::Sequence(self::set(set)),
        Key::Uid(set) => SearchKey::Uid(self::set(set)),
        Key::All => SearchKey::All,
        Key::New => SearchKey::New,
        Key::Old => SearchKey::Old,
        Key::Recent => SearchKey::Recent,
        Key::Answered => flag(SystemFlag::Answered),
        Key::Deleted => flag(SystemFlag::Deleted),
        Key::Draft => flag(SystemFlag::Draft),
        Key::Flagged => flag(SystemFlag::Flagged),
        Key::Seen => flag(SystemFlag::Seen),
        Key::Unanswered => not(SystemFlag::Answered),
        Key::Undeleted => not(SystemFlag::Deleted),
        Key::Undraft => not(SystemFlag::Draft),
        Key::Unflagged => not(SystemFlag::Flagged),
        Key::Unseen => not(SystemFlag::Seen),
        Key::Keyword(word) => SearchKey::Flag(Flag::parse(word.inner())?),
        Key::Unkeyword(word) => SearchKey::NotFlag(Flag::parse(word.inner())?),
        Key::Bcc(text) => header(SearchHeader::Bcc, text),
        Key::Cc(text) => header(SearchHeader::Cc, text),
        Key::From(text) => header(SearchHeader::From, text),
        Key::Subject(text) => header(SearchHeader::Subject, text),
        Key::To(text) => header(SearchHeader::To, text),
        Key::Header(name, text) => SearchKey::AnyHeader { name: octets(name), text: octets(text) },
        Key::Body(text) => SearchKey::Body(octets(text)),
        Key::Text(text) => SearchKey::Text(octets(text)),
        Key::Larger(size) => SearchKey::Larger((*size).into()),
        Key::Smaller(size) => SearchKey::Smaller((*size).into()),
        Key::Before(day) => SearchKey::Before(date(day)),
        Key::On(day) => SearchKey::On(date(day)),
        Key::Since(day) => SearchKey::Since(date(day)),
        Key::SentBefore(day) => SearchKey::SentBefore(date(day)),
        Key::SentOn(day) => SearchKey::SentOn(date(day)),
        Key::SentSince(day) => SearchKey::SentSince(date(day)),
        Key::ModSequence { modseq, .. } => {
            (*modseq <= i64::MAX as u64).then_some(SearchKey::ModSeq(ModSeq(*modseq)))?
        }
    })
}

/// By way of text: their calendar is another crate's.
fn date(theirs: &NaiveDate) -> time::Date {
    let text = theirs.as_ref().to_string();
    let mut numbers = text.split('-').map(|number| number.parse::<u16>().unwrap());
    let mut next = || numbers.next().unwrap();
    let (year, month, day) = (next(), next() as u8, next() as u8);
    time::Date::from_calendar_date(year.into(), month.try_into().unwrap(), day).unwrap()
}
