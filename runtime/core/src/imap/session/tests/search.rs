//! SEARCH.

use super::*;

#[test]
fn keys_find_messages_by_number_or_uid() {
    check_selected(
        "C: a SEARCH ALL
         S: * SEARCH 1 2 3
         S: a OK SEARCH completed
         C: b STORE 1 +FLAGS.SILENT (\\Deleted)
         S: b OK ...
         C: c EXPUNGE
         S: * 1 EXPUNGE
         S: c OK ...
         C: d SEARCH SUBJECT t
         S: * SEARCH 1 2
         S: d OK ...
         C: e UID SEARCH 2:*
         S: * SEARCH 3
         S: e OK ...
         C: f SEARCH UID 3
         S: * SEARCH 2
         S: f OK ...
         C: g SEARCH OR SUBJECT two NOT SUBJECT t
         S: * SEARCH 1
         S: g OK ...
         C: h SEARCH UID 9 FROM bob
         S: * SEARCH
         S: h OK ...",
    );
}

#[test]
fn a_number_that_no_message_has_matches_none() {
    check_selected(
        "C: a SEARCH RETURN () 1000
         S: * ESEARCH (TAG \"a\")
         S: a OK SEARCH completed
         C: b SEARCH RETURN (MIN MAX ALL COUNT) 1000:2000
         S: * ESEARCH (TAG \"b\") COUNT 0
         S: b OK ...
         C: c SEARCH 4
         S: * SEARCH
         S: c OK ...
         C: d SEARCH 2:4,9
         S: * SEARCH 2 3
         S: d OK ...
         C: e SEARCH 9:*
         S: * SEARCH 3
         S: e OK ...
         C: f SEARCH NOT 2:9
         S: * SEARCH 1
         S: f OK ...
         C: g FETCH 4 UID
         S: g BAD no message has such a number
         C: h STORE 3:4 +FLAGS (\\Seen)
         S: h BAD no message has such a number
         C: i COPY 4 INBOX
         S: i BAD no message has such a number
         C: j MOVE 4 INBOX
         S: j BAD no message has such a number",
    );
}

#[test]
fn an_empty_mailbox_can_be_searched() {
    let mut server = Server::new();
    server.script("C: a CREATE Empty\nS: a OK ...");
    server.send(0, b"b SELECT Empty\r\n");
    server.clients[0].unread.clear();
    server.script(
        "C: c SEARCH 1:*
         S: * SEARCH
         S: c OK SEARCH completed
         C: d SEARCH *
         S: * SEARCH
         S: d OK ...
         C: e UID SEARCH RETURN (COUNT) 1:*
         S: * ESEARCH (TAG \"e\") UID COUNT 0
         S: e OK ...
         C: f FETCH 1:* UID
         S: f BAD no message has such a number",
    );
}

#[test]
fn recent_old_and_new_are_the_sessions_own() {
    check_selected(
        "C: a SEARCH RECENT
         S: * SEARCH 1 2 3
         S: a OK ...
         C: b STORE 1 FLAGS.SILENT (\\Seen)
         S: b OK ...
         C: c SEARCH NEW
         S: * SEARCH 2 3
         S: c OK ...
         C: d SEARCH OLD
         S: * SEARCH
         S: d OK ...
         C2: e EXAMINE INBOX<CRLF>f SEARCH OLD
         S2: * FLAGS ...
         S2: * 3 EXISTS
         S2: * 0 RECENT
         S2: * OK [UNSEEN 2] ...
         S2: * OK ...
         S2: * OK ...
         S2: * OK ...
         S2: * OK ...
         S2: * OK ...
         S2: e OK ...
         S2: * SEARCH 1 2 3
         S2: f OK ...",
    );
}

#[test]
fn charsets_that_are_not_known_are_named() {
    check_selected(
        "C: a SEARCH CHARSET X-BOGUS SUBJECT two
         S: a NO [BADCHARSET (UTF-8 US-ASCII ...)] ...
         C: b SEARCH CHARSET UTF-8 SUBJECT {3+}<CRLF>two
         S: * SEARCH 2
         S: b OK ...
         C: c SEARCH CHARSET X-BOGUS ALL
         S: c NO [BADCHARSET (UTF-8 US-ASCII ...)] ...
         C: d UID SEARCH RETURN (COUNT) CHARSET X-BOGUS MODSEQ 1
         S: d NO [BADCHARSET (...)] ...
         C: e SEARCH CHARSET US-ASCII ALL
         S: * SEARCH 1 2 3
         S: e OK ...",
    );
}

#[test]
fn messages_that_the_client_was_not_told_of_are_not_found() {
    selected(2).script(
        "C2: a APPEND INBOX {5+}<CRLF>hello
         S2: * 4 EXISTS
         S2: * 1 RECENT
         S2: a OK ...
         C: b SEARCH ALL
         S: * SEARCH 1 2 3
         S: * 4 EXISTS
         S: * 3 RECENT
         S: b OK ...",
    );
}
