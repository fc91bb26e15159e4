//! APPEND.

use std::sync::Arc;

use super::*;
use crate::budget::{Budget, Reservation};
use crate::error::StoreError;

#[test]
fn a_message_is_appended_with_flags_and_date() {
    check(
        "C: a APPEND INBOX (\\Seen work) \"02-Jan-2024 03:04:05 +0100\" {5}
         S: + send the message
         C: hello
         S: a OK [APPENDUID 1 4] APPEND completed
         C: b SELECT INBOX
         S: * FLAGS (... work)
         S: * 4 EXISTS
         S: * 4 RECENT
         S: * OK [UNSEEN 1] ...
         S: * OK [PERMANENTFLAGS (... work \\*)] ...
         S: * OK [UIDVALIDITY 1] ...
         S: * OK [UIDNEXT 5] ...
         S: * OK [HIGHESTMODSEQ 2] ...
         S: * OK [MAILBOXID (F...)] ...
         S: b OK [READ-WRITE] selected
         C: c FETCH 4 (FLAGS INTERNALDATE RFC822.SIZE BODY[])
         S: * 4 FETCH (FLAGS (\\Seen \\Recent work) INTERNALDATE \" 2-Jan-2024 03:04:05 +0100\" RFC822.SIZE 5 BODY[] {5}
         S: hello)
         S: c OK FETCH completed",
    );
}

#[test]
fn a_missing_mailbox_is_told_before_the_message_is_sent() {
    check(
        "C: a APPEND Sent {5}
         S: a NO [TRYCREATE] Sent does not exist
         C: b NOOP
         S: b OK ...
         C: c APPEND Sent {5+}<CRLF>hello
         S: c NO [TRYCREATE] Sent does not exist
         C: d APPEND {4}
         S: + go on
         C: Sent {5}
         S: d NO [TRYCREATE] Sent does not exist",
    );
}

#[test]
fn a_message_with_nul_is_passed_over_and_refused() {
    check(
        "C: a APPEND INBOX {5+}<CRLF>he<NUL>lo
         S: a NO [CANNOT] a message has no NUL octets
         C: b APPEND INBOX {5}
         S: + send the message
         C: hell<NUL>
         S: b NO [CANNOT] a message has no NUL octets
         C: c APPEND INBOX {5+}<CRLF><NUL>ello {3+}<CRLF>abc
         S: c NO [CANNOT] a message has no NUL octets
         C: d STATUS INBOX (MESSAGES)
         S: * STATUS INBOX (MESSAGES 3)
         S: d OK ...",
    );
}

#[test]
fn a_literal8_is_no_message_without_binary() {
    check(
        "C: a APPEND INBOX ~{5}
         S: a BAD expected a literal without \"~\" at column 16
         C: b APPEND INBOX ~{5+}<CRLF>hello
         S: b BAD expected a literal without \"~\" at column 16
         C: c NOOP
         S: c OK ...",
    );
}

#[test]
fn a_message_with_bare_line_feeds_is_kept_as_it_came_and_is_read_like_any_other() {
    let body = "Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n\
                --b\nContent-Type: text/plain\n\none\ntwo\n--b\n\nthree\n--b--\n";
    let mut server = selected(1);
    server.send(0, format!("a APPEND INBOX {{{}+}}\r\n{body}\r\n", body.len()).as_bytes());
    server.clients[0].unread.clear();
    server.script(&format!(
        "C: b FETCH 4 (RFC822.SIZE BODY)
         S: * 4 FETCH (RFC822.SIZE {} BODY ((\"text\" \"plain\" NIL NIL NIL \"7bit\" 7 1)...\"mixed\"))
         S: b OK ...
         C: c FETCH 4 (BODY.PEEK[1] BODY.PEEK[HEADER.FIELDS (Subject)] BODY.PEEK[2])
         S: * 4 FETCH (BODY[1] {{7}}
         S: one...two BODY[HEADER.FIELDS (...)] {{12}}
         S: Subject: x... BODY[2] {{5}}
         S: three)
         S: c OK ...
         C: d SEARCH SUBJECT x TEXT two
         S: * SEARCH 4
         S: d OK ...",
        body.len()
    ));
    server.send(0, b"e FETCH 4 BODY.PEEK[]\r\n");
    let unread = std::mem::take(&mut server.clients[0].unread);
    assert!(unread.windows(body.len()).any(|octets| octets == body.as_bytes()));
}

#[test]
fn without_memory_a_message_is_passed_over_and_refused_for_now() {
    let budget = Arc::new(Budget::new(20));
    let config = Config { plaintext_login: true, budget: budget.clone(), ..Config::default() };
    let mut server = Server::greeting(config);
    // Somebody else's message arrives meanwhile, over whatever protocol.
    let mut others = Reservation::new(budget.clone());
    assert!(others.hold(12));
    server.script(
        "S: * OK ...
         C: l LOGIN alice secret
         S: l OK ...
         C: a APPEND INBOX {9}
         S: a NO [UNAVAILABLE] too many messages arrive at once, try again in a moment
         C: b APPEND INBOX {9+}<CRLF>some mail
         S: b NO [UNAVAILABLE] ...
         C: c APPEND INBOX {8}
         S: + send the message
         C: somemail
         S: c OK [APPENDUID 1 4] APPEND completed",
    );
    drop(others);
    server.script("C: d APPEND INBOX {20+}<CRLF>as much as there is.\nS: d OK ...");
    assert_eq!(budget.left(), 20, "all is given back");
}

#[test]
fn memory_that_runs_out_within_a_message_is_told_at_its_end() {
    let octets = 200 * 1024;
    let budget = Arc::new(Budget::new(octets));
    let config = Config { plaintext_login: true, budget: budget.clone(), ..Config::default() };
    let mut server = Server::greeting(config);
    server.script("S: * OK ...\nC: l LOGIN alice secret\nS: l OK ...");
    server.send(0, format!("a APPEND INBOX {{{octets}+}}\r\n").as_bytes());
    let mut others = Reservation::new(budget.clone());
    assert!(others.hold(64 * 1024));
    for piece in vec![b'x'; octets as usize].chunks(10_000) {
        server.send(0, piece);
    }
    assert_eq!(budget.left(), octets - 64 * 1024, "what has arrived is not kept");
    server.script("C:\nS: a NO [UNAVAILABLE] too many messages arrive...");
    drop(others);
    server.script("C: b NOOP\nS: b OK ...");
    assert_eq!(budget.left(), octets);
}

#[test]
fn a_selected_mailbox_shows_what_was_appended() {
    check_selected(
        "C: a APPEND INBOX {5+}<CRLF>hello
         S: * 4 EXISTS
         S: * 4 RECENT
         S: a OK [APPENDUID 1 4] APPEND completed",
    );
}

#[test]
fn too_large_a_message_is_not_read() {
    let config = Config { plaintext_login: true, max_message_octets: 10, ..Config::default() };
    let mut server = Server::greeting(config);
    server.script(
        "S: * OK ...
         C: l LOGIN alice secret
         S: l OK ...
         C: a APPEND INBOX {11}
         S: a NO [TOOBIG] a message has at most 10 octets
         C: b APPEND INBOX {11+}<CRLF>hello again
         S: b NO [TOOBIG] a message has at most 10 octets
         C: c APPEND INBOX {10+}<CRLF>hello agai
         S: c OK ...
         C: d APPEND INBOX {99999999999999999999}
         S: d NO [TOOBIG] ...
         C: e APPEND INBOX {0}
         S: e NO [CANNOT] there is no empty message
         C: f APPEND INBOX {99999999999+}
         S: * BYE the command is too long
         S: <closed>",
    );
}

#[test]
fn only_one_message_at_a_time_and_the_rest_is_passed_over() {
    check(
        "C: a APPEND INBOX {5+}<CRLF>hello {5+}<CRLF>again
         S: a BAD expected the end of the command at column 1
         C: b APPEND INBOX {5+}<CRLF>hello rubbish
         S: b BAD expected ...
         C: c STATUS INBOX (MESSAGES)
         S: * STATUS INBOX (MESSAGES 3)
         S: c OK ...",
    );
}

#[test]
fn what_is_wrong_before_the_message_is_told_before_it_is_sent() {
    check(
        "C: a APPEND INBOX (\\Bogus {5}
         S: a BAD expected ...
         C: b APPEND INBOX (\\Seen) rubbish {5+}<CRLF>hello
         S: b BAD expected ...
         C: c NOOP
         S: c OK ...",
    );
}

#[test]
fn a_store_that_is_full_or_away_says_so() {
    let mut server = Server::new();
    server.store.fails = Some(("Append", StoreError::OverQuota));
    server.script("C: a APPEND INBOX {5+}<CRLF>hello\nS: a NO [OVERQUOTA] ...");
    server.store.fails = Some(("Status", StoreError::Unavailable("x".into())));
    server.script("C: b APPEND INBOX {5}\nS: b NO [UNAVAILABLE] not available...");
    server.script("C: c NOOP\nS: c OK ...");
}
