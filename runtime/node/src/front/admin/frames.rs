//! Messages on the wire of import and export: a line of JSON, and after a message's line its octets
//! as they are. A stream that does not finish with `end` was cut off. For both ends.
//!
//! ```text
//! {"total":2}
//! {"message":{"octets":11,"date":{"seconds":0,"offset_minutes":0},"flags":["\\Seen"]}}
//! Subject: x
//! {"message":…}
//! {"end":null}
//! ```

use bytes::{Buf, Bytes, BytesMut};
use postroom_core::types::{Flag, Flags, Timestamp};
use serde::{Deserialize, Serialize};

use super::wire::Failure;

/// The media type of such a stream.
pub const MEDIA_TYPE: &str = "application/x-postroom-messages";
/// Longest line, in octets: a message's flags are the longest thing on one.
const MAX_LINE_OCTETS: usize = 64 << 10;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Line {
    /// Messages in the mailbox when an export began; the first line of one.
    Total(u64),
    /// A message; its octets follow.
    Message(Head),
    /// A message that could not be read; the stream goes on.
    Damaged(String),
    /// The stream ends before its time.
    Failed(Failure),
    /// Nothing follows.
    End(()),
}

/// What is said of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Octets that follow.
    pub octets: u64,
    /// INTERNALDATE; without: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Timestamp>,
    /// Flags as IMAP writes them; ones that no client can set are passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Its UID, in an export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// What a stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framed {
    /// A message.
    Message(Head, Bytes),
    /// Any other line.
    Line(Line),
}

/// A stream is no such stream: the text says why, for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotFramed(String);

/// Reads a stream that comes in pieces.
#[derive(Debug)]
pub struct Reader {
    pending: BytesMut,
    head: Option<Head>,
    max_octets: u64,
}

impl Head {
    /// Of a message.
    pub fn new(octets: usize, date: Option<Timestamp>, flags: &Flags) -> Self {
        let flags = flags.iter().map(|flag| flag.to_string()).collect();
        Self { octets: octets as u64, date, flags, uid: None }
    }

    /// The flags that a client could set.
    pub fn flags(&self) -> Flags {
        Flags::of(self.flags.iter().filter_map(|text| Flag::parse(text)))
    }
}

impl Line {
    /// As it stands in the stream.
    pub fn to_bytes(&self) -> Bytes {
        // Strings and numbers only: nothing that JSON could not hold.
        let mut line = serde_json::to_vec(self).expect("a line is plain data");
        line.push(b'\n');
        line.into()
    }
}

impl Reader {
    /// Takes messages of at most `max_octets`.
    pub fn new(max_octets: u64) -> Self {
        Self { pending: BytesMut::new(), head: None, max_octets }
    }

    /// Takes a piece. Take out what it completes ([`Reader::take`]) before the next one.
    pub fn push(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
    }

    /// The next thing that has come whole.
    pub fn take(&mut self) -> Result<Option<Framed>, NotFramed> {
        if self.head.is_none() {
            let Some(line) = self.line()? else { return Ok(None) };
            match serde_json::from_slice(&line) {
                Ok(Line::Message(head)) if head.octets > self.max_octets => {
                    let text = format!(
                        "a message has {} octets, more than {}",
                        head.octets, self.max_octets
                    );
                    return Err(NotFramed(text));
                }
                Ok(Line::Message(head)) => self.head = Some(head),
                Ok(line) => return Ok(Some(Framed::Line(line))),
                Err(error) => return Err(NotFramed(format!("not a line of messages: {error}"))),
            }
        }
        let whole = |head: &mut Head| self.pending.len() as u64 >= head.octets;
        Ok(self.head.take_if(whole).map(|head| {
            // At most the length of the buffer, so it fits.
            let octets = self.pending.split_to(head.octets as usize).freeze();
            Framed::Message(head, octets)
        }))
    }

    /// Whether nothing is left over.
    pub fn is_at_border(&self) -> bool {
        self.head.is_none() && self.pending.is_empty()
    }

    fn line(&mut self) -> Result<Option<BytesMut>, NotFramed> {
        let end = self.pending.iter().take(MAX_LINE_OCTETS).position(|&octet| octet == b'\n');
        match end {
            Some(end) => {
                let line = self.pending.split_to(end);
                self.pending.advance(1);
                Ok(Some(line))
            }
            None if self.pending.len() >= MAX_LINE_OCTETS => {
                Err(NotFramed(format!("a line has more than {MAX_LINE_OCTETS} octets")))
            }
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(stream: &[u8], piece: usize, max: u64) -> Result<(Vec<Framed>, bool), NotFramed> {
        let (mut reader, mut found) = (Reader::new(max), Vec::new());
        for piece in stream.chunks(piece) {
            reader.push(piece);
            while let Some(framed) = reader.take()? {
                found.push(framed);
            }
        }
        Ok((found, reader.is_at_border()))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..6), piece in 1usize..80,
        ) {
            let flags = Flags::of(Flag::parse("\\Seen").into_iter().chain(Flag::parse("$x")));
            let mut stream = Line::Total(bodies.len() as u64).to_bytes().to_vec();
            let mut expected = vec![Framed::Line(Line::Total(bodies.len() as u64))];
            for body in bodies {
                let head = Head::new(body.len(), Some(Timestamp::utc(7)), &flags);
                prop_assert_eq!(head.flags(), flags.clone());
                stream.extend_from_slice(&Line::Message(head.clone()).to_bytes());
                stream.extend_from_slice(&body);
                expected.push(Framed::Message(head, body.into()));
            }
            stream.extend_from_slice(&Line::End(()).to_bytes());
            expected.push(Framed::Line(Line::End(())));
            prop_assert_eq!(read(&stream, piece, 50), Ok((expected, true)));
        }

        #[test]
        fn rubbish_is_refused_and_never_panics(stream in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&stream, 7, 50);
        }
    }

    #[test]
    fn a_message_beyond_the_limit_is_refused_before_it_has_come() {
        let head = Line::Message(Head { octets: 51, ..Head::default() });
        assert!(read(&head.to_bytes(), 1, 50).unwrap_err().to_string().contains("more than 50"));
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        assert!(read(&vec![b'x'; MAX_LINE_OCTETS + 1], 1_000, 50).is_err());
    }

    #[test]
    fn half_a_message_is_seen() {
        let mut stream = Line::Message(Head { octets: 3, ..Head::default() }).to_bytes().to_vec();
        stream.extend(b"ab");
        assert_eq!(read(&stream, 9, 50), Ok((Vec::new(), false)));
    }
}
