//! However the network cuts the octets, the session does the same.

use proptest::prelude::*;

use super::*;

/// Lines that take a session into all its states, in any order.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("LHLO mta.example\r\n".to_owned()),
        Just("MAIL FROM:<a@b> SIZE=3\r\n".to_owned()),
        Just("RCPT TO:<anna>\r\n".to_owned()),
        Just("RCPT TO:<nobody>\r\n".to_owned()),
        Just("RCPT TO:<full>\n".to_owned()),
        Just("DATA\r\n".to_owned()),
        Just("Subject: x\r\n\r\n.\r\n".to_owned()),
        Just("RSET\r\n".to_owned()),
        Just("BDAT 5\r\n12345".to_owned()),
        Just("QUIT\r\n".to_owned()),
        Just(format!("{}\r\n", "x".repeat(super::super::MAX_LINE_OCTETS + 3))),
        "[.\r\n\0 -~]{0,20}",
        "[ -~]{0,20}\r\n",
    ]
}

fn run(sent: &str, piece: usize) -> (String, Vec<(String, String)>, bool) {
    let mut wire = Wire::new();
    wire.piece = piece;
    let heard = wire.send(sent);
    let rest = wire.input(Input::EndOfInput);
    (heard + &rest, wire.delivered, wire.closed)
}

proptest! {
    #[test]
    fn octets_one_at_a_time_equal_all_at_once(
        lines in prop::collection::vec(line(), 0..30), piece in 2usize..100,
    ) {
        let sent = format!("LHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<bert>\r\n{}", lines.concat());
        let whole = run(&sent, usize::MAX);
        prop_assert!(whole.2, "a client that has ended is closed");
        prop_assert_eq!(&run(&sent, 1), &whole);
        prop_assert_eq!(&run(&sent, piece), &whole);
    }

    #[test]
    fn any_octets_are_answered_and_never_grow_the_session(
        octets in prop::collection::vec(any::<u8>(), 0..5_000), piece in 1usize..3_000,
    ) {
        let mut wire = Wire::new();
        wire.piece = piece;
        wire.send(&octets);
        prop_assert!(wire.session.pending.len() <= super::super::MAX_LINE_OCTETS);
    }
}
