//! Messages of PostgreSQL's protocol (version 3), as far as a proxy must know them: where they end, and
//! which of them commit a group.

use std::collections::BTreeSet;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Most octets of one message: a group of commits with the largest mails in it.
const MAX_OCTETS: usize = 256 << 20;

/// One message.
pub struct Message {
    /// As it goes over the wire.
    pub octets: Vec<u8>,
    /// Its first octet that is no part of the header.
    start: usize,
}

impl Message {
    /// What kind it is; `None` for the first message of a connection, which says none.
    pub fn kind(&self) -> Option<u8> {
        (self.start == 5).then(|| self.octets[0])
    }

    /// What it says.
    pub fn body(&self) -> &[u8] {
        &self.octets[self.start..]
    }

    /// The error's code, if it is an error (`ErrorResponse`, field C).
    pub fn error_code(&self) -> Option<String> {
        if self.kind() != Some(b'E') {
            return None;
        }
        let mut fields = self.body().split(|octet| *octet == 0);
        let code = fields.find_map(|field| field.strip_prefix(b"C"));
        Some(String::from_utf8_lossy(code.unwrap_or_default()).into_owned())
    }

    /// Reads one; `None` at the end. The first one of a connection has no kind.
    pub async fn read(
        from: &mut (impl AsyncRead + Unpin),
        first: bool,
    ) -> io::Result<Option<Self>> {
        let start = if first { 4 } else { 5 };
        let mut octets = vec![0; start];
        match from.read_exact(&mut octets).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = u32::from_be_bytes(octets[start - 4..].try_into().expect("four octets"));
        let rest = (length as usize).checked_sub(4).filter(|rest| *rest <= MAX_OCTETS);
        let Some(rest) = rest else { return Err(io::ErrorKind::InvalidData.into()) };
        octets.resize(start + rest, 0);
        from.read_exact(&mut octets[start..]).await?;
        Ok(Some(Self { octets, start }))
    }
}

/// The prepared statements of one connection that commit a group.
#[derive(Default)]
pub struct Commits(BTreeSet<Vec<u8>>);

impl Commits {
    /// Whether this message binds values to one: then it is about to be carried out.
    pub fn begins(&mut self, message: &Message) -> bool {
        let mut words = message.body().split(|octet| *octet == 0);
        let (first, second) = (words.next().unwrap_or(&[]), words.next().unwrap_or(&[]));
        match message.kind() {
            // Parse: name, text.
            Some(b'P') => {
                match commits(second) {
                    true => self.0.insert(first.to_vec()),
                    false => self.0.remove(first),
                };
                false
            }
            // Bind: portal, name.
            Some(b'B') => self.0.contains(second),
            _ => false,
        }
    }
}

/// Whether a statement writes a group: it is the only one that checks what it planned over, by a division.
fn commits(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.starts_with("WITH ") && text.contains("SELECT 1 / (CASE WHEN")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Message {
        let length = (body.len() as u32 + 4).to_be_bytes();
        Message { octets: [&[kind][..], &length, body].concat(), start: 5 }
    }

    #[test]
    fn only_what_binds_a_committing_statement_begins_a_commit() {
        let mut commits = Commits::default();
        let text = b"s1\0WITH held AS (x) SELECT 1 / (CASE WHEN true THEN 1 ELSE 0 END)\0\0\0";
        assert!(!commits.begins(&message(b'P', text)));
        assert!(!commits.begins(&message(b'P', b"s2\0SELECT 1\0\0\0")));
        assert!(commits.begins(&message(b'B', b"\0s1\0\0\0")));
        assert!(!commits.begins(&message(b'B', b"\0s2\0\0\0")));
        // The name means another one now.
        assert!(!commits.begins(&message(b'P', b"s1\0SELECT 1\0\0\0")));
        assert!(!commits.begins(&message(b'B', b"\0s1\0\0\0")));
    }

    #[test]
    fn an_errors_code_is_read() {
        let error = message(b'E', b"SERROR\0C22012\0Mdivision by zero\0\0");
        assert_eq!(error.error_code().as_deref(), Some("22012"));
        assert_eq!(message(b'C', b"SELECT 1\0").error_code(), None);
    }
}
