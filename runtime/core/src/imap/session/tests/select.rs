//! SELECT, EXAMINE, CLOSE, UNSELECT, and what may be done in them.

use super::*;
use crate::error::StoreError;

#[test]
fn select_says_what_there_is() {
    check(
        "C: a SELECT inbox
         S: * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)
         S: * 3 EXISTS
         S: * 3 RECENT
         S: * OK [UNSEEN 1] first message not seen
         S: * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)] ...
         S: * OK [UIDVALIDITY 1] UIDs are valid
         S: * OK [UIDNEXT 4] next UID
         S: * OK [HIGHESTMODSEQ 1] last change
         S: * OK [MAILBOXID (F...)] lasting id
         S: a OK [READ-WRITE] selected",
    );
}

#[test]
fn a_select_that_fails_leaves_the_mailbox_all_the_same() {
    check_selected(
        "C: a SELECT Nowhere
         S: * OK [CLOSED] the mailbox selected before is left
         S: a NO [NONEXISTENT] Nowhere does not exist
         C: b FETCH 1 UID
         S: b BAD select a mailbox first
         C: c SELECT Nowhere
         S: c NO [NONEXISTENT] Nowhere does not exist",
    );
}

#[test]
fn the_mailbox_before_is_closed_before_anything_is_said_of_the_next() {
    let facts = "S: * 3 EXISTS
         S: * 0 RECENT
         S: * OK [UNSEEN 1] ...
         S: * OK [PERMANENTFLAGS ...
         S: * OK [UIDVALIDITY ...
         S: * OK [UIDNEXT ...
         S: * OK [HIGHESTMODSEQ ...
         S: * OK [MAILBOXID ...\n";
    check_selected(&format!(
        "C: a SELECT INBOX
         S: * OK [CLOSED] the mailbox selected before is left
         S: * FLAGS ...
         {facts}
         S: a OK [READ-WRITE] selected
         C: b EXAMINE INBOX
         S: * OK [CLOSED] ...
         S: * FLAGS ...
         {facts}
         S: b OK [READ-ONLY] ...
         C: c UNSELECT
         S: c OK UNSELECT completed
         C: d EXAMINE INBOX
         S: * FLAGS ...
         {facts}
         S: d OK [READ-ONLY] ..."
    ));
}

#[test]
fn close_removes_in_silence_and_unselect_does_not() {
    let mut server = selected(1);
    server.script(
        "C: a STORE 1 +FLAGS (\\Deleted)
         S: * 1 FETCH (FLAGS (\\Deleted \\Recent))
         S: a OK STORE completed
         C: b UNSELECT
         S: b OK UNSELECT completed
         C: c STATUS INBOX (MESSAGES)
         S: * STATUS INBOX (MESSAGES 3)
         S: c OK ...",
    );
    server.send(0, b"d SELECT INBOX\r\n");
    server.clients[0].unread.clear();
    server.script(
        "C: e CLOSE
         S: e OK CLOSE completed
         C: f STATUS INBOX (MESSAGES)
         S: * STATUS INBOX (MESSAGES 2)
         S: f OK ...
         C: g CLOSE
         S: g BAD select a mailbox first",
    );
}

#[test]
fn examine_lets_nothing_be_changed() {
    let mut server = Server::new();
    server.send(0, b"a EXAMINE INBOX\r\n");
    server.clients[0].unread.clear();
    server.script(
        "C: b STORE 1 +FLAGS (\\Seen)
         S: b NO [READ-ONLY] the mailbox is selected read-only
         C: c EXPUNGE
         S: c NO [READ-ONLY] ...
         C: d UID EXPUNGE 1:*
         S: d NO [READ-ONLY] ...
         C: e MOVE 1 INBOX
         S: e NO [READ-ONLY] ...
         C: f COPY 1 INBOX
         S: * 4 EXISTS
         S: * 4 RECENT
         S: f OK [COPYUID 1 1 4] COPY completed
         C: g CLOSE
         S: g OK CLOSE completed",
    );
    assert!(!server.store.calls.contains(&"Expunge".to_owned()));
}

#[test]
fn a_close_that_cannot_remove_says_so_and_stays() {
    let mut server = selected(1);
    server.store.fails = Some(("Expunge", StoreError::Unavailable("disk".into())));
    server.script(
        "C: a CLOSE
         S: a NO [UNAVAILABLE] ...
         C: b CHECK
         S: b OK CHECK completed",
    );
}

#[test]
fn a_change_feed_that_is_away_is_asked_again() {
    let mut server = selected(2);
    server.script("C2: a STORE 1 +FLAGS (\\Seen)\nS2: * 1 FETCH (FLAGS (\\Seen))\nS2: a OK ...");
    server.store.fails = Some(("Changes", StoreError::Unavailable("owner".into())));
    server.script(
        "C: b NOOP
         S: b OK NOOP completed
         C: c UID SEARCH UID 9
         S: * SEARCH
         S: * 1 FETCH (FLAGS (\\Seen \\Recent))
         S: c OK ...",
    );
}

#[test]
fn an_idle_whose_feed_fails_asks_again_at_its_end() {
    let mut server = selected(2);
    server.script("C: a IDLE\nS: + idling");
    server.store.fails = Some(("Changes", StoreError::Unavailable("owner".into())));
    server.script(
        "C2: b STORE 1 +FLAGS.SILENT (\\Seen)
         S2: b OK ...
         C: DONE
         S: * 1 FETCH (FLAGS (\\Seen \\Recent))
         S: a OK IDLE completed",
    );
}
