//! SEARCH as a pure question: the query, and its evaluation over index facts and message text.
//!
//! The session turns a client's search program into a [`Query`]: sequence numbers, `RECENT`, `OLD`
//! and `NEW` resolved to UIDs by its view, texts decoded from the command's charset
//! ([`decode_charset`]). The mailbox's owner answers it in up to three rounds for each message, each
//! only when the one before left it [`Verdict::Unknown`]: from the index ([`Facts`]), then with
//! what was derived ([`crate::mime::Derived`], cached), then with the body's octets.

mod charset;

mod fold;

mod query;

mod evaluate;

pub use charset::{CharsetError, SUPPORTED_CHARSETS, check_charset, decode_charset};
pub use evaluate::{Evidence, Facts, Verdict};
pub use fold::Needle;
pub use query::{
    AddressField, Level, MAX_QUERY_DEPTH, MAX_QUERY_NODES, MAX_QUERY_TEXTS, Query, TooComplex,
};
