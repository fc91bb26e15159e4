//! Hears the peer say that it stops: HTTP/2's GOAWAY without an error (RFC 9113 §6.8). The HTTP/2 library
//! ends what it concerns and keeps the word to itself, so it is read off the octets as they arrive.

/// Octets before a frame's payload (RFC 9113 §4.1).
const HEADER_OCTETS: usize = 9;

/// Of a GOAWAY's payload: the last stream, then the error.
const WORD_OCTETS: usize = 8;

const GOAWAY: u8 = 7;

/// Where the octets of one direction are within HTTP/2's frames.
#[derive(Debug, Default)]
pub(super) struct Ear {
    head: [u8; HEADER_OCTETS + WORD_OCTETS],
    have: usize,
    /// Octets of the frame's payload that are passed over.
    rest: usize,
}

impl Ear {
    /// Whether these next octets end a GOAWAY without an error.
    pub(super) fn hears_stop(&mut self, mut octets: &[u8]) -> bool {
        let mut stops = false;
        while let Some((first, others)) = octets.split_first() {
            if self.rest > 0 {
                let passed = self.rest.min(octets.len());
                self.rest -= passed;
                octets = &octets[passed..];
                continue;
            }
            self.head[self.have] = *first;
            self.have += 1;
            octets = others;
            stops |= self.look();
        }
        stops
    }

    /// Takes a frame up when as much of it is there as is to be known.
    fn look(&mut self) -> bool {
        let is_goaway = self.have > 3 && self.head[3] == GOAWAY;
        let wanted = if is_goaway { HEADER_OCTETS + WORD_OCTETS } else { HEADER_OCTETS };
        if self.have < wanted {
            return false;
        }
        let [a, b, c, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        // One that is too short for its word is an error, after which the library reads no more.
        self.rest = length.saturating_sub(wanted - HEADER_OCTETS);
        self.have = 0;
        is_goaway && self.head[HEADER_OCTETS + 4..] == [0; 4]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn a_stop_is_heard_wherever_the_octets_are_cut() {
        let stop = frame(GOAWAY, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, b'b', b'y', b'e']);
        let before = [frame(4, &[]), frame(0, &[GOAWAY; 99])].concat();
        let all = [&before[..], &stop, &frame(0, &[0; 5])].concat();
        for part in 1..all.len() {
            let mut ear = Ear::default();
            let heard: Vec<_> = all.chunks(part).map(|octets| ear.hears_stop(octets)).collect();
            assert_eq!(heard.iter().filter(|stop| **stop).count(), 1, "in parts of {part}");
        }
        assert!(!Ear::default().hears_stop(&before));
    }

    #[test]
    fn an_error_is_no_stop() {
        let error = frame(GOAWAY, &[0, 0, 0, 0, 0, 0, 0, 11]);
        assert!(!Ear::default().hears_stop(&error));
    }
}
