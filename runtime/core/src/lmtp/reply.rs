//! Everything that LMTP says back, and the one table from [`StoreError`] to it.

use std::borrow::Cow;

use crate::error::StoreError;

/// Longest text in a reply, in octets: a reply line has at most 512 (RFC 5321 §4.5.3.1.5).
const MAX_TEXT_OCTETS: usize = 400;

/// One reply of one line: code, enhanced status (RFC 3463), text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    status: &'static str,
    text: Cow<'static, str>,
}

/// At which step a call failed; the same error means different things to the MTA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// When the recipient was looked up.
    Recipient,
    /// When the message was delivered to it.
    Delivery,
}

impl Reply {
    /// A reply with a fixed text.
    pub const fn new(code: u16, status: &'static str, text: &'static str) -> Self {
        Self { code, status, text: Cow::Borrowed(text) }
    }

    /// The same, about an address.
    pub fn about(code: u16, status: &'static str, address: &str, text: &'static str) -> Self {
        let named = address.len() + text.len() + 3 <= MAX_TEXT_OCTETS;
        let text = if named { format!("<{address}> {text}").into() } else { Cow::Borrowed(text) };
        Self { code, status, text }
    }

    /// Whether the command was nonsense: counted against the client.
    pub fn is_protocol_error(&self) -> bool {
        matches!(self.code, 500..=504 | 555)
    }

    /// Appends the line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            format!("{} {} {}\r\n", self.code, self.status, self.text).as_bytes(),
        );
    }
}

/// The table: what a failed call means to the MTA. 4xx where [`StoreError::is_temporary`]: the MTA
/// keeps the message and comes again. Texts of the store stay inside (they are logged where they
/// are handled); an MTA would show them to the sender. Only a hook's refusal is meant for that.
pub fn of_error(error: &StoreError, step: Step) -> Reply {
    let at_recipient = step == Step::Recipient;
    match error {
        StoreError::NotFound(_) => NO_SUCH_USER,
        StoreError::Denied(_) | StoreError::AuthenticationFailed => {
            Reply::new(550, "5.7.1", "not permitted")
        }
        StoreError::Refused(text) => {
            Reply { code: 550, status: "5.7.1", text: one_line(text).into() }
        }
        StoreError::Invalid(_) if at_recipient => Reply::new(553, "5.1.3", "not a valid recipient"),
        StoreError::Invalid(_) => Reply::new(554, "5.6.0", "the message is not valid"),
        StoreError::Limit(_) if at_recipient => {
            Reply::new(550, "5.2.0", "the mailbox is at a limit")
        }
        StoreError::Limit(_) => {
            Reply::new(552, "5.2.3", "the message is over a limit of the mailbox")
        }
        StoreError::AlreadyExists(_) | StoreError::Unsupported(_) => {
            Reply::new(554, "5.3.3", "this server cannot do that")
        }
        StoreError::OverQuota => Reply::new(452, "4.2.2", "the mailbox is full"),
        StoreError::Busy(_) => Reply::new(451, "4.3.2", "busy; try again in a moment"),
        StoreError::Unavailable(_) | StoreError::Fenced | StoreError::UnknownOutcome => {
            Reply::new(451, "4.3.0", "the mail store is not available; try again later")
        }
        StoreError::Broken(_) | StoreError::Damaged(_) => FAILED,
    }
}

/// A hook's text as a reply has it: one line of printable ASCII (RFC 5321 §4.2), not too long.
fn one_line(text: &str) -> String {
    let printable = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    let plain = |c: char| if c.is_whitespace() || c.is_control() { ' ' } else { printable(c) };
    let line: String = text.chars().map(plain).take(MAX_TEXT_OCTETS).collect();
    match line.trim() {
        "" => "the message is refused".to_owned(),
        line => line.to_owned(),
    }
}

/// No such recipient.
pub const NO_SUCH_USER: Reply = Reply::new(550, "5.1.1", "no such user here");
/// Something of ours is broken: the MTA keeps the message.
pub const FAILED: Reply = Reply::new(451, "4.3.0", "the mail store failed; try again later");
/// The message is larger than we take (RFC 1870 §6.1).
pub const TOO_LARGE: Reply =
    Reply::new(552, "5.3.4", "the message is larger than this server takes");
/// Too much mail is arriving at once.
pub const NO_ROOM: Reply = Reply::new(452, "4.3.1", "too much mail is arriving; try again later");
/// NUL fits neither 8BITMIME (RFC 6152 §3) nor an IMAP literal (RFC 9051 §4.3).
pub const NUL_OCTETS: Reply = Reply::new(554, "5.6.0", "the message has NUL octets");
/// The node stops before this recipient's turn.
pub const STOPPING: Reply = Reply::new(451, "4.3.2", "shutting down; try again later");
/// The last words of a node that stops.
pub const GOODBYE: Reply = Reply::new(421, "4.3.2", "shutting down; try again later");
/// The last words to a silent client.
pub const TIMED_OUT: Reply = Reply::new(421, "4.4.2", "you took too long");
/// The last words to a client that talks nonsense.
pub const TOO_MANY_ERRORS: Reply = Reply::new(421, "4.7.0", "too many errors");
/// To RSET, NOOP.
pub const OK: Reply = Reply::new(250, "2.0.0", "OK");
/// To MAIL.
pub const SENDER_OK: Reply = Reply::new(250, "2.1.0", "sender OK");
/// To QUIT.
pub const BYE: Reply = Reply::new(221, "2.0.0", "bye");
/// To VRFY (RFC 5321 §3.5.3).
pub const CANNOT_VERIFY: Reply = Reply::new(252, "2.5.2", "cannot verify; send the mail");
/// To HELP.
pub const HELP: Reply = Reply::new(214, "2.0.0", "this is LMTP, RFC 2033");
/// To STARTTLS.
pub const START_TLS: Reply = Reply::new(220, "2.0.0", "go ahead");
/// To STARTTLS the second time.
pub const TLS_ALREADY: Reply = Reply::new(503, "5.5.1", "TLS is active already");
/// To commands of extensions that are not offered.
pub const NOT_OFFERED: Reply = Reply::new(502, "5.5.1", "not offered here");
/// To EHLO and HELO, so that an SMTP client notices where it is (RFC 2033 §4.1).
pub const NOT_SMTP: Reply = Reply::new(500, "5.5.1", "this is LMTP: say LHLO");
/// To HTTP and other protocols; the connection is closed, so that a web page cannot talk LMTP.
pub const NOT_HTTP: Reply = Reply::new(421, "4.7.0", "this is LMTP, nothing else");
/// To verbs that nobody knows.
pub const UNKNOWN: Reply = Reply::new(500, "5.5.1", "no such command");
/// To lines that are longer than [`super::MAX_LINE_OCTETS`].
pub const LONG_LINE: Reply = Reply::new(500, "5.5.2", "the line is too long");
/// To lines with octets that no command has.
pub const NOT_ASCII: Reply = Reply::new(500, "5.5.2", "a command is printable ASCII");
/// To addresses beyond ASCII (RFC 6531 §3.5).
pub const ADDRESS_NOT_ASCII: Reply =
    Reply::new(553, "5.6.7", "addresses beyond ASCII are not taken here");
/// To MAIL before LHLO.
pub const SAY_LHLO: Reply = Reply::new(503, "5.5.1", "say LHLO first");
/// To MAIL inside a transaction.
pub const NESTED: Reply = Reply::new(503, "5.5.1", "a transaction is open; RSET ends it");
/// To RCPT and DATA outside of one.
pub const NO_SENDER: Reply = Reply::new(503, "5.5.1", "say MAIL first");
/// To DATA when no RCPT succeeded (RFC 2033 §4.2).
pub const NO_RECIPIENTS: Reply = Reply::new(503, "5.5.1", "no valid recipients");
/// To RCPT beyond [`super::MAX_RECIPIENTS`] (RFC 5321 §4.5.3.1.10).
pub const TOO_MANY_RECIPIENTS: Reply =
    Reply::new(452, "4.5.3", "too many recipients; send the others in another transaction");
/// To arguments of commands that take none.
pub const NO_ARGUMENTS: Reply = Reply::new(501, "5.5.4", "this command takes no arguments");
/// To parameters with a value that makes no sense.
pub const BAD_PARAMETER: Reply = Reply::new(501, "5.5.4", "a parameter has no valid value");
/// To parameters of extensions that are not offered (RFC 5321 §4.1.1.11).
pub const UNKNOWN_PARAMETER: Reply = Reply::new(555, "5.5.4", "a parameter is not known here");
/// To `RCPT TO:<>`.
pub const NULL_RECIPIENT: Reply = Reply::new(553, "5.1.3", "a recipient has a name");
/// To a malformed reverse path.
pub const BAD_SENDER: Reply = Reply::new(501, "5.1.7", "syntax: MAIL FROM:<address> [parameters]");
/// To a malformed forward path.
pub const BAD_RECIPIENT: Reply = Reply::new(501, "5.1.3", "syntax: RCPT TO:<address> [parameters]");
/// To a malformed client name.
pub const BAD_HOST: Reply = Reply::new(501, "5.5.4", "syntax: LHLO name");
/// To other malformed commands.
pub const SYNTAX: Reply = Reply::new(501, "5.5.4", "the command is not well-formed");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_digit_says_whether_coming_again_can_help() {
        let text = || String::from("x\r\n250 smuggled");
        let errors = [
            StoreError::NotFound(text()),
            StoreError::AlreadyExists(text()),
            StoreError::AuthenticationFailed,
            StoreError::Denied(text()),
            StoreError::Refused(text()),
            StoreError::Invalid(text()),
            StoreError::Limit(text()),
            StoreError::OverQuota,
            StoreError::Busy(text()),
            StoreError::Unavailable(text()),
            StoreError::Fenced,
            StoreError::UnknownOutcome,
            StoreError::Broken(text()),
            StoreError::Damaged(text()),
            StoreError::Unsupported(text()),
        ];
        for (error, step) in errors.iter().flat_map(|e| [(e, Step::Recipient), (e, Step::Delivery)])
        {
            let reply = of_error(error, step);
            assert_eq!(reply.code / 100 == 4, error.is_temporary(), "{error:?}");
            assert_eq!(reply.status.starts_with('4'), error.is_temporary(), "{error:?}");
            let mut line = Vec::new();
            reply.write(&mut line);
            assert_eq!(line.iter().filter(|&&octet| octet == b'\n').count(), 1);
            let told = line.windows(8).any(|w| w == b"smuggled");
            let meant = matches!(error, StoreError::Refused(_));
            assert_eq!(told, meant, "the store's text stays inside, {error:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_one_line_of_ascii() {
        let check = |text: &str, expected: &str| {
            let mut line = Vec::new();
            of_error(&StoreError::Refused(text.into()), Step::Delivery).write(&mut line);
            assert_eq!(String::from_utf8(line).unwrap(), format!("550 5.7.1 {expected}\r\n"));
        };
        check("no spam, please", "no spam, please");
        check("a\r\n250 2.0.0 b\u{85}\u{2028}c\0", "a  250 2.0.0 b  c");
        check("Grüße", "Gr??e");
        check(" \r\n", "the message is refused");
        check(&"x".repeat(1_000), &"x".repeat(MAX_TEXT_OCTETS));
    }

    #[test]
    fn a_reply_line_has_at_most_512_octets() {
        let mut line = Vec::new();
        Reply::about(250, "2.1.5", &"x".repeat(510), "recipient OK").write(&mut line);
        Reply::about(250, "2.1.5", &"x".repeat(300), "recipient OK").write(&mut line);
        assert!(line.split_inclusive(|&octet| octet == b'\n').all(|line| line.len() <= 512));
    }
}
