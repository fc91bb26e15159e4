//! STORE, COPY, MOVE, EXPUNGE.

use super::*;

#[test]
fn flags_are_set_added_and_taken_away() {
    check_selected(
        "C: a STORE 1 FLAGS (\\Seen work)
         S: * FLAGS ...
         S: * OK [PERMANENTFLAGS ...
         S: * 1 FETCH (FLAGS (\\Seen \\Recent work))
         S: a OK STORE completed
         C: b UID STORE 1:2 +FLAGS (\\Flagged)
         S: * 1 FETCH (UID 1 FLAGS (\\Flagged \\Seen \\Recent work))
         S: * 2 FETCH (UID 2 FLAGS (\\Flagged \\Recent))
         S: b OK STORE completed
         C: c STORE 1 -FLAGS.SILENT (\\Seen WORK)
         S: c OK STORE completed
         C: d FETCH 1 FLAGS
         S: * 1 FETCH (FLAGS (\\Flagged \\Recent))
         S: d OK ...
         C: e STORE 9 +FLAGS (\\Seen)
         S: e BAD no message has such a number
         C: f UID STORE 9 +FLAGS (\\Seen)
         S: f OK STORE completed
         C: g STORE 1 +FLAGS (\\Recent)
         S: g ... ...",
    );
}

#[test]
fn repeated_silent_stores_stay_silent() {
    let mut server = selected(1);
    for flag in ["\\Seen", "\\Flagged", "\\Draft", "\\Seen"] {
        server.script(&format!("C: a STORE 1:3 +FLAGS.SILENT ({flag})\nS: a OK STORE completed"));
    }
}

#[test]
fn copies_name_their_uids() {
    check_selected(
        "C: a CREATE Work
         S: a OK ...
         C: b COPY 1:2 Work
         S: b OK [COPYUID 2 1:2 1:2] COPY completed
         C: c UID COPY 3 Nowhere
         S: c NO [TRYCREATE] Nowhere does not exist
         C: d UID COPY 9 Work
         S: d OK COPY found no messages
         C: e COPY 9 Work
         S: e BAD no message has such a number
         C: f COPY 1 INBOX
         S: * 4 EXISTS
         S: * 4 RECENT
         S: f OK [COPYUID 1 1 4] COPY completed",
    );
}

#[test]
fn expunge_removes_what_is_marked() {
    check_selected(
        "C: a STORE 1,3 +FLAGS.SILENT (\\Deleted)
         S: a OK ...
         C: b UID EXPUNGE 2:3
         S: * 3 EXPUNGE
         S: b OK EXPUNGE completed
         C: c EXPUNGE
         S: * 1 EXPUNGE
         S: c OK EXPUNGE completed
         C: d EXPUNGE
         S: d OK EXPUNGE completed
         C: e UID EXPUNGE 77
         S: e OK EXPUNGE completed",
    );
}
