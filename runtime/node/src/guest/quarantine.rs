//! Operations that cost instances: which of them are tried alone, and which are refused.
//!
//! A call that is lost with its instance leaves its operation under *suspicion*, and so do the calls
//! beside it, because nobody can tell which of them it was. A suspect gets an instance of its own
//! the next time, where it harms nobody and where it shows: an answer clears it, a second loss puts
//! it into *quarantine*. There it is refused at once, for a time; after that it is a suspect again.
//! Whatever else the account does goes on.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postroom_core::error::StoreError;
use postroom_core::types::{AccountId, TransactionId};
use serde::Serialize;

use super::pool::Verb;

/// Operations that a component's table holds. A loss has at most as many calls as an instance, so
/// this is a few losses; the ones longest ago go first, and cost one more instance at worst.
const MAX_OPERATIONS: usize = 1024;
/// How long a loss is remembered: repeats of a write, an MTA's next tries, a client that comes back.
const MEMORY: Duration = Duration::from_secs(600);
/// Losses that put an operation into quarantine.
const LOSSES: u32 = 2;
/// Names of one call that count for what it is about: a call may have 4,096, and this is on the way
/// of every one.
const MAX_NAMES: usize = 64;

/// What a call is about: a digest of the names in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Subject(u64);

impl Subject {
    /// Of a call that names something once: a cursor, a mailbox.
    pub(super) fn of(name: impl Hash) -> Self {
        Self::of_each([name])
    }

    /// Of a call that names many.
    pub(super) fn of_each<N: Hash>(names: impl IntoIterator<Item = N>) -> Self {
        let mut hasher = DefaultHasher::new();
        names.into_iter().take(MAX_NAMES).for_each(|name| name.hash(&mut hasher));
        Self(hasher.finish())
    }
}

/// What is the same when a call is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Operation {
    /// Whose records; the zero id for the directory.
    pub(super) account: AccountId,
    pub(super) verb: Verb,
    pub(super) subject: Subject,
}

/// A call, as the one that an instance was lost with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    pub(super) operation: Operation,
    pub(super) transaction: TransactionId,
}

/// How an operation is treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Like all others.
    Free,
    /// In an instance of its own.
    Alone,
    /// Not at all; the error says why and for how long.
    Refused(StoreError),
}

/// An operation in quarantine, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// The account; all zeros: the directory.
    pub account: String,
    /// Interface and function: `messages fetch`.
    pub operation: String,
    /// The transaction of the last call that was lost: log lines carry it.
    pub transaction: String,
    /// What its last instance was lost by.
    pub why: String,
    /// Instances that it has cost.
    pub losses: u32,
    /// Calls that have been refused since.
    pub refused: u64,
    /// How long it lasts yet, in seconds.
    pub seconds_left: u64,
}

/// The operations of one component that have cost instances.
pub(super) struct Quarantine {
    component: Arc<str>,
    /// How long an operation is refused; zero: never.
    time: Duration,
    records: Mutex<HashMap<Operation, Record>>,
    /// Of `records`, so that nothing is locked while nothing is wrong.
    count: AtomicUsize,
}

struct Record {
    losses: u32,
    last: Instant,
    transaction: TransactionId,
    why: String,
    until: Option<Instant>,
    refused: u64,
}

impl Record {
    fn over(&self, now: Instant) -> bool {
        // After a quarantine it is tried alone first, however long that was.
        let since = self.until.map_or(self.last, |until| until.max(self.last));
        now.saturating_duration_since(since) >= MEMORY
    }
}

impl Quarantine {
    pub(super) fn new(component: Arc<str>, time: Duration) -> Self {
        Self { component, time, records: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// How a call of an operation is to be made now.
    pub(super) fn standing(&self, operation: &Operation, now: Instant) -> Standing {
        if self.count.load(Ordering::Acquire) == 0 {
            return Standing::Free;
        }
        let mut records = self.lock();
        let Some(record) = records.get_mut(operation) else { return Standing::Free };
        if record.over(now) {
            records.remove(operation);
            self.counted(&records);
            return Standing::Free;
        }
        let Some(left) = record.until.and_then(|until| until.checked_duration_since(now)) else {
            return Standing::Alone;
        };
        if left.is_zero() {
            return Standing::Alone;
        }
        record.refused += 1;
        let labels = [("component", self.component.to_string())];
        metrics::counter!("postroom_guest_quarantine_refusals_total", &labels).increment(1);
        Standing::Refused(refusal(operation, record, left))
    }

    /// An instance was lost by one of these; whether it is certain that it was. Only then it is put
    /// into quarantine: who was beside others gets a chance alone.
    pub(super) fn lost(&self, suspects: &[Suspect], certain: bool, why: &str, now: Instant) {
        let mut records = self.lock();
        for Suspect { operation, transaction } in suspects {
            make_room(&mut records, operation, now);
            let record = records.entry(*operation).or_insert_with(|| Record::new(now));
            record.losses += 1;
            (record.last, record.transaction) = (now, *transaction);
            record.why = why.to_owned();
            let proven = certain && record.losses >= LOSSES && !self.time.is_zero();
            if proven && record.until.is_none_or(|until| until <= now) {
                record.until = Some(now + self.time);
                self.tell(operation, record);
            }
        }
        self.counted(&records);
    }

    /// An operation was answered while it was alone.
    pub(super) fn cleared(&self, operation: &Operation) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut records = self.lock();
            records.remove(operation);
            self.counted(&records);
        }
    }

    /// Forgets what is long ago, and counts what is in quarantine.
    pub(super) fn tidy(&self, now: Instant) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut records = self.lock();
            records.retain(|_, record| !record.over(now));
            self.counted(&records);
            self.measured(&records, now);
        }
    }

    /// What is in quarantine, in the order of accounts.
    pub(super) fn shown(&self, now: Instant) -> Vec<Quarantined> {
        let records = self.lock();
        let shown = records.iter().filter_map(|(operation, record)| {
            let left = record.until?.checked_duration_since(now)?;
            Some(Quarantined {
                account: operation.account.to_string(),
                operation: operation.verb.to_string(),
                transaction: record.transaction.to_string(),
                why: record.why.clone(),
                losses: record.losses,
                refused: record.refused,
                seconds_left: left.as_secs(),
            })
        });
        let mut shown: Vec<_> = shown.collect();
        shown.sort_by(|a, b| (&a.account, &a.operation).cmp(&(&b.account, &b.operation)));
        shown
    }

    fn tell(&self, operation: &Operation, record: &Record) {
        let (component, why) = (&*self.component, record.why.as_str());
        let (account, transaction) = (operation.account, record.transaction);
        let (losses, seconds) = (record.losses, self.time.as_secs());
        let operation = operation.verb.to_string();
        tracing::warn!(
            component, %account, operation, %transaction, losses, seconds, why,
            "an operation has cost several store instances and is refused for a time"
        );
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Operation, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self, records: &HashMap<Operation, Record>) {
        self.count.store(records.len(), Ordering::Release);
        self.measured(records, Instant::now());
    }

    fn measured(&self, records: &HashMap<Operation, Record>, now: Instant) {
        let in_it = |record: &&Record| record.until.is_some_and(|until| now < until);
        let count = records.values().filter(in_it).count();
        let component = self.component.to_string();
        metrics::gauge!("postroom_guest_quarantined", "component" => component).set(count as f64);
    }
}

impl Record {
    fn new(now: Instant) -> Self {
        let (transaction, why) = (TransactionId([0; 16]), String::new());
        Self { losses: 0, last: now, transaction, why, until: None, refused: 0 }
    }
}

/// The error of an operation in quarantine. For a mail client it is permanent, an error within the
/// server; an MTA keeps its mail, because the fault is not the mail's.
fn refusal(operation: &Operation, record: &Record, left: Duration) -> StoreError {
    let Record { losses, why, .. } = record;
    let (verb, account, seconds) =
        (operation.verb, operation.account, left.as_millis().div_ceil(1000));
    StoreError::Broken(format!(
        "{verb} of account {account} is refused for {seconds} s: it has cost {losses} store instances ({why})"
    ))
}

/// Lets one more in: the one whose loss is longest ago goes.
fn make_room(records: &mut HashMap<Operation, Record>, operation: &Operation, now: Instant) {
    if records.len() < MAX_OPERATIONS || records.contains_key(operation) {
        return;
    }
    records.retain(|_, record| !record.over(now));
    if records.len() >= MAX_OPERATIONS {
        let oldest = records.iter().min_by_key(|(_, record)| (record.until, record.last));
        if let Some(oldest) = oldest.map(|(operation, _)| *operation) {
            records.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(300);

    fn suspect(account: u128) -> Suspect {
        let verb = Verb { interface: "messages", name: "fetch" };
        let (account, subject) = (AccountId::from_u128(account), Subject::of("m1"));
        let transaction = TransactionId::from_u128(7);
        Suspect { operation: Operation { account, verb, subject }, transaction }
    }

    fn table() -> Quarantine {
        Quarantine::new("test".into(), TIME)
    }

    /// What the table says of an account's operation at a time, in one word.
    fn standing(table: &Quarantine, account: u128, now: Instant) -> &'static str {
        match table.standing(&suspect(account).operation, now) {
            Standing::Free => "free",
            Standing::Alone => "alone",
            Standing::Refused(_) => "refused",
        }
    }

    #[test]
    fn the_second_loss_puts_an_operation_into_quarantine_and_time_lets_it_be_tried_again() {
        let (table, now) = (table(), Instant::now());
        assert_eq!(standing(&table, 1, now), "free");
        table.lost(&[suspect(1)], true, "a trap", now);
        assert_eq!(standing(&table, 1, now), "alone");
        table.lost(&[suspect(1)], true, "a trap", now);
        assert_eq!(standing(&table, 1, now), "refused");
        assert_eq!(standing(&table, 2, now), "free");
        assert_eq!(standing(&table, 1, now + TIME), "alone");
        table.lost(&[suspect(1)], true, "a trap", now + TIME);
        assert_eq!(standing(&table, 1, now + TIME), "refused");
    }

    #[test]
    fn after_a_long_quarantine_it_is_tried_alone_too() {
        let (time, now) = (2 * MEMORY, Instant::now());
        let table = Quarantine::new("test".into(), time);
        (0..2).for_each(|_| table.lost(&[suspect(1)], true, "a trap", now));
        assert_eq!(standing(&table, 1, now + time - Duration::from_secs(1)), "refused");
        table.tidy(now + time);
        assert_eq!(standing(&table, 1, now + time), "alone");
        assert_eq!(standing(&table, 1, now + time + MEMORY), "free");
    }

    #[test]
    fn another_subject_of_the_same_account_is_free() {
        let (table, now) = (table(), Instant::now());
        let mut other = suspect(1).operation;
        other.subject = Subject::of("m2");
        (0..2).for_each(|_| table.lost(&[suspect(1)], true, "a trap", now));
        assert_eq!(table.standing(&other, now), Standing::Free);
        other = suspect(1).operation;
        other.verb.name = "select";
        assert_eq!(table.standing(&other, now), Standing::Free);
    }

    #[test]
    fn who_is_only_beside_a_loss_is_never_refused_and_cleared_by_an_answer() {
        let (table, now) = (table(), Instant::now());
        (0..5).for_each(|_| table.lost(&[suspect(1), suspect(2)], false, "a trap", now));
        assert_eq!((standing(&table, 1, now), standing(&table, 2, now)), ("alone", "alone"));
        table.cleared(&suspect(1).operation);
        table.lost(&[suspect(2)], true, "a trap", now);
        assert_eq!((standing(&table, 1, now), standing(&table, 2, now)), ("free", "refused"));
    }

    #[test]
    fn a_loss_long_ago_is_forgotten() {
        let (table, now) = (table(), Instant::now());
        table.lost(&[suspect(1)], true, "a trap", now);
        table.tidy(now + MEMORY - Duration::from_secs(1));
        assert_eq!(standing(&table, 1, now), "alone");
        assert_eq!(standing(&table, 1, now + MEMORY), "free");
        table.lost(&[suspect(1)], true, "a trap", now + MEMORY);
        assert_eq!(standing(&table, 1, now + MEMORY), "alone");
    }

    #[test]
    fn a_refusal_names_the_operation_and_the_reason_and_operators_see_it() {
        let (table, now) = (table(), Instant::now());
        (0..2).for_each(|_| table.lost(&[suspect(1)], true, "a trap", now));
        let Standing::Refused(error) = table.standing(&suspect(1).operation, now) else { panic!() };
        let text = error.to_string();
        for part in ["messages fetch", "0001", "300 s", "2 store instances", "a trap"] {
            assert!(text.contains(part), "{text}");
        }
        let shown = table.shown(now);
        assert_eq!(shown.len(), 1);
        assert_eq!((shown[0].operation.as_str(), shown[0].refused), ("messages fetch", 1));
        assert_eq!(table.shown(now + TIME + Duration::from_secs(1)), []);
    }

    #[test]
    fn the_table_is_bounded_and_what_is_in_quarantine_stays_longest() {
        let (table, now) = (table(), Instant::now());
        (0..2).for_each(|_| table.lost(&[suspect(1)], true, "a trap", now));
        let later = now + Duration::from_secs(1);
        for account in 2..=2 * MAX_OPERATIONS as u128 {
            table.lost(&[suspect(account)], true, "a trap", later);
        }
        assert_eq!(table.lock().len(), MAX_OPERATIONS);
        assert_eq!(standing(&table, 1, later), "refused");
    }

    #[test]
    fn without_a_time_nothing_is_refused() {
        let (table, now) = (Quarantine::new("test".into(), Duration::ZERO), Instant::now());
        (0..9).for_each(|_| table.lost(&[suspect(1)], true, "a trap", now));
        assert_eq!(standing(&table, 1, now), "alone");
        assert_eq!(table.shown(now), []);
    }

    #[test]
    fn the_order_and_all_of_the_first_names_make_the_subject() {
        assert_eq!(Subject::of_each(["a", "b"]), Subject::of_each(["a", "b"]));
        assert_ne!(Subject::of_each(["a", "b"]), Subject::of_each(["b", "a"]));
        assert_ne!(Subject::of_each(["ab", "c"]), Subject::of_each(["a", "bc"]));
        assert_ne!(Subject::of("a"), Subject::default());
    }
}
