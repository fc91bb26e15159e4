//! LMTP by transcript: what a client sends, what it is answered, what reaches the message store.

mod hostile;
mod pieces;
mod transactions;

use std::sync::Arc;

use super::{Config, LmtpSession, Peer};
use crate::budget::Budget;
use crate::calls::{Call, Recipient, Reply};
use crate::error::StoreError;
use crate::session::{Action, Input, Millis, Session};
use crate::types::{AccountId, MailboxId, MessageId, Timestamp, Uid, UidValidity};

/// Largest message in these tests, in octets.
const MAX_OCTETS: u64 = 2_000;

/// A client and a message store around one session.
struct Wire {
    session: LmtpSession,
    now: Millis,
    /// Sent by the client, not yet taken by the session.
    waiting: Vec<u8>,
    /// Most octets the session is given at once.
    piece: usize,
    /// All that the session sent.
    heard: Vec<u8>,
    /// What was delivered: user and octets.
    delivered: Vec<(String, String)>,
    /// A call that waits for its answer, when calls are not answered at once.
    outstanding: Option<Call>,
    answers_at_once: bool,
    tls_asked: bool,
    closed: bool,
}

impl Wire {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            name: "mail.example".into(),
            max_message_octets: MAX_OCTETS,
            starttls: true,
            budget: Arc::new(Budget::default()),
        };
        change(&mut config);
        let peer = Peer {
            address: [192, 0, 2, 1].into(),
            tls: false,
            accepted: Timestamp::utc(1_700_000_000),
        };
        let mut wire = Self {
            session: LmtpSession::new(Arc::new(config), peer),
            now: Millis(0),
            waiting: Vec::new(),
            piece: usize::MAX,
            heard: Vec::new(),
            delivered: Vec::new(),
            outstanding: None,
            answers_at_once: true,
            tls_asked: false,
            closed: false,
        };
        wire.turn();
        wire
    }

    /// The client sends; returns what it hears because of it.
    fn send(&mut self, octets: impl AsRef<[u8]>) -> String {
        self.waiting.extend_from_slice(octets.as_ref());
        self.turn();
        self.hear()
    }

    fn hear(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.heard)).expect("replies are ASCII")
    }

    fn input(&mut self, input: Input<'_>) -> String {
        self.session.input(self.now, input);
        self.turn();
        self.hear()
    }

    fn answer(&mut self) {
        let call = self.outstanding.take().expect("no call is out");
        let answer = self.perform(call);
        self.session.input(self.now, Input::Answer(answer));
        self.turn();
    }

    fn turn(&mut self) {
        loop {
            while let Some(action) = self.session.action() {
                assert!(!self.closed, "nothing follows a close");
                match action {
                    Action::Send(octets) => self.heard.extend_from_slice(&octets),
                    Action::Call(call) => {
                        assert!(self.outstanding.is_none(), "one call at a time");
                        self.outstanding = Some(call);
                    }
                    Action::StartTls => self.tls_asked = true,
                    Action::LoggedIn(_) => panic!("LMTP knows no login"),
                    Action::Close => self.closed = true,
                }
            }
            if self.outstanding.is_some() && self.answers_at_once {
                let call = self.outstanding.take().expect("just seen");
                let answer = self.perform(call);
                self.session.input(self.now, Input::Answer(answer));
            } else if self.session.wants_octets() && !self.waiting.is_empty() {
                let octets: Vec<u8> =
                    self.waiting.drain(..self.piece.min(self.waiting.len())).collect();
                self.session.input(self.now, Input::Octets(&octets));
            } else {
                return;
            }
        }
    }

    /// A message store whose users are named by what happens to their mail.
    fn perform(&mut self, call: Call) -> Result<Reply, StoreError> {
        match call {
            Call::ResolveRecipient { address } => {
                let user = address.split(['@', '+']).next().unwrap_or_default().to_owned();
                match user.as_str() {
                    "nobody" => Err(StoreError::NotFound(address)),
                    "away" => Err(StoreError::Unavailable("x".into())),
                    _ => Ok(Reply::Recipient(Recipient {
                        account: account(&user),
                        user,
                        folder: None,
                    })),
                }
            }
            Call::Deliver { recipient, sender, body } => match recipient.user.as_str() {
                "full" => Err(StoreError::OverQuota),
                "liar" => Ok(Reply::Done),
                "picky" => {
                    Err(StoreError::Refused(format!("not from {}", sender.unwrap_or_default())))
                }
                "hooked" => Err(StoreError::Broken("a hook trapped".into())),
                _ => {
                    let body = String::from_utf8(body.to_vec()).expect("tests send ASCII");
                    self.delivered.push((recipient.user, body));
                    Ok(Reply::Appended {
                        mailbox: MailboxId([1; 16]),
                        uid_validity: UidValidity(std::num::NonZeroU32::MIN),
                        uids: vec![Uid::MIN],
                        message_ids: vec![MessageId([1; 16])],
                    })
                }
            },
            other => panic!("LMTP does not ask for {other:?}"),
        }
    }
}

fn account(user: &str) -> AccountId {
    let mut id = [0; 16];
    id.iter_mut().zip(user.bytes()).for_each(|(to, from)| *to = from);
    AccountId(id)
}

/// Code and enhanced status of each reply.
fn codes(heard: &str) -> Vec<String> {
    let last = |line: &&str| line.as_bytes().get(3) == Some(&b' ');
    let code = |line: &str| {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let status = words
            .get(1)
            .filter(|word| word.split('.').count() == 3 && word.starts_with(['2', '4', '5']));
        status.map_or_else(|| words[0].to_owned(), |status| format!("{} {status}", words[0]))
    };
    heard.lines().filter(last).map(code).collect()
}

/// Sends one command after the other and holds the replies against what is expected; a line of the
/// table is `command => codes`.
#[track_caller]
fn check(wire: &mut Wire, table: &[(&str, &[&str])]) {
    for (sent, expected) in table {
        let heard = wire.send(format!("{sent}\r\n"));
        assert_eq!(codes(&heard), *expected, "{sent:?} was answered {heard:?}");
    }
}
