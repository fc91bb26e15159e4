//! Which conversation a message belongs to (RFC 8474 THREADID).
//!
//! The message store may know which conversation a message-id belongs to. If it does, a new message
//! joins the conversation of the first of its [`candidates`] that is known. If it does not (or knows
//! none of them), the conversation is named after the first candidate ([`thread_of`]): the oldest
//! message that this one refers to. As References lists a conversation from its first message on
//! (RFC 5322 §3.6.4), that alone brings a first message and all its answers together, whatever the
//! order in which they arrive, and without any state. A message without any id has a conversation of
//! its own, which the message store mints.

use crate::types::ThreadId;

use super::header::{Known, Name, unfold};
use super::{Derived, MAX_REFERENCES};

/// Longest message-id that is kept, in octets: a line of mail is not longer (RFC 5322 §2.1.1).
const MAX_ID_OCTETS: usize = 998;
/// Parts the ids made here from hashes of the same text made elsewhere.
const CONTEXT: &[u8] = b"postroom thread\0";

/// The message-ids by which a message's conversation is found, oldest first, without duplicates:
/// References, then the first of In-Reply-To (RFC 5256 §2.2), then the message's own Message-ID.
/// Empty when it has none.
pub fn candidates(derived: &Derived) -> Vec<&str> {
    let all = derived.references.iter().chain(derived.in_reply_to.first());
    let mut candidates: Vec<&str> = Vec::new();
    for id in all.chain(&derived.message_id) {
        if !candidates.contains(&id.as_str()) {
            candidates.push(id);
        }
    }
    candidates
}

/// The conversation named after a message-id.
pub fn thread_of(message_id: &str) -> ThreadId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(CONTEXT).update(message_id.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    ThreadId(id)
}

/// The fields by which messages refer to one another.
pub(super) struct References {
    pub(super) message_id: Option<String>,
    pub(super) in_reply_to: Vec<String>,
    pub(super) references: Vec<String>,
}

/// Reads them from a header.
pub(super) fn references(header: &Known<'_>) -> References {
    let ids = |name| header.first(name).map_or(Vec::new(), message_ids);
    References {
        message_id: ids(Name::MessageId).into_iter().next(),
        in_reply_to: bounded(ids(Name::InReplyTo)),
        references: bounded(ids(Name::References)),
    }
}

/// The first one, which names the conversation, and the newest.
fn bounded(mut ids: Vec<String>) -> Vec<String> {
    if ids.len() > MAX_REFERENCES {
        ids.drain(1..=ids.len() - MAX_REFERENCES);
    }
    ids
}

/// The message-ids in a value, without brackets and without white space: `<id>`s and nothing else;
/// where there is not one bracket, the words that look like ids.
fn message_ids(value: &[u8]) -> Vec<String> {
    let value = unfold(value);
    let text = String::from_utf8_lossy(&value);
    let id = |text: &str| text.split_whitespace().collect::<String>();
    let found: Vec<String> = match text.contains('<') {
        true => {
            text.split('<').skip(1).filter_map(|t| t.split_once('>')).map(|t| id(t.0)).collect()
        }
        false => text.split_whitespace().filter(|t| t.contains('@')).map(id).collect(),
    };
    found.into_iter().filter(|id| (1..=MAX_ID_OCTETS).contains(&id.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::derive;
    use super::*;

    fn check(header: &str, expected: &[&str]) {
        assert_eq!(candidates(&derive(header.as_bytes())), expected, "{header:?}");
    }

    #[test]
    fn references_come_before_what_they_lead_to() {
        check("Message-ID: <c@x>\r\nReferences: <a@x>\r\n\t<b@x>\r\n", &["a@x", "b@x", "c@x"]);
        check("Message-ID: <c@x>\r\nIn-Reply-To: <b@x> <z@x>\r\n", &["b@x", "c@x"]);
        check("References: <a@x> <b@x>\r\nIn-Reply-To: <b@x>\r\n", &["a@x", "b@x"]);
    }

    #[test]
    fn ids_are_found_in_rubbish() {
        check("Message-ID: c@x\r\n", &["c@x"]);
        check("Message-ID: <a\r\n b@x> (comment)\r\n", &["ab@x"]);
        check("In-Reply-To: Your message of \"Monday\" <a@x>\r\n", &["a@x"]);
        check("In-Reply-To: your message of Monday\r\n", &[]);
        check("Message-ID: <>\r\nReferences: <unclosed\r\n", &[]);
    }

    #[test]
    fn of_many_references_the_first_and_the_newest_stay() {
        let all: Vec<String> = (0..MAX_REFERENCES + 5).map(|n| format!("<{n}@x>")).collect();
        let header = format!("References: {}\r\n", all.join("\r\n "));
        let derived = derive(header.as_bytes());
        assert_eq!(derived.references.len(), MAX_REFERENCES);
        assert_eq!(derived.references[0], "0@x");
        assert_eq!(derived.references[1], "6@x");
        assert_eq!(derived.references.last().unwrap(), "104@x");
    }

    #[test]
    fn a_message_and_its_answers_have_one_conversation() {
        let of = |header: &str| thread_of(candidates(&derive(header.as_bytes()))[0]);
        let first = of("Message-ID: <a@x>\r\n");
        assert_eq!(of("References: <a@x> <b@x>\r\nMessage-ID: <c@x>\r\n"), first);
        assert_eq!(of("In-Reply-To: <a@x>\r\nMessage-ID: <b@x>\r\n"), first);
        assert_ne!(of("Message-ID: <b@x>\r\n"), first);
    }
}
