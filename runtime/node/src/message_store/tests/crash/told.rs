//! What callers were told, and whether it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use bytes::Bytes;
use postroom_core::calls::{Call, FetchedMessage, MailboxStatus, Reply, Want};
use postroom_core::error::StoreError;
use postroom_core::types::{ModSeq, SystemFlag, Uid, UidSet, UidValidity};

use super::super::{Client, mailbox};
use crate::message_store::MessageStore;

/// The accounts of the load.
pub const ACCOUNTS: [&str; 3] = ["anna", "ben", "cleo"];
/// Their mailboxes.
pub const MAILBOXES: [&str; 4] = ["INBOX", "Moved", "Bin", "Copies"];
/// The one that holds what others hold too.
const COPIES: &str = "Copies";
/// Sizes of messages: in a row, and on both sides of a segment's chunk.
const SIZES: [usize; 4] = [100, 700, 5_000, 40_000];

/// A mailbox of an account.
pub type Place = (&'static str, &'static str);

/// A message of the load: it follows from the attempt to put it there.
pub fn message(attempt: &str) -> Bytes {
    let size = SIZES[attempt.bytes().map(usize::from).sum::<usize>() % SIZES.len()];
    let mut text = format!("Subject: attempt\r\nX-Attempt: {attempt}\r\n\r\n");
    while text.len() < size {
        text.push_str(attempt);
        text.push_str("\r\n");
    }
    text.into()
}

fn attempt_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let rest = text.split_once("X-Attempt: ").expect("a message of the load").1;
    rest.split_once("\r\n").expect("its line ends").0.to_owned()
}

/// What was announced of a mailbox.
#[derive(Clone, Copy)]
struct Counters {
    uid_validity: UidValidity,
    uid_next: Uid,
    highest_modseq: ModSeq,
}

/// What callers were told. Only what was acknowledged, or read, goes in.
#[derive(Clone, Default)]
pub struct Told {
    /// Attempts made, acknowledged or not.
    pub attempts: u64,
    /// Attempts whose message is in its account.
    pub acknowledged: BTreeSet<(&'static str, String)>,
    /// Attempts whose removal was asked for: they may be gone.
    pub leaving: BTreeSet<(&'static str, String)>,
    /// What a UID has ever been said to be.
    meaning: BTreeMap<(Place, Uid), String>,
    /// Where messages must be.
    pub placed: BTreeMap<(Place, Uid), String>,
    /// Which must have `\Flagged`.
    pub flagged: BTreeSet<(Place, Uid)>,
    /// Which must not be there any more.
    pub removed: BTreeSet<(Place, Uid)>,
    counters: BTreeMap<Place, Counters>,
}

/// What a look at damaged storage has found.
#[derive(Debug, Default)]
pub struct Looked {
    /// Messages that were read, as they were announced.
    pub served: u64,
    /// Messages of which callers are told that they cannot be read.
    pub damaged: u64,
    /// What is not there, and nothing says so.
    pub missing: Vec<String>,
}

/// What a verification has found.
#[derive(Clone, Copy, Default)]
pub struct Found {
    /// Acknowledged attempts that nobody has asked to remove.
    pub acknowledged: u64,
    /// Those of them that were read.
    pub present: u64,
    /// Attempts made.
    pub attempts: u64,
    /// Attempts that were read, once each.
    pub there: u64,
    /// UIDs with one meaning each.
    pub places: u64,
}

impl AddAssign for Found {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.present += other.present;
        self.attempts += other.attempts;
        self.there += other.there;
        self.places += other.places;
    }
}

impl Told {
    /// A UID was said to be an attempt's message.
    pub fn means(&mut self, place: Place, uid: Uid, attempt: &str) {
        let meant = self.meaning.entry((place, uid)).or_insert_with(|| attempt.to_owned());
        assert_eq!(meant, attempt, "UID {uid} in {place:?} means two things");
    }

    /// A mailbox has these counters after a start: they have not gone back.
    fn counts_on(&mut self, place: Place, status: &MailboxStatus) {
        if let Some(known) = self.counters.get(&place) {
            let (now, before) = (status.uid_next, known.uid_next);
            assert!(now >= before, "UIDNEXT of {place:?} is {now}, it was {before}");
            let (now, before) = (status.highest_modseq, known.highest_modseq);
            assert!(now >= before, "mod-sequence of {place:?} is {now:?}, it was {before:?}");
        }
        self.counts(place, status);
    }

    /// A mailbox was said to have these counters. Callers hear of it in any order.
    pub fn counts(&mut self, place: Place, status: &MailboxStatus) {
        self.announce(place, status.uid_validity, status.uid_next, status.highest_modseq);
    }

    /// A UID was given out.
    pub fn gave_out(&mut self, place: Place, uid_validity: UidValidity, uid: Uid) {
        let uid_next = uid.next().expect("few UIDs are used");
        self.announce(place, uid_validity, uid_next, ModSeq(0));
    }

    /// A change was said to have a mod-sequence, in a mailbox of which something was said before.
    pub fn changed(&mut self, place: Place, modseq: ModSeq) {
        let known = self.counters[&place];
        self.announce(place, known.uid_validity, known.uid_next, modseq);
    }

    fn announce(&mut self, place: Place, uid_validity: UidValidity, uid_next: Uid, modseq: ModSeq) {
        let new = Counters { uid_validity, uid_next, highest_modseq: modseq };
        let known = self.counters.entry(place).or_insert(new);
        assert_eq!(known.uid_validity, uid_validity, "UIDVALIDITY of {place:?}");
        known.uid_next = known.uid_next.max(uid_next);
        known.highest_modseq = known.highest_modseq.max(modseq);
    }

    /// Reads everything and compares. What was read was told from then on.
    pub async fn verify(&mut self, store: &MessageStore) -> Found {
        let mut there: BTreeMap<(Place, Uid), (String, bool)> = BTreeMap::new();
        for account in ACCOUNTS {
            let session = store.session_of(account).await.expect("accounts appear on first use");
            let client = Client { store, session };
            for name in MAILBOXES {
                let place = (account, name);
                for message in self.read(&client, place).await {
                    let body = message.body.expect("it was asked for");
                    let attempt = attempt_of(&body);
                    assert!(body == self::message(&attempt), "{place:?}: another's body");
                    self.means(place, message.uid, &attempt);
                    let flagged = message.flags.has(SystemFlag::Flagged);
                    there.insert((place, message.uid), (attempt, flagged));
                }
            }
        }
        self.compare(&there)
    }

    /// All messages of a mailbox; none when there is no such mailbox and nobody was told of one.
    async fn read(&mut self, client: &Client<'_>, place: Place) -> Vec<FetchedMessage> {
        let select = Call::Select { name: mailbox(place.1), read_write: true };
        let selected = match client.call(select).await {
            Ok(Reply::Selected(selected)) => selected,
            Err(StoreError::NotFound(_)) if !self.counters.contains_key(&place) => {
                return Vec::new();
            }
            other => panic!("{place:?}: {other:?}"),
        };
        self.counts_on(place, &selected.status);
        let (mut messages, mut first) = (Vec::new(), Uid::MIN);
        loop {
            let (uids, want) =
                (UidSet::range(first, Uid::MAX), Want { body: true, ..Want::default() });
            let page = match client.call(Call::Fetch { uids, want }).await {
                Ok(Reply::Messages { messages, more }) => (messages, more),
                other => panic!("{place:?}: {other:?}"),
            };
            messages.extend(page.0);
            match messages.last().and_then(|last| last.uid.next()) {
                Some(next) if page.1 => first = next,
                _ => break,
            }
        }
        let uids: Vec<Uid> = messages.iter().map(|message| message.uid).collect();
        assert_eq!(uids, selected.uids, "{place:?}");
        messages
    }

    /// Reads everything message by message, and goes on after damage.
    pub async fn look(&self, store: &MessageStore) -> Looked {
        let mut looked = Looked::default();
        for account in ACCOUNTS {
            let session = store.session_of(account).await.expect("accounts appear on first use");
            let client = Client { store, session };
            for name in MAILBOXES {
                self.look_into(&client, (account, name), &mut looked).await;
            }
        }
        looked
    }

    async fn look_into(&self, client: &Client<'_>, place: Place, looked: &mut Looked) {
        let here = self.placed.iter().filter(|((at, _), _)| *at == place);
        let here: Vec<(Uid, &String)> = here.map(|((_, uid), attempt)| (*uid, attempt)).collect();
        let select = Call::Select { name: mailbox(place.1), read_write: true };
        if let Err(error) = client.call(select).await {
            // An error is no silence; but no one octet may cost a mailbox.
            assert!(here.is_empty(), "{place:?}: {error}");
            return;
        }
        for (uid, attempt) in here {
            let (uids, want) = (UidSet::range(uid, uid), Want { body: true, ..Want::default() });
            let messages = match client.call(Call::Fetch { uids, want }).await {
                Ok(Reply::Messages { messages, .. }) => messages,
                other => panic!("{place:?} {uid}: {other:?}"),
            };
            let flagged = self.flagged.contains(&(place, uid));
            match messages.first() {
                None => looked.missing.push(format!("{place:?} {uid}")),
                Some(found) if flagged && !found.flags.has(SystemFlag::Flagged) => {
                    looked.missing.push(format!("the flag of {place:?} {uid}"));
                }
                Some(FetchedMessage { body: None, .. }) => looked.damaged += 1,
                Some(FetchedMessage { body: Some(body), .. }) => {
                    assert!(*body == message(attempt), "{place:?} {uid}: another's octets");
                    looked.served += 1;
                }
            }
        }
    }

    fn compare(&self, there: &BTreeMap<(Place, Uid), (String, bool)>) -> Found {
        let mut once = BTreeSet::new();
        let mut copied = BTreeSet::new();
        for ((place, uid), (attempt, _)) in there {
            let seen = if place.1 == COPIES { &mut copied } else { &mut once };
            let new = seen.insert((place.0, attempt.clone()));
            assert!(new, "{attempt} is twice in {}'s account: {place:?} {uid}", place.0);
        }
        for (at, attempt) in &self.placed {
            let found = there.get(at).map(|(attempt, _)| attempt);
            assert_eq!(found, Some(attempt), "it was announced at {at:?}");
        }
        for at in &self.flagged {
            assert!(there[at].1, "{at:?} has lost its flag");
        }
        for at in &self.removed {
            assert!(!there.contains_key(at), "{at:?} has come back");
        }
        let kept: Vec<_> = self.acknowledged.difference(&self.leaving).collect();
        let lost: Vec<_> = kept.iter().filter(|attempt| !once.contains(**attempt)).collect();
        assert!(lost.is_empty(), "acknowledged, not there: {lost:?}");
        Found {
            acknowledged: kept.len() as u64,
            present: kept.iter().filter(|attempt| once.contains(**attempt)).count() as u64,
            attempts: self.attempts,
            there: once.len() as u64,
            places: self.meaning.len() as u64,
        }
    }
}
