//! What no MTA sends.

use super::super::{MAX_ERRORS, MAX_LINE_OCTETS, MAX_RECIPIENTS};
use super::*;

#[test]
fn a_line_without_an_end_is_not_kept_and_is_refused_once() {
    let mut wire = Wire::new();
    wire.hear();
    for _ in 0..100 {
        assert_eq!(wire.send([b'x'; 1_000]), "");
        assert!(wire.session.pending.capacity() <= 2 * MAX_LINE_OCTETS);
    }
    assert_eq!(codes(&wire.send("\r\nNOOP\r\n")), ["500 5.5.2", "250 2.0.0"]);
}

#[test]
fn the_longest_line_is_taken_and_one_octet_more_is_not() {
    let mut wire = Wire::new();
    wire.hear();
    for piece in [1, usize::MAX] {
        wire.piece = piece;
        let line = format!("NOOP {}\r\n", "x".repeat(MAX_LINE_OCTETS - 7));
        assert_eq!(codes(&wire.send(&line)), ["250 2.0.0"]);
        assert_eq!(codes(&wire.send(format!("N{line}"))), ["500 5.5.2"]);
    }
}

#[test]
fn nonsense_ends_the_connection_after_a_while() {
    let mut wire = Wire::new();
    let heard = wire.send("rubbish\r\n".repeat(100));
    assert_eq!(codes(&heard).len() as u32, 1 + MAX_ERRORS + 1 + 1);
    assert!(heard.ends_with("421 4.7.0 too many errors\r\n") && wire.closed);
}

#[test]
fn unknown_recipients_are_no_nonsense() {
    let mut wire = Wire::new();
    wire.send("LHLO a\r\nMAIL FROM:<a@b>\r\n");
    let heard = wire.send("RCPT TO:<nobody>\r\n".repeat(100));
    assert_eq!(codes(&heard), ["550 5.1.1"; 100]);
    assert!(!wire.closed);
}

#[test]
fn a_web_browser_is_shown_the_door_before_its_body_is_read() {
    let mut wire = Wire::new();
    let sent =
        "POST / HTTP/1.1\r\n\r\nLHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<anna>\r\nDATA\r\nx\r\n.\r\n";
    assert_eq!(codes(&wire.send(sent)), ["220", "421 4.7.0"]);
    assert!(wire.closed && wire.delivered.is_empty());
}

#[test]
fn octets_of_bdat_are_never_commands() {
    let mut wire = Wire::new();
    wire.send("LHLO a\r\n");
    let heard = wire.send("BDAT 22 LAST\r\nMAIL FROM:<evil@b.c>\r\nNOOP\r\n");
    assert_eq!(codes(&heard), ["502 5.5.1", "250 2.0.0"]);
}

#[test]
fn there_is_a_most_of_recipients_and_the_ones_before_it_are_served() {
    let mut wire = Wire::new();
    wire.send("LHLO a\r\nMAIL FROM:<a@b>\r\n");
    for number in 0..MAX_RECIPIENTS {
        assert_eq!(codes(&wire.send(format!("RCPT TO:<u{number}>\r\n"))), ["250 2.1.5"]);
    }
    assert_eq!(codes(&wire.send("RCPT TO:<one-more>\r\n")), ["452 4.5.3"]);
    wire.send("DATA\r\n");
    assert_eq!(codes(&wire.send("x\r\n.\r\n")).len(), MAX_RECIPIENTS);
}

#[test]
fn smuggled_commands_stay_in_the_message() {
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n"] {
        let mut wire = Wire::new();
        wire.send("LHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<anna>\r\nDATA\r\n");
        assert_eq!(wire.send(format!("x{end}MAIL FROM:<evil@example.org>\r\n")), "", "{end:?}");
        assert_eq!(codes(&wire.send(".\r\n")), ["250 2.0.0"]);
        assert!(wire.delivered[0].1.contains("MAIL FROM:<evil@example.org>\r\n"), "{end:?}");
    }
}

#[test]
fn no_header_can_be_injected_through_the_envelope() {
    let mut wire = Wire::new();
    wire.hear();
    let heard = wire
        .send("LHLO a\rX-Evil:\r\nLHLO a b\r\nMAIL FROM:<\"a\rX: y\"@b>\r\nMAIL FROM:<a@b\r>\r\n");
    assert_eq!(codes(&heard), ["500 5.5.2", "250", "500 5.5.2", "500 5.5.2"]);
}

#[test]
fn without_memory_the_mail_is_refused_for_now_and_nothing_leaks() {
    let budget = Arc::new(Budget::new(20_000));
    let mut wire = Wire::with(|config| {
        config.max_message_octets = 1 << 20;
        config.budget = budget.clone();
    });
    wire.send("LHLO a\r\n");
    let begin = "MAIL FROM:<>\r\nRCPT TO:<anna>\r\nRCPT TO:<bert>\r\nDATA\r\n";
    wire.send(begin);
    let heard = wire.send("x".repeat(30_000) + "\r\n.\r\n");
    assert_eq!(codes(&heard), ["452 4.3.1", "452 4.3.1"]);
    // The message itself fits, a copy for each recipient does not.
    wire.send(begin);
    let heard = wire.send("x".repeat(15_000) + "\r\n.\r\n");
    assert_eq!(codes(&heard), ["452 4.3.1", "452 4.3.1"]);
    wire.send(begin);
    assert_eq!(codes(&wire.send("x\r\n.\r\n")), ["250 2.0.0", "250 2.0.0"]);
    assert_eq!(budget.left(), 20_000);
}

#[test]
fn what_follows_the_end_is_ignored() {
    let mut wire = Wire::new();
    wire.send("QUIT\r\nMAIL FROM:<a@b>\r\n");
    for input in [Input::Time, Input::ShuttingDown, Input::EndOfInput, Input::Octets(b"NOOP\r\n")] {
        assert_eq!(wire.input(input), "");
    }
    assert!(!wire.session.wants_octets() && wire.session.deadline().is_none());
}
