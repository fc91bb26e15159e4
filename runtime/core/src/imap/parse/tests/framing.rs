//! What the session asks while a command is still coming in.

use crate::imap::command::LiteralHeader;
use crate::imap::parse::{append_head, literal_at_end};
use crate::types::{Flag, Flags, MailboxName, Timestamp};

fn header(octets: u64, non_sync: bool, binary: bool) -> LiteralHeader {
    LiteralHeader { octets, non_sync, binary }
}

#[test]
fn a_literal_is_announced_at_the_end_of_the_line_only() {
    let check = |text: &str, literal: Option<LiteralHeader>| {
        assert_eq!(literal_at_end(text.as_bytes()), literal, "{text:?}");
    };
    check("a LOGIN {3}\r\n", Some(header(3, false, false)));
    check("a LOGIN {3}\n", Some(header(3, false, false)));
    check("a LOGIN {3}", Some(header(3, false, false)));
    check("a LOGIN {0+}\r\n", Some(header(0, true, false)));
    check("a APPEND x ~{30}\r\n", Some(header(30, false, true)));
    check("{7}\r\n", Some(header(7, false, false)));
    check("~{7}\r\n", Some(header(7, false, true)));
    check("a {18446744073709551616}\r\n", Some(header(u64::MAX, false, false)));
    check("a LOGIN {3}\r\nabc\r\n", None);
    check("a LOGIN {3} \r\n", None);
    check("a LOGIN \"{3}\"\r\n", None);
    check("a LOGIN {}\r\n", None);
    check("a LOGIN {+}\r\n", None);
    check("a LOGIN {3++}\r\n", None);
    check("a LOGIN {-3}\r\n", None);
    check("a LOGIN 3}\r\n", None);
    check("}\r\n", None);
    check("3}", None);
    check("\r\n", None);
    check("", None);
}

fn check_append(text: &str, flags: &[&str], date: Option<Timestamp>, literal: LiteralHeader) {
    let head = append_head(text.as_bytes()).unwrap().unwrap();
    assert_eq!(head.tag.as_str(), "a1");
    assert_eq!(head.mailbox, MailboxName::new("x y").unwrap());
    assert_eq!(head.flags, Flags::of(flags.iter().map(|flag| Flag::parse(flag).unwrap())));
    assert_eq!(head.internal_date, date);
    assert_eq!(head.literal, literal);
}

#[test]
fn an_append_is_read_up_to_its_message() {
    let date = Some(Timestamp { seconds: 760_168_345, offset_minutes: -480 });
    let sync = header(310, false, false);
    check_append("a1 APPEND \"x y\" {310}\r\n", &[], None, sync);
    check_append("a1 append {3}\r\nx y {310}\r\n", &[], None, sync);
    check_append("a1 APPEND {3+}\r\nx y () {9+}\r\n", &[], None, header(9, true, false));
    let line = "a1 APPEND \"x y\" (\\Seen $a) \" 1-Feb-1994 21:52:25 -0800\" {310}\r\n";
    check_append(line, &["\\Seen", "$a"], date, sync);
    let line = "a1 APPEND \"x y\" \"01-Feb-1994 21:52:25 -0800\" {310}\r\n";
    check_append(line, &[], date, sync);
}

#[test]
fn other_literals_are_not_taken_for_a_message() {
    let check = |text: &str| assert_eq!(append_head(text.as_bytes()), None, "{text:?}");
    check("a1 APPEND {3}\r\n");
    check("a1 APPEND {3+}\r\n");
    check("a1 LOGIN {3}\r\n");
    check("a1 APPENDIX {3}\r\n");
    check("{3}\r\n");
    check("");
    check("a1 NOOP");
}

#[test]
fn a_wrong_append_is_refused_before_its_message_comes() {
    let check = |text: &str, answer: &str| {
        let error = append_head(text.as_bytes()).unwrap().unwrap_err();
        assert_eq!(error.to_string(), answer, "{text:?}");
        assert_eq!(error.tag.unwrap().as_str(), "a1");
    };
    check("a1 APPEND{3}\r\n", "expected a space at column 10");
    check("a1 APPEND x{3}\r\n", "expected a space at column 12");
    check("a1 APPEND a//b {3}\r\n", "a mailbox name has no empty level (column 11)");
    let flag = "expected a keyword or a flag that a client can set at column 14";
    check("a1 APPEND x (\\Recent) {3}\r\n", flag);
    let date = "expected a date and time such as \" 1-Feb-1994 21:52:25 -0800\" at column 13";
    check("a1 APPEND x \"32-Feb-1994 21:52:25 -0800\" {3}\r\n", date);
    check("a1 APPEND x \"01-Feb-1994 24:00:00 -0800\" {3}\r\n", date);
    check("a1 APPEND x \"01-Feb-1994 23:00:00 -0860\" {3}\r\n", date);
    check("a1 APPEND x \"31-Dec-9999 23:59:59 -2359\" {3}\r\n", date);
    let end = "expected the end of the command at column 26";
    check("a1 APPEND x (\\Seen) {3}\r\nabc {4}\r\n", end);
    check("a1 APPEND x (\\Seen) foo {3}\r\n", "expected a literal at column 21");
    check("a1 APPEND x ~{3}\r\n", "expected a literal without \"~\" at column 13");
    check("a1 APPEND x (\\Seen) ~{3+}\r\n", "expected a literal without \"~\" at column 21");
}
