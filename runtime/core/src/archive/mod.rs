//! Mail in files: mbox (RFC 4155, and what programs really write) and Maildir names. Used by
//! import and export; octets in, octets out.

pub mod maildir;
pub mod mbox;

use crate::types::{Flags, Timestamp};

/// A message as an archive holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedMessage {
    /// Its octets, without the archive's own lines. Line ends are those of the message; read out of
    /// an archive, they are CRLF.
    pub octets: Vec<u8>,
    /// When it arrived, if the archive says so.
    pub date: Option<Timestamp>,
    /// Its flags, if the archive says so.
    pub flags: Flags,
}

/// Turns line ends into CRLF: a lone LF gets its CR, everything else stays.
pub fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 40);
    let mut previous = 0;
    for &octet in octets {
        if octet == b'\n' && previous != b'\r' {
            out.push(b'\r');
        }
        out.push(octet);
        previous = octet;
    }
    out
}
