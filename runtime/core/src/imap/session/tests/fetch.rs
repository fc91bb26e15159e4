//! FETCH.

use super::*;
use crate::error::StoreError;

#[test]
fn facts_and_structure() {
    check_selected(
        "C: a FETCH 1 (FLAGS UID INTERNALDATE RFC822.SIZE)
         S: * 1 FETCH (FLAGS (\\Recent) UID 1 INTERNALDATE \" 1-Jan-2024 00:00:00 +0000\" RFC822.SIZE 56)
         S: a OK FETCH completed
         C: b UID FETCH 2 ENVELOPE
         S: * 2 FETCH (UID 2 ENVELOPE (NIL \"two\" ((\"Bob\" NIL \"bob\" \"example.org\")) ...))
         S: b OK FETCH completed
         C: c FETCH 2 BODYSTRUCTURE
         S: * 2 FETCH (BODYSTRUCTURE (\"text\" \"plain\" ...))
         S: c OK ...
         C: d FETCH 2 FULL
         S: * 2 FETCH (FLAGS ... INTERNALDATE ... RFC822.SIZE ... ENVELOPE ... BODY (...))
         S: d OK ...",
    );
}

#[test]
fn all_pages_are_shown_in_order() {
    check_selected(
        "C: a FETCH 1:* UID
         S: * 1 FETCH (UID 1)
         S: * 2 FETCH (UID 2)
         S: * 3 FETCH (UID 3)
         S: a OK FETCH completed
         C: b FETCH 3,1:2,2 (UID)
         S: * 1 FETCH (UID 1)
         S: * 2 FETCH (UID 2)
         S: * 3 FETCH (UID 3)
         S: b OK FETCH completed
         C: c UID FETCH *:1 (FLAGS)
         S: * 1 FETCH (UID 1 FLAGS (\\Recent))
         S: * 2 FETCH (UID 2 FLAGS (\\Recent))
         S: * 3 FETCH (UID 3 FLAGS (\\Recent))
         S: c OK ...",
    );
}

#[test]
fn numbers_that_no_message_has() {
    check_selected(
        "C: a FETCH 4 UID
         S: a BAD no message has such a number
         C: b FETCH 3:9 UID
         S: b BAD no message has such a number
         C: c UID FETCH 9 FLAGS
         S: c OK FETCH completed
         C: d UID FETCH 9:* FLAGS
         S: * 3 FETCH (UID 3 FLAGS (\\Recent))
         S: d OK FETCH completed
         C: e CREATE Empty
         S: e OK ...
         C: f EXAMINE Empty
         S: * OK [CLOSED] ...
         S: * FLAGS ...
         S: * 0 EXISTS
         S: * 0 RECENT
         S: * OK [PERMANENTFLAGS ()] ...
         S: * OK [UIDVALIDITY ...
         S: * OK [UIDNEXT 1] ...
         S: * OK [HIGHESTMODSEQ 1] ...
         S: * OK [MAILBOXID ...
         S: f OK [READ-ONLY] selected, read-only
         C: g FETCH * UID
         S: g BAD no message has such a number
         C: h UID FETCH 1:* UID
         S: h OK FETCH completed",
    );
}

#[test]
fn reading_a_body_makes_it_seen() {
    check_selected(
        "C: a FETCH 1 BODY.PEEK[TEXT]
         S: * 1 FETCH (BODY[TEXT] {11}
         S: Hello one
         S: )
         S: a OK FETCH completed
         C: b FETCH 1 BODY[TEXT]
         S: * 1 FETCH (BODY[TEXT] {11}
         S: Hello one
         S:  FLAGS (\\Seen \\Recent))
         S: b OK FETCH completed
         C: c FETCH 1:2 (FLAGS BODY[HEADER.FIELDS (Subject)])
         S: * 1 FETCH (FLAGS (\\Seen \\Recent) BODY[HEADER.FIELDS (Subject)] {16}
         S: Subject: one
         S:
         S: )
         S: * 2 FETCH (FLAGS (\\Seen \\Recent) BODY[HEADER.FIELDS (Subject)] {16}
         S: Subject: two
         S:
         S: )
         S: c OK FETCH completed
         C: d FETCH 3 RFC822.HEADER
         S: * 3 FETCH (RFC822.HEADER {47}
         S: From: Bob <bob@example.org>
         S: Subject: three
         S:
         S: )
         S: d OK FETCH completed
         C: e FETCH 3 FLAGS
         S: * 3 FETCH (FLAGS (\\Recent))
         S: e OK ...
         C: f FETCH 3 (RFC822.TEXT)
         S: * 3 FETCH (RFC822.TEXT {13}
         S: Hello three
         S:  FLAGS (\\Seen \\Recent))
         S: f OK ...",
    );
}

#[test]
fn reading_in_examine_changes_nothing() {
    check(
        "C: a EXAMINE INBOX<CRLF>b FETCH 1 RFC822
         S: * FLAGS ...
         S: * 3 EXISTS
         S: * 3 RECENT
         S: * OK [UNSEEN 1] ...
         S: * OK [PERMANENTFLAGS ()] ...
         S: * OK [UIDVALIDITY 1] ...
         S: * OK [UIDNEXT 4] ...
         S: * OK [HIGHESTMODSEQ 1] ...
         S: * OK [MAILBOXID ...
         S: a OK [READ-ONLY] ...
         S: * 1 FETCH (RFC822 {56}
         S: From: Bob <bob@example.org>
         S: Subject: one
         S:
         S: Hello one
         S: )
         S: b OK FETCH completed",
    );
}

#[test]
fn a_part_of_a_body() {
    check_selected(
        "C: a FETCH 1 (BODY.PEEK[]<6.3> BODY.PEEK[1]<0.5> BODY.PEEK[9] BODY.PEEK[]<900.5>)
         S: * 1 FETCH (BODY[]<6> {3}
         S: Bob BODY[1]<0> {5}
         S: Hello BODY[9] NIL BODY[]<900> {0}
         S: )
         S: a OK FETCH completed",
    );
}

#[test]
fn a_message_that_cannot_be_read_is_left_out_and_said() {
    let mut server = selected(1);
    server.store.loses_bodies = true;
    server.script(
        "C: a FETCH 1:3 BODY.PEEK[]<0.4>
         S: * 3 FETCH (BODY[]<0> {4}
         S: From)
         S: a NO [SERVERBUG] some messages could not be read",
    );
}

#[test]
fn what_the_header_answers_needs_no_body() {
    let mut server = selected(1);
    for item in
        ["BODY[HEADER]", "BODY[HEADER.FIELDS (From Subject)]", "BODY[HEADER.FIELDS.NOT (To)]"]
    {
        server.store.loses_bodies = true;
        server.script(&format!(
            "C: a FETCH 1 (BODY.PEEK{})
             S: * 1 FETCH ({item} {{45}}
             S: From: Bob <bob@example.org>
             S: Subject: one
             S:
             S: )
             S: a OK FETCH completed",
            &item[4..]
        ));
    }
    server.store.loses_bodies = true;
    server.script(
        "C: b FETCH 1 (ENVELOPE RFC822.HEADER BODY.PEEK[HEADER]<0.4>)
         S: * 1 FETCH (ENVELOPE ... RFC822.HEADER {45}
         S: From: Bob <bob@example.org>
         S: Subject: one
         S:
         S:  BODY[HEADER]<0> {4}
         S: From)
         S: b OK FETCH completed",
    );
    for item in ["BODY.PEEK[1]", "BODY.PEEK[1.MIME]", "(RFC822.HEADER RFC822.TEXT)"] {
        server.store.loses_bodies = true;
        server.script(&format!(
            "C: c FETCH 1 {item}
             S: c NO [SERVERBUG] some messages could not be read"
        ));
    }
}

#[test]
fn mail_is_readable_when_nothing_can_be_written() {
    let mut server = selected(1);
    server.store.fails = Some(("Store", StoreError::Unavailable("disk".into())));
    server.script(
        "C: a FETCH 1 BODY[]<0.4>
         S: * 1 FETCH (BODY[]<0> {4}
         S: From)
         S: a OK FETCH completed",
    );
}

#[test]
fn a_read_that_fails_says_why() {
    let errors = [
        (StoreError::Unavailable("x".into()), "UNAVAILABLE"),
        (StoreError::Fenced, "UNAVAILABLE"),
        (StoreError::Broken("secret path".into()), "SERVERBUG"),
        (StoreError::Damaged("row".into()), "CORRUPTION"),
        (StoreError::Limit("x".into()), "LIMIT"),
        (StoreError::Denied("x".into()), "NOPERM"),
    ];
    let mut server = selected(1);
    for (error, code) in errors {
        server.store.fails = Some(("Fetch", error));
        server.script(&format!("C: a FETCH 1 FLAGS\nS: a NO [{code}] ..."));
    }
    server.store.fails = Some(("Fetch", StoreError::Broken("secret path".into())));
    server.script("C: a FETCH 1 FLAGS\nS: a NO [SERVERBUG] an error within the server, its operator can look it up");
}

#[test]
fn bodies_are_not_copied() {
    let mut server = Server::new();
    let body = Bytes::from(vec![b'x'; 1 << 20]);
    let flags = Flags::default();
    let message = NewMessage { flags, internal_date: None, body: body.clone() };
    server.store.append(&MailboxName::inbox(), vec![message]).unwrap();
    server.send(0, b"a SELECT INBOX\r\n");
    let session = &mut server.clients[0].session;
    session.input(Millis(0), Input::Octets(b"b FETCH 4 BODY.PEEK[]\r\n"));
    let mut sent = Vec::new();
    while let Some(action) = session.action() {
        match action {
            Action::Send(octets) => sent.push(octets),
            Action::Call(call) => {
                let answer = server.store.call(0, call);
                session.input(Millis(0), Input::Answer(answer));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(sent.iter().any(|octets| octets.as_ptr() == body.as_ptr()));
}
