//! mbox: messages one after another, each begun by a `From ` line. There is no one format; what is
//! read and written here is the variant that changes no octet of a message when it is read
//! (`>From ` stays as it stands) and quotes on writing only where a reader would see a new message.

use super::{ArchivedMessage, with_crlf};
use crate::types::{Flags, Timestamp};

/// Longest line that is looked at for being a `From ` line, in octets: addresses have at most 320.
const MAX_FROM_LINE: usize = 1024;

/// Why an mbox cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MboxError {
    /// The file does not begin with a `From ` line.
    #[error("this is no mbox: it does not begin with a \"From \" line that ends in a date")]
    NotMbox,
    /// A message is larger than allowed.
    #[error("message {number} is larger than {limit} octets; raise the limit or take it out")]
    TooLarge {
        /// Counted from one.
        number: u64,
        /// Octets.
        limit: usize,
    },
}

/// Cuts an mbox into messages, whatever pieces it arrives in.
#[derive(Debug)]
pub struct Splitter {
    limit: usize,
    number: u64,
    /// Octets not yet cut into lines.
    rest: Vec<u8>,
    /// The message under construction: its `From ` line's date, and its octets so far.
    current: Option<(Option<Timestamp>, Vec<u8>)>,
    after_blank: bool,
}

impl Splitter {
    /// A splitter that refuses messages of more than `limit` octets.
    pub fn new(limit: usize) -> Self {
        Self { limit, number: 0, rest: Vec::new(), current: None, after_blank: true }
    }

    /// Takes the next octets of the file and returns the messages that they complete.
    pub fn push(&mut self, octets: &[u8]) -> Result<Vec<ArchivedMessage>, MboxError> {
        let mut done = Vec::new();
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(octets);
        let mut start = 0;
        while let Some(end) = rest[start..].iter().position(|&octet| octet == b'\n') {
            self.line(&rest[start..=start + end], &mut done)?;
            start += end + 1;
        }
        self.rest = rest.split_off(start);
        if self.rest.len() > self.limit {
            return Err(MboxError::TooLarge { number: self.number.max(1), limit: self.limit });
        }
        Ok(done)
    }

    /// The end of the file: returns the last message.
    pub fn finish(mut self) -> Result<Option<ArchivedMessage>, MboxError> {
        let rest = std::mem::take(&mut self.rest);
        let mut done = Vec::new();
        if !rest.is_empty() {
            self.line(&rest, &mut done)?;
        }
        Ok(done.pop().or_else(|| self.complete()))
    }

    fn line(&mut self, line: &[u8], done: &mut Vec<ArchivedMessage>) -> Result<(), MboxError> {
        if let Some(date) = self.after_blank.then(|| from_line(line)).flatten() {
            done.extend(self.complete());
            self.number += 1;
            self.current = Some((date, Vec::new()));
            self.after_blank = false;
            return Ok(());
        }
        let blank = matches!(line, b"\n" | b"\r\n");
        let Some((_, octets)) = &mut self.current else {
            // Blank lines before the first message are harmless, anything else is no mbox.
            return if blank { Ok(()) } else { Err(MboxError::NotMbox) };
        };
        octets.extend_from_slice(line);
        self.after_blank = blank;
        match octets.len() > self.limit {
            true => Err(MboxError::TooLarge { number: self.number, limit: self.limit }),
            false => Ok(()),
        }
    }

    fn complete(&mut self) -> Option<ArchivedMessage> {
        let (date, mut octets) = self.current.take()?;
        // The blank line before the next `From ` line belongs to the archive.
        for end in [&b"\n\r\n"[..], b"\n\n"] {
            if octets.ends_with(end) {
                octets.truncate(octets.len() - end.len() + 1);
                break;
            }
        }
        if matches!(&octets[..], b"\n" | b"\r\n") {
            octets.clear();
        }
        Some(ArchivedMessage { octets: with_crlf(&octets), date, flags: Flags::default() })
    }
}

/// The inner option is the date, where it is one that we understand.
fn from_line(line: &[u8]) -> Option<Option<Timestamp>> {
    let rest = line.strip_prefix(b"From ")?;
    if line.len() > MAX_FROM_LINE {
        return None;
    }
    let text = std::str::from_utf8(rest).ok()?.trim_end();
    // Every writer ends the line with asctime's date: it has a clock time in it.
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let clock = words.iter().rposition(|word| clock_time(word).is_some())?;
    Some(parse_date(&words, clock))
}

fn clock_time(word: &str) -> Option<time::Time> {
    let mut parts = word.split(':');
    let mut number = || parts.next().filter(|p| p.len() == 2)?.parse::<u8>().ok();
    let (hour, minute) = (number()?, number()?);
    let second = if word.len() > 5 { number()? } else { 0 };
    time::Time::from_hms(hour, minute, second.min(59)).ok()
}

/// asctime: `Thu Jan  1 00:00:01 2015`, perhaps with a zone before or after the year.
fn parse_date(words: &[&str], clock: usize) -> Option<Timestamp> {
    let clock_time = clock_time(words.get(clock)?)?;
    let day: u8 = words.get(clock.checked_sub(1)?)?.parse().ok()?;
    let month = month(words.get(clock.checked_sub(2)?)?)?;
    let tail = words.get(clock + 1..)?;
    let year = tail.iter().find_map(|w| (w.len() == 4).then(|| w.parse::<i32>().ok()).flatten())?;
    let offset_minutes = tail.iter().find_map(|word| zone(word)).unwrap_or(0);
    let date = time::Date::from_calendar_date(year, month, day).ok()?;
    let local = date.with_time(clock_time).assume_utc().unix_timestamp();
    Some(Timestamp { seconds: local - i64::from(offset_minutes) * 60, offset_minutes })
}

fn month(word: &str) -> Option<time::Month> {
    const NAMES: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = NAMES.iter().position(|name| name.eq_ignore_ascii_case(word))?;
    time::Month::try_from(u8::try_from(at + 1).ok()?).ok()
}

fn zone(word: &str) -> Option<i16> {
    let (sign, digits) = match word.as_bytes() {
        [b'+', rest @ ..] if rest.len() == 4 => (1, &word[1..]),
        [b'-', rest @ ..] if rest.len() == 4 => (-1, &word[1..]),
        _ => return None,
    };
    let number: i16 = digits.parse().ok()?;
    (number / 100 < 24 && number % 100 < 60).then(|| sign * (number / 100 * 60 + number % 100))
}

/// What writing a message did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines that got a `>` in front, because a reader would have taken them for a new message.
    pub quoted: u64,
}

/// Appends a message to an mbox, with the line ends that it has.
pub fn write(out: &mut Vec<u8>, message: &ArchivedMessage) -> Written {
    let date = message.date.unwrap_or(Timestamp::utc(0));
    let utc = time::OffsetDateTime::from_unix_timestamp(date.seconds)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let from = format!(
        "From MAILER-DAEMON {} {} {:>2} {:02}:{:02}:{:02} {} +0000\r\n",
        &utc.weekday().to_string()[..3],
        &utc.month().to_string()[..3],
        utc.day(),
        utc.hour(),
        utc.minute(),
        utc.second(),
        utc.year(),
    );
    out.extend_from_slice(from.as_bytes());
    let mut written = Written::default();
    let mut after_blank = false;
    for line in message.octets.split_inclusive(|&octet| octet == b'\n') {
        if after_blank && from_line(line).is_some() {
            out.push(b'>');
            written.quoted += 1;
        }
        out.extend_from_slice(line);
        after_blank = matches!(line, b"\n" | b"\r\n");
    }
    if !message.octets.is_empty() && !message.octets.ends_with(b"\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FROM: &str = "From a@b Thu Jan  1 00:00:01 2015 +0100\r\n";

    fn split(file: &[u8], piece: usize) -> Result<Vec<ArchivedMessage>, MboxError> {
        let mut splitter = Splitter::new(1000);
        let mut messages = Vec::new();
        for piece in file.chunks(piece.max(1)) {
            messages.extend(splitter.push(piece)?);
        }
        messages.extend(splitter.finish()?);
        Ok(messages)
    }

    fn check(file: &str, expected: &[&str]) {
        for piece in [1, 7, 10_000] {
            let texts: Vec<String> = split(file.as_bytes(), piece)
                .unwrap()
                .into_iter()
                .map(|message| String::from_utf8(message.octets).unwrap())
                .collect();
            assert_eq!(texts, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn messages_are_cut_at_from_lines_after_a_blank_line() {
        check(
            &format!("{FROM}A: b\r\n\r\nx\r\n\r\n{FROM}C: d\r\n\r\n"),
            &["A: b\r\n\r\nx\r\n", "C: d\r\n"],
        );
    }

    #[test]
    fn lone_line_feeds_become_crlf() {
        check("From a@b Thu Jan  1 00:00:01 2015\nA: b\n\nx\n\n", &["A: b\r\n\r\nx\r\n"]);
    }

    #[test]
    fn a_message_with_bare_line_feeds_stays_one_message() {
        let octets = b"A: b\n\nx\n\nFrom a@b Thu Jan  1 00:00:01 2015\ny\n".to_vec();
        let message = ArchivedMessage { octets, date: None, flags: Flags::default() };
        let mut file = Vec::new();
        assert_eq!(write(&mut file, &message).quoted, 1);
        write(&mut file, &message);
        let text = "A: b\r\n\r\nx\r\n\r\n>From a@b Thu Jan  1 00:00:01 2015\r\ny\r\n";
        check(std::str::from_utf8(&file).unwrap(), &[text, text]);
    }

    #[test]
    fn a_line_that_begins_with_from_in_a_text_stays_in_it() {
        check(
            &format!("{FROM}A: b\r\n\r\nx\r\nFrom here 10:00 on\r\n>From y\r\n"),
            &["A: b\r\n\r\nx\r\nFrom here 10:00 on\r\n>From y\r\n"],
        );
        check(
            &format!("{FROM}A: b\r\n\r\nFrom me to you\r\n"),
            &["A: b\r\n\r\nFrom me to you\r\n"],
        );
    }

    #[test]
    fn the_from_lines_date_is_the_arrival() {
        let message = split(format!("{FROM}A: b\r\n").as_bytes(), 9).unwrap().remove(0);
        let date = message.date.unwrap();
        assert_eq!((date.seconds, date.offset_minutes), (1_420_070_401 - 3600, 60));
    }

    #[test]
    fn what_is_no_mbox_is_refused() {
        assert_eq!(split(b"Subject: x\r\n\r\n", 5), Err(MboxError::NotMbox));
        let huge = format!("{FROM}{}\r\n", "x".repeat(2000));
        assert_eq!(split(huge.as_bytes(), 99), Err(MboxError::TooLarge { number: 1, limit: 1000 }));
        assert_eq!(split(b"", 1), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            texts in prop::collection::vec("(A: b\r\n)(\r\n|[a-z >]{0,9}\r\n|From [a-z]{0,3}\r\n){0,8}", 0..5),
            piece in 1usize..50,
        ) {
            let mut file = Vec::new();
            let messages: Vec<ArchivedMessage> = texts.iter().enumerate().map(|(i, text)| ArchivedMessage {
                octets: text.as_bytes().to_vec(),
                date: Some(Timestamp::utc(1_700_000_000 + i as i64)),
                flags: Flags::default(),
            }).collect();
            for message in &messages {
                prop_assert_eq!(write(&mut file, message).quoted, 0);
            }
            prop_assert_eq!(split(&file, piece).unwrap(), messages);
        }

        #[test]
        fn rubbish_never_panics(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = split(&octets, 13);
            let _ = split(&[b"From a Thu Jan 99 99:99 2015\n", &octets[..]].concat(), 13);
        }
    }

    #[test]
    fn a_line_that_would_begin_a_new_message_is_quoted() {
        let octets = format!("A: b\r\n\r\n{FROM}").into_bytes();
        let mut file = Vec::new();
        let message = ArchivedMessage { octets, date: None, flags: Flags::default() };
        assert_eq!(write(&mut file, &message).quoted, 1);
        assert_eq!(split(&file, 99).unwrap().len(), 1);
    }
}
