//! What all clients of a soak share: where the nodes are, what is being done to them, what was told.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::fault::Fault;
use super::ledger::{Ledger, MAX_WRONG};
use super::waits::{Met, Waits, command};

/// A wait that is longer stands in the list of events.
const LONG: Duration = Duration::from_millis(1_500);
/// Most messages of an account whose acknowledgement is remembered for who idles: a minute's and more.
const MAX_NEWS: usize = 20_000;

/// A node as clients see it.
pub struct Door {
    /// IMAP and LMTP.
    pub addresses: RwLock<(SocketAddr, SocketAddr)>,
    /// Whether it is down, or about to be.
    pub down: AtomicBool,
    /// How often it went down.
    pub downs: AtomicU64,
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The kind.
    pub fault: Fault,
    /// The node that it is done to.
    pub node: Option<usize>,
}

/// Shared by all clients.
pub struct Load {
    /// By number of node.
    pub doors: Vec<Door>,
    /// Names of the accounts.
    pub accounts: Vec<String>,
    /// By account.
    pub ledgers: Vec<Mutex<Ledger>>,
    /// Ends the run.
    pub stop: AtomicBool,
    /// Requests that were acknowledged.
    pub acknowledged: AtomicU64,
    /// All requests of clients.
    pub calls: AtomicU64,
    /// Answers that said "not now".
    pub refused: AtomicU64,
    /// What is wrong, and no account's.
    wrong: Mutex<Vec<String>>,
    waits: Mutex<Waits>,
    now: Mutex<Now>,
    /// When, in the run's milliseconds, the last call of each client began that was answered OK.
    served: Vec<AtomicU64>,
    /// When each attempt was acknowledged, by account.
    news: Vec<Mutex<BTreeMap<String, Instant>>>,
    began: Instant,
    events: Mutex<File>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// For so many clients, over nodes at these addresses. Events are written to a file.
    pub fn new(
        doors: Vec<(SocketAddr, SocketAddr)>,
        accounts: Vec<String>,
        clients: usize,
        events: &Path,
    ) -> std::io::Result<Self> {
        let door = |addresses| Door {
            addresses: RwLock::new(addresses),
            down: AtomicBool::new(false),
            downs: AtomicU64::new(0),
        };
        Ok(Self {
            doors: doors.into_iter().map(door).collect(),
            ledgers: accounts.iter().map(|_| Mutex::default()).collect(),
            news: accounts.iter().map(|_| Mutex::default()).collect(),
            accounts,
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            wrong: Mutex::default(),
            waits: Mutex::default(),
            now: Mutex::new(Now { fault: Fault::Calm, node: None }),
            served: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            began: Instant::now(),
            events: Mutex::new(File::create(events)?),
        })
    }

    /// Whether clients are to end.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What is under way.
    pub fn now(&self) -> Now {
        *locked(&self.now)
    }

    /// Something else is.
    pub fn set_now(&self, now: Now) {
        *locked(&self.now) = now;
    }

    /// Where a node's IMAP and LMTP are.
    pub fn addresses(&self, node: usize) -> (SocketAddr, SocketAddr) {
        *self.doors[node].addresses.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node is started again, and is here.
    pub fn is_up(&self, node: usize, addresses: (SocketAddr, SocketAddr)) {
        let door = &self.doors[node];
        *door.addresses.write().unwrap_or_else(PoisonError::into_inner) = addresses;
        door.down.store(false, Ordering::SeqCst);
    }

    /// A node is about to be ended.
    pub fn goes_down(&self, node: usize) {
        self.doors[node].downs.fetch_add(1, Ordering::SeqCst);
        self.doors[node].down.store(true, Ordering::SeqCst);
    }

    /// The ledger of an account.
    pub fn ledger(&self, account: usize) -> MutexGuard<'_, Ledger> {
        locked(&self.ledgers[account])
    }

    /// Something is wrong with an account.
    pub fn wrong(&self, account: usize, sentence: String) {
        self.event(&format!("WRONG {}: {sentence}", self.accounts[account]));
        self.ledger(account).wrong(sentence);
    }

    /// Something is wrong with the cluster.
    pub fn wrong_with_all(&self, sentence: String) {
        self.event(&format!("WRONG: {sentence}"));
        let mut wrong = locked(&self.wrong);
        if wrong.len() < MAX_WRONG {
            wrong.push(sentence);
        }
    }

    /// What is wrong with the cluster so far.
    pub fn take_wrong(&self) -> Vec<String> {
        std::mem::take(&mut locked(&self.wrong))
    }

    /// Measures a call of a client of `node`.
    pub fn timed<T>(&self, who: &str, node: usize, what: &str, work: impl FnOnce() -> T) -> T {
        let (before, began) = (self.now(), Instant::now());
        let done = work();
        let (took, after) = (began.elapsed(), self.now());
        self.calls.fetch_add(1, Ordering::Relaxed);
        {
            let mut waits = locked(&self.waits);
            for now in under_way(before, after) {
                let met = waits.of(now.fault);
                met.commands.entry(command(what)).or_default().add(took);
                match now.node == Some(node) {
                    true => met.own.add(took),
                    false => met.others.add(took),
                }
            }
        }
        if took > LONG {
            let (from, to) = (before.fault.name(), after.fault.name());
            self.event(&format!("{who} waited {took:.1?} for {what} ({from} to {to})"));
        }
        done
    }

    /// Counts something for what is under way.
    pub fn note(&self, note: impl FnOnce(&mut Met)) {
        self.note_for(self.now().fault, note);
    }

    /// Counts something for what was under way then, and for what is now.
    pub fn note_since(&self, then: Now, note: impl Fn(&mut Met)) {
        let mut waits = locked(&self.waits);
        under_way(then, self.now()).iter().for_each(|now| note(waits.of(now.fault)));
    }

    /// Counts something for a kind.
    pub fn note_for(&self, fault: Fault, note: impl FnOnce(&mut Met)) {
        note(locked(&self.waits).of(fault));
    }

    /// An answer was "not now".
    pub fn refused(&self, who: &str, what: &str, answer: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.note(|met| met.refused += 1);
        self.event(&format!("{who} was refused {what}: {answer}"));
    }

    /// What clients met so far.
    pub fn waits(&self) -> Waits {
        locked(&self.waits).clone()
    }

    /// The run's time.
    pub fn clock(&self) -> Duration {
        self.began.elapsed()
    }

    /// A call of a client that began then was answered OK.
    pub fn served(&self, client: usize, began: Duration) {
        self.served[client].fetch_max(began.as_millis() as u64, Ordering::Relaxed);
    }

    /// Clients none of whose calls since then has been answered OK.
    pub fn unserved_since(&self, then: Duration) -> Vec<usize> {
        let then = then.as_millis() as u64;
        let late = |client: &usize| self.served[*client].load(Ordering::Relaxed) <= then;
        (0..self.served.len()).filter(late).collect()
    }

    /// An attempt has been acknowledged: who idles has to be told.
    pub fn news(&self, account: usize, attempt: &str) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        let mut news = locked(&self.news[account]);
        news.insert(attempt.to_owned(), Instant::now());
        if news.len() > MAX_NEWS {
            // The oldest half: nobody waits for them any more.
            let mut times: Vec<Instant> = news.values().copied().collect();
            times.sort();
            let middle = times[times.len() / 2];
            news.retain(|_, time| *time > middle);
        }
    }

    /// When an attempt was acknowledged, if that is not long ago.
    pub fn acknowledged_at(&self, account: usize, attempt: &str) -> Option<Instant> {
        locked(&self.news[account]).get(attempt).copied()
    }

    /// The attempts that were acknowledged between two moments.
    pub fn acknowledged_between(&self, account: usize, from: Instant, to: Instant) -> Vec<String> {
        let news = locked(&self.news[account]);
        let within = news.iter().filter(|(_, time)| **time > from && **time < to);
        within.map(|(attempt, _)| attempt.clone()).collect()
    }

    /// Writes a line into the list of events, with the time as nodes' logs have it.
    pub fn event(&self, text: &str) {
        let line = format!("{} {:8.3} {text}\n", wall_clock(), self.clock().as_secs_f64());
        // The list is for who looks into what was found otherwise.
        let _ = locked(&self.events).write_all(line.as_bytes());
    }
}

/// What a call counts for: what was under way when it began, and when it ended; calm only if it was so at both
/// ends.
fn under_way(before: Now, after: Now) -> Vec<Now> {
    match (before.fault == Fault::Calm, after.fault == Fault::Calm) {
        (true, false) => vec![after],
        (false, true) => vec![before],
        _ if before == after => vec![before],
        _ => vec![before, after],
    }
}

/// The time of the day (UTC), to the millisecond.
fn wall_clock() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.as_secs() % 86_400;
    let (hour, minute) = (seconds / 3_600, seconds / 60 % 60);
    format!("{hour:02}:{minute:02}:{:02}.{:03}", seconds % 60, now.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_for_what_was_under_way_at_either_end() {
        let now = |fault, node| Now { fault, node };
        let calm = now(Fault::Calm, None);
        let (kill, stop) = (now(Fault::Kill, Some(1)), now(Fault::Stop, Some(2)));
        assert_eq!(under_way(calm, calm), [calm]);
        assert_eq!(under_way(calm, kill), [kill]);
        assert_eq!(under_way(kill, calm), [kill]);
        assert_eq!(under_way(kill, stop), [kill, stop]);
    }
}
