//! Octets cut anywhere, and octets that are no IMAP.

use proptest::prelude::*;

use super::*;

#[test]
fn many_commands_at_once_are_answered_in_order() {
    check(
        "C: a NOOP<CRLF>b SELECT INBOX<CRLF>c UID SEARCH ALL<CRLF>d UNSELECT<CRLF>e FETCH 1 UID
         S: a OK ...
         S: * FLAGS ...
         S: * 3 EXISTS
         S: * 3 RECENT
         S: * OK [UNSEEN 1] ...
         S: * OK [PERMANENTFLAGS ...
         S: * OK [UIDVALIDITY ...
         S: * OK [UIDNEXT ...
         S: * OK [HIGHESTMODSEQ ...
         S: * OK [MAILBOXID ...
         S: b OK ...
         S: * SEARCH 1 2 3
         S: c OK ...
         S: d OK UNSELECT completed
         S: e BAD select a mailbox first",
    );
}

#[test]
fn a_line_without_end_is_dropped_and_said() {
    let long = "x".repeat(300 * 1024);
    check(&format!(
        "C: a SEARCH SUBJECT {long}
         S: a BAD the command is too long
         C: {long}
         S: * BAD the command is too long
         C: b NOOP
         S: b OK ..."
    ));
}

#[test]
fn a_literal_beyond_the_limit_is_not_asked_for_or_passed_over() {
    let long = "x".repeat(300_000);
    check_selected(&format!(
        "C: a SEARCH SUBJECT {{300000}}
         S: a BAD the command is too long
         C: b SEARCH SUBJECT {{300000+}}<CRLF>{long} TEXT {{4+}}<CRLF>more
         S: b BAD the command is too long
         C: c LOGIN {{99999999999999999999}}
         S: c BAD the command is too long
         C: d SEARCH SUBJECT {{3}}
         S: + go on
         C: two
         S: * SEARCH 2
         S: d OK ...
         C: e SEARCH SUBJECT {{5000000000+}}
         S: * BYE the command is too long
         S: <closed>"
    ));
}

#[test]
fn a_long_line_that_ends_in_a_literal_takes_it_along() {
    // The announcement itself is cut in two, and its first half was taken in before the limit.
    let mut server = Server::new();
    let long = format!("a SEARCH SUBJECT {} {{1", "x".repeat(262_110));
    server.send(0, long.as_bytes());
    server.script(
        "C: 0+}<CRLF>b LOGOUT<CRLF><CRLF>c NOOP\nS: a BAD the command is too long\nS: c OK ...",
    );
}

#[test]
fn before_login_less_is_taken_in() {
    let config = Config { plaintext_login: true, ..Config::default() };
    let long = "x".repeat(40_000);
    Server::greeting(config).script(&format!(
        "S: * OK ...
         C: a LOGIN {long} x
         S: a BAD the command is too long
         C: b LOGIN {{40000}}
         S: b BAD the command is too long
         C: c NOOP
         S: c OK ..."
    ));
}

#[test]
fn rubbish_is_refused_and_costs_nothing_else() {
    check(
        "C:
         S: * BAD ...
         C: a
         S: a BAD ...
         C: a BOGUS
         S: a BAD ...
         C: a NOOP<NUL>
         S: a BAD ...
         C: ( NOOP
         S: * BAD ...
         C: a SELECT \"unfinished
         S: a BAD ...
         C: a SELECT a//b
         S: a NO [CANNOT] ...
         C: a SELECT &&&
         S: a ... ...
         C: b NOOP
         S: b OK ...",
    );
}

/// All that the client reads when these octets come in pieces that end at these places.
fn transcript(octets: &[u8], cuts: &[usize]) -> String {
    let mut server = Server::new();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (octets.len() + 1)).collect();
    cuts.extend([0, octets.len()]);
    cuts.sort_unstable();
    for piece in cuts.windows(2) {
        server.send(0, &octets[piece[0]..piece[1]]);
    }
    String::from_utf8_lossy(&server.clients[0].unread).into_owned()
}

/// Commands of every kind, in an order that random tests change.
const LINES: [&str; 28] = [
    "a CAPABILITY\r\n",
    "b SELECT INBOX\r\n",
    "c FETCH 1:* (FLAGS UID BODY[])\r\n",
    "d UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)\r\n",
    "e APPEND INBOX {12+}\r\nhello\r\nworld\r\n",
    "f APPEND INBOX (\\Seen) {5}\r\nhello\r\n",
    "g STORE 1 +FLAGS (\\Deleted)\r\n",
    "h UID STORE 1:2 -FLAGS.SILENT (\\Deleted)\r\n",
    "i EXPUNGE\r\n",
    "j IDLE\r\nDONE\r\n",
    "k SEARCH SUBJECT {3}\r\ntwo\r\n",
    "l SEARCH RETURN (MIN MAX) TEXT {3+}\r\none\r\n",
    "m LIST (SUBSCRIBED) \"\" * RETURN (STATUS (MESSAGES))\r\n",
    "n CREATE Sent\r\n",
    "o COPY 1 Sent\r\n",
    "p MOVE 1 Sent\r\n",
    "q SELECT Nowhere\r\n",
    "r CLOSE\r\n",
    "s NOOP\n",
    "t ENABLE CONDSTORE\r\n",
    "u LOGIN {3+}\r\nbob {1}\r\nx\r\n",
    "v \0\r\n",
    "\r\n",
    "w {999999+}\r\n",
    "IDLE\r\n",
    "x STATUS INBOX (MESSAGES UIDNEXT)\r\n",
    "y DELETE Sent\r\n",
    "z IDLE\r\nrubbish\r\n",
];

proptest! {
    /// Where the network cuts the octets makes no difference.
    #[test]
    fn cuts_change_nothing(
        lines in prop::collection::vec(0..LINES.len(), 1..12),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
    ) {
        let octets = lines.iter().map(|line| LINES[*line]).collect::<String>();
        let whole = transcript(octets.as_bytes(), &[]);
        prop_assert_eq!(&transcript(octets.as_bytes(), &cuts), &whole);
        let everywhere: Vec<usize> = (0..octets.len()).collect();
        prop_assert_eq!(&transcript(octets.as_bytes(), &everywhere), &whole);
    }

    /// Nothing that a client sends makes a session fall over or hold what it should not.
    #[test]
    fn any_octets_are_survived(
        octets in prop::collection::vec(
            prop_oneof![
                4 => (0..LINES.len()).prop_map(|line| LINES[line].as_bytes().to_vec()),
                1 => prop::collection::vec(any::<u8>(), 0..20),
                1 => "[a-z]{1,3} (FETCH|STORE|SEARCH|LIST|APPEND|UID) [ -~]{0,30}\r\n"
                    .prop_map(String::into_bytes),
            ],
            0..10,
        ),
    ) {
        let octets = octets.concat();
        let mut server = Server::new();
        for piece in octets.chunks(7) {
            server.send(0, piece);
        }
        let session = &server.clients[0].session;
        prop_assert!(session.is_closed() || session.inbox.is_empty());
    }
}
