//! The IMAP command grammar (RFC 9051 §9, RFC 3501 §9 and the extensions that CAPABILITY names).
//!
//! A command is parsed when it is there as a whole: the session collects its lines and literals
//! (it finds them with [`literal_at_end`]) and hands over one piece of text in which the literals
//! stand in their wire form. Only APPEND is cut in two: [`append_head`] reads what comes before the
//! message, so that the message itself can go past the command buffer.

mod access;
mod date;
mod input;
mod mailbox;
mod message;
mod search;
mod token;

use std::fmt;

use super::command::{AppendHead, Command, CommandBody, LiteralHeader, Numbering, Tag};

use input::{Failure, Input, Parsed, comes, end, place, space};

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

impl ParseError {
    fn new(tag: Option<Tag>, failure: Failure) -> Self {
        let Failure { at, fault, expected } = failure;
        Self { tag, fault, expected: expected.into_owned(), column: at + 1 }
    }
}

/// Reads one complete command: `text` holds all of its lines and literals in their wire form. The
/// line end (CRLF or LF) at its end may be there or not.
///
/// APPEND is not read here but by [`append_head`]: here it is always an error, which says what was
/// wrong with it, or that its message should have come as a literal.
pub fn command(text: &[u8]) -> Result<Command, ParseError> {
    let mut input = Input::new(text);
    let tag = token::tag(&mut input).map_err(|failure| ParseError::new(None, failure))?;
    let body = (|| {
        space(&mut input)?;
        let body = body(&mut input)?;
        end(&mut input)?;
        Ok(body)
    })();
    match body {
        Ok(body) => Ok(Command { tag, body }),
        Err(failure) => Err(ParseError::new(Some(tag), failure)),
    }
}

/// The literal that is announced at the end of `text`, whose line end may be there or not: if there
/// is one, the command goes on after that many octets. Looks at the end only: a `{3}` at the end of
/// a line announces a literal whatever stands before it, because the client will send it.
///
/// A number that does not fit 64 bits is given as `u64::MAX`.
pub fn literal_at_end(text: &[u8]) -> Option<LiteralHeader> {
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    let line = line.strip_suffix(b"\r").unwrap_or(line).strip_suffix(b"}")?;
    let digits = line.strip_suffix(b"+").unwrap_or(line);
    let start = digits.iter().rposition(|c| !c.is_ascii_digit())?;
    let tilde = start.checked_sub(1).is_some_and(|before| digits[before] == b'~');
    token::literal_header(&mut Input::new(&text[start - usize::from(tilde)..])).ok()
}

/// Reads an APPEND up to its message. `text` holds what has come so far, up to and including the
/// announcement of a literal ([`literal_at_end`] has found it).
///
/// `None`: this is no APPEND, or the literal announced is its mailbox name and not yet its message;
/// collect the literal and go on. `Some(Err)`: an APPEND that is wrong before its message; refuse
/// it, and skip the literal if the client does not wait (`non_sync`).
///
/// What follows the message is read by [`append_tail`].
pub fn append_head(text: &[u8]) -> Option<Result<AppendHead, ParseError>> {
    let mut input = Input::new(text);
    let tag = token::tag(&mut input).ok()?;
    space(&mut input).ok()?;
    if token::word(&mut input, "APPEND").ok()? != "APPEND" {
        return None;
    }
    let mut ahead = input;
    let mailbox_is_due = space(&mut ahead).is_ok()
        && comes(&ahead, "{")
        && token::literal_header(&mut ahead).is_ok()
        && ahead.is_empty();
    if mailbox_is_due {
        return None;
    }
    let head = (|| {
        let (mailbox, flags, internal_date) = message::append(&mut input)?;
        let at = place(&input);
        let literal = token::literal_header(&mut input)?;
        end(&mut input)?;
        match literal.binary {
            // RFC 3516 §4.4: only a server that offers BINARY takes one.
            true => Err(Failure::syntax(at, "a literal without \"~\"")),
            false => Ok((mailbox, flags, internal_date, literal)),
        }
    })();
    Some(match head {
        Ok((mailbox, flags, internal_date, literal)) => {
            Ok(AppendHead { tag, mailbox, flags, internal_date, literal })
        }
        Err(failure) => Err(ParseError::new(Some(tag), failure)),
    })
}

/// Reads what follows an APPEND's message, which must be nothing but the line end. The column in an
/// error counts from the message's end.
pub fn append_tail(tag: &Tag, text: &[u8]) -> Result<(), ParseError> {
    end(&mut Input::new(text)).map_err(|failure| ParseError::new(Some(tag.clone()), failure))
}

/// What comes after the tag.
fn body(input: &mut Input<'_>) -> Parsed<CommandBody> {
    let at = place(input);
    let name = token::word(input, COMMAND)?;
    Ok(match name.as_str() {
        "CAPABILITY" => CommandBody::Capability,
        "NOOP" => CommandBody::Noop,
        "LOGOUT" => CommandBody::Logout,
        "STARTTLS" => CommandBody::StartTls,
        "NAMESPACE" => CommandBody::Namespace,
        "CHECK" => CommandBody::Check,
        "CLOSE" => CommandBody::Close,
        "UNSELECT" => CommandBody::Unselect,
        "EXPUNGE" => CommandBody::Expunge,
        "IDLE" => CommandBody::Idle,
        "UID" => {
            space(input)?;
            let at = place(input);
            let name = token::word(input, COMMAND)?;
            if name == "EXPUNGE" {
                return message::uid_expunge(input);
            }
            numbered(input, &name, Numbering::Uid)?
                .ok_or_else(|| Failure::syntax(at, "a command that can follow UID"))?
        }
        name => {
            if let Some(body) = numbered(input, name, Numbering::Sequence)? {
                return Ok(body);
            }
            return with_arguments(input, name)
                .unwrap_or_else(|| Err(Failure::syntax(at, COMMAND)));
        }
    })
}

/// What an unknown command should have been.
const COMMAND: &str = "the name of a command";

/// The commands that have a UID form; `None` for others.
fn numbered(
    input: &mut Input<'_>,
    name: &str,
    numbering: Numbering,
) -> Parsed<Option<CommandBody>> {
    Ok(Some(match name {
        "SEARCH" => CommandBody::Search(search::search(input, numbering)?),
        "FETCH" => CommandBody::Fetch(message::fetch(input, numbering)?),
        "STORE" => CommandBody::Store(message::store(input, numbering)?),
        "COPY" => CommandBody::Copy(message::transfer(input, numbering)?),
        "MOVE" => CommandBody::Move(message::transfer(input, numbering)?),
        _ => return Ok(None),
    }))
}

/// The other commands with arguments; `None` for a name that is no command's.
fn with_arguments(input: &mut Input<'_>, name: &str) -> Option<Parsed<CommandBody>> {
    Some(match name {
        "LOGIN" => access::login(input),
        "AUTHENTICATE" => access::authenticate(input),
        "ID" => access::id(input),
        "ENABLE" => access::enable(input),
        "SELECT" => mailbox::select(input)
            .map(|(mailbox, condstore)| CommandBody::Select { mailbox, condstore }),
        "EXAMINE" => mailbox::select(input)
            .map(|(mailbox, condstore)| CommandBody::Examine { mailbox, condstore }),
        "CREATE" => mailbox::create(input),
        "DELETE" => mailbox::spaced_name(input).map(CommandBody::Delete),
        "RENAME" => mailbox::rename(input),
        "SUBSCRIBE" => mailbox::spaced_name(input).map(CommandBody::Subscribe),
        "UNSUBSCRIBE" => mailbox::spaced_name(input).map(CommandBody::Unsubscribe),
        "LIST" => mailbox::list(input),
        "LSUB" => mailbox::lsub(input),
        "STATUS" => mailbox::status(input),
        "APPEND" => message::append(input)
            .and_then(|_| Err(Failure::syntax(place(input), "the message as a literal"))),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
