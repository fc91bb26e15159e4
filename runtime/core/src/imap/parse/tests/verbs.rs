//! Each verb in the forms that clients send.

use crate::imap::command::*;
use crate::imap::list_match::ListPattern;
use crate::imap::parse::command;
use crate::types::{
    Flag, FlagChange, FlagChangeKind, Flags, MailboxName, MessageId, ModSeq, SystemFlag,
};

fn check(text: &str, body: CommandBody) {
    for line_end in ["", "\n", "\r\n"] {
        let parsed = command(format!("a1 {text}{line_end}").as_bytes());
        let parsed = parsed.unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(parsed.tag.as_str(), "a1");
        assert_eq!(parsed.body, body, "{text:?}");
    }
}

fn name(text: &str) -> MailboxName {
    MailboxName::new(text).unwrap()
}

fn pattern(text: &str) -> ListPattern {
    ListPattern::new(text).unwrap()
}

fn flags(names: &[&str]) -> Flags {
    Flags::of(names.iter().map(|name| Flag::parse(name).unwrap()))
}

/// A set of `(first, last)`; 0 is `*`.
fn set(ranges: &[(u32, u32)]) -> SequenceSet {
    let number = |n: u32| n.try_into().map_or(SetNumber::Largest, SetNumber::Number);
    let range = |&(first, last)| SetRange { first: number(first), last: number(last) };
    SequenceSet(ranges.iter().map(range).collect())
}

#[test]
fn verbs_without_arguments_are_read_in_any_case() {
    check("CAPABILITY", CommandBody::Capability);
    check("noop", CommandBody::Noop);
    check("LogOut", CommandBody::Logout);
    check("STARTTLS", CommandBody::StartTls);
    check("NAMESPACE", CommandBody::Namespace);
    check("CHECK", CommandBody::Check);
    check("CLOSE", CommandBody::Close);
    check("UNSELECT", CommandBody::Unselect);
    check("EXPUNGE", CommandBody::Expunge);
    check("IDLE", CommandBody::Idle);
}

#[test]
fn login_takes_any_form_of_string() {
    let login = |user: &str, password: &[u8]| CommandBody::Login {
        user: user.to_owned(),
        password: SecretOctets(password.to_vec()),
    };
    check("LOGIN fred@x.org s]cret", login("fred@x.org", b"s]cret"));
    check(r#"LOGIN "fred \"f\" \\" """#, login("fred \"f\" \\", b""));
    check("LOGIN {4}\r\nfred {6+}\r\na b\r\nc", login("fred", b"a b\r\nc"));
    check("LOGIN \"jörg\" \"größe\"", login("jörg", "größe".as_bytes()));
    check("LOGIN {0}\r\n {3}\nabc", login("", b"abc"));
}

#[test]
fn authenticate_takes_an_initial_response() {
    let authenticate = |initial: Option<&[u8]>| CommandBody::Authenticate {
        mechanism: "PLAIN".to_owned(),
        initial: initial.map(|octets| SecretOctets(octets.to_vec())),
    };
    check("AUTHENTICATE plain", authenticate(None));
    check("AUTHENTICATE PLAIN =", authenticate(Some(b"")));
    check("AUTHENTICATE PLAIN ", authenticate(Some(b"")));
    check("AUTHENTICATE PLAIN AGEAYg==", authenticate(Some(b"\0a\0b")));
}

#[test]
fn select_and_examine_take_condstore() {
    check("SELECT inbox", CommandBody::Select { mailbox: name("INBOX"), condstore: false });
    let mailbox = name("Entwürfe/a b");
    let body = CommandBody::Examine { mailbox, condstore: true };
    check("EXAMINE \"Entw&APw-rfe/a b\" (CONDSTORE)", body);
    check("SELECT {1}\r\nx", CommandBody::Select { mailbox: name("x"), condstore: false });
}

#[test]
fn create_takes_uses_and_forgets_a_trailing_delimiter() {
    let create = |mailbox: &str, special_use: &[SpecialUse]| CommandBody::Create {
        mailbox: name(mailbox),
        special_use: special_use.to_vec(),
    };
    check("CREATE a/b/", create("a/b", &[]));
    check("CREATE a (USE (\\sent \\Drafts))", create("a", &[SpecialUse::Sent, SpecialUse::Drafts]));
    check("CREATE a (USE ())", create("a", &[]));
    let other = SpecialUse::Other("\\Important".to_owned());
    check("CREATE a (USE (\\Important))", create("a", &[other]));
}

#[test]
fn mailboxes_are_named_where_needed() {
    check("DELETE a", CommandBody::Delete(name("a")));
    check("SUBSCRIBE a", CommandBody::Subscribe(name("a")));
    check("UNSUBSCRIBE \"a]\"", CommandBody::Unsubscribe(name("a]")));
    check("RENAME a InBox/b", CommandBody::Rename { from: name("a"), to: name("INBOX/b") });
    let items = vec![StatusItem::Unseen, StatusItem::Messages];
    check("STATUS a (unseen MESSAGES UNSEEN)", CommandBody::Status { mailbox: name("a"), items });
    let names = "MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ MAILBOXID";
    let status = CommandBody::Status { mailbox: name("a"), items: StatusItem::ALL.to_vec() };
    check(&format!("STATUS a ({names})"), status);
}

#[test]
fn list_is_plain_or_extended() {
    let plain = List { patterns: vec![pattern("")], ..List::default() };
    check("LIST \"\" \"\"", CommandBody::List(plain));
    let (reference, patterns) = (pattern("a/"), vec![pattern("%ü*")]);
    let list = List { reference, patterns, ..List::default() };
    check("LIST a/ %&APw-*", CommandBody::List(list));
    let lsub = CommandBody::Lsub { reference: pattern(""), pattern: pattern("*") };
    check("LSUB \"\" \"*\"", lsub);

    let select = ListSelect { subscribed: true, recursive_match: true, ..ListSelect::default() };
    let returns = ListReturn {
        subscribed: true,
        children: true,
        special_use: true,
        status: Some(vec![StatusItem::Messages, StatusItem::Size]),
    };
    let patterns = vec![pattern("INBOX"), pattern("a/%")];
    let reference = pattern("");
    let list = List { select, reference, patterns, returns, extended: true };
    check(
        "LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (INBOX \"a/%\") \
         RETURN (CHILDREN SUBSCRIBED STATUS (MESSAGES SIZE) SPECIAL-USE)",
        CommandBody::List(list),
    );
    let select = ListSelect { special_use: true, remote: true, ..ListSelect::default() };
    let list = List { select, patterns: vec![pattern("*")], extended: true, ..List::default() };
    check("LIST (SPECIAL-USE REMOTE) \"\" *", CommandBody::List(list));
    let list = List { patterns: vec![pattern("*")], extended: true, ..List::default() };
    check("LIST () \"\" *", CommandBody::List(list.clone()));
    check("LIST \"\" * RETURN ()", CommandBody::List(list.clone()));
    check("LIST \"\" (*)", CommandBody::List(list));
}

#[test]
fn fetch_knows_all_items_and_macros() {
    let fetch = |items: &[FetchItem]| {
        CommandBody::Fetch(Fetch {
            numbering: Numbering::Sequence,
            set: set(&[(1, 0)]),
            items: items.to_vec(),
            changed_since: None,
        })
    };
    use FetchItem::*;
    check("FETCH 1:* FLAGS", fetch(&[Flags]));
    check("FETCH 1:* FAST", fetch(&[Flags, InternalDate, Rfc822Size]));
    check("FETCH 1:* all", fetch(&[Flags, InternalDate, Rfc822Size, Envelope]));
    check("FETCH 1:* FULL", fetch(&[Flags, InternalDate, Rfc822Size, Envelope, Body]));
    let all = [
        Uid,
        Body,
        BodyStructure,
        Envelope,
        Rfc822,
        Rfc822Header,
        Rfc822Text,
        ModSeq,
        EmailId,
        ThreadId,
    ];
    let names = "UID BODY BODYSTRUCTURE ENVELOPE RFC822 RFC822.HEADER RFC822.TEXT MODSEQ EMAILID \
                 THREADID";
    check(&format!("FETCH 1:* ({names})"), fetch(&all));
    let changed = Fetch {
        numbering: Numbering::Uid,
        set: set(&[(4, 4), (7, 3)]),
        items: vec![Flags],
        changed_since: Some(crate::types::ModSeq(12)),
    };
    check("UID FETCH 4,7:3 (FLAGS) (CHANGEDSINCE 12)", CommandBody::Fetch(changed));
}

#[test]
fn fetch_knows_all_sections() {
    let check = |text: &str, part: &[u32], of: SectionText, partial: Option<(u64, u64)>| {
        let part = part.iter().map(|n| (*n).try_into().unwrap()).collect();
        let partial = partial.map(|(first, n)| Partial { first, count: n.try_into().unwrap() });
        let item = FetchItem::Section { section: Section { part, text: of }, partial, peek: false };
        assert!(item.sets_seen());
        let fetch = |item| {
            CommandBody::Fetch(Fetch {
                numbering: Numbering::Sequence,
                set: set(&[(1, 1)]),
                items: vec![item],
                changed_since: None,
            })
        };
        check(&format!("FETCH 1 BODY{text}"), fetch(item.clone()));
        let FetchItem::Section { section, partial, .. } = item else { unreachable!() };
        let item = FetchItem::Section { section, partial, peek: true };
        assert!(!item.sets_seen());
        check(&format!("FETCH 1 (body.peek{text})"), fetch(item));
    };
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    check("[]", &[], SectionText::All, None);
    check("[]<0.2048>", &[], SectionText::All, Some((0, 2048)));
    check("[1.2.3]", &[1, 2, 3], SectionText::All, None);
    check("[1.MIME]", &[1], SectionText::Mime, None);
    check("[HEADER]", &[], SectionText::Header, None);
    check("[2.TEXT]<5.1>", &[2], SectionText::Text, Some((5, 1)));
    let fields = SectionText::HeaderFields(names(&["From", "X-A]B"]));
    check("[HEADER.FIELDS (From \"X-A]B\")]", &[], fields, None);
    let fields = SectionText::HeaderFieldsNot(names(&["To"]));
    check("[3.header.fields.not ({2}\r\nTo)]", &[3], fields, None);
}

#[test]
fn store_adds_removes_and_replaces() {
    let store = |kind, silent, names: &[&str]| {
        CommandBody::Store(Store {
            numbering: Numbering::Sequence,
            set: set(&[(2, 4)]),
            unchanged_since: None,
            change: FlagChange { kind, flags: flags(names) },
            silent,
        })
    };
    check("STORE 2:4 +FLAGS (\\Deleted)", store(FlagChangeKind::Add, false, &["\\Deleted"]));
    check("STORE 2:4 -flags.silent ($Junk)", store(FlagChangeKind::Remove, true, &["$Junk"]));
    check("STORE 2:4 FLAGS ()", store(FlagChangeKind::Replace, false, &[]));
    let two = ["\\Seen", "work"];
    check("STORE 2:4 FLAGS \\SEEN work", store(FlagChangeKind::Replace, false, &two));
    let conditional = Store {
        numbering: Numbering::Uid,
        set: set(&[(0, 0)]),
        unchanged_since: Some(ModSeq(0)),
        change: FlagChange { kind: FlagChangeKind::Add, flags: flags(&["\\Draft"]) },
        silent: true,
    };
    check(
        "UID STORE * (UNCHANGEDSINCE 0) +FLAGS.SILENT (\\Draft)",
        CommandBody::Store(conditional),
    );
}

#[test]
fn copy_move_and_uid_expunge_take_sets() {
    let transfer =
        |numbering, ranges: &[(u32, u32)]| Transfer { numbering, set: set(ranges), to: name("a") };
    check("COPY 1,3:5 a", CommandBody::Copy(transfer(Numbering::Sequence, &[(1, 1), (3, 5)])));
    check("UID COPY 9:* a", CommandBody::Copy(transfer(Numbering::Uid, &[(9, 0)])));
    check("MOVE *:4 a", CommandBody::Move(transfer(Numbering::Sequence, &[(0, 4)])));
    check("UID MOVE 4294967295 a", CommandBody::Move(transfer(Numbering::Uid, &[(!0, !0)])));
    check("UID EXPUNGE 3000:3002", CommandBody::UidExpunge(set(&[(3000, 3002)])));
}

#[test]
fn search_keys_nest() {
    let check = |text: &str, key: SearchKey| {
        let search = Search { numbering: Numbering::Sequence, returns: None, charset: None, key };
        check(&format!("SEARCH {text}"), CommandBody::Search(search.clone()));
        let search = Search { numbering: Numbering::Uid, ..search };
        check(&format!("UID SEARCH ({text})"), CommandBody::Search(search));
    };
    use SearchKey::*;
    let seen = || self::SearchKey::Flag(crate::types::Flag::System(SystemFlag::Seen));
    let text = |text: &str| text.as_bytes().to_vec();
    check("ALL", All);
    check("seen", seen());
    check("UNSEEN", NotFlag(crate::types::Flag::System(SystemFlag::Seen)));
    check("NEW OLD RECENT", And(vec![New, Old, Recent]));
    check("1:3,* UID 7", And(vec![Sequence(set(&[(1, 3), (0, 0)])), Uid(set(&[(7, 7)]))]));
    let not = Not(Box::new(And(vec![seen(), All])));
    check("NOT (SEEN ALL)", not.clone());
    check("OR NOT (SEEN ALL) ALL", Or(Box::new(not), Box::new(All)));
    check("((((ALL))))", All);
    check("FROM fred", Header(SearchHeader::From, text("fred")));
    check("SUBJECT {5+}\r\nj\r\nö", Header(SearchHeader::Subject, text("j\r\nö")));
    check("HEADER X-Y \"\"", AnyHeader { name: text("X-Y"), text: vec![] });
    check("BODY \"a b\" TEXT x]y", And(vec![Body(text("a b")), Text(text("x]y"))]));
    let junk = || crate::types::Flag::parse("$Junk").unwrap();
    check("KEYWORD $Junk UNKEYWORD $Junk", And(vec![Flag(junk()), NotFlag(junk())]));
    check("LARGER 0 SMALLER 9000000000", And(vec![Larger(0), Smaller(9_000_000_000)]));
    check("OLDER 1 YOUNGER 3600", {
        And(vec![Older(1.try_into().unwrap()), Younger(3600.try_into().unwrap())])
    });
}

#[test]
fn search_dates_are_days() {
    let date = |day| time::Date::from_calendar_date(1994, time::Month::February, day).unwrap();
    use SearchKey::*;
    let keys = [
        (Before as fn(time::Date) -> SearchKey, "BEFORE"),
        (On, "ON"),
        (Since, "SINCE"),
        (SentBefore, "SENTBEFORE"),
        (SentOn, "SENTON"),
        (SentSince, "SENTSINCE"),
    ];
    for (key, name) in keys {
        for (text, day) in [("1-Feb-1994", 1), ("\"28-feb-1994\"", 28), ("01-FEB-1994", 1)] {
            check(
                &format!("SEARCH {name} {text}"),
                CommandBody::Search(Search {
                    numbering: Numbering::Sequence,
                    returns: None,
                    charset: None,
                    key: key(date(day)),
                }),
            );
        }
    }
}

#[test]
fn search_takes_return_options_charset_and_extensions() {
    let check = |text: &str, returns, charset: Option<&str>, key| {
        let charset = charset.map(str::to_owned);
        let search = Search { numbering: Numbering::Sequence, returns, charset, key };
        check(&format!("SEARCH {text}"), CommandBody::Search(search));
    };
    let all = SearchReturn { all: true, ..SearchReturn::default() };
    check("RETURN () ALL", Some(all), None, SearchKey::All);
    let every = SearchReturn { min: true, max: true, all: true, count: true };
    let text = "RETURN (MIN COUNT MAX ALL) CHARSET UTF-8 ALL";
    check(text, Some(every), Some("UTF-8"), SearchKey::All);
    check("CHARSET \"x y\" ALL", None, Some("x y"), SearchKey::All);
    check("MODSEQ 620162338", None, None, SearchKey::ModSeq(ModSeq(620_162_338)));
    let entry = "MODSEQ \"/flags/\\\\draft\" all 620162338";
    check(entry, None, None, SearchKey::ModSeq(ModSeq(620_162_338)));
    let id = format!("EMAILID M{:032x}", 7);
    check(&id, None, None, SearchKey::EmailId(Some(MessageId::from_u128(7))));
    check("THREADID 42", None, None, SearchKey::ThreadId(None));
}

#[test]
fn id_and_enable_take_lists() {
    check("ID NIL", CommandBody::Id(None));
    check("ID ()", CommandBody::Id(Some(vec![])));
    let pairs = vec![("name".to_owned(), Some("sodr".to_owned())), ("os".to_owned(), None)];
    check("ID (\"name\" \"sodr\" \"os\" nil)", CommandBody::Id(Some(pairs)));
    let words = vec!["CONDSTORE".to_owned(), "X-GOOD-IDEA".to_owned()];
    check("ENABLE CONDSTORE X-Good-Idea", CommandBody::Enable(words));
}

#[test]
fn sets_resolve_against_the_largest_number() {
    let check = |ranges: &[(u32, u32)], largest: u32, resolved: &[(u32, u32)]| {
        let found = set(ranges).resolve(largest.try_into().ok());
        let found: Vec<_> = found.into_iter().map(|(a, b)| (a.get(), b.get())).collect();
        assert_eq!(found, resolved, "{ranges:?} of {largest}");
    };
    check(&[(1, 0)], 5, &[(1, 5)]);
    check(&[(559, 0)], 5, &[(5, 559)]);
    check(&[(0, 0), (3, 1)], 5, &[(1, 3), (5, 5)]);
    check(&[(4, 4), (1, 2), (3, 3), (2, 9)], 5, &[(1, 9)]);
    check(&[(1, 0), (7, 7)], 0, &[(7, 7)]);
    check(&[(!0, !0), (!0 - 1, !0 - 1)], 5, &[(!0 - 1, !0)]);
}
