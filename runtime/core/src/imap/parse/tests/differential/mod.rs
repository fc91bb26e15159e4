//! Our reading of commands held against `imap-codec`, which others wrote from the same RFCs. What it
//! encodes is read here with the same meaning; of what is written here, whole or damaged, it makes
//! the same as we do, as far as it knows the extension.

mod meaning;
mod theirs;

use imap_codec::CommandCodec;
use imap_codec::decode::{CommandDecodeError, Decoder};
use imap_codec::encode::Encoder;
use imap_codec::imap_types::command::Command as TheirCommand;
use proptest::prelude::*;

use super::{generate, write};
use crate::imap::command::{Command, CommandBody};
use crate::imap::parse::{append_head, command};

use meaning::{Meaning, meaning, normal};

/// Their reading of a text without its line end; `None` when they refuse it.
fn decode(text: &[u8]) -> Option<TheirCommand<'static>> {
    let line = [text, b"\r\n"].concat();
    match CommandCodec::new().decode_static(&line) {
        Ok(([], read)) => Some(read),
        Ok(_) | Err(CommandDecodeError::Failed | CommandDecodeError::Incomplete) => None,
        Err(CommandDecodeError::LiteralFound { .. }) => None,
    }
}

/// Our reading of what they encoded, with APPEND cut where the session cuts it.
fn read(text: &[u8]) -> Option<Meaning> {
    let appended = (0..text.len()).filter(|&at| text[at] == b'\n').find_map(|at| {
        let head = append_head(&text[..=at])?.ok()?;
        let octets = usize::try_from(head.literal.octets).ok()?;
        (text.len() == at + 1 + octets).then_some(Meaning::Append(head))
    });
    let other = || Some(Meaning::Other(normal(command(text).ok()?)));
    appended.or_else(other)
}

/// Whether `imap-codec` knows what the command uses, as this project's features of it are set.
fn known_to_them(body: &CommandBody) -> bool {
    use crate::imap::command::{FetchItem, ListSelect, SearchKey, StatusItem};
    let status = |items: &[StatusItem]| {
        !items.iter().any(|i| matches!(i, StatusItem::MailboxId | StatusItem::Size))
    };
    fn key(search: &SearchKey) -> bool {
        match search {
            SearchKey::And(keys) => keys.iter().all(key),
            SearchKey::Or(left, right) => key(left) && key(right),
            SearchKey::Not(inner) => key(inner),
            SearchKey::Larger(octets) | SearchKey::Smaller(octets) => *octets <= u32::MAX.into(),
            SearchKey::EmailId(_) | SearchKey::ThreadId(_) => false,
            SearchKey::Older(_) | SearchKey::Younger(_) => false,
            _ => true,
        }
    }
    let item = |item: &FetchItem| match item {
        FetchItem::EmailId | FetchItem::ThreadId => false,
        FetchItem::Section { partial, .. } => {
            partial.is_none_or(|p| p.first.max(p.count.get()) <= u32::MAX.into())
        }
        _ => true,
    };
    match body {
        CommandBody::Namespace => false,
        CommandBody::Create { special_use, .. } => special_use.is_empty(),
        CommandBody::List(list) => list.select == ListSelect::default() && !list.extended,
        CommandBody::Status { items, .. } => status(items),
        CommandBody::Search(search) => search.returns.is_none() && key(&search.key),
        CommandBody::Fetch(fetch) => {
            fetch.items.iter().all(item) && fetch.changed_since.is_none_or(|m| m.0 > 0)
        }
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 20_000, ..Default::default() })]

    #[test]
    fn what_they_encode_has_the_meaning_that_it_had(sent in theirs::command()) {
        let line = CommandCodec::new().encode(&sent).dump();
        let text = line.strip_suffix(b"\r\n").unwrap();
        let meant = meaning(&sent);
        prop_assert!(meant.is_some(), "not translated: {sent:?}");
        prop_assert_eq!(read(text), meant, "{}", String::from_utf8_lossy(text));
    }

    #[test]
    fn what_we_write_they_read_with_the_same_meaning(
        sent in generate::command(),
        forms: [u8; 7],
    ) {
        let text = write::write(&sent, &forms);
        // Octets above 127 in quotes are ours alone, and a charset as a literal (RFC 3501's astring)
        // is not in the grammar of RFC 9051.
        let old = text.windows(9).any(|w| w == b"CHARSET {");
        prop_assume!(known_to_them(&sent.body) && text.is_ascii() && !old);
        let Command { tag, body } = sent;
        let read = decode(&text);
        let shown = String::from_utf8_lossy(&text).into_owned();
        prop_assert!(read.is_some(), "they refuse {shown:?}");
        let sent = Meaning::Other(normal(Command { tag, body }));
        prop_assert_eq!(read.as_ref().and_then(meaning), Some(sent), "{}", shown);
    }

    #[test]
    fn what_they_accept_of_damaged_commands_we_accept(
        sent in generate::command(),
        forms: [u8; 7],
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0u8..128), 1..3),
    ) {
        let mut text = write::write(&sent, &forms);
        for (at, octet) in damage {
            let at = at.index(text.len());
            text[at] = octet;
        }
        if let Some(meant) = decode(&text).as_ref().and_then(meaning) {
            prop_assert_eq!(read(&text), Some(meant), "{}", String::from_utf8_lossy(&text));
        }
    }
}
