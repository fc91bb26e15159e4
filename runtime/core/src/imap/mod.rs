//! IMAP4rev1 with the extensions that CAPABILITY names: grammar, responses, the session.

pub mod command;
pub mod list_match;
pub mod object_id;
pub mod parse;
pub mod response;
pub mod session;
pub mod utf7;
