//! Commands of all kinds, at random.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::imap::command::*;
use crate::imap::list_match::ListPattern;
use crate::types::{
    Flag, FlagChange, FlagChangeKind, Flags, MailboxName, MessageId, ModSeq, SystemFlag, ThreadId,
};

/// Any command.
pub(super) fn command() -> impl Strategy<Value = Command> {
    let tag = "[a-zA-Z0-9.\\[\\]!~-]{1,8}".prop_map(|tag| Tag::new(&tag).unwrap());
    (tag, body()).prop_map(|(tag, body)| Command { tag, body })
}

fn body() -> impl Strategy<Value = CommandBody> {
    let plain = select(vec![
        CommandBody::Capability,
        CommandBody::Noop,
        CommandBody::Logout,
        CommandBody::StartTls,
        CommandBody::Namespace,
        CommandBody::Check,
        CommandBody::Close,
        CommandBody::Unselect,
        CommandBody::Expunge,
        CommandBody::Idle,
    ]);
    prop_oneof![
        1 => plain,
        2 => access(),
        3 => mailbox(),
        2 => list(),
        1 => set().prop_map(CommandBody::UidExpunge),
        4 => search(),
        3 => fetch(),
        2 => store(),
        1 => transfer().prop_map(CommandBody::Copy),
        1 => transfer().prop_map(CommandBody::Move),
    ]
}

/// Octets without NUL, often text.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof!["[ -~]{0,8}".prop_map(String::into_bytes), vec(1u8.., 0..8)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z@. \"\\\\]{0,8}", any::<String>().prop_map(|text| text.replace('\0', ""))]
}

fn access() -> impl Strategy<Value = CommandBody> {
    let login = (text(), octets())
        .prop_map(|(user, octets)| CommandBody::Login { user, password: SecretOctets(octets) });
    let initial = proptest::option::of(vec(any::<u8>(), 0..20).prop_map(SecretOctets));
    let authenticate = ("[A-Z0-9_-]{1,20}", initial)
        .prop_map(|(mechanism, initial)| CommandBody::Authenticate { mechanism, initial });
    let pairs = vec((text(), proptest::option::of(text())), 0..4);
    prop_oneof![
        login,
        authenticate,
        proptest::option::of(pairs).prop_map(CommandBody::Id),
        vec("[A-Z0-9=/-]{1,10}", 1..4).prop_map(CommandBody::Enable),
    ]
}

fn name() -> impl Strategy<Value = MailboxName> {
    prop_oneof![
        "[a-z&~ /\\]]{1,10}",
        "[a-zäö/日本😀-]{1,10}",
        Just("inbox".to_owned()),
        any::<String>(),
    ]
    .prop_filter_map("no name", |text| MailboxName::new(&text).ok())
}

fn pattern() -> impl Strategy<Value = ListPattern> {
    "[a-zä%*/& \"]{0,10}".prop_map(|text| ListPattern::new(&text).unwrap())
}

fn status_items() -> impl Strategy<Value = Vec<StatusItem>> {
    subsequence(StatusItem::ALL.to_vec(), 1..=StatusItem::ALL.len()).prop_shuffle()
}

fn mailbox() -> impl Strategy<Value = CommandBody> {
    let use_ = prop_oneof![
        select(SpecialUse::KNOWN.to_vec()),
        Just(SpecialUse::Other("\\Important".to_owned())),
    ];
    prop_oneof![
        (name(), any::<bool>())
            .prop_map(|(mailbox, condstore)| CommandBody::Select { mailbox, condstore }),
        (name(), any::<bool>())
            .prop_map(|(mailbox, condstore)| CommandBody::Examine { mailbox, condstore }),
        (name(), vec(use_, 0..3))
            .prop_map(|(mailbox, special_use)| CommandBody::Create { mailbox, special_use }),
        name().prop_map(CommandBody::Delete),
        name().prop_map(CommandBody::Subscribe),
        name().prop_map(CommandBody::Unsubscribe),
        (name(), name()).prop_map(|(from, to)| CommandBody::Rename { from, to }),
        (name(), status_items())
            .prop_map(|(mailbox, items)| CommandBody::Status { mailbox, items }),
        (pattern(), pattern())
            .prop_map(|(reference, pattern)| CommandBody::Lsub { reference, pattern }),
    ]
}

fn list() -> impl Strategy<Value = CommandBody> {
    let select = any::<(bool, bool, bool, bool)>().prop_map(
        |(subscribed, remote, recursive_match, special_use)| ListSelect {
            subscribed,
            remote,
            recursive_match: recursive_match && (subscribed || special_use),
            special_use,
        },
    );
    let returns = (any::<(bool, bool, bool)>(), proptest::option::of(status_items())).prop_map(
        |((subscribed, children, special_use), status)| ListReturn {
            subscribed,
            children,
            special_use,
            status,
        },
    );
    let extended = (select, pattern(), vec(pattern(), 1..4), returns).prop_map(
        |(select, reference, patterns, returns)| List {
            select,
            reference,
            patterns,
            returns,
            extended: true,
        },
    );
    let plain = (pattern(), pattern()).prop_map(|(reference, pattern)| List {
        reference,
        patterns: vec![pattern],
        ..List::default()
    });
    prop_oneof![extended, plain].prop_map(CommandBody::List)
}

fn numbering() -> impl Strategy<Value = Numbering> {
    select(vec![Numbering::Sequence, Numbering::Uid])
}

fn set() -> impl Strategy<Value = SequenceSet> {
    let number = || {
        prop_oneof![
            1 => Just(SetNumber::Largest),
            4 => (1u32..).prop_map(|n| SetNumber::Number(n.try_into().unwrap())),
        ]
    };
    let range = prop_oneof![
        number().prop_map(|first| SetRange { first, last: first }),
        (number(), number()).prop_map(|(first, last)| SetRange { first, last }),
    ];
    vec(range, 1..5).prop_map(SequenceSet)
}

fn modseq() -> impl Strategy<Value = ModSeq> {
    (0..=i64::MAX as u64).prop_map(ModSeq)
}

fn flag() -> impl Strategy<Value = Flag> {
    prop_oneof![
        select(SystemFlag::ALL.to_vec()).prop_map(Flag::System),
        "[a-zA-Z$_.\\[]{1,10}".prop_map(|word| Flag::parse(&word).unwrap()),
    ]
}

fn transfer() -> impl Strategy<Value = Transfer> {
    (numbering(), set(), name()).prop_map(|(numbering, set, to)| Transfer { numbering, set, to })
}

fn store() -> impl Strategy<Value = CommandBody> {
    let kinds = vec![FlagChangeKind::Replace, FlagChangeKind::Add, FlagChangeKind::Remove];
    let flags = vec(flag(), 0..5).prop_map(Flags::of);
    let change = (select(kinds), flags).prop_map(|(kind, flags)| FlagChange { kind, flags });
    (numbering(), set(), proptest::option::of(modseq()), change, any::<bool>()).prop_map(
        |(numbering, set, unchanged_since, change, silent)| {
            CommandBody::Store(Store { numbering, set, unchanged_since, change, silent })
        },
    )
}

fn fetch() -> impl Strategy<Value = CommandBody> {
    (numbering(), set(), vec(item(), 1..5), proptest::option::of(modseq())).prop_map(
        |(numbering, set, items, changed_since)| {
            CommandBody::Fetch(Fetch { numbering, set, items, changed_since })
        },
    )
}

fn item() -> impl Strategy<Value = FetchItem> {
    let names = || vec("[!-9;-~]{1,10}", 1..4);
    let texts = prop_oneof![
        Just(SectionText::All),
        Just(SectionText::Header),
        Just(SectionText::Text),
        Just(SectionText::Mime),
        names().prop_map(SectionText::HeaderFields),
        names().prop_map(SectionText::HeaderFieldsNot),
    ];
    let part = vec((1u32..).prop_map(|n| n.try_into().unwrap()), 0..4);
    let section = (part, texts).prop_filter_map("MIME of the message", |(part, text)| {
        (text != SectionText::Mime || !part.is_empty()).then_some(Section { part, text })
    });
    let partial = (0..=i64::MAX as u64, 1..=i64::MAX as u64)
        .prop_map(|(first, count)| Partial { first, count: count.try_into().unwrap() });
    let section = (section, proptest::option::of(partial), any::<bool>())
        .prop_map(|(section, partial, peek)| FetchItem::Section { section, partial, peek });
    let plain = vec![
        FetchItem::Body,
        FetchItem::BodyStructure,
        FetchItem::Envelope,
        FetchItem::Flags,
        FetchItem::InternalDate,
        FetchItem::Rfc822,
        FetchItem::Rfc822Header,
        FetchItem::Rfc822Size,
        FetchItem::Rfc822Text,
        FetchItem::Uid,
        FetchItem::ModSeq,
        FetchItem::EmailId,
        FetchItem::ThreadId,
    ];
    prop_oneof![section, select(plain)]
}

fn search() -> impl Strategy<Value = CommandBody> {
    let returns = any::<(bool, bool, bool, bool)>().prop_map(|(min, max, all, count)| {
        let all = all || !(min || max || count);
        SearchReturn { min, max, all, count }
    });
    let charset = select(vec!["UTF-8", "us-ascii", "x y"]).prop_map(str::to_owned);
    let options = (proptest::option::of(returns), proptest::option::of(charset));
    (numbering(), options, key()).prop_map(|(numbering, (returns, charset), key)| {
        CommandBody::Search(Search { numbering, returns, charset, key })
    })
}

fn key() -> impl Strategy<Value = SearchKey> {
    plain_key().prop_recursive(5, 30, 4, |key| {
        prop_oneof![
            vec(key.clone(), 2..4).prop_map(SearchKey::And),
            key.clone().prop_map(|key| SearchKey::Not(Box::new(key))),
            (key.clone(), key).prop_map(|(a, b)| SearchKey::Or(Box::new(a), Box::new(b))),
        ]
    })
}

fn plain_key() -> impl Strategy<Value = SearchKey> {
    let words = [SearchKey::All, SearchKey::Recent, SearchKey::Old, SearchKey::New];
    let headers = vec![
        SearchHeader::Bcc,
        SearchHeader::Cc,
        SearchHeader::From,
        SearchHeader::Subject,
        SearchHeader::To,
    ];
    let seconds = || (1u32..).prop_map(|n| n.try_into().unwrap());
    let numbers = || 0..=i64::MAX as u64;
    prop_oneof![
        select(words.to_vec()),
        set().prop_map(SearchKey::Sequence),
        set().prop_map(SearchKey::Uid),
        flag().prop_map(SearchKey::Flag),
        flag().prop_map(SearchKey::NotFlag),
        (select(headers), octets()).prop_map(|(header, text)| SearchKey::Header(header, text)),
        (octets(), octets()).prop_map(|(name, text)| SearchKey::AnyHeader { name, text }),
        octets().prop_map(SearchKey::Body),
        octets().prop_map(SearchKey::Text),
        date_key(),
        numbers().prop_map(SearchKey::Larger),
        numbers().prop_map(SearchKey::Smaller),
        modseq().prop_map(SearchKey::ModSeq),
        seconds().prop_map(SearchKey::Older),
        seconds().prop_map(SearchKey::Younger),
        any::<Option<u128>>().prop_map(|n| SearchKey::EmailId(n.map(MessageId::from_u128))),
        any::<Option<u128>>().prop_map(|n| SearchKey::ThreadId(n.map(ThreadId::from_u128))),
    ]
}

fn date_key() -> impl Strategy<Value = SearchKey> {
    let keys: Vec<fn(time::Date) -> SearchKey> = vec![
        SearchKey::Before,
        SearchKey::On,
        SearchKey::Since,
        SearchKey::SentBefore,
        SearchKey::SentOn,
        SearchKey::SentSince,
    ];
    let day = (0i32..=9999, 1u16..=366)
        .prop_filter_map("no such day", |(y, d)| time::Date::from_ordinal_date(y, d).ok());
    (select(keys), day).prop_map(|(key, day)| key(day))
}
