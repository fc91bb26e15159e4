//! Any octets as an IMAP command: read or refused, never a panic, and a refusal that can be shown.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postroom_core::imap::parse::{append_head, append_tail, command, literal_at_end};

fuzz_target!(|text: &[u8]| {
    let read = command(text).map(|command| command.tag);
    let head = append_head(text).map(|head| head.map(|head| head.tag));
    for outcome in [Some(read), head].into_iter().flatten() {
        match outcome {
            Ok(tag) => {
                let _ = append_tail(&tag, text);
            }
            Err(error) => {
                assert!((1..=text.len() + 1).contains(&error.column));
                assert!(error.to_string().bytes().all(|c| (b' '..=b'~').contains(&c)));
            }
        }
    }
    let _ = literal_at_end(text);
});
