//! Who gets in, and when the connection ends.

use super::*;
use crate::error::StoreError;

/// Plays a script with one client that has just connected.
#[track_caller]
fn check_connection(config: Config, script: &str) {
    Server::greeting(config).script(script);
}

fn plaintext() -> Config {
    Config { plaintext_login: true, ..Config::default() }
}

fn tls() -> Config {
    Config { tls_available: true, ..Config::default() }
}

#[test]
fn the_greeting_says_what_can_be_done() {
    check_connection(
        plaintext(),
        "S: * OK [CAPABILITY IMAP4rev1 SASL-IR ...AUTH=PLAIN AUTH=LOGIN] Postroom ready
         C: a CAPABILITY
         S: * CAPABILITY IMAP4rev1 ...
         S: a OK CAPABILITY completed
         C: b ID (\"name\" \"x\")
         S: * ID (\"name\" \"Postroom\" \"version\" \"...\")
         S: b OK ID completed
         C: c NOOP
         S: c OK NOOP completed
         C: d LOGOUT
         S: * BYE ...
         S: d OK LOGOUT completed
         S: <closed>",
    );
}

#[test]
fn who_somebody_is_can_be_said_at_length_before_login() {
    let pairs: Vec<String> =
        (0..30).map(|n| format!("\"{n:030}\" \"{}\"", "x".repeat(1024))).collect();
    check_connection(
        plaintext(),
        &format!(
            "S: * OK ...
             C: a ID ({})
             S: * ID (\"name\" \"Postroom\" ...)
             S: a OK ID completed",
            pairs.join(" ")
        ),
    );
}

#[test]
fn login_opens_the_account() {
    check_connection(
        plaintext(),
        "S: * OK ...
         C: a LOGIN alice wrong
         S: a NO [AUTHENTICATIONFAILED] user or password is wrong
         C: b LOGIN {5}
         S: + go on
         C: alice {6}
         S: + go on
         C: secret
         S: b OK [CAPABILITY IMAP4rev1 ... STATUS=SIZE] logged in
         C: c LOGIN alice secret
         S: c BAD already logged in
         C: d AUTHENTICATE PLAIN
         S: d BAD already logged in
         C: e STARTTLS
         S: e BAD already logged in",
    );
}

#[test]
fn authenticate_plain_and_login_take_the_response_at_once_or_when_asked() {
    let steps = [
        "C: a AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==",
        "C: a AUTHENTICATE PLAIN
         S: + ...
         C: AGFsaWNlAHNlY3JldA==",
        "C: a AUTHENTICATE PLAIN YWxpY2UAYWxpY2UAc2VjcmV0",
        "C: a authenticate login
         S: + VXNlcm5hbWU6
         C: YWxpY2U=
         S: + UGFzc3dvcmQ6
         C: c2VjcmV0",
        "C: a AUTHENTICATE LOGIN YWxpY2U=
         S: + UGFzc3dvcmQ6
         C: c2VjcmV0",
    ];
    for steps in steps {
        check_connection(plaintext(), &format!("S: * OK ...\n{steps}\nS: a OK ... logged in"));
    }
}

#[test]
fn what_is_wrong_with_sasl_is_said() {
    check_connection(
        plaintext(),
        "S: * OK ...
         C: a AUTHENTICATE GSSAPI
         S: a NO [CANNOT] this mechanism is not supported
         C: b AUTHENTICATE PLAIN
         S: + ...
         C: *
         S: b BAD cancelled
         C: c AUTHENTICATE PLAIN
         S: + ...
         C: !!!
         S: c BAD the response is not base64
         C: d AUTHENTICATE PLAIN =
         S: d BAD the response is not one of PLAIN
         C: e AUTHENTICATE PLAIN Ym9iAGFsaWNlAHNlY3JldA==
         S: e NO [AUTHORIZATIONFAILED] nobody may act for others
         C: f AUTHENTICATE PLAIN AP8A/w==
         S: f NO [AUTHENTICATIONFAILED] ...
         C: g NOOP
         S: g OK ...",
    );
}

#[test]
fn a_sasl_response_is_bounded() {
    let long = "A".repeat(40_000);
    check_connection(
        plaintext(),
        &format!(
            "S: * OK ...
             C: a AUTHENTICATE PLAIN
             S: + ...
             C: {long}
             S: a BAD the line is too long
             C: b NOOP
             S: b OK ..."
        ),
    );
}

#[test]
fn too_many_failed_logins_end_the_connection() {
    let failure = "C: a LOGIN alice wrong\nS: a NO [AUTHENTICATIONFAILED] ...\n";
    let script =
        format!("S: * OK ...\n{}S: * BYE too many failed logins\nS: <closed>", failure.repeat(5));
    check_connection(plaintext(), &script);
}

#[test]
fn a_login_that_could_not_be_checked_is_not_counted() {
    let mut server = Server::greeting(plaintext());
    server.script("S: * OK ...");
    for _ in 0..10 {
        server.store.fails = Some(("Login", StoreError::Busy("hashing".into())));
        server.script("C: a LOGIN alice secret\nS: a NO [UNAVAILABLE] too much at once...");
    }
    server.script("C: b LOGIN alice secret\nS: b OK ...");
}

#[test]
fn no_password_without_tls() {
    check_connection(
        tls(),
        "S: * OK [... STARTTLS LOGINDISABLED] ...
         C: a LOGIN alice secret
         S: a NO [PRIVACYREQUIRED] not without TLS
         C: b AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
         S: b NO [PRIVACYREQUIRED] not without TLS
         C: c STARTTLS
         S: c OK begin the handshake
         C: d CAPABILITY
         S: * CAPABILITY ... STATUS=SIZE AUTH=PLAIN AUTH=LOGIN
         S: d OK ...
         C: e STARTTLS
         S: e BAD STARTTLS is not available here
         C: f LOGIN alice secret
         S: f OK ...",
    );
}

#[test]
fn what_comes_before_the_handshake_is_dropped() {
    // The plain-text injection of CVE-2011-0411: commands behind STARTTLS in one segment.
    check_connection(
        tls(),
        "S: * OK ...
         C: a STARTTLS<CRLF>b NOOP<CRLF>c LOGIN alice secret
         S: a OK begin the handshake
         C: d NOOP
         S: d OK ...",
    );
}

#[test]
fn mail_is_out_of_reach_before_login() {
    check_connection(
        plaintext(),
        "S: * OK ...
         C: a SELECT INBOX
         S: a BAD log in first
         C: b FETCH 1 FLAGS
         S: b BAD log in first
         C: c APPEND INBOX {5}
         S: c BAD log in first
         C: d APPEND INBOX {5+}<CRLF>hello
         S: d BAD log in first
         C: e IDLE
         S: e BAD log in first",
    );
}

#[test]
fn silence_ends_in_logout() {
    check_connection(
        plaintext(),
        "S: * OK ...
         T: 59
         C: a NOOP
         S: a OK ...
         T: 60
         S: * BYE Autologout: idle for too long
         S: <closed>",
    );
    check(
        "T: 1799
         C: a NOOP
         S: a OK ...
         T: 1799
         S2: * BYE Autologout...
         S2: <closed>
         T: 1
         S: * BYE Autologout: idle for too long
         S: <closed>",
    );
}

#[test]
fn a_command_that_takes_long_is_no_silence_of_the_client() {
    const HOUR: Millis = Millis(3_600_000);
    let mut server = selected(1);
    let session = &mut server.clients[0].session;
    session.input(Millis(0), Input::Octets(b"a SEARCH TEXT one\r\n"));
    let Some(Action::Call(call)) = session.action() else { panic!("the SEARCH") };
    assert_eq!(session.deadline(), None, "the server is at work");
    let answer = server.store.call(0, call);
    session.input(HOUR, Input::Answer(answer));
    server.now = HOUR;
    server.perform(0);
    server.script(
        "S: * SEARCH 1
         S: a OK SEARCH completed
         T: 1799
         S2: * BYE Autologout...
         S2: <closed>
         C: b NOOP
         S: b OK NOOP completed
         T: 1800
         S: * BYE Autologout...
         S: <closed>",
    );
}

#[test]
fn chatter_without_login_ends_too() {
    let chatter = "C: a NOOP\nS: a OK ...\nT: 50\n".repeat(6);
    let script = format!("S: * OK ...\n{chatter}S: * BYE Autologout...\nS: <closed>");
    check_connection(plaintext(), &script);
}

#[test]
fn shutdown_is_said_between_commands_and_in_idle() {
    check(
        "D:
         S: * BYE [UNAVAILABLE] the server shuts down
         S: <closed>
         C2: a IDLE
         S2: + idling
         D2:
         S2: * BYE [UNAVAILABLE] ...
         S2: <closed>",
    );
}

#[test]
fn what_was_sent_before_the_end_of_input_is_carried_out() {
    let mut server = Server::new();
    server.send(0, b"a STATUS INBOX (MESSAGES)\r\nb LIST \"\" *\r\nc NO");
    server.script(
        "S: * STATUS INBOX (MESSAGES 3)
         S: a OK ...
         S: * LIST ... INBOX
         S: b OK ...
         E:
         S: <closed>",
    );
}

#[test]
fn who_speaks_another_language_is_sent_away() {
    let mut script = "S: * OK ...\nC: GET / HTTP/1.1\nS: GET BAD ...\n".to_owned();
    script += &"C: Host: localhost\nS: ... BAD ...\n".repeat(18);
    script += "C: x y\nS: x BAD ...\nS: * BYE too many commands that are none\nS: <closed>";
    check_connection(plaintext(), &script);
}

#[test]
fn passwords_are_in_no_debug_output() {
    let mut session = ImapSession::new(plaintext());
    session.input(Millis(0), Input::Octets(b"a LOGIN alice s3cret"));
    while session.action().is_some() {}
    assert!(!format!("{session:?}").contains("s3cret"));
    session.input(Millis(0), Input::Octets(b"\r\n"));
    let call = session.action().expect("the login");
    assert!(matches!(call, Action::Call(_)) && !format!("{call:?}").contains("s3cret"));
}
