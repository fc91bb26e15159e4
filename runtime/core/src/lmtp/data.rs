//! A message as it streams in after DATA: the end is found, dots are un-stuffed (RFC 5321 §4.5.2),
//! bare LF becomes CRLF, and what is too large is passed over without being kept.

use std::sync::Arc;

use bytes::Bytes;

use crate::budget::{Budget, Reservation};

use super::reply::{self, Reply};

/// First size of the buffer, in octets: most mail fits after few growths.
const FIRST_OCTETS: usize = 16 << 10;
/// Trust in an announced size, in octets: no more than this is taken before it has arrived.
const TRUSTED_OCTETS: u64 = 1 << 20;

/// Where in a line the last octet was. Only CRLF begins a line in which a dot means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// After CRLF, or at the very beginning.
    LineStart,
    /// After CRLF and a dot, which is held back.
    Dot,
    /// After CRLF, a dot and CR, both held back.
    DotCr,
    /// Inside a line, also after a bare LF.
    Inside,
    /// After CR.
    Cr,
}

/// Takes a message in.
#[derive(Debug)]
pub struct Receiver {
    place: Place,
    octets: Vec<u8>,
    /// Octets before the message's own: trace fields.
    prefix: usize,
    max: u64,
    refused: Option<Reply>,
    held: Reservation,
}

/// A message that has arrived whole, with the memory that it holds.
#[derive(Debug)]
pub struct Received {
    /// The prefix, then the message with CRLF line ends.
    pub octets: Bytes,
    /// Gives the memory back when dropped.
    pub held: Reservation,
}

impl Receiver {
    /// For a message of at most `max` octets, to be kept behind `prefix`; `announced` by the client
    /// (0: not at all).
    pub fn new(prefix: Vec<u8>, max: u64, announced: u64, budget: Arc<Budget>) -> Self {
        let held = Reservation::new(budget);
        let place = Place::LineStart;
        let prefix_octets = prefix.len();
        let mut new =
            Self { place, octets: prefix, prefix: prefix_octets, max, refused: None, held };
        // `announced` is at most TRUSTED_OCTETS here and fits.
        new.make_room(announced.min(TRUSTED_OCTETS).min(max) as usize);
        new
    }

    /// Takes octets. `Some(n)`: the message ended with the first `n` of them.
    pub fn push(&mut self, octets: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < octets.len() {
            let octet = octets[at];
            match (self.place, octet) {
                (Place::LineStart, b'.') => self.place = Place::Dot,
                (Place::Dot, b'\r') => self.place = Place::DotCr,
                (Place::DotCr, b'\n') => return Some(at + 1),
                (Place::DotCr, _) => {
                    // The dot was stuffing and the CR belongs to the line.
                    self.keep(b"\r");
                    self.place = Place::Cr;
                    continue;
                }
                (Place::Cr, b'\n') => {
                    self.keep(b"\n");
                    self.place = Place::LineStart;
                }
                (_, b'\n') => {
                    self.keep(b"\r\n");
                    self.place = Place::Inside;
                }
                (_, b'\r') => {
                    self.keep(b"\r");
                    self.place = Place::Cr;
                }
                (Place::LineStart | Place::Dot | Place::Inside | Place::Cr, _) => {
                    let end = octets[at..].iter().position(|&o| matches!(o, b'\r' | b'\n'));
                    let run = &octets[at..at + end.unwrap_or(octets.len() - at)];
                    self.keep(run);
                    self.place = Place::Inside;
                    at += run.len();
                    continue;
                }
            }
            at += 1;
        }
        None
    }

    /// The message, or why it is refused.
    pub fn finish(self) -> Result<Received, Reply> {
        match self.refused {
            Some(refusal) => Err(refusal),
            None => Ok(Received { octets: self.octets.into(), held: self.held }),
        }
    }

    fn keep(&mut self, run: &[u8]) {
        if self.refused.is_some() {
            return;
        }
        let room = self.max - (self.octets.len() - self.prefix) as u64;
        // Whichever an octet at a time would meet first, so that the reason does not depend on how
        // the network cut the message.
        let fits = &run[..run.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if fits.contains(&0) {
            self.refuse(reply::NUL_OCTETS);
        } else if fits.len() < run.len() {
            self.refuse(reply::TOO_LARGE);
        } else if self.make_room(run.len()) {
            self.octets.extend_from_slice(run);
        }
    }

    /// Makes room for more octets within the budget; refuses the message where there is none.
    fn make_room(&mut self, more: usize) -> bool {
        let needed = self.octets.len() + more;
        if needed > self.octets.capacity() {
            let roof = self.prefix.saturating_add(usize::try_from(self.max).unwrap_or(usize::MAX));
            let doubled = self.octets.capacity().saturating_mul(2).max(FIRST_OCTETS);
            let capacity = doubled.min(roof).max(needed);
            if !self.held.hold(capacity as u64) {
                self.refuse(reply::NO_ROOM);
                return false;
            }
            self.octets.reserve_exact(capacity - self.octets.len());
        }
        true
    }

    /// From now on octets are only looked at for the end.
    fn refuse(&mut self, reply: Reply) {
        self.refused = Some(reply);
        self.octets = Vec::new();
        self.prefix = 0;
        self.held = self.held.emptied();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: u64 = 1_000;

    fn receiver() -> Receiver {
        Receiver::new(b"T: x\r\n".to_vec(), MAX, 0, Arc::default())
    }

    /// Feeds `sent` in pieces; the message, and what was left over after its end.
    fn receive(sent: &[u8], piece: usize) -> Option<(Result<Vec<u8>, Reply>, usize)> {
        let mut receiver = receiver();
        let mut used = 0;
        for octets in sent.chunks(piece) {
            if let Some(end) = receiver.push(octets) {
                let message = receiver.finish();
                let message = message.map(|m| m.octets.strip_prefix(b"T: x\r\n").unwrap().to_vec());
                return Some((message, sent.len() - used - end));
            }
            used += octets.len();
        }
        None
    }

    #[track_caller]
    fn check(sent: &str, expected: Option<(&str, usize)>) {
        for piece in [1, 2, 3, sent.len()] {
            let found = receive(sent.as_bytes(), piece);
            let found =
                found.map(|(message, left)| (String::from_utf8(message.unwrap()).unwrap(), left));
            assert_eq!(
                found.as_ref().map(|(m, left)| (m.as_str(), *left)),
                expected,
                "{sent:?} by {piece}"
            );
        }
    }

    #[test]
    fn the_message_ends_with_a_dot_alone_on_a_line_and_stuffing_goes() {
        check("a\r\n.\r\n", Some(("a\r\n", 0)));
        check(".\r\n", Some(("", 0)));
        check("a\r\n..\r\n..b\r\n.c\r\n.\r\nQUIT\r\n", Some(("a\r\n.\r\n.b\r\nc\r\n", 6)));
        check("a\r\n.\r", None);
    }

    #[test]
    fn only_crlf_dot_crlf_ends_it_so_nothing_can_be_smuggled() {
        check("a\n.\nMAIL\r\n.\r\n", Some(("a\r\n.\r\nMAIL\r\n", 0)));
        check("a\n.\r\nMAIL\r\n.\r\n", Some(("a\r\n.\r\nMAIL\r\n", 0)));
        check("a\r\n.\nMAIL\r\n.\r\n", Some(("a\r\n\r\nMAIL\r\n", 0)));
        check("a\r.\r\nMAIL\r\n.\r\n", Some(("a\r.\r\nMAIL\r\n", 0)));
        check("a\r.\rMAIL\r\n.\r\n", Some(("a\r.\rMAIL\r\n", 0)));
        check("a\r\n.\rMAIL\r\n.\r\n", Some(("a\r\n\rMAIL\r\n", 0)));
        check("a\r\n.\r\r\n.\r\n", Some(("a\r\n\r\r\n", 0)));
        check("a\r\r\n.\r\n", Some(("a\r\r\n", 0)));
    }

    #[test]
    fn too_large_a_message_is_passed_over_to_its_end_and_its_memory_is_given_back() {
        let budget = Arc::new(Budget::new(1 << 20));
        let mut receiver = Receiver::new(Vec::new(), 10, 0, budget.clone());
        assert_eq!(receiver.push(b"0123456789"), None);
        assert!(receiver.held.hold(0) && budget.left() < 1 << 20);
        assert_eq!(receiver.push(b"x"), None);
        assert_eq!(budget.left(), 1 << 20);
        assert_eq!(receiver.push(&[b'y'; 10_000]), None);
        assert_eq!(receiver.push(b"\r\n.\r\nQUIT"), Some(5));
        assert_eq!(receiver.finish().unwrap_err(), reply::TOO_LARGE);
    }

    #[test]
    fn a_message_of_exactly_the_limit_is_taken() {
        let mut sent = vec![b'x'; MAX as usize - 2];
        sent.extend(b"\r\n.\r\n");
        assert_eq!(receive(&sent, 7).unwrap().0.unwrap().len(), MAX as usize);
        sent.insert(0, b'x');
        assert_eq!(receive(&sent, 7).unwrap().0, Err(reply::TOO_LARGE));
    }

    #[test]
    fn without_memory_the_mta_is_told_to_come_again() {
        let mut receiver = Receiver::new(Vec::new(), 1 << 20, 0, Arc::new(Budget::new(100)));
        assert_eq!(receiver.push(b"a\r\n.\r\n"), Some(6));
        assert_eq!(receiver.finish().unwrap_err(), reply::NO_ROOM);
    }

    #[test]
    fn an_announced_size_takes_no_more_memory_than_the_limits_allow() {
        let budget = Arc::new(Budget::new(1 << 30));
        let receiver = Receiver::new(Vec::new(), u64::MAX, u64::MAX, budget.clone());
        assert!(receiver.octets.capacity() as u64 <= TRUSTED_OCTETS);
        assert_eq!((1 << 30) - budget.left(), receiver.octets.capacity() as u64);
    }

    /// Found by fuzzing: the reason once depended on how the octets were cut.
    #[test]
    fn of_two_reasons_the_first_one_is_told() {
        let (mut nul_first, mut nul_last) =
            (vec![b'x'; MAX as usize + 5], vec![b'x'; MAX as usize + 5]);
        nul_first[7] = 0;
        nul_last[MAX as usize + 2] = 0;
        for (mut sent, reason) in [(nul_first, reply::NUL_OCTETS), (nul_last, reply::TOO_LARGE)] {
            sent.extend(b"\r\n.\r\n");
            for piece in [1, 3, sent.len()] {
                assert_eq!(receive(&sent, piece).unwrap().0, Err(reason.clone()));
            }
        }
    }

    #[test]
    fn nul_octets_are_refused() {
        assert_eq!(receive(b"a\0b\r\n.\r\n", 2).unwrap().0, Err(reply::NUL_OCTETS));
    }

    /// What a client does to send a message (RFC 5321 §4.5.2).
    fn stuffed(message: &[u8]) -> Vec<u8> {
        let mut sent = Vec::new();
        let mut line_start = true;
        for (at, &octet) in message.iter().enumerate() {
            if line_start && octet == b'.' {
                sent.push(b'.');
            }
            sent.push(octet);
            line_start = message[..=at].ends_with(b"\r\n");
        }
        if !line_start {
            sent.extend(b"\r\n");
        }
        sent.extend(b".\r\n");
        sent
    }

    proptest! {
        #[test]
        fn what_a_client_stuffs_comes_out_as_it_was(
            lines in prop::collection::vec("[.\r a-c]{0,4}", 0..12), piece in 1usize..9,
        ) {
            let message: String = lines.iter().map(|line| format!("{}\r\n", line.replace('\r', "\r "))).collect();
            let (found, left) = receive(&stuffed(message.as_bytes()), piece).unwrap();
            prop_assert_eq!(String::from_utf8(found.unwrap()).unwrap(), message);
            prop_assert_eq!(left, 0);
        }

        #[test]
        fn pieces_make_no_difference(sent in "[.\r\n\0a]{0,40}", piece in 1usize..9) {
            prop_assert_eq!(receive(sent.as_bytes(), piece), receive(sent.as_bytes(), sent.len().max(1)));
        }
    }
}
