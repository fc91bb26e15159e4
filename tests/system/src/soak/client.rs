//! A client of a soak: an IMAP connection that stays selected whatever happens to the cluster, and what it does
//! with it. What it is told goes to its own record and to the account's ledger.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::ledger::{Found, Mailbox, Place};
use super::load::Load;
use super::view::{Record, View, number_after};
use crate::cluster::PASSWORD;
use crate::eventually::{PATIENCE, every, within};
use crate::imap::is_timeout;
use crate::{ImapClient, Random, imap::Answer};

/// Where mail comes in.
pub const INBOX: Mailbox = "INBOX";
/// Where clients file it.
pub const WORK: Mailbox = "Work";
/// The header field that names an attempt.
pub const FIELD: &str = "X-Attempt";
/// A server that has not said anything for so long is silent: it says "not now" after 60 s.
pub const SILENCE: Duration = Duration::from_secs(75);
/// Between two tries of a client that was refused.
const REFUSED: Duration = Duration::from_millis(200);

/// How often a client that keeps its pace looks whether the run is over.
const PACE_LOOK: Duration = Duration::from_millis(500);

/// Lines of a connection that are remembered, each to so many characters: enough to see what came before.
const MAX_SAID: usize = 300;
const MAX_SAID_CHARS: usize = 120;

/// Why a client has to begin anew.
#[derive(Debug)]
pub enum Ended {
    /// "Not now", to what it cannot go on without.
    Refused,
    /// The connection broke.
    Broken(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// One client, across its connections.
pub struct Client<'a> {
    /// What all share.
    pub load: &'a Load,
    /// Its number among all.
    pub number: usize,
    /// Its name, with which its attempts begin.
    pub name: String,
    /// To which it connects.
    pub node: usize,
    /// Whose mailbox it has selected at the moment.
    pub account: usize,
    /// Its choices.
    pub random: Random,
    /// Least time from one request to the next: a person does not ask a hundred times a second.
    pub pace: Duration,
    /// When the next request may be made.
    next: Instant,
    records: Vec<Record>,
    view: View,
    /// Whether what it was told makes no sense any more: it begins anew then.
    is_lost: bool,
    /// The last lines of its connection, for whoever looks into what was wrong.
    said: VecDeque<String>,
}

impl<'a> Client<'a> {
    /// A client of a node.
    pub fn new(load: &'a Load, number: usize, name: String, node: usize, random: Random) -> Self {
        let records = vec![Record::default(); load.accounts.len()];
        Self {
            load,
            number,
            name,
            node,
            account: 0,
            random,
            pace: Duration::ZERO,
            next: Instant::now(),
            records,
            view: View::default(),
            is_lost: false,
            said: VecDeque::new(),
        }
    }

    /// Lives one connection after the other, until the run is over.
    pub fn lives(&mut self, mut life: impl FnMut(&mut Self) -> Result<(), Ended>) {
        while !self.load.is_over() {
            let door = &self.load.doors[self.node];
            let up = || !door.down.load(std::sync::atomic::Ordering::SeqCst);
            if within(PATIENCE, || (up() || self.load.is_over()).then_some(())).is_none() {
                self.load.wrong_with_all(format!("{} waits for its node for ever", self.name));
            }
            let downs = door.downs.load(std::sync::atomic::Ordering::SeqCst);
            match life(self) {
                Ok(()) => {}
                Err(Ended::Refused) => {
                    let _ = within(REFUSED, || self.load.is_over().then_some(()));
                }
                Err(Ended::Broken(error)) => {
                    let same = downs == door.downs.load(std::sync::atomic::Ordering::SeqCst);
                    self.broken(&error, same && up());
                }
            }
        }
    }

    fn broken(&self, error: &io::Error, node_lives: bool) {
        let name = &self.name;
        if is_timeout(error) {
            self.load.wrong(self.account, format!("{name} heard nothing for {SILENCE:?}"));
        }
        match node_lives {
            true => {
                self.load.event(&format!("BROKEN {name} though its node lives: {error}"));
                self.load.note(|met| met.broken_alone += 1);
            }
            false => self.load.note(|met| met.broken_with_node += 1),
        }
    }

    /// Connects, logs in and selects INBOX of an account.
    pub fn select(&mut self, account: usize) -> Result<ImapClient, Ended> {
        self.account = account;
        self.view = View::default();
        self.is_lost = false;
        self.say(&format!("connects for {}", self.load.accounts[account]));
        let (address, _) = self.load.addresses(self.node);
        let connect = || {
            let client = ImapClient::connect(address)?;
            client.set_patience(SILENCE).map(|()| client)
        };
        let mut imap = self.load.timed(&self.name, self.node, "a connection", connect)?;
        let log_in = format!("LOGIN {} {PASSWORD}", self.load.accounts[account]);
        for command in [&log_in, "SELECT INBOX (CONDSTORE)"] {
            if !self.command(&mut imap, command)?.is_ok() {
                return Err(Ended::Refused);
            }
        }
        Ok(imap)
    }

    /// Waits until it may make another request.
    pub fn keep_pace(&mut self) {
        let wait = self.next.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            let _ = every(PACE_LOOK, wait, || self.load.is_over().then_some(()));
        }
        // Half to one and a half of it: clients must not march in step.
        let share = 500 + self.random.below(1_001) as u32;
        self.next = Instant::now() + self.pace * share / 1_000;
    }

    /// A command without literals; what is said is heard.
    pub fn command(&mut self, imap: &mut ImapClient, command: &str) -> io::Result<Answer> {
        self.call(imap, command, |imap| imap.command(command))
    }

    /// Any command.
    pub fn call(
        &mut self,
        imap: &mut ImapClient,
        what: &str,
        ask: impl FnOnce(&mut ImapClient) -> io::Result<Answer>,
    ) -> io::Result<Answer> {
        self.keep_pace();
        let began = self.load.clock();
        self.say(&format!("> {what}"));
        let answer = self.load.timed(&self.name, self.node, what, || ask(imap))?;
        for line in answer.lines() {
            self.hear(&line);
        }
        self.hear(&answer.tagged);
        match answer.tagged.split(' ').next() {
            Some("OK") => self.load.served(self.number, began),
            Some("NO") => self.load.refused(&self.name, what, &answer.tagged),
            _ => self.wrong(format!("{what}: {}", answer.tagged)),
        }
        Ok(answer)
    }

    /// An untagged response, or a tagged one without its tag.
    pub fn hear(&mut self, line: &str) {
        self.say(line);
        if self.is_lost {
            return;
        }
        if let Err(wrong) = self.records[self.account].hear(&mut self.view, line) {
            self.lose(format!("a client was told: {wrong}"));
        }
        if let Some(found) = found(INBOX, line) {
            self.load.ledger(self.account).seen(&found.attempt, found.place);
        }
    }

    /// What it was told makes no sense: it says why, with what came before, and begins anew.
    pub fn lose(&mut self, sentence: String) {
        self.is_lost = true;
        self.wrong(sentence);
        for line in self.said.drain(..) {
            self.load.event(&format!("  {} {line}", self.name));
        }
    }

    /// How many messages it knows of.
    pub fn messages(&self) -> usize {
        self.view.len()
    }

    /// How many removals it has not been told of, though a search has not found the messages.
    pub fn owed(&self) -> usize {
        self.view.owed()
    }

    /// Whether it should begin anew.
    pub fn is_over(&self) -> bool {
        self.is_lost || self.load.is_over()
    }

    /// From which UID on its record says that the last so many messages are.
    pub fn recent(&self, messages: u64) -> u32 {
        self.records[self.account].uid_next().saturating_sub(messages).max(1) as u32
    }

    fn say(&mut self, line: &str) {
        if self.said.len() == MAX_SAID {
            self.said.pop_front();
        }
        let first = line.lines().next().unwrap_or("");
        let cut: String = first.chars().take(MAX_SAID_CHARS).collect();
        self.said.push_back(format!("{:.3} {cut}", self.load.clock().as_secs_f64()));
    }

    /// Something is wrong with its account.
    pub fn wrong(&self, sentence: String) {
        self.load.wrong(self.account, format!("{}: {sentence}", self.name));
    }

    /// Looks at every message from a UID on; what was found.
    pub fn look(&mut self, imap: &mut ImapClient, from: u32) -> io::Result<Option<Vec<Found>>> {
        let command =
            format!("UID FETCH {from}:* (FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS ({FIELD})])");
        let answer = self.command(imap, &command)?;
        if !answer.is_ok() {
            return Ok(None);
        }
        Ok(Some(answer.lines().iter().filter_map(|line| found(INBOX, line)).collect()))
    }

    /// Idles until something comes or a time is over; when it began, and when the first arrival was told.
    pub fn idle(
        &mut self,
        imap: &mut ImapClient,
        time: Duration,
        mut long_enough: impl FnMut(&Self, Instant) -> bool,
    ) -> io::Result<(Instant, Option<Instant>)> {
        self.say("> IDLE");
        imap.send(b"idle IDLE\r\n")?;
        loop {
            let line = String::from_utf8_lossy(&imap.response()?).into_owned();
            if line.starts_with('+') {
                break;
            }
            self.hear(&line);
            if line.starts_with("idle ") {
                self.load.refused(&self.name, "IDLE", &line);
                return Ok((Instant::now(), None));
            }
        }
        let (began, mut told) = (Instant::now(), None);
        while told.is_none() && began.elapsed() < time && !long_enough(self, began) {
            if let Some(line) = imap.response_within(Duration::from_millis(500), SILENCE)? {
                let line = String::from_utf8_lossy(&line).into_owned();
                self.hear(&line);
                if line.ends_with(" EXISTS") {
                    told = Some(Instant::now());
                }
            }
        }
        self.say("> DONE");
        imap.send(b"DONE\r\n")?;
        let began_call = self.load.clock();
        let answer = self.load.timed(&self.name, self.node, "DONE", || imap.until("idle"))?;
        answer.lines().iter().for_each(|line| self.hear(line));
        match answer.is_ok() {
            true => self.load.served(self.number, began_call),
            false => self.load.refused(&self.name, "IDLE", &answer.tagged),
        }
        Ok((began, told))
    }
}

/// A message of ours in a FETCH response.
pub fn found(mailbox: Mailbox, line: &str) -> Option<Found> {
    let (_, items) = line.strip_prefix("* ")?.split_once(" FETCH ")?;
    let (_, rest) = items.split_once(&format!("{FIELD}: "))?;
    let attempt = rest.lines().next()?.trim().to_owned();
    let place: Place = (mailbox, number_after(items, "UID ")? as u32);
    Some(Found { place, attempt, flagged: items.contains("\\Flagged") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_found_in_its_header() {
        let line = "* 3 FETCH (UID 9 FLAGS (\\Flagged) BODY[HEADER.FIELDS (X-Attempt)] {19}\r\nX-Attempt: a-1\r\n\r\n)";
        let expected = Found { place: (INBOX, 9), attempt: "a-1".to_owned(), flagged: true };
        assert_eq!(found(INBOX, line), Some(expected));
        assert_eq!(found(INBOX, "* 3 FETCH (UID 9 FLAGS ())"), None);
        assert_eq!(found(INBOX, "* 3 EXISTS"), None);
    }
}
