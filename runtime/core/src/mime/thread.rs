//! Which conversation a message belongs to (RFC 8474 THREADID).

use crate::types::ThreadId;

use super::Derived;

/// The message-ids by which a message's conversation is found, oldest first, without duplicates:
/// References, then In-Reply-To, then the message's own Message-ID. Empty when it has none.
pub fn candidates(derived: &Derived) -> Vec<&str> {
    let _ = derived;
    Vec::new()
}

/// The conversation named after a message-id.
pub fn thread_of(message_id: &str) -> ThreadId {
    let _ = message_id;
    ThreadId([0; 16])
}
