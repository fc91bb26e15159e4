//! Every word of CAPABILITY, and what it promises.

use std::collections::BTreeSet;

use super::super::capability::ALWAYS;
use super::*;

/// A word, and a script with one client in INBOX that shows it at work.
const TRANSCRIPTS: [(&str, &str); 19] = [
    (
        "IMAP4rev1",
        "C: a STATUS INBOX (MESSAGES)
         S: * STATUS INBOX (MESSAGES 3)
         S: a OK STATUS completed",
    ),
    (
        "LITERAL+",
        "C: a CREATE {4+}<CRLF>Work
         S: a OK ...
         C: b APPEND {4+}<CRLF>Work {2+}<CRLF>hi
         S: b OK [APPENDUID 2 1] APPEND completed",
    ),
    (
        "ID",
        "C: a ID NIL
         S: * ID (\"name\" \"Postroom\" \"version\" \"...\")
         S: a OK ID completed",
    ),
    (
        "ENABLE",
        "C: a ENABLE X-UNKNOWN CONDSTORE
         S: * ENABLED CONDSTORE
         S: * OK [HIGHESTMODSEQ 1] ...
         S: a OK ENABLE completed
         C: b ENABLE X-UNKNOWN
         S: * ENABLED
         S: b OK ENABLE completed",
    ),
    (
        "IDLE",
        "C: a IDLE
         S: + idling
         C: DONE
         S: a OK IDLE completed",
    ),
    (
        "NAMESPACE",
        "C: a NAMESPACE
         S: * NAMESPACE ((\"\" \"/\")) NIL NIL
         S: a OK NAMESPACE completed",
    ),
    (
        "CHILDREN",
        "C: a CREATE a/b
         S: a OK ...
         C: b LIST \"\" a*
         S: * LIST (\\HasChildren) \"/\" a
         S: * LIST (\\HasNoChildren) \"/\" a/b
         S: b OK ...",
    ),
    (
        "SPECIAL-USE",
        "C: a CREATE Bin (USE (\\Trash))
         S: a OK ...
         C: b LIST (SPECIAL-USE) \"\" *
         S: * LIST (\\HasNoChildren \\Trash) \"/\" Bin
         S: b OK ...
         C: c LIST \"\" Bin RETURN (SPECIAL-USE)
         S: * LIST (\\HasNoChildren \\Trash) \"/\" Bin
         S: c OK ...",
    ),
    (
        "CREATE-SPECIAL-USE",
        "C: a CREATE Bin (USE (\\Trash))
         S: a OK [MAILBOXID (F...)] CREATE completed
         C: b CREATE Odd (USE (\\Odd))
         S: b NO [USEATTR] ...
         C: b CREATE Bin2 (USE (\\Trash))
         S: b NO [USEATTR] another mailbox has this use
         C: b CREATE Bin (USE (\\Sent))
         S: b NO [ALREADYEXISTS] ...
         C: c CREATE None (USE ())
         S: c OK ...",
    ),
    (
        "LIST-EXTENDED",
        "C: a SUBSCRIBE Gone
         S: a OK ...
         C: b LIST (SUBSCRIBED) \"\" (INBOX G%)
         S: * LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" Gone
         S: b OK ...
         C: c LIST (REMOTE) \"\" \"INBOX\" RETURN (SUBSCRIBED CHILDREN)
         S: * LIST (\\HasNoChildren) \"/\" INBOX
         S: c OK ...
         C: d LIST (RECURSIVEMATCH) \"\" *
         S: d BAD ...
         C: e SUBSCRIBE Gone/Far
         S: e OK ...
         C: f LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (% I*)
         S: * LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" Gone (\"CHILDINFO\" (\"SUBSCRIBED\"))
         S: f OK ...",
    ),
    (
        "LIST-STATUS",
        "C: a LIST \"\" INBOX RETURN (STATUS (MESSAGES UIDNEXT))
         S: * LIST (\\HasNoChildren) \"/\" INBOX
         S: * STATUS INBOX (MESSAGES 3 UIDNEXT 4)
         S: a OK LIST completed",
    ),
    (
        "UNSELECT",
        "C: a STORE 1 +FLAGS.SILENT (\\Deleted)
         S: a OK ...
         C: b UNSELECT
         S: b OK UNSELECT completed
         C: c STATUS INBOX (MESSAGES)
         S: * STATUS INBOX (MESSAGES 3)
         S: c OK ...",
    ),
    (
        "UIDPLUS",
        "C: a APPEND INBOX {2}
         S: + send the message
         C: hi
         S: * 4 EXISTS
         S: * 4 RECENT
         S: a OK [APPENDUID 1 4] APPEND completed
         C: b UID COPY 1,3 INBOX
         S: * 6 EXISTS
         S: * 6 RECENT
         S: b OK [COPYUID 1 1,3 5:6] COPY completed
         C: c STORE 1:3 +FLAGS.SILENT (\\Deleted)
         S: c OK ...
         C: d UID EXPUNGE 2
         S: * 2 EXPUNGE
         S: d OK EXPUNGE completed",
    ),
    (
        "MOVE",
        "C: a CREATE Work
         S: a OK ...
         C: b MOVE 1:2 Work
         S: * OK [COPYUID 2 1:2 1:2] moved
         S: * 2 EXPUNGE
         S: * 1 EXPUNGE
         S: b OK MOVE completed
         C: c UID MOVE 3 Nowhere
         S: c NO [TRYCREATE] ...
         C: d UID MOVE 3 Work
         S: * OK [COPYUID 2 3 3] moved
         S: * 1 EXPUNGE
         S: d OK MOVE completed
         C: e UID MOVE 3 Work
         S: e OK MOVE found no messages",
    ),
    (
        "CONDSTORE",
        "C: a FETCH 1 (MODSEQ)
         S: * OK [HIGHESTMODSEQ 1] ...
         S: * 1 FETCH (MODSEQ (1))
         S: a OK ...
         C: b STORE 1 +FLAGS (\\Seen)
         S: * 1 FETCH (FLAGS (\\Seen \\Recent) MODSEQ (2))
         S: b OK ...
         C: c STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Deleted)
         S: c OK [MODIFIED 1] conditional STORE failed for some
         C: d UID STORE 1:2 (UNCHANGEDSINCE 1) +FLAGS.SILENT (\\Deleted)
         S: * 2 FETCH (UID 2 MODSEQ (4))
         S: d OK [MODIFIED 1] ...
         C: e UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)
         S: * 1 FETCH (UID 1 FLAGS (\\Seen \\Recent) MODSEQ (2))
         S: * 2 FETCH (UID 2 FLAGS (\\Deleted \\Recent) MODSEQ (4))
         S: e OK ...
         C: f SEARCH MODSEQ 2
         S: * SEARCH 1 2 (MODSEQ 4)
         S: f OK ...
         C: g SEARCH RETURN (MIN) MODSEQ 2
         S: * ESEARCH (TAG \"g\") MIN 1 MODSEQ 2
         S: g OK ...
         C: h SEARCH MODSEQ 99
         S: * SEARCH
         S: h OK ...
         C: i STATUS INBOX (HIGHESTMODSEQ)
         S: * STATUS INBOX (HIGHESTMODSEQ 4)
         S: i OK ...
         C: j EXPUNGE
         S: * 2 EXPUNGE
         S: j OK [HIGHESTMODSEQ 5] EXPUNGE completed
         C: k SELECT INBOX (CONDSTORE)
         S: * OK [CLOSED] ...
         S: * FLAGS ...
         S: * 2 EXISTS
         S: * 0 RECENT
         S: * OK [UNSEEN 2] ...
         S: * OK [PERMANENTFLAGS ...
         S: * OK [UIDVALIDITY 1] ...
         S: * OK [UIDNEXT 4] ...
         S: * OK [HIGHESTMODSEQ 5] ...
         S: * OK [MAILBOXID ...
         S: k OK ...",
    ),
    (
        "ESEARCH",
        "C: a SEARCH RETURN (MIN MAX COUNT ALL) SUBJECT t
         S: * ESEARCH (TAG \"a\") MIN 2 MAX 3 COUNT 2 ALL 2:3
         S: a OK SEARCH completed
         C: b UID SEARCH RETURN () ALL
         S: * ESEARCH (TAG \"b\") UID ALL 1:3
         S: b OK ...
         C: c SEARCH RETURN (MIN ALL COUNT) SUBJECT nothing
         S: * ESEARCH (TAG \"c\") COUNT 0
         S: c OK ...
         C: d SEARCH RETURN () 1000
         S: * ESEARCH (TAG \"d\")
         S: d OK ...",
    ),
    (
        "WITHIN",
        "C: a SEARCH OLDER 3600
         S: * SEARCH 1 2 3
         S: a OK ...
         C: b SEARCH YOUNGER 3600
         S: * SEARCH
         S: b OK ...",
    ),
    (
        "OBJECTID",
        "C: a FETCH 1 (EMAILID THREADID)
         S: * 1 FETCH (EMAILID (M00000000000000000000000000000002) THREADID (T...))
         S: a OK ...
         C: b SEARCH EMAILID M00000000000000000000000000000002
         S: * SEARCH 1
         S: b OK ...
         C: c SEARCH EMAILID nobodys
         S: * SEARCH
         S: c OK ...
         C: d STATUS INBOX (MAILBOXID)
         S: * STATUS INBOX (MAILBOXID (F00000000000000000000000000000001))
         S: d OK ...",
    ),
    (
        "STATUS=SIZE",
        "C: a STATUS INBOX (SIZE)
         S: * STATUS INBOX (SIZE 172)
         S: a OK STATUS completed",
    ),
];

/// A word that is about login, or stands only before it, and a script with a client that has just connected.
const BEFORE_LOGIN: [(&str, &str); 5] = [
    (
        "SASL-IR",
        "C: a AUTHENTICATE PLAIN AGFsaWNlAHdyb25n
         S: a NO [AUTHENTICATIONFAILED] ...
         C: b AUTHENTICATE PLAIN =
         S: b BAD the response is not one of PLAIN
         C: c AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
         S: c OK ... logged in",
    ),
    (
        "STARTTLS",
        "C: a STARTTLS
         S: a OK begin the handshake
         C: b LOGIN alice secret
         S: b OK ...",
    ),
    (
        "LOGINDISABLED",
        "C: a LOGIN alice secret
         S: a NO [PRIVACYREQUIRED] ...
         C: b AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
         S: b NO [PRIVACYREQUIRED] ...",
    ),
    (
        "AUTH=PLAIN",
        "C: a AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
         S: a OK ... logged in",
    ),
    (
        "AUTH=LOGIN",
        "C: a AUTHENTICATE LOGIN
         S: + VXNlcm5hbWU6
         C: YWxpY2U=
         S: + UGFzc3dvcmQ6
         C: c2VjcmV0
         S: a OK ... logged in",
    ),
];

fn config_for(word: &str) -> Config {
    let needs_tls = ["STARTTLS", "LOGINDISABLED"].contains(&word);
    Config { tls_available: needs_tls, plaintext_login: !needs_tls, ..Config::default() }
}

#[test]
fn every_word_that_is_said_has_a_transcript_and_no_other() {
    let mut said = BTreeSet::from(ALWAYS);
    for (word, _) in BEFORE_LOGIN {
        let session = ImapSession::new(config_for(word));
        said.extend(session.capabilities());
    }
    let mut server = Server::new();
    server.send(0, b"a CAPABILITY\r\n");
    let answer = server.read(0).expect("the words");
    let words = answer.strip_prefix("* CAPABILITY ").expect("CAPABILITY");
    assert_eq!(words.split(' ').collect::<Vec<_>>(), ALWAYS, "after login");
    let shown = TRANSCRIPTS.iter().chain(&BEFORE_LOGIN).map(|(word, _)| *word);
    assert_eq!(said, shown.collect());
}

#[test]
fn every_word_keeps_its_promise() {
    for (word, script) in TRANSCRIPTS {
        println!("{word}");
        check_selected(script);
    }
    for (word, script) in BEFORE_LOGIN {
        println!("{word}");
        let mut server = Server::greeting(config_for(word));
        assert!(server.read(0).is_some_and(|greeting| greeting.contains(word)));
        server.script(script);
    }
}
