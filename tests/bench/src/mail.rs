//! The mail that is written: 4 KiB of text under a usual header, each one different.

/// Octets of a message: design 8 measures with 4 KiB.
pub const OCTETS: usize = 4096;

/// A message of [`OCTETS`] octets; the number tells it from others.
pub fn message(number: u64) -> Vec<u8> {
    let mut text = format!(
        "Return-Path: <anna.arndt@example.org>\r\n\
         Received: from mx.example.org (mx.example.org [192.0.2.7])\r\n\
         \tby mail.example.net with ESMTPS id {number:016x}; Thu, 1 Jan 2026 08:00:00 +0100\r\n\
         From: Anna Arndt <anna.arndt@example.org>\r\n\
         To: Ben Brandt <ben@example.net>, \"Cleo, the third\" <cleo@example.com>\r\n\
         Cc: list-{list}@lists.example.net\r\n\
         Subject: Letter {number} about nothing in particular\r\n\
         Date: Thu, 1 Jan 2026 08:00:00 +0100\r\n\
         Message-ID: <{number}.letter@example.org>\r\n\
         In-Reply-To: <{before}.letter@example.org>\r\n\
         References: <{first}.letter@example.org> <{before}.letter@example.org>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n",
        list = number % 10,
        before = number / 2,
        first = number / 10,
    );
    let line = "The quick brown fox jumps over the lazy dog, and then it does so again.\r\n";
    while text.len() + line.len() <= OCTETS - 2 {
        text.push_str(line);
    }
    text.push_str(&"x".repeat(OCTETS - 2 - text.len()));
    text.push_str("\r\n");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_the_same_size_and_lines_that_end() {
        for number in [0, 7, 99_999, u64::MAX] {
            let message = message(number);
            assert_eq!(message.len(), OCTETS);
            assert!(message.ends_with(b"\r\n"));
        }
    }
}
