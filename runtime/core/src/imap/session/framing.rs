//! Finds commands in a stream of octets that is cut anywhere: lines, literals, APPEND's message.
//!
//! A command is collected as a whole before it is read (`imap/parse`), but for the message of an
//! APPEND, which goes into a buffer of its own. Nothing is collected beyond a limit: what is too
//! large is either not asked for (the client waits before it sends a literal) or passed over octet
//! by octet without being kept (it does not wait, RFC 7888), and the connection stays usable.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::budget::Budget;
use crate::imap::command::{AppendHead, LiteralHeader, Tag};
use crate::imap::parse::{self, ParseError};

use super::arrival::{Arrival, Unwanted};

/// Most octets of one refused command that are passed over: the largest literal of IMAP4rev1. With
/// more the connection is closed, because reading on costs both ends more than connecting again.
pub(super) const MAX_SKIPPED_OCTETS: u64 = u32::MAX as u64;
/// The end of a dropped line is kept up to this length: an announcement of a literal fits.
const LINE_TAIL_OCTETS: usize = 32;

/// What is expected next from the client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect {
    /// A command of at most so many octets, literals other than APPEND's message included.
    Command(usize),
    /// One line of at most so many octets (SASL, the end of IDLE).
    Line(usize),
}

/// What the client sent.
pub(super) enum Frame {
    /// A complete command in its wire form, literals included.
    Command(Vec<u8>),
    /// A line, without its line end.
    Line(Vec<u8>),
    /// The client waits before it sends a literal, and may send it.
    GoOn,
    /// An APPEND whose message comes next: [`Framer::accept`] or [`Framer::refuse`] must follow.
    Append(AppendHead),
    /// An APPEND is complete.
    Message(AppendHead, Arrival),
    /// A command that could not be taken in; all of it has been passed over.
    Refused(Refusal),
}

/// Why a command could not be taken in.
pub(super) enum Refusal {
    /// A line, or a command with its literals, beyond the limit.
    TooLong(Option<Tag>),
    /// A message larger than this server takes.
    MessageTooLarge(Tag),
    /// Not in the language.
    Parse(ParseError),
    /// An APPEND that the session does not want.
    Append(super::flow::Done),
    /// An APPEND whose message cannot be kept.
    Unwanted(Tag, Unwanted),
    /// So long that reading on makes no sense: the connection is closed.
    Hopeless,
}

/// Where in a command the next octet belongs.
enum Reading {
    /// A line of it.
    Line,
    /// A literal of it.
    Literal { left: u64 },
    /// A message that the session has not decided upon.
    Decide(AppendHead),
    /// The message of an APPEND.
    Message { head: AppendHead, arrival: Arrival },
    /// The line end behind the message.
    Tail { head: AppendHead, arrival: Arrival },
    /// A literal of a refused command.
    SkipLiteral { left: u64, refusal: Refusal },
    /// A line of a refused command.
    SkipLine { tail: Vec<u8>, refusal: Refusal },
    /// Nothing of the refused command is left.
    Refused(Refusal),
}

/// Finds the frames. Holds at most one command and one message.
pub(super) struct Framer {
    reading: Reading,
    /// What there is of the command.
    text: Vec<u8>,
    /// Octets of the command that were passed over.
    skipped: u64,
}

impl Framer {
    pub(super) fn new() -> Self {
        Self { reading: Reading::Line, text: Vec::new(), skipped: 0 }
    }

    /// The next frame; takes from `octets` what belongs to it. `None`: it needs more octets, and
    /// has taken all there were (unless a decision on an APPEND is due).
    pub(super) fn next(&mut self, octets: &mut Bytes, expect: Expect) -> Option<Frame> {
        loop {
            let reading = std::mem::replace(&mut self.reading, Reading::Line);
            let frame = match reading {
                Reading::Line => self.line(octets, expect)?,
                Reading::Literal { left } => self.literal(octets, left)?,
                Reading::Decide(head) => {
                    self.reading = Reading::Decide(head);
                    return None;
                }
                Reading::Message { head, arrival } => self.message(octets, head, arrival)?,
                Reading::Tail { head, arrival } => self.tail(octets, expect, head, arrival)?,
                Reading::SkipLiteral { left, refusal } => {
                    self.skip_literal(octets, left, refusal)?
                }
                Reading::SkipLine { tail, refusal } => self.skip_line(octets, tail, refusal)?,
                Reading::Refused(refusal) => {
                    self.text = Vec::new();
                    self.skipped = 0;
                    Some(Frame::Refused(refusal))
                }
            };
            if frame.is_some() {
                return frame;
            }
        }
    }

    /// Takes the message of the APPEND that was the last frame, if the budget has room for it; else
    /// [`Frame::Refused`] follows. Says whether the client waits to be told that it can send it.
    pub(super) fn accept(&mut self, budget: &Arc<Budget>) -> bool {
        let Reading::Decide(head) = std::mem::replace(&mut self.reading, Reading::Line) else {
            unreachable!("only after Frame::Append");
        };
        self.text = Vec::new();
        match Arrival::new(head.literal.octets, budget.clone()) {
            Ok(arrival) => {
                let waits = !head.literal.non_sync;
                self.reading = Reading::Message { head, arrival };
                waits
            }
            Err(unwanted) => {
                self.reading = self.skip(head.literal, Refusal::Unwanted(head.tag, unwanted));
                false
            }
        }
    }

    /// Does not take the message of the APPEND that was the last frame: it is passed over if the
    /// client sends it all the same, and [`Frame::Refused`] follows.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let Reading::Decide(head) = std::mem::replace(&mut self.reading, Reading::Line) else {
            unreachable!("only after Frame::Append");
        };
        self.reading = self.skip(head.literal, refusal);
    }

    /// `Some(None)`, here and below: go on with the new `reading`.
    fn line(&mut self, octets: &mut Bytes, expect: Expect) -> Option<Option<Frame>> {
        let (Expect::Command(max) | Expect::Line(max)) = expect;
        match self.collect_line(octets, max)? {
            Collected::TooLong => Some(None),
            Collected::Line => match expect {
                Expect::Line(_) => {
                    let mut line = std::mem::take(&mut self.text);
                    let end = line.len() - line_end(&line);
                    line.truncate(end);
                    Some(Some(Frame::Line(line)))
                }
                Expect::Command(_) => Some(self.command_line(max)),
            },
        }
    }

    /// A line of a command is complete.
    fn command_line(&mut self, max: usize) -> Option<Frame> {
        let Some(literal) = parse::literal_at_end(&self.text) else {
            return Some(Frame::Command(std::mem::take(&mut self.text)));
        };
        match parse::append_head(&self.text) {
            Some(Ok(head)) => {
                self.reading = Reading::Decide(head.clone());
                return Some(Frame::Append(head));
            }
            Some(Err(error)) => {
                self.reading = self.skip(literal, Refusal::Parse(error));
                return None;
            }
            None => {}
        }
        let room = max.saturating_sub(self.text.len()) as u64;
        if literal.octets > room {
            self.reading = self.skip(literal, Refusal::TooLong(self.tag()));
            return None;
        }
        self.reading = Reading::Literal { left: literal.octets };
        (!literal.non_sync).then_some(Frame::GoOn)
    }

    fn literal(&mut self, octets: &mut Bytes, left: u64) -> Option<Option<Frame>> {
        let part = take(octets, left);
        self.text.extend_from_slice(&part);
        let left = left - part.len() as u64;
        self.reading = if left == 0 { Reading::Line } else { Reading::Literal { left } };
        (left == 0).then_some(None)
    }

    fn message(
        &mut self,
        octets: &mut Bytes,
        head: AppendHead,
        mut arrival: Arrival,
    ) -> Option<Option<Frame>> {
        let part = take(octets, arrival.left());
        let left = arrival.left() - part.len() as u64;
        if let Err(unwanted) = arrival.push(&part) {
            // Nothing of it is kept from here on.
            self.skipped = left;
            let refusal = Refusal::Unwanted(head.tag, unwanted);
            self.reading = Reading::SkipLiteral { left, refusal };
            return Some(None);
        }
        self.reading = match left {
            0 => Reading::Tail { head, arrival },
            _ => Reading::Message { head, arrival },
        };
        (left == 0).then_some(None)
    }

    fn tail(
        &mut self,
        octets: &mut Bytes,
        expect: Expect,
        head: AppendHead,
        arrival: Arrival,
    ) -> Option<Option<Frame>> {
        let (Expect::Command(max) | Expect::Line(max)) = expect;
        match self.collect_line(octets, max) {
            None => {
                self.reading = Reading::Tail { head, arrival };
                None
            }
            Some(Collected::TooLong) => {
                if let Reading::SkipLine { refusal, .. } = &mut self.reading {
                    *refusal = Refusal::TooLong(Some(head.tag));
                }
                Some(None)
            }
            Some(Collected::Line) => {
                let text = std::mem::take(&mut self.text);
                let Err(error) = parse::append_tail(&head.tag, &text) else {
                    return Some(Some(Frame::Message(head, arrival)));
                };
                let refusal = Refusal::Parse(error);
                self.reading = match parse::literal_at_end(&text) {
                    // One message at a time (no MULTIAPPEND): the next one is passed over.
                    Some(literal) => self.skip(literal, refusal),
                    None => Reading::Refused(refusal),
                };
                Some(None)
            }
        }
    }

    fn skip_literal(
        &mut self,
        octets: &mut Bytes,
        left: u64,
        refusal: Refusal,
    ) -> Option<Option<Frame>> {
        let left = left - take(octets, left).len() as u64;
        self.reading = match left {
            0 => Reading::SkipLine { tail: Vec::new(), refusal },
            left => Reading::SkipLiteral { left, refusal },
        };
        (left == 0).then_some(None)
    }

    fn skip_line(
        &mut self,
        octets: &mut Bytes,
        mut tail: Vec<u8>,
        refusal: Refusal,
    ) -> Option<Option<Frame>> {
        let line = octets.iter().position(|&c| c == b'\n');
        let part = octets.split_to(line.map_or(octets.len(), |at| at + 1));
        tail.extend_from_slice(&part[part.len().saturating_sub(LINE_TAIL_OCTETS)..]);
        tail.drain(..tail.len().saturating_sub(LINE_TAIL_OCTETS));
        self.skipped += part.len() as u64;
        self.reading = match line {
            None if self.skipped > MAX_SKIPPED_OCTETS => Reading::Refused(Refusal::Hopeless),
            None => {
                self.reading = Reading::SkipLine { tail, refusal };
                return None;
            }
            Some(_) => match parse::literal_at_end(&tail) {
                Some(literal) => self.skip(literal, refusal),
                None => Reading::Refused(refusal),
            },
        };
        Some(None)
    }

    /// What to do with an announced literal of a refused command: it comes only if the client does
    /// not wait for leave.
    fn skip(&mut self, literal: LiteralHeader, refusal: Refusal) -> Reading {
        if !literal.non_sync {
            return Reading::Refused(refusal);
        }
        self.skipped = self.skipped.saturating_add(literal.octets);
        match self.skipped > MAX_SKIPPED_OCTETS {
            true => Reading::Refused(Refusal::Hopeless),
            false => Reading::SkipLiteral { left: literal.octets, refusal },
        }
    }

    /// Moves octets into the text up to and including a line end. `None`: there is none yet.
    fn collect_line(&mut self, octets: &mut Bytes, max: usize) -> Option<Collected> {
        let line = octets.iter().position(|&c| c == b'\n');
        let part = line.map_or(octets.len(), |at| at + 1);
        if self.text.len() + part > max {
            let tail = self.text[self.text.len().saturating_sub(LINE_TAIL_OCTETS)..].to_vec();
            // The tag is at the beginning: have it before the rest is dropped.
            let missing = max.saturating_sub(self.text.len()).min(part);
            self.text.extend_from_slice(&octets[..missing]);
            let refusal = Refusal::TooLong(self.tag());
            self.reading = Reading::SkipLine { tail, refusal };
            self.text = Vec::new();
            return Some(Collected::TooLong);
        }
        self.text.extend_from_slice(&octets[..part]);
        octets.advance(part);
        line.map(|_| Collected::Line)
    }

    /// The tag of the command in the text, if its beginning is one.
    fn tag(&self) -> Option<Tag> {
        let end = self.text.iter().position(|&c| c == b' ')?;
        Tag::new(std::str::from_utf8(&self.text[..end]).ok()?)
    }
}

enum Collected {
    Line,
    TooLong,
}

/// The first octets, at most `most` of them.
fn take(octets: &mut Bytes, most: u64) -> Bytes {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    octets.split_to(most.min(octets.len()))
}

/// How many octets of line end the line has.
fn line_end(line: &[u8]) -> usize {
    match line {
        [.., b'\r', b'\n'] => 2,
        [.., b'\n'] => 1,
        _ => 0,
    }
}
