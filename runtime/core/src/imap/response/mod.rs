//! Writing IMAP responses.
