//! Commands of the base protocol in `imap-types`' own types, at random.

use std::borrow::Cow;

use imap_codec::decode::Decoder;
use imap_codec::imap_types::IntoStatic;
use imap_codec::imap_types::auth::AuthMechanism;
use imap_codec::imap_types::command::{
    Command, CommandBody, FetchModifier, SelectParameter, StoreModifier,
};
use imap_codec::imap_types::core::{
    AString, Atom, AtomExt, IString, Literal, NString, Quoted, Tag,
};
use imap_codec::imap_types::datetime::{DateTime, NaiveDate};
use imap_codec::imap_types::extensions::binary::LiteralOrLiteral8;
use imap_codec::imap_types::extensions::enable::CapabilityEnable;
use imap_codec::imap_types::fetch::{
    Macro, MacroOrMessageDataItemNames, MessageDataItemName, Part, Section,
};
use imap_codec::imap_types::flag::{Flag, StoreResponse, StoreType};
use imap_codec::imap_types::mailbox::{ListCharString, ListMailbox, Mailbox};
use imap_codec::imap_types::search::SearchKey;
use imap_codec::imap_types::secret::Secret;
use imap_codec::imap_types::sequence::{SeqOrUid, Sequence, SequenceSet};
use imap_codec::imap_types::status::StatusDataItemName;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::imap::utf7;
use crate::types::MailboxName;

/// A command of theirs.
pub(super) fn command() -> impl Strategy<Value = Command<'static>> {
    let tag = "[a-zA-Z0-9]{1,8}".prop_map(|tag| Tag::try_from(tag).unwrap());
    (tag, body()).prop_map(|(tag, body)| Command { tag, body })
}

fn body() -> impl Strategy<Value = CommandBody<'static>> {
    let plain = select(vec![
        CommandBody::Capability,
        CommandBody::Noop,
        CommandBody::Logout,
        CommandBody::StartTLS,
        CommandBody::Check,
        CommandBody::Close,
        CommandBody::Unselect,
        CommandBody::Expunge,
        CommandBody::Idle,
    ]);
    prop_oneof![
        1 => plain,
        2 => access(),
        3 => about_mailboxes(),
        2 => append(),
        4 => search(),
        3 => fetch(),
        2 => store(),
        1 => set().prop_map(|sequence_set| CommandBody::ExpungeUid { sequence_set }),
        1 => (set(), mailbox(), any::<bool>())
            .prop_map(|(sequence_set, mailbox, uid)| CommandBody::Copy { sequence_set, mailbox, uid }),
        1 => (set(), mailbox(), any::<bool>())
            .prop_map(|(sequence_set, mailbox, uid)| CommandBody::Move { sequence_set, mailbox, uid }),
    ]
}

fn literal(octets: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Literal<'static>> {
    (octets, any::<bool>()).prop_map(|(octets, non_sync)| {
        let literal = Literal::try_from(octets).unwrap();
        if non_sync { literal.into_non_sync() } else { literal }
    })
}

fn istring() -> impl Strategy<Value = IString<'static>> {
    prop_oneof![
        "[ -~]{0,10}".prop_map(|text| IString::Quoted(Quoted::try_from(text).unwrap())),
        literal(vec(1u8..128, 0..10)).prop_map(IString::Literal),
    ]
}

fn astring() -> impl Strategy<Value = AString<'static>> {
    prop_oneof![
        "[a-z0-9.@\\]]{1,10}".prop_map(|text| AString::Atom(AtomExt::try_from(text).unwrap())),
        istring().prop_map(AString::String),
    ]
}

fn atom() -> impl Strategy<Value = Atom<'static>> {
    "[a-zA-Z$]{1,10}".prop_map(|text| Atom::try_from(text).unwrap())
}

fn mailbox() -> impl Strategy<Value = Mailbox<'static>> {
    let names = prop_oneof!["[a-zäö/日本& -]{1,10}", Just("InBox".to_owned())];
    let name = names.prop_filter_map("no name", |text| MailboxName::new(&text).ok());
    (name, any::<bool>()).prop_map(|(name, as_literal)| {
        let text = utf7::encode(name.as_str());
        let literal =
            || AString::String(IString::Literal(Literal::try_from(text.clone()).unwrap()));
        let other = || AString::try_from(text.clone()).unwrap();
        Mailbox::from(if as_literal { literal() } else { other() })
    })
}

fn access() -> impl Strategy<Value = CommandBody<'static>> {
    let login = (astring(), astring()).prop_map(|(username, password)| CommandBody::Login {
        username,
        password: password.into(),
    });
    let initial = proptest::option::of(vec(any::<u8>(), 0..20));
    let mechanisms = select(vec![AuthMechanism::Plain, AuthMechanism::Login]);
    let authenticate =
        (mechanisms, initial).prop_map(|(mechanism, initial)| CommandBody::Authenticate {
            mechanism,
            initial_response: initial.map(|octets| Secret::from(Cow::Owned(octets))),
        });
    let pairs = vec((istring(), proptest::option::of(istring()).prop_map(NString)), 1..4);
    let enable = vec("[A-Z]{1,10}".prop_map(|word| Atom::try_from(word).unwrap()), 1..4)
        .prop_map(|words| words.into_iter().map(CapabilityEnable::from).collect::<Vec<_>>());
    prop_oneof![
        login,
        authenticate,
        proptest::option::of(pairs).prop_map(|parameters| CommandBody::Id { parameters }),
        enable.prop_map(|words| CommandBody::Enable { capabilities: words.try_into().unwrap() }),
    ]
}

fn about_mailboxes() -> impl Strategy<Value = CommandBody<'static>> {
    let parameters = || vec(Just(SelectParameter::CondStore), 0..2);
    let items = select(vec![
        StatusDataItemName::Messages,
        StatusDataItemName::Recent,
        StatusDataItemName::UidNext,
        StatusDataItemName::UidValidity,
        StatusDataItemName::Unseen,
        StatusDataItemName::Deleted,
        StatusDataItemName::HighestModSeq,
    ]);
    let pattern = || {
        prop_oneof![
            "[a-z%*/.]{1,10}"
                .prop_map(|text| ListMailbox::Token(ListCharString::try_from(text).unwrap())),
            "[a-z%*/ \"]{0,10}".prop_map(|text| ListMailbox::String(text.try_into().unwrap())),
        ]
    };
    prop_oneof![
        (mailbox(), parameters())
            .prop_map(|(mailbox, parameters)| CommandBody::Select { mailbox, parameters }),
        (mailbox(), parameters())
            .prop_map(|(mailbox, parameters)| CommandBody::Examine { mailbox, parameters }),
        mailbox().prop_map(|mailbox| CommandBody::Create { mailbox }),
        mailbox().prop_map(|mailbox| CommandBody::Delete { mailbox }),
        mailbox().prop_map(|mailbox| CommandBody::Subscribe { mailbox }),
        mailbox().prop_map(|mailbox| CommandBody::Unsubscribe { mailbox }),
        (mailbox(), mailbox()).prop_map(|(from, to)| CommandBody::Rename { from, to }),
        (mailbox(), vec(items, 1..5))
            .prop_map(|(mailbox, items)| CommandBody::Status { mailbox, item_names: items.into() }),
        (mailbox(), pattern()).prop_map(|(reference, mailbox_wildcard)| CommandBody::List {
            reference,
            mailbox_wildcard
        }),
        (mailbox(), pattern()).prop_map(|(reference, mailbox_wildcard)| CommandBody::Lsub {
            reference,
            mailbox_wildcard
        }),
    ]
}

fn flag() -> impl Strategy<Value = Flag<'static>> {
    let system = vec![Flag::Answered, Flag::Deleted, Flag::Draft, Flag::Flagged, Flag::Seen];
    prop_oneof![select(system), atom().prop_map(Flag::keyword)]
}

fn append() -> impl Strategy<Value = CommandBody<'static>> {
    let message = literal(vec(1u8.., 0..40)).prop_map(LiteralOrLiteral8::Literal);
    (mailbox(), vec(flag(), 0..3), proptest::option::of(date_time()), message).prop_map(
        |(mailbox, flags, date, message)| CommandBody::Append { mailbox, flags, date, message },
    )
}

/// A day as IMAP writes it, with a month that has it.
fn day() -> impl Strategy<Value = String> {
    let months =
        vec!["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    (1..=28, select(months), 0..=9998).prop_map(|(d, month, y)| format!("{d}-{month}-{y:04}"))
}

/// Their types are made of another crate's, which is not ours to name: so by way of their decoder.
fn decoded(text: &str) -> CommandBody<'static> {
    let codec = imap_codec::CommandCodec::new();
    let (_, command) = codec.decode(text.as_bytes()).unwrap();
    command.into_static().body
}

fn date_time() -> impl Strategy<Value = DateTime> {
    let clock = (0..24, 0..60, 0..60).prop_map(|(h, m, s)| format!("{h:02}:{m:02}:{s:02}"));
    let zone =
        (select(vec!['+', '-']), 0..24, 0..60).prop_map(|(s, h, m)| format!("{s}{h:02}{m:02}"));
    (day(), clock, zone).prop_map(|(day, clock, zone)| {
        let text = format!("a APPEND x \"{day:>11} {clock} {zone}\" {{1}}\r\nx\r\n");
        match decoded(&text) {
            CommandBody::Append { date: Some(date), .. } => date,
            other => unreachable!("{other:?}"),
        }
    })
}

fn date() -> impl Strategy<Value = NaiveDate> {
    day().prop_map(|day| match decoded(&format!("a SEARCH ON {day}\r\n")) {
        CommandBody::Search { criteria, .. } => match &criteria.as_ref()[0] {
            SearchKey::On(date) => date.clone(),
            other => unreachable!("{other:?}"),
        },
        other => unreachable!("{other:?}"),
    })
}

/// A set in the form that their encoder gives it.
fn set() -> impl Strategy<Value = SequenceSet> {
    let number = || {
        prop_oneof![
            1 => Just(SeqOrUid::Asterisk),
            4 => (1u32..).prop_map(|n| SeqOrUid::Value(n.try_into().unwrap())),
        ]
    };
    let range = prop_oneof![
        number().prop_map(Sequence::Single),
        (number(), number()).prop_map(|(first, last)| Sequence::Range(first, last)),
    ];
    vec(range, 1..5).prop_map(|ranges| {
        let mut set = SequenceSet(ranges.try_into().unwrap());
        set.normalize();
        set
    })
}

fn store() -> impl Strategy<Value = CommandBody<'static>> {
    let kind = select(vec![StoreType::Replace, StoreType::Add, StoreType::Remove]);
    let response = select(vec![StoreResponse::Answer, StoreResponse::Silent]);
    let modifiers = vec((0..=i64::MAX as u64).prop_map(StoreModifier::UnchangedSince), 0..2);
    (set(), kind, response, vec(flag(), 0..4), any::<bool>(), modifiers).prop_map(
        |(sequence_set, kind, response, flags, uid, modifiers)| CommandBody::Store {
            sequence_set,
            kind,
            response,
            flags,
            uid,
            modifiers,
        },
    )
}

fn fetch() -> impl Strategy<Value = CommandBody<'static>> {
    let names = prop_oneof![
        1 => select(vec![Macro::Fast, Macro::All, Macro::Full])
            .prop_map(MacroOrMessageDataItemNames::Macro),
        4 => vec(item(), 1..5).prop_map(MacroOrMessageDataItemNames::MessageDataItemNames),
    ];
    let since = 1..=i64::MAX as u64;
    let modifiers =
        vec(since.prop_map(|n| FetchModifier::ChangedSince(n.try_into().unwrap())), 0..2);
    (set(), names, any::<bool>(), modifiers).prop_map(
        |(sequence_set, macro_or_item_names, uid, modifiers)| CommandBody::Fetch {
            sequence_set,
            macro_or_item_names,
            uid,
            modifiers,
        },
    )
}

fn item() -> impl Strategy<Value = MessageDataItemName<'static>> {
    let plain = select(vec![
        MessageDataItemName::Body,
        MessageDataItemName::BodyStructure,
        MessageDataItemName::Envelope,
        MessageDataItemName::Flags,
        MessageDataItemName::InternalDate,
        MessageDataItemName::Rfc822,
        MessageDataItemName::Rfc822Header,
        MessageDataItemName::Rfc822Size,
        MessageDataItemName::Rfc822Text,
        MessageDataItemName::Uid,
        MessageDataItemName::ModSeq,
    ]);
    let part = || {
        vec((1u32..).prop_map(|n| n.try_into().unwrap()), 1..4)
            .prop_map(|numbers: Vec<std::num::NonZeroU32>| Part(numbers.try_into().unwrap()))
    };
    let perhaps = move || proptest::option::of(part());
    let names = || {
        vec("[A-Za-z-]{1,8}".prop_map(|name| AString::try_from(name).unwrap()), 1..4)
            .prop_map(|names| names.try_into().unwrap())
    };
    let section = prop_oneof![
        part().prop_map(Section::Part),
        perhaps().prop_map(Section::Header),
        perhaps().prop_map(Section::Text),
        part().prop_map(Section::Mime),
        (perhaps(), names()).prop_map(|(part, names)| Section::HeaderFields(part, names)),
        (perhaps(), names()).prop_map(|(part, names)| Section::HeaderFieldsNot(part, names)),
    ];
    let partial = (any::<u32>(), (1u32..).prop_map(|n| n.try_into().unwrap()));
    let body = (proptest::option::of(section), proptest::option::of(partial), any::<bool>());
    prop_oneof![
        plain,
        body.prop_map(|(section, partial, peek)| MessageDataItemName::BodyExt {
            section,
            partial,
            peek
        }),
    ]
}

fn search() -> impl Strategy<Value = CommandBody<'static>> {
    let charset = select(vec!["UTF-8", "us-ascii", "x y"]);
    let charset = proptest::option::of(charset.prop_map(|name| name.try_into().unwrap()));
    (charset, vec(key(), 1..4), any::<bool>()).prop_map(|(charset, keys, uid)| {
        CommandBody::Search { charset, criteria: keys.try_into().unwrap(), uid }
    })
}

fn key() -> impl Strategy<Value = SearchKey<'static>> {
    plain_key().prop_recursive(4, 20, 4, |key| {
        prop_oneof![
            vec(key.clone(), 1..4).prop_map(|keys| SearchKey::And(keys.try_into().unwrap())),
            key.clone().prop_map(|key| SearchKey::Not(Box::new(key))),
            (key.clone(), key).prop_map(|(a, b)| SearchKey::Or(Box::new(a), Box::new(b))),
        ]
    })
}

fn plain_key() -> impl Strategy<Value = SearchKey<'static>> {
    use SearchKey::*;
    let words = vec![
        All, Answered, Deleted, Draft, Flagged, New, Old, Recent, Seen, Unanswered, Undeleted,
        Undraft, Unflagged, Unseen,
    ];
    let texts: Vec<fn(AString<'static>) -> SearchKey<'static>> =
        vec![Bcc, Body, Cc, From, Subject, Text, To];
    let days: Vec<fn(NaiveDate) -> SearchKey<'static>> =
        vec![Before, On, Since, SentBefore, SentOn, SentSince];
    prop_oneof![
        select(words),
        (select(texts), astring()).prop_map(|(key, text)| key(text)),
        (astring(), astring()).prop_map(|(name, text)| Header(name, text)),
        (select(days), date()).prop_map(|(key, day)| key(day)),
        atom().prop_map(Keyword),
        atom().prop_map(Unkeyword),
        any::<u32>().prop_map(Larger),
        any::<u32>().prop_map(Smaller),
        set().prop_map(SequenceSet),
        set().prop_map(Uid),
        (0..=i64::MAX as u64).prop_map(|modseq| ModSequence { entry: None, modseq }),
    ]
}
