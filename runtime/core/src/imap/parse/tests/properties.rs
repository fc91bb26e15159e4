//! What holds for every input.

use proptest::prelude::*;

use super::generate;
use super::write::write;
use crate::imap::command::Command;
use crate::imap::parse::{append_head, command, literal_at_end};

/// A refusal must be fit to be shown, whatever was sent.
fn check_refusal(text: &[u8]) -> Result<(), TestCaseError> {
    let heads = append_head(text).map(|head| head.map(|_| ()));
    for error in [command(text).map(|_| ()), heads.unwrap_or(Ok(()))] {
        let Err(error) = error else { continue };
        prop_assert!((1..=text.len() + 1).contains(&error.column), "{error:?}");
        let shown = error.to_string();
        prop_assert!(shown.len() < 120 && shown.bytes().all(|c| (b' '..=b'~').contains(&c)));
        let tag = error.tag.map(|tag| tag.as_str().as_bytes().to_vec()).unwrap_or_default();
        prop_assert!(text.starts_with(&tag));
    }
    let _ = literal_at_end(text);
    Ok(())
}

/// The pieces in which a client sends a text: a line each, with the literals found on the way.
fn collect(text: &[u8]) -> Vec<u8> {
    let mut collected = Vec::new();
    let mut rest = text;
    loop {
        let line = rest.iter().position(|&c| c == b'\n').map_or(rest.len(), |at| at + 1);
        collected.extend_from_slice(&rest[..line]);
        rest = &rest[line..];
        let Some(literal) = literal_at_end(&collected) else { return collected };
        let octets = usize::try_from(literal.octets).unwrap().min(rest.len());
        collected.extend_from_slice(&rest[..octets]);
        rest = &rest[octets..];
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_command_is_read_as_it_was_meant(sent in generate::command(), forms: [u8; 7]) {
        let mut text = write(&sent, &forms);
        prop_assert_eq!(command(&text), Ok::<Command, _>(sent));
        text.extend_from_slice(b"\r\n");
        prop_assert_eq!(collect(&text), text);
    }

    #[test]
    fn a_command_cut_short_is_refused_or_another_command(
        sent in generate::command(),
        forms: [u8; 7],
        cut: prop::sample::Index,
    ) {
        let text = write(&sent, &forms);
        // An empty initial response may stand there without its "=", too.
        prop_assume!(!text.ends_with(b" ="));
        let text = &text[..cut.index(text.len())];
        check_refusal(text)?;
        prop_assert!(command(text).map_or(true, |read| read != sent));
    }

    #[test]
    fn a_damaged_command_never_panics(
        sent in generate::command(),
        forms: [u8; 7],
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut text = write(&sent, &forms);
        for (at, octet) in damage {
            let at = at.index(text.len());
            text[at] = octet;
        }
        check_refusal(&text)?;
    }

    #[test]
    fn random_octets_never_panic(text: Vec<u8>, line in "[a-z] [A-Z]{1,8}[ -~\r\n]{0,40}") {
        check_refusal(&text)?;
        check_refusal(&[b"a SEARCH ", &*text].concat())?;
        check_refusal(&[b"a APPEND ", &*text].concat())?;
        check_refusal(line.as_bytes())?;
    }
}
