//! Writing IMAP responses: everything that the server says goes through here, so that what is not
//! fit for the wire cannot get onto it.
//!
//! The functions append whole lines to a `Vec<u8>` (an [`Output`]'s text). Octets of messages, which
//! are large, go between pieces of text as [`Bytes`](bytes::Bytes) of their own, without a copy.

mod code;
mod data;
mod fetch;
mod list;
mod output;
mod status;
mod structure;
mod text;

#[cfg(test)]
mod tests;

pub use code::Code;
pub use data::{Esearch, enabled, esearch, exists, expunge, flags, id, namespace, recent, search};
pub use fetch::FetchLine;
pub use list::{ListAttribute, ListLine, list, list_delimiter, lsub, mailbox_status};
pub use output::Output;
pub use status::{Status, bye, capability, continuation, tagged, untagged};
pub use text::{astring, mailbox, nstring, number_set, string};
