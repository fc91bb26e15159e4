//! The IMAP command grammar (RFC 9051 §9, RFC 3501 §9 and the extensions that CAPABILITY names).
//!
//! A command is parsed when it is there as a whole: the session collects its lines and literals
//! (it finds them with [`literal_at_end`]) and hands over one piece of text in which the literals
//! stand in their wire form. Only APPEND is cut in two: [`append_head`] reads what comes before the
//! message, so that the message itself can go past the command buffer.

use std::fmt;

use super::command::{AppendHead, Command, LiteralHeader, Tag};

/// What a command that could not be read is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not in the language: `BAD`.
    Syntax,
    /// In the language, but names a mailbox that can never exist: `NO [CANNOT]`.
    MailboxName,
    /// In the language, but larger than a named limit of this server: `NO [LIMIT]`.
    Limit,
}

/// Why a text is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The command's tag, if it could be read: else the answer is untagged.
    pub tag: Option<Tag>,
    /// Which answer it gets.
    pub fault: Fault,
    /// What was expected; one line of printable ASCII without anything that the client sent.
    pub expected: String,
    /// Where: octets from the command's beginning, counted from 1.
    pub column: usize,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Syntax => write!(f, "expected {} at column {}", self.expected, self.column),
            Fault::MailboxName | Fault::Limit => {
                write!(f, "{} (column {})", self.expected, self.column)
            }
        }
    }
}

impl std::error::Error for ParseError {}

/// Reads one complete command: `text` holds all of its lines and literals in their wire form. The
/// line end (CRLF, LF) at its end may be there or not.
///
/// APPEND is not read here but by [`append_head`]; an APPEND without a literal for its message is
/// an error here.
pub fn command(text: &[u8]) -> Result<Command, ParseError> {
    let _ = text;
    Err(ParseError { tag: None, fault: Fault::Syntax, expected: "a command".into(), column: 1 })
}

/// The literal that is announced at the end of `text`, whose line end may be there or not: if there
/// is one, the command goes on after that many octets. Looks at the end only.
pub fn literal_at_end(text: &[u8]) -> Option<LiteralHeader> {
    let _ = text;
    None
}

/// Reads an APPEND up to its message. `text` holds what has come so far, up to and including the
/// announcement of a literal ([`literal_at_end`] has found it).
///
/// `None`: this is no APPEND, or the literal announced is its mailbox name and not yet its message;
/// collect the literal and go on. `Some(Err)`: an APPEND that is wrong before its message; refuse
/// it, and skip the literal if the client does not wait (`non_sync`).
///
/// After the message only a line end may come: `append_tail` checks what did.
pub fn append_head(text: &[u8]) -> Option<Result<AppendHead, ParseError>> {
    let _ = text;
    None
}

/// Reads what follows an APPEND's message, which must be nothing but the line end.
pub fn append_tail(tag: &Tag, text: &[u8]) -> Result<(), ParseError> {
    let _ = (tag, text);
    Ok(())
}
