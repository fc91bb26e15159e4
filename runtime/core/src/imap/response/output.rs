//! What is to be sent: text that grows, and message octets in between that are not copied.

use bytes::Bytes;

/// Message octets up to this many are copied into the text: less work than a buffer of their own.
const COPY_OCTETS: usize = 2048;

/// Output in the order in which it is to be sent.
#[derive(Debug, Default)]
pub struct Output {
    done: Vec<Bytes>,
    text: Vec<u8>,
    done_octets: usize,
}

impl Output {
    /// Where text is appended.
    pub fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Adds octets of a message.
    pub fn octets(&mut self, octets: Bytes) {
        if octets.len() <= COPY_OCTETS {
            self.text.extend_from_slice(&octets);
            return;
        }
        self.close_text();
        self.done_octets += octets.len();
        self.done.push(octets);
    }

    /// How many octets wait to be taken.
    pub fn len(&self) -> usize {
        self.done_octets + self.text.len()
    }

    /// Whether nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes everything out, in order; no piece is empty.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.close_text();
        self.done_octets = 0;
        std::mem::take(&mut self.done)
    }

    fn close_text(&mut self) {
        if !self.text.is_empty() {
            self.done_octets += self.text.len();
            self.done.push(std::mem::take(&mut self.text).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_go_out_as_they_are_and_in_order() {
        let mut out = Output::default();
        let body = Bytes::from(vec![b'x'; COPY_OCTETS + 1]);
        out.text().extend_from_slice(b"a");
        out.octets(body.clone());
        out.octets(Bytes::from_static(b"small"));
        out.text().extend_from_slice(b"b");
        assert_eq!(out.len(), 1 + body.len() + 6);
        let pieces = out.take();
        assert_eq!(pieces, [Bytes::from_static(b"a"), body.clone(), Bytes::from_static(b"smallb")]);
        assert_eq!(pieces[1].as_ptr(), body.as_ptr());
        assert!(out.is_empty() && out.take().is_empty());
    }
}
