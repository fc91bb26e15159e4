//! LMTP: how MTAs hand mail in (RFC 2033 over RFC 5321). Octets in, calls and octets out.
//!
//! Read in this order: [`session`] (the state machine), [`command`] and [`path`] (what a line
//! means), [`data`] (the message as it streams in), [`trace`] (the header fields that are added),
//! [`reply`] (all texts, and the one table from `StoreError` to LMTP).
//!
//! What is offered: PIPELINING (RFC 2920), 8BITMIME (RFC 6152), SIZE (RFC 1870),
//! ENHANCEDSTATUSCODES (RFC 2034, 3463) and, where there is a certificate, STARTTLS (RFC 3207).
//! Deliberately absent: SMTPUTF8 (a mailbox with such mail would need UTF8=ACCEPT of every IMAP
//! client that reads it), CHUNKING, DSN, AUTH.
//!
//! **Line ends and smuggling.** Only CRLF "." CRLF ends the data, and only a dot that follows a
//! CRLF is un-stuffed. A bare LF inside the data becomes CRLF in the stored message and is nothing
//! else; a bare CR stays as it is. A command line may end in a bare LF.

pub mod command;
pub mod data;
pub mod path;
pub mod reply;
pub mod session;
pub mod trace;

#[cfg(test)]
mod tests;

pub use session::{Config, LmtpSession, Peer};

/// Longest command line in octets, line end included. RFC 5321 §4.5.3.1.4 asks for 512 and more
/// for each extension; a path of 512 octets and all our parameters fit well.
pub const MAX_LINE_OCTETS: usize = 2_048;
/// Most recipients of one transaction: each is a call, made one after the other. RFC 5321
/// §4.5.3.1.8 asks for 100; MTAs send 50 to 100 at a time.
pub const MAX_RECIPIENTS: usize = 1_000;
/// Commands in a row that may be refused as nonsense before the connection is closed: what talks
/// like that is no MTA.
pub const MAX_ERRORS: u32 = 20;
/// How long a client may take for one whole command line, in milliseconds (RFC 5321 §4.5.3.2.7:
/// at least 5 minutes).
pub const COMMAND_MILLIS: u64 = 5 * 60 * 1_000;
/// How long the stream of a message may pause, in milliseconds (RFC 5321 §4.5.3.2.5, doubled).
pub const DATA_IDLE_MILLIS: u64 = 6 * 60 * 1_000;
/// How long a message may take as a whole, in milliseconds: octets in a slow drip hold memory.
pub const DATA_TOTAL_MILLIS: u64 = 60 * 60 * 1_000;
/// How long the TLS handshake may take, in milliseconds.
pub const HANDSHAKE_MILLIS: u64 = 60 * 1_000;
