//! Any octets as an LMTP conversation, however they are cut: the same replies, each of them
//! well-formed, one call at a time, and as many deliveries confirmed as were made.

#![no_main]

use std::num::NonZeroU32;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use postroom_core::budget::Budget;
use postroom_core::calls::{Call, Recipient, Reply};
use postroom_core::error::StoreError;
use postroom_core::lmtp::{Config, LmtpSession, Peer};
use postroom_core::session::{Action, Input, Millis, Session};
use postroom_core::types::{AccountId, MailboxId, MessageId, Timestamp, Uid, UidValidity};

/// Small, so that the fuzzer finds its way to a message that is too large.
const MAX_OCTETS: u64 = 64;

struct Wire {
    session: LmtpSession,
    heard: Vec<u8>,
    delivered: Vec<(AccountId, Vec<u8>)>,
    closed: bool,
}

impl Wire {
    fn new(budget: &Arc<Budget>) -> Self {
        let config = Config {
            name: "x".into(),
            max_message_octets: MAX_OCTETS,
            starttls: true,
            budget: budget.clone(),
        };
        let peer = Peer { address: [127, 0, 0, 1].into(), tls: false, accepted: Timestamp::utc(0) };
        let session = LmtpSession::new(Arc::new(config), peer);
        Self { session, heard: Vec::new(), delivered: Vec::new(), closed: false }
    }

    fn run(mut self, sent: &[u8], piece: usize) -> Self {
        self.settle();
        for octets in sent.chunks(piece) {
            self.session.input(Millis(1), Input::Octets(octets));
            self.settle();
        }
        self.session.input(Millis(2), Input::EndOfInput);
        self.settle();
        assert!(self.closed, "a client that has ended is closed");
        self
    }

    fn settle(&mut self) {
        while let Some(action) = self.session.action() {
            assert!(!self.closed, "nothing follows a close");
            match action {
                Action::Send(octets) => self.heard.extend_from_slice(&octets),
                Action::Call(call) => {
                    assert!(!self.session.wants_octets());
                    assert!(self.session.action().is_none(), "a call is waited for");
                    let answer = self.answer(call);
                    self.session.input(Millis(1), Input::Answer(answer));
                }
                Action::StartTls => self.session.input(Millis(1), Input::TlsEstablished),
                Action::LoggedIn(_) => panic!("LMTP knows no login"),
                Action::Close => self.closed = true,
            }
        }
    }

    fn answer(&mut self, call: Call) -> Result<Reply, StoreError> {
        match call {
            Call::ResolveRecipient { address } => match address.as_bytes()[0] {
                b'n' => Err(StoreError::NotFound(address)),
                first => {
                    let account = AccountId([first; 16]);
                    Ok(Reply::Recipient(Recipient { account, user: String::new(), folder: None }))
                }
            },
            Call::Deliver { recipient, .. } if recipient.account.0[0] == b'f' => {
                Err(StoreError::OverQuota)
            }
            Call::Deliver { recipient, body, .. } => {
                self.delivered.push((recipient.account, body.to_vec()));
                Ok(Reply::Appended {
                    mailbox: MailboxId([1; 16]),
                    uid_validity: UidValidity(NonZeroU32::MIN),
                    uids: vec![Uid::MIN],
                    message_ids: vec![MessageId([1; 16])],
                })
            }
            other => panic!("LMTP does not ask for {other:?}"),
        }
    }
}

fn check_reply(line: &[u8]) {
    let text = line.strip_suffix(b"\r\n").expect("a reply is a whole line");
    assert!(line.len() <= 512 && text.iter().all(|octet| (b' '..=b'~').contains(octet)));
    assert!(text[..3].iter().all(u8::is_ascii_digit) && [b' ', b'-'].contains(&text[3]));
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, sent)) = input.split_first() else { return };
    let budget = Arc::new(Budget::default());
    let full = budget.left();
    // STARTTLS drops what came with it, which depends on how it was cut: compare only without.
    let compared = !sent.to_ascii_uppercase().windows(8).any(|octets| octets == b"STARTTLS");
    let whole = Wire::new(&budget).run(sent, sent.len().max(1));
    let cut = Wire::new(&budget).run(sent, usize::from(first % 16) + 1);
    for wire in [&whole, &cut] {
        wire.heard.split_inclusive(|&octet| octet == b'\n').for_each(check_reply);
        for (_, body) in &wire.delivered {
            assert!(body.starts_with(b"Return-Path: <") && body.ends_with(b"\n") && !body.contains(&0));
        }
    }
    if compared {
        assert_eq!(whole.heard, cut.heard);
        assert_eq!(whole.delivered, cut.delivered);
    }
    drop((whole, cut));
    assert_eq!(budget.left(), full, "memory is given back");
});
