//! Who writes: it appends, delivers, flags, copies, moves and expunges, each time messages of its own, so that it
//! alone knows what must have become of them.

use std::collections::BTreeMap;
use std::io;

use super::client::{Client, Ended, FIELD, INBOX, SILENCE, WORK};
use crate::imap::Answer;
use crate::{ImapClient, LmtpClient};

/// Requests on one connection, before it leaves and comes again.
const REQUESTS: usize = 400;
/// Messages at the end of a mailbox among which it looks for its own deliveries, when it comes again.
const RECENT: u64 = 200;
/// Most of its own messages that it does anything with: it forgets the oldest first.
const MAX_OWN: usize = 10_000;
/// From so many messages on in INBOX it removes instead of adding: a long run must not become slow by itself.
const FULL: usize = 2_000;

/// What it knows of its own messages, across its connections.
#[derive(Default)]
pub struct Own {
    attempts: u64,
    /// UIDs in INBOX, by account and attempt; those of deliveries are not known until they are seen.
    places: BTreeMap<(usize, String), u32>,
    mta: Option<LmtpClient>,
}

/// A message of its own.
type Mine = (String, u32);

/// One connection of it.
pub fn life(client: &mut Client, own: &mut Own) -> Result<(), Ended> {
    let account = client.random.below(client.load.accounts.len() as u64) as usize;
    // One of an earlier life may have gone with its node.
    own.mta = None;
    let mut imap = client.select(account)?;
    let mut from = client.recent(RECENT);
    for _ in 0..REQUESTS {
        if client.is_over() {
            break;
        }
        let full = client.messages() > FULL;
        match client.random.below(100) {
            choice @ 0..=44 if full => {
                // Without any of its own it asks, so that it does not spin.
                let Some(mine) = own.any(client) else {
                    client.command(&mut imap, "NOOP")?;
                    continue;
                };
                remove(client, own, &mut imap, mine, choice < 10)?;
            }
            0..=24 => append(client, own, &mut imap)?,
            25..=44 => deliver(client, own)?,
            45..=54 => drop(client.command(&mut imap, "NOOP")?),
            55..=58 => drop(client.command(&mut imap, "STATUS INBOX (HIGHESTMODSEQ)")?),
            59..=62 => search(client, &mut imap)?,
            63..=68 => from = look(client, own, &mut imap, from)?,
            other => {
                let Some(mine) = own.any(client) else { continue };
                match other {
                    69..=76 => flag(client, &mut imap, &mine)?,
                    77..=83 => copy(client, &mut imap, &mine)?,
                    84..=91 => remove(client, own, &mut imap, mine, true)?,
                    _ => remove(client, own, &mut imap, mine, false)?,
                }
            }
        }
    }
    client.command(&mut imap, "LOGOUT")?;
    Ok(())
}

impl Own {
    fn next(&mut self, client: &Client) -> (String, Vec<u8>) {
        self.attempts += 1;
        let attempt = format!("{}-{}", client.name, self.attempts);
        let body = format!("Subject: attempt\r\n{FIELD}: {attempt}\r\n\r\nx\r\n").into_bytes();
        (attempt, body)
    }

    fn knows(&mut self, account: usize, attempt: String, uid: u32) {
        self.places.insert((account, attempt), uid);
        if self.places.len() > MAX_OWN {
            self.places.pop_first();
        }
    }

    fn any(&self, client: &mut Client) -> Option<Mine> {
        let ours = |(key, uid): (&(usize, String), &u32)| {
            (key.0 == client.account).then(|| (key.1.clone(), *uid))
        };
        let count = self.places.keys().filter(|key| key.0 == client.account).count() as u64;
        let chosen = count.checked_sub(1).map(|_| client.random.below(count) as usize)?;
        self.places.iter().filter_map(ours).nth(chosen)
    }
}

fn append(client: &mut Client, own: &mut Own, imap: &mut ImapClient) -> io::Result<()> {
    let account = client.account;
    let (attempt, body) = own.next(client);
    let before = client.load.ledger(account).begin(&attempt, INBOX);
    let done = client.call(imap, "APPEND", |imap| imap.append(INBOX, "", &body));
    let uid = done.as_ref().ok().filter(|answer| answer.is_ok()).and_then(|answer| {
        let code = answer.code("APPENDUID")?;
        code.get(1)?.parse().ok()
    });
    let Some(uid) = uid else {
        if done.as_ref().is_ok_and(Answer::is_ok) {
            client.wrong(format!("{attempt} was appended without a UID"));
        }
        client.load.ledger(account).unknown(&attempt);
        return done.map(drop);
    };
    client.load.ledger(account).put(&attempt, (INBOX, uid), before);
    client.load.news(account, &attempt);
    own.knows(account, attempt, uid);
    Ok(())
}

fn deliver(client: &mut Client, own: &mut Own) -> io::Result<()> {
    let (account, load) = (client.account, client.load);
    let mut mta = match own.mta.take() {
        Some(mta) => mta,
        None => {
            let (_, address) = load.addresses(client.node);
            let mta = load.timed(&client.name, client.node, "a connection of an MTA", || {
                LmtpClient::connect(address)
            })?;
            mta.set_patience(SILENCE)?;
            mta
        }
    };
    let (attempt, body) = own.next(client);
    client.keep_pace();
    load.ledger(account).begin(&attempt, INBOX);
    let began = load.clock();
    let to = [&*load.accounts[account]];
    let done = load.timed(&client.name, client.node, "a delivery", || mta.deliver(&to, &body));
    match &done {
        Ok(replies) if replies[0].starts_with("250") => {
            load.ledger(account).delivered(&attempt);
            load.served(client.number, began);
            load.news(account, &attempt);
            own.mta = Some(mta);
        }
        // What follows a refusal is another matter: the connection is not used again.
        Ok(replies) => {
            load.refused(&client.name, "a delivery", &replies[0]);
            load.ledger(account).unknown_delivery(&attempt);
        }
        Err(_) => load.ledger(account).unknown_delivery(&attempt),
    }
    done.map(drop)
}

/// What it has been told is there, or it is told of the removal now: NOOP waits for all that there is.
fn search(client: &mut Client, imap: &mut ImapClient) -> io::Result<()> {
    if !client.command(imap, "UID SEARCH ALL")?.is_ok() || client.is_over() {
        return Ok(());
    }
    if client.command(imap, "NOOP")?.is_ok() && client.owed() > 0 {
        let owed = client.owed();
        client
            .lose(format!("a client has {owed} messages that are gone, and NOOP does not say so"));
    }
    Ok(())
}

/// Looks at what has come, and finds its own deliveries in it; from where to look the next time.
fn look(client: &mut Client, own: &mut Own, imap: &mut ImapClient, from: u32) -> io::Result<u32> {
    let Some(found) = client.look(imap, from)? else { return Ok(from) };
    let prefix = format!("{}-", client.name);
    let mut next = from;
    for message in found.into_iter().filter(|message| message.place.1 >= from) {
        next = next.max(message.place.1 + 1);
        if message.attempt.starts_with(&prefix) {
            own.knows(client.account, message.attempt, message.place.1);
        }
    }
    Ok(next)
}

fn flag(client: &mut Client, imap: &mut ImapClient, (attempt, uid): &Mine) -> io::Result<()> {
    let (account, on) = (client.account, client.random.below(2) == 0);
    client.load.ledger(account).flagged(attempt, (INBOX, *uid), None);
    let sign = if on { '+' } else { '-' };
    let answer = client.command(imap, &format!("UID STORE {uid} {sign}FLAGS (\\Flagged)"))?;
    if answer.is_ok() {
        client.load.ledger(account).flagged(attempt, (INBOX, *uid), Some(on));
    }
    Ok(())
}

/// Where COPYUID says that one message went. An OK without it says that there was no such message.
fn copied(client: &Client, answer: &Answer, what: &str) -> Option<u32> {
    let target = || answer.code("COPYUID")?.get(2)?.parse().ok();
    let uid = target();
    if answer.is_ok() && uid.is_none() {
        client.wrong(format!("{what}: the message is not there"));
    }
    uid.filter(|_| answer.is_ok())
}

fn copy(client: &mut Client, imap: &mut ImapClient, (attempt, uid): &Mine) -> io::Result<()> {
    let account = client.account;
    let before = client.load.ledger(account).begin(attempt, WORK);
    let command = format!("UID COPY {uid} {WORK}");
    let answer = client.command(imap, &command)?;
    if let Some(target) = copied(client, &answer, &format!("{command} of {attempt}")) {
        client.load.ledger(account).put(attempt, (WORK, target), before);
        client.load.acknowledged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    Ok(())
}

/// Moves or expunges; whatever comes of it, it does nothing with the message any more.
fn remove(
    client: &mut Client,
    own: &mut Own,
    imap: &mut ImapClient,
    (attempt, uid): Mine,
    moves: bool,
) -> io::Result<()> {
    let (account, place) = (client.account, (INBOX, uid));
    own.places.remove(&(account, attempt.clone()));
    client.load.ledger(account).removing(&attempt, place);
    if moves {
        let before = client.load.ledger(account).begin(&attempt, WORK);
        let command = format!("UID MOVE {uid} {WORK}");
        let answer = client.command(imap, &command)?;
        if let Some(target) = copied(client, &answer, &format!("{command} of {attempt}")) {
            let mut ledger = client.load.ledger(account);
            ledger.put(&attempt, (WORK, target), before);
            ledger.removed(&attempt, place);
        }
        return Ok(());
    }
    let mark = format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)");
    if client.command(imap, &mark)?.is_ok()
        && client.command(imap, &format!("UID EXPUNGE {uid}"))?.is_ok()
    {
        client.load.ledger(account).removed(&attempt, place);
    }
    Ok(())
}
