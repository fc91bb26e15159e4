//! CREATE, DELETE, RENAME, STATUS.

use super::*;

#[test]
fn mailboxes_are_made_renamed_and_removed() {
    check(
        "C: a CREATE Work
         S: a OK [MAILBOXID (F...)] CREATE completed
         C: b CREATE Work
         S: b NO [ALREADYEXISTS] Work exists already
         C: c RENAME Work Play
         S: c OK RENAME completed
         C: d RENAME Work Play
         S: d NO [NONEXISTENT] Work does not exist
         C: e RENAME Play INBOX
         S: e NO [ALREADYEXISTS] ...
         C: f DELETE Play
         S: f OK DELETE completed
         C: g DELETE Play
         S: g NO [NONEXISTENT] Play does not exist
         C: h DELETE INBOX
         S: h NO [NOPERM] ...",
    );
}

#[test]
fn a_special_use_can_be_given_when_it_can_be_kept() {
    check(
        "C: a CREATE Sent (USE (\\Sent))
         S: a OK ...
         C: b CREATE Everything (USE (\\All))
         S: b NO [USEATTR] ...
         C: c CREATE Two (USE (\\Sent \\Drafts))
         S: c NO [USEATTR] ...
         C: d CREATE Odd (USE (\\Odd))
         S: d NO [USEATTR] ...",
    );
}

#[test]
fn status_counts() {
    check(
        "C: a STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)
         S: * STATUS INBOX (MESSAGES 3 RECENT 3 UIDNEXT 4 UIDVALIDITY 1 UNSEEN 3)
         S: a OK STATUS completed
         C: b STATUS INBOX (SIZE DELETED HIGHESTMODSEQ MAILBOXID)
         S: * STATUS INBOX (SIZE 172 DELETED 0 HIGHESTMODSEQ 1 MAILBOXID (F...))
         S: b OK STATUS completed
         C: c STATUS Nowhere (MESSAGES)
         S: c NO [NONEXISTENT] Nowhere does not exist
         C: d CREATE Empty
         S: d OK ...
         C: e STATUS Empty (HIGHESTMODSEQ)
         S: * STATUS Empty (HIGHESTMODSEQ 1)
         S: e OK ...",
    );
}

#[test]
fn deleting_the_selected_mailbox_leaves_it() {
    check(
        "C: a CREATE Work
         S: a OK ...
         C: b SELECT Work
         S: * FLAGS ...
         S: * 0 EXISTS
         S: * 0 RECENT
         S: * OK [PERMANENTFLAGS ...
         S: * OK [UIDVALIDITY ...
         S: * OK [UIDNEXT ...
         S: * OK [HIGHESTMODSEQ ...
         S: * OK [MAILBOXID ...
         S: b OK ...
         C: c RENAME Work Play
         S: c OK ...
         C: d DELETE Play
         S: d OK DELETE completed
         C: e CHECK
         S: e BAD select a mailbox first",
    );
}

#[test]
fn a_mailbox_that_another_session_deletes_ends_the_connection() {
    let mut server = Server::new();
    server.script("C: a CREATE Work\nS: a OK ...");
    server.send(0, b"b SELECT Work\r\n");
    server.send(1, b"b SELECT Work\r\n");
    server.clients.iter_mut().for_each(|client| client.unread.clear());
    server.script(
        "C2: c IDLE
         S2: + idling
         C: d DELETE Work
         S2: * BYE the selected mailbox was deleted
         S2: <closed>
         S: d OK DELETE completed",
    );
    let mut server = Server::new();
    server.script("C: a CREATE Work\nS: a OK ...");
    server.send(1, b"b SELECT Work\r\n");
    server.clients[1].unread.clear();
    server.script(
        "C: d DELETE Work
         S: d OK DELETE completed
         C2: e NOOP
         S2: e OK NOOP completed
         S2: * BYE the selected mailbox was deleted
         S2: <closed>",
    );
}
