//! Rubbish, and what is answered to it.

use crate::imap::command::{
    MAX_FETCH_ITEMS, MAX_LIST_PATTERNS, MAX_SEARCH_DEPTH, MAX_SEARCH_KEYS, MAX_SET_RANGES,
    MAX_TAG_OCTETS,
};
use crate::imap::parse::{Fault, append_tail, command};

/// Checks the whole text of the refusal.
fn check(text: impl AsRef<[u8]>, fault: Fault, answer: &str) {
    let text = text.as_ref();
    let error = command(text).expect_err(&String::from_utf8_lossy(text));
    assert_eq!(error.to_string(), answer, "{}", String::from_utf8_lossy(text));
    assert_eq!(error.fault, fault);
    assert_eq!(error.tag.is_some(), text.starts_with(b"a "));
}

fn syntax(text: impl AsRef<[u8]>, expected: &str, column: usize) {
    check(text, Fault::Syntax, &format!("expected {expected} at column {column}"));
}

#[test]
fn what_is_no_command_is_named_by_place() {
    syntax("", "a tag", 1);
    syntax("\r\n", "a tag", 1);
    syntax(" NOOP", "a tag", 1);
    syntax("+ NOOP", "a tag", 1);
    syntax("\u{e9} NOOP", "a tag", 1);
    syntax("\0\u{1b}[2J", "a tag", 1);
    syntax("a ", "the name of a command", 3);
    syntax("a  NOOP", "the name of a command", 3);
    syntax("a FROB x", "the name of a command", 3);
    syntax("a UID", "a space", 6);
    syntax("a UID NOOP", "a command that can follow UID", 7);
    syntax("a NOOP x", "the end of the command", 7);
    syntax("a NOOP ", "the end of the command", 7);
    syntax("a NOOP\r\nb NOOP", "the end of the command", 7);
    syntax("a NOOP\rx", "the end of the command", 7);
    syntax("a NOOP\0", "the end of the command", 7);
    syntax("x".repeat(MAX_TAG_OCTETS + 1), "a tag", 1);
}

#[test]
fn a_tag_without_a_command_is_answered_with_that_tag() {
    let error = command(b"a1\r\n").unwrap_err();
    assert_eq!(error.tag.unwrap().as_str(), "a1");
    assert_eq!(error.column, 3);
}

#[test]
fn strings_must_be_whole() {
    syntax("a LOGIN", "a space", 8);
    syntax("a LOGIN ", "a user name in UTF-8", 9);
    syntax("a LOGIN (x) y", "a user name in UTF-8", 9);
    syntax(b"a LOGIN \"\xff\" y", "a user name in UTF-8", 9);
    syntax("a LOGIN x", "a space", 10);
    syntax("a LOGIN \"x", "a string that is closed on its line", 9);
    syntax("a LOGIN \"x\r\ny\" z", "a string that is closed on its line", 9);
    syntax(r#"a LOGIN "\x" z"#, "a string that is closed on its line", 9);
    syntax("a LOGIN \"x\0\" z", "a string that is closed on its line", 9);
    syntax("a LOGIN x \u{e9}", "a password", 11);
    syntax("a LOGIN {5}\r\nabc", "the octets of the literal", 14);
    syntax("a LOGIN {18446744073709551616}\r\nabc", "the octets of the literal", 33);
    syntax("a LOGIN {x}\r\nabc", "a number of octets", 10);
    syntax("a LOGIN {3}abc", "the end of the line", 12);
    syntax("a LOGIN {0}", "the end of the line", 12);
    syntax("a LOGIN {3", "\"}\"", 11);
    syntax("a LOGIN {3}\r\na\0b z", "a literal without NUL", 9);
    syntax("a LOGIN ~{3}\r\nabc z", "a space", 10);
    syntax("a AUTHENTICATE", "a space", 15);
    syntax("a AUTHENTICATE PLAIN !", "an initial response in base64", 22);
    syntax("a AUTHENTICATE PLAIN AGE", "an initial response in base64", 22);
    syntax("a AUTHENTICATE PLAIN A=GE", "an initial response in base64", 22);
    syntax("a ID x", "\"(\"", 6);
    syntax("a ID (\"x\")", "a space", 10);
    syntax("a ID (\"x\" y)", "a value in quotes, or NIL", 11);
    syntax("a ENABLE", "a space", 9);
    syntax("a ENABLE (X)", "a capability", 10);
}

#[test]
fn mailbox_names_that_cannot_be_are_refused_apart_from_syntax() {
    let name = |text: &str, answer: &str| check(text, Fault::MailboxName, answer);
    name("a SELECT &x", "a mailbox name is written in modified UTF-7 (column 10)");
    name("a SELECT \"R&D\"", "a mailbox name is written in modified UTF-7 (column 10)");
    name("a DELETE {2}\r\n\u{e9}", "a mailbox name is written in modified UTF-7 (column 10)");
    name("a SELECT \"\"", "a mailbox name has no empty level (column 10)");
    name("a RENAME a b//c", "a mailbox name has no empty level (column 12)");
    name("a CREATE a//", "a mailbox name has no empty level (column 10)");
    name("a CREATE /", "a mailbox name has no empty level (column 10)");
    let forbidden = "a mailbox name has no control characters and no * or % (column 10)";
    name("a CREATE \"a*\"", forbidden);
    name("a CREATE &AAE-", forbidden);
    let long = format!("a CREATE {}", "x".repeat(1025));
    let answer = "a mailbox name has at most 1024 octets in 32 levels (column 10)";
    check(long, Fault::Limit, answer);
    syntax("a CREATE a*", "the end of the command", 11);
    syntax("a CREATE (a)", "a mailbox name", 10);
}

#[test]
fn option_lists_hold_what_is_advertised() {
    syntax("a SELECT x CONDSTORE", "\"(\"", 12);
    syntax("a SELECT x (QRESYNC (1 2))", "CONDSTORE", 13);
    syntax("a SELECT x ()", "CONDSTORE", 13);
    syntax("a CREATE x (USE \\Sent)", "\"(\"", 17);
    syntax("a CREATE x (USE (Sent))", "a special use such as \\Sent", 18);
    syntax("a CREATE x (USE (\\Sent)", "\")\"", 24);
    syntax("a CREATE x (FOO)", "USE", 13);
    syntax("a STATUS x", "a space", 11);
    syntax("a STATUS x ()", "a status item such as MESSAGES", 13);
    syntax("a STATUS x (FOO)", "a status item such as MESSAGES", 13);
    syntax("a STATUS x (UNSEEN", "\")\"", 19);
    syntax("a LIST \"\"", "a space", 10);
    syntax("a LIST \"\" ()", "a pattern", 12);
    syntax("a LIST (FOO) \"\" *", "a selection option of LIST", 9);
    syntax("a LIST (RECURSIVEMATCH) \"\" *", "SUBSCRIBED beside RECURSIVEMATCH", 8);
    syntax("a LIST \"\" * FOO", "RETURN", 13);
    syntax("a LIST \"\" * RETURN (FOO)", "a return option of LIST", 21);
    syntax("a LIST \"\" * RETURN CHILDREN", "\"(\"", 20);
}

#[test]
fn numbers_and_sets_stay_in_their_ranges() {
    syntax("a COPY 0 x", "a sequence set", 8);
    syntax("a COPY $ x", "a sequence set", 8);
    syntax("a COPY 1, x", "a sequence set", 10);
    syntax("a COPY 1: x", "a sequence set", 10);
    syntax("a COPY 1:2:3 x", "a space", 11);
    syntax("a COPY 4294967296 x", "a sequence set", 8);
    syntax("a UID EXPUNGE", "a space", 14);
    syntax("a FETCH 1 (FLAGS) (CHANGEDSINCE 9223372036854775808)", "a mod-sequence", 33);
    syntax("a FETCH 1 BODY[]<0.0>", "a number of octets above zero", 20);
    syntax("a FETCH 1 BODY[]<0>", "\".\"", 19);
    syntax("a SEARCH LARGER -1", "a number of octets", 17);
    syntax("a SEARCH YOUNGER 0", "a number of seconds above zero", 18);
}

#[test]
fn fetch_and_store_say_what_they_want() {
    let item = "a FETCH item such as FLAGS or BODY[]";
    syntax("a FETCH 1", "a space", 10);
    syntax("a FETCH 1 ()", item, 12);
    syntax("a FETCH 1 (ALL)", item, 12);
    syntax("a FETCH 1 BODY.PEEK", "\"[\"", 20);
    syntax("a FETCH 1 BINARY[1]", item, 11);
    syntax("a FETCH 1 FLAGS UID", "\"(\"", 17);
    let section = "a section such as 1.2, HEADER or TEXT";
    syntax("a FETCH 1 BODY[MIME]", section, 16);
    syntax("a FETCH 1 BODY[1.]", section, 18);
    syntax("a FETCH 1 BODY[0]", "a part number", 16);
    syntax("a FETCH 1 BODY[1.FOO]", section, 18);
    syntax("a FETCH 1 BODY[HEADER", "\"]\"", 22);
    syntax("a FETCH 1 BODY[HEADER.FIELDS ()]", "the name of a header", 31);
    syntax("a FETCH 1 BODY[HEADER.FIELDS (a:)]", "the name of a header", 31);
    syntax("a FETCH 1 BODY[HEADER.FIELDS (\"\")]", "the name of a header", 31);
    syntax("a FETCH 1 FLAGS (VANISHED)", "CHANGEDSINCE", 18);
    syntax("a STORE 1 FOO (\\Seen)", "FLAGS or FLAGS.SILENT", 11);
    syntax("a STORE 1 FLAGS", "a space", 16);
    let flag = "a keyword or a flag that a client can set";
    syntax("a STORE 1 FLAGS (\\Recent)", flag, 18);
    syntax("a STORE 1 FLAGS \\Foo", flag, 17);
    syntax("a STORE 1 FLAGS (a", "\")\"", 19);
    syntax("a STORE 1 +FLAGS (\\*)", "a flag", 20);
    let keyword = format!("a STORE 1 FLAGS {}", "k".repeat(129));
    check(keyword, Fault::Limit, "at most 128 octets in a keyword (column 17)");
}

#[test]
fn search_programs_must_make_sense() {
    syntax("a SEARCH", "a space", 9);
    syntax("a SEARCH ", "a search key", 10);
    syntax("a SEARCH FOO", "a search key", 10);
    syntax("a SEARCH ()", "a search key", 11);
    syntax("a SEARCH (ALL", "\")\"", 14);
    syntax("a SEARCH NOT", "a space", 13);
    syntax("a SEARCH OR ALL", "a space", 16);
    syntax("a SEARCH ALLX", "a search key", 10);
    syntax("a SEARCH ALL FOO", "a search key", 14);
    syntax("a SEARCH CHARSET UTF-8", "a space", 23);
    syntax("a SEARCH RETURN (FOO) ALL", "MIN, MAX, ALL or COUNT", 18);
    syntax("a SEARCH RETURN (SAVE) ALL", "MIN, MAX, ALL or COUNT", 18);
    let date = "a date such as 1-Feb-1994";
    syntax("a SEARCH ON 31-Feb-1994", date, 13);
    syntax("a SEARCH ON 1-Foo-1994", date, 13);
    syntax("a SEARCH ON \"1-Feb-1994", "the closing quote of the date", 24);
    syntax("a SEARCH ON 1-Feb-94", date, 13);
    syntax("a SEARCH EMAILID a.b", "an object id", 18);
    syntax("a SEARCH MODSEQ \"/x\" all 1", "an entry name such as \"/flags/\\\\Draft\"", 17);
    syntax("a SEARCH MODSEQ \"/flags/x\" some 1", "priv, shared or all", 28);
}

#[test]
fn everything_that_can_be_repeated_has_a_limit() {
    let limit = |text: String, most: usize, what: &str| {
        let error = command(text.as_bytes()).unwrap_err();
        assert_eq!(error.fault, Fault::Limit, "{error}");
        assert_eq!(error.expected, format!("at most {most} {what}"));
    };
    let within = |text: String| assert!(command(text.as_bytes()).is_ok());
    let set = |n: usize| format!("a COPY {} x", vec!["1"; n].join(","));
    within(set(MAX_SET_RANGES));
    limit(set(MAX_SET_RANGES + 1), MAX_SET_RANGES, "ranges in a sequence set");
    let deep = |n: usize| format!("a SEARCH {}ALL{}", "(".repeat(n), ")".repeat(n));
    within(deep(MAX_SEARCH_DEPTH - 1));
    limit(deep(MAX_SEARCH_DEPTH), MAX_SEARCH_DEPTH, "levels of search keys");
    let nots = |n: usize| format!("a SEARCH {}ALL", "NOT ".repeat(n));
    limit(nots(100_000), MAX_SEARCH_DEPTH, "levels of search keys");
    limit(nots(100_000).replace("NOT", "OR"), MAX_SEARCH_DEPTH, "levels of search keys");
    let wide = |n: usize| format!("a SEARCH{}", " ALL".repeat(n));
    within(wide(MAX_SEARCH_KEYS));
    limit(wide(MAX_SEARCH_KEYS + 1), MAX_SEARCH_KEYS, "search keys");
    let items = |n: usize| format!("a FETCH 1 ({})", vec!["UID"; n].join(" "));
    within(items(MAX_FETCH_ITEMS));
    limit(items(MAX_FETCH_ITEMS + 1), MAX_FETCH_ITEMS, "FETCH items");
    let patterns = |n: usize| format!("a LIST \"\" ({})", vec!["*"; n].join(" "));
    within(patterns(MAX_LIST_PATTERNS));
    limit(patterns(MAX_LIST_PATTERNS + 1), MAX_LIST_PATTERNS, "patterns");
    limit(format!("a LIST \"\" {}", "x".repeat(1025)), 1024, "octets in a pattern");
    limit(format!("a FETCH 1 BODY[{}1]", "1.".repeat(100)), 100, "levels in a section");
    limit(format!("a STORE 1 FLAGS{}", " k".repeat(81)), 80, "flags");
    limit(format!("a ID ({})", vec!["\"a\" nil"; 31].join(" ")), 30, "pairs");
}

#[test]
fn an_append_without_its_message_is_refused() {
    let literal = "the message as a literal";
    syntax("a APPEND x", "a space", 11);
    syntax("a APPEND x ", literal, 12);
    syntax("a APPEND x \"message\"", "a date and time such as \" 1-Feb-1994 21:52:25 -0800\"", 12);
    syntax("a APPEND x message", literal, 12);
    syntax("a APPEND x {3}\r\nabc", literal, 12);
}

#[test]
fn only_a_line_end_may_follow_an_appended_message() {
    let tag = crate::imap::command::Tag::new("a1").unwrap();
    assert_eq!(append_tail(&tag, b"\r\n"), Ok(()));
    assert_eq!(append_tail(&tag, b""), Ok(()));
    let error = append_tail(&tag, b" {3}\r\n").unwrap_err();
    assert_eq!(error.to_string(), "expected the end of the command at column 1");
    assert_eq!(error.tag, Some(tag));
}
