//! Object ids as clients see them (RFC 8474 §3): a letter for the kind, so that ids of two kinds
//! never look alike and none looks like a number, then 32 hexadecimal digits.

use crate::types::{MailboxId, MessageId, ThreadId};

/// EMAILID of a message.
pub fn email_id(id: MessageId) -> String {
    format!("M{id}")
}

/// THREADID of a conversation.
pub fn thread_id(id: ThreadId) -> String {
    format!("T{id}")
}

/// MAILBOXID of a mailbox.
pub fn mailbox_id(id: MailboxId) -> String {
    format!("F{id}")
}

/// The message of an EMAILID; `None` when this server never gives out such an id.
pub fn parse_email_id(text: &str) -> Option<MessageId> {
    let id = MessageId::from_hex(text.strip_prefix('M')?)?;
    (email_id(id) == text).then_some(id)
}

/// The conversation of a THREADID; `None` as above.
pub fn parse_thread_id(text: &str) -> Option<ThreadId> {
    let id = ThreadId::from_hex(text.strip_prefix('T')?)?;
    (thread_id(id) == text).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_only_as_it_was_written() {
        let id = MessageId::from_u128(0xab);
        let text = email_id(id);
        assert_eq!(text, "M000000000000000000000000000000ab");
        assert_eq!(parse_email_id(&text), Some(id));
        assert_eq!(parse_email_id(&text.replace("ab", "AB")), None);
        assert_eq!(parse_thread_id(&text), None);
        assert_eq!(parse_email_id("M12"), None);
        assert_eq!(parse_email_id(""), None);
    }
}
