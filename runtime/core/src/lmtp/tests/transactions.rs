//! What a well-behaved MTA sees.

use super::*;

const HELLO: (&str, &[&str]) = ("LHLO mta.example", &["250"]);
const MAIL: (&str, &[&str]) = ("MAIL FROM:<s@example.org>", &["250 2.1.0"]);
const ANNA: (&str, &[&str]) = ("RCPT TO:<anna@example.com>", &["250 2.1.5"]);

#[test]
fn a_mail_is_delivered_with_its_trace_fields() {
    let mut wire = Wire::new();
    assert_eq!(wire.hear(), "220 mail.example LMTP Postroom\r\n");
    wire.now = Millis(5_000);
    check(&mut wire, &[HELLO, MAIL, ANNA, ("DATA", &["354"])]);
    check(&mut wire, &[("Subject: x\r\n\r\n..dot\r\n.", &["250 2.0.0"]), ("QUIT", &["221 2.0.0"])]);
    assert!(wire.closed);
    let expected = "Return-Path: <s@example.org>\r\n\
        Delivered-To: anna@example.com\r\n\
        Received: from mta.example ([192.0.2.1])\r\n\
        \tby mail.example with LMTP\r\n\
        \tfor <anna@example.com>;\r\n\
        \tTue, 14 Nov 2023 22:13:25 +0000\r\n\
        Subject: x\r\n\r\n.dot\r\n";
    assert_eq!(wire.delivered, [("anna".to_owned(), expected.to_owned())]);
}

#[test]
fn lhlo_offers_what_works() {
    let mut wire = Wire::new();
    wire.hear();
    let heard = wire.send("LHLO mta.example\r\n");
    let expected = "250-mail.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 2000\r\n250-STARTTLS\r\n250 ENHANCEDSTATUSCODES\r\n";
    assert_eq!(heard, expected);
    let mut wire = Wire::with(|config| config.starttls = false);
    assert!(!wire.send("LHLO a\r\n").contains("STARTTLS"));
}

#[test]
fn each_recipient_has_its_own_reply_in_order_and_only_after_its_delivery() {
    let mut wire = Wire::new();
    check(&mut wire, &[("LHLO a", &["220", "250"]), MAIL, ANNA]);
    check(
        &mut wire,
        &[
            ("RCPT TO:<nobody@example.com>", &["550 5.1.1"]),
            ("RCPT TO:<full@example.com>", &["250 2.1.5"]),
            ("RCPT TO:<away@example.com>", &["451 4.3.0"]),
            ("RCPT TO:<liar@example.com>", &["250 2.1.5"]),
            ("RCPT TO:<bert@example.com>", &["250 2.1.5"]),
            ("DATA", &["354"]),
        ],
    );
    wire.answers_at_once = false;
    assert_eq!(wire.send("x\r\n.\r\n"), "", "nothing is said before the first commit");
    for expected in ["250 2.0.0", "452 4.2.2", "451 4.3.0", "250 2.0.0"] {
        wire.answer();
        let heard = wire.hear();
        assert_eq!(codes(&heard), [expected]);
    }
    let users: Vec<_> = wire.delivered.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(users, ["anna", "bert"]);
    for (user, body) in &wire.delivered {
        let own = format!(
            "Return-Path: <s@example.org>\r\nDelivered-To: {user}@example.com\r\nReceived:"
        );
        assert!(body.starts_with(&own) && body.ends_with("x\r\n"), "{body}");
        assert!(!body.contains("for <"), "recipients are not told of each other");
    }
}

#[test]
fn a_hooks_refusal_is_permanent_and_its_failure_is_not() {
    let mut wire = Wire::new();
    check(&mut wire, &[("LHLO a", &["220", "250"]), MAIL]);
    let recipients = ["picky", "hooked", "anna"];
    for user in recipients {
        check(&mut wire, &[(&format!("RCPT TO:<{user}@example.com>"), &["250 2.1.5"])]);
    }
    check(&mut wire, &[("DATA", &["354"])]);
    let heard = wire.send("x\r\n.\r\n");
    assert_eq!(codes(&heard), ["550 5.7.1", "451 4.3.0", "250 2.0.0"]);
    assert!(heard.starts_with("550 5.7.1 not from s@example.org\r\n"), "{heard}");
    assert_eq!(wire.delivered.len(), 1);
}

#[test]
fn pipelined_commands_are_answered_as_if_sent_one_by_one() {
    let mut wire = Wire::new();
    let sent = "LHLO a\r\nMAIL FROM:<> SIZE=10 BODY=8BITMIME\r\nRCPT TO:<anna>\r\nRCPT TO:<nobody>\r\n\
        DATA\r\nhello\r\n.\r\nMAIL FROM:<x@y>\r\nRCPT TO:<bert>\r\nDATA\r\nagain\r\n.\r\nQUIT\r\n";
    let heard = wire.send(sent);
    let expected = [
        "220",
        "250",
        "250 2.1.0",
        "250 2.1.5",
        "550 5.1.1",
        "354",
        "250 2.0.0",
        "250 2.1.0",
        "250 2.1.5",
        "354",
        "250 2.0.0",
        "221 2.0.0",
    ];
    assert_eq!(codes(&heard), expected);
    assert_eq!(wire.delivered.len(), 2);
    assert!(wire.delivered[0].1.starts_with("Return-Path: <>\r\n"));
}

#[test]
fn while_a_call_is_out_octets_stay_with_the_driver() {
    let mut wire = Wire::new();
    wire.answers_at_once = false;
    wire.send("LHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<anna>\r\nNOOP\r\n");
    assert!(!wire.session.wants_octets() && wire.session.deadline().is_none());
    wire.answer();
    assert_eq!(codes(&wire.hear()), ["250 2.1.5", "250 2.0.0"]);
    assert!(wire.session.wants_octets());
}

#[test]
fn one_mailbox_named_twice_gets_the_mail_once_and_two_replies() {
    let mut wire = Wire::new();
    check(&mut wire, &[("LHLO a", &["220", "250"]), MAIL, ANNA]);
    check(
        &mut wire,
        &[
            ("RCPT TO:<ANNA@example.com>", &["250 2.1.5"]),
            ("RCPT TO:<anna@example.com>", &["250 2.1.5"]),
            ("DATA", &["354"]),
            ("x\r\n.", &["250 2.0.0", "250 2.0.0", "250 2.0.0"]),
        ],
    );
    // The fake directory minds case: ANNA is another user.
    let users: Vec<_> = wire.delivered.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(users, ["anna", "ANNA"]);
}

#[test]
fn commands_out_of_order_are_refused_and_change_nothing() {
    let mut wire = Wire::new();
    check(&mut wire, &[("MAIL FROM:<a@b>", &["220", "503 5.5.1"]), HELLO]);
    check(&mut wire, &[("RCPT TO:<anna>", &["503 5.5.1"]), ("DATA", &["503 5.5.1"]), MAIL]);
    check(&mut wire, &[("DATA", &["503 5.5.1"]), ("MAIL FROM:<a@b>", &["503 5.5.1"]), ANNA]);
    check(&mut wire, &[("EHLO a", &["500 5.5.1"]), ("DATA", &["354"]), ("x\r\n.", &["250 2.0.0"])]);
    assert!(wire.delivered[0].1.contains("<s@example.org>"));
}

#[test]
fn rset_and_lhlo_forget_the_transaction() {
    for forget in [("RSET", ["250 2.0.0"]), ("LHLO b", ["250"])] {
        let mut wire = Wire::new();
        check(&mut wire, &[("LHLO a", &["220", "250"]), MAIL, ANNA, (forget.0, &forget.1)]);
        check(&mut wire, &[("DATA", &["503 5.5.1"]), MAIL, ("DATA", &["503 5.5.1"])]);
    }
}

#[test]
fn a_size_announced_too_large_is_refused_at_mail() {
    let mut wire = Wire::new();
    check(
        &mut wire,
        &[
            ("LHLO a", &["220", "250"]),
            ("MAIL FROM:<a@b> SIZE=2001", &["552 5.3.4"]),
            ("MAIL FROM:<a@b> SIZE=2000", &["250 2.1.0"]),
        ],
    );
}

#[test]
fn a_message_that_grows_too_large_is_refused_for_each_recipient_and_the_session_goes_on() {
    let mut wire = Wire::new();
    check(
        &mut wire,
        &[("LHLO a", &["220", "250"]), MAIL, ANNA, ("RCPT TO:<bert>", &["250 2.1.5"])],
    );
    check(&mut wire, &[("DATA", &["354"])]);
    let large = "x".repeat(MAX_OCTETS as usize) + "\r\n.";
    check(&mut wire, &[(&large, &["552 5.3.4", "552 5.3.4"]), MAIL, ANNA, ("DATA", &["354"])]);
    check(&mut wire, &[("x\r\n.", &["250 2.0.0"])]);
    assert_eq!(wire.delivered.len(), 1);
}

#[test]
fn starttls_forgets_everything_and_drops_what_was_sent_before_it() {
    let mut wire = Wire::new();
    let heard = wire.send("LHLO a\r\nSTARTTLS\r\nMAIL FROM:<evil@example.org>\r\n");
    assert_eq!(codes(&heard), ["220", "250", "220 2.0.0"]);
    assert!(wire.tls_asked && !wire.session.wants_octets());
    assert_eq!(wire.input(Input::TlsEstablished), "");
    check(&mut wire, &[("MAIL FROM:<a@b>", &["503 5.5.1"])]);
    assert!(!wire.send("LHLO a\r\n").contains("STARTTLS"));
    check(&mut wire, &[("STARTTLS", &["503 5.5.1"]), MAIL, ANNA, ("DATA", &["354"])]);
    check(&mut wire, &[("x\r\n.", &["250 2.0.0"])]);
    assert!(wire.delivered[0].1.contains("with LMTPS"));
}

#[test]
fn shutting_down_says_goodbye_at_once_when_nothing_is_under_way() {
    for sent in ["", "LHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<anna>\r\nDATA\r\nhalf a mail"] {
        let mut wire = Wire::new();
        wire.send(sent);
        assert_eq!(codes(&wire.input(Input::ShuttingDown)), ["421 4.3.2"]);
        assert!(wire.closed && wire.delivered.is_empty());
    }
}

#[test]
fn shutting_down_finishes_the_delivery_under_way_and_hands_back_the_others() {
    let mut wire = Wire::new();
    wire.send("LHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<anna>\r\nRCPT TO:<bert>\r\nDATA\r\n");
    wire.answers_at_once = false;
    wire.send("x\r\n.\r\n");
    assert_eq!(wire.input(Input::ShuttingDown), "");
    wire.answer();
    assert_eq!(codes(&wire.hear()), ["250 2.0.0", "451 4.3.2", "421 4.3.2"]);
    assert!(wire.closed);
}

#[test]
fn a_client_that_sends_everything_and_half_closes_gets_every_reply() {
    let mut wire = Wire::new();
    wire.answers_at_once = false;
    wire.send("LHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<anna>\r\nDATA\r\nx\r\n.\r\nNOOP\r\n");
    wire.input(Input::EndOfInput);
    wire.answer();
    wire.answer();
    assert_eq!(codes(&wire.hear()), ["250 2.1.5", "354", "250 2.0.0", "250 2.0.0"]);
    assert!(wire.closed && wire.delivered.len() == 1);
}

#[test]
fn a_silent_client_is_told_and_dropped() {
    let mut wire = Wire::new();
    wire.hear();
    wire.now = Millis(1_000);
    wire.send("NO");
    let deadline = wire.session.deadline().unwrap();
    assert_eq!(deadline, Millis(super::super::COMMAND_MILLIS), "half a command gains no time");
    wire.now = Millis(deadline.0 - 1);
    assert_eq!(wire.input(Input::Time), "", "not yet");
    wire.now = deadline;
    assert_eq!(codes(&wire.input(Input::Time)), ["421 4.4.2"]);
    assert!(wire.closed);
}

#[test]
fn a_message_in_a_slow_drip_ends_at_the_total_limit() {
    let mut wire = Wire::new();
    wire.send("LHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<anna>\r\nDATA\r\n");
    while wire.now.0 < super::super::DATA_TOTAL_MILLIS && !wire.closed {
        wire.now.0 += 60_000;
        wire.send("x");
        wire.input(Input::Time);
    }
    assert!(wire.closed && wire.delivered.is_empty());
}
