//! The last that a store's components have printed on this node, and the last that happened to them:
//! what an operator looks at when a version behaves oddly, without the node's own log at hand.
//!
//! Two rings a store, because a component that prints without end must not push out why it was fenced.
//! Writing never waits for a reader longer than one copy of the rings takes, and never fails.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Printed lines that a store remembers: some screens full.
const MAX_PRINTED: usize = 2000;
/// Octets of text in them: what one store may cost in memory, and an answer in JSON.
const MAX_PRINTED_OCTETS: usize = 256 << 10;
/// Events that a store remembers: days of deployments, or some minutes of an instance lost each second.
const MAX_EVENTS: usize = 500;
/// Octets of text in them.
const MAX_EVENT_OCTETS: usize = 128 << 10;
/// Longest text of one entry, in octets: that of a line in the node's log. The rest is dropped.
const MAX_TEXT_OCTETS: usize = 1024;

/// What an entry tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A line on standard output.
    Stdout,
    /// A line on standard error.
    Stderr,
    /// Something that happened to the component, or was decided about it.
    Event,
}

impl What {
    /// In one word: `stdout`, `stderr`, `event`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Event => "event",
        }
    }
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counts the entries of the store since the node started, from 1.
    pub number: u64,
    /// When, in milliseconds since the Unix epoch, by the node's clock.
    pub at_ms: i64,
    /// The generation that it is about; none: the component does not serve yet.
    pub generation: Option<u64>,
    /// What that runs, for people.
    pub version: Arc<str>,
    /// The instance that has printed it.
    pub instance: Option<u64>,
    /// What it tells of.
    pub what: What,
    /// One line.
    pub text: String,
}

/// The journals of a node, by store.
#[derive(Clone, Debug, Default)]
pub(super) struct Journals(Arc<Mutex<BTreeMap<String, Arc<Journal>>>>);

impl Journals {
    /// A store's. Names come from the configuration, so there are few.
    pub(super) fn of(&self, store: &str) -> Arc<Journal> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(store.to_owned()).or_default().clone()
    }
}

/// The journal of one store.
#[derive(Debug)]
pub struct Journal {
    began_ms: i64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    printed: Ring,
    events: Ring,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    octets: usize,
}

/// What has been written after a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// When the journal began, in milliseconds since the Unix epoch: another one counts anew.
    pub began_ms: i64,
    /// In their order.
    pub entries: Vec<Entry>,
    /// Entries after that number that are forgotten already.
    pub forgotten: u64,
    /// The number of the last one that was written, whether it is remembered or not.
    pub last: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self { began_ms: now_ms(), state: Mutex::default() }
    }
}

impl Journal {
    /// Something was decided about a version, or happened to it.
    pub fn event(&self, version: &str, text: &str) {
        self.add(What::Event, None, version.into(), None, text);
    }

    /// All that is remembered with a number above this one; 0: all.
    pub fn after(&self, number: u64) -> Written {
        let state = self.lock();
        let rings = [&state.printed, &state.events];
        let kept = rings.iter().flat_map(|ring| &ring.entries);
        let mut entries: Vec<Entry> = kept.filter(|entry| entry.number > number).cloned().collect();
        let last = state.last;
        drop(state);
        entries.sort_by_key(|entry| entry.number);
        let forgotten = last.saturating_sub(number).saturating_sub(entries.len() as u64);
        Written { began_ms: self.began_ms, entries, forgotten, last }
    }

    fn add(
        &self,
        what: What,
        generation: Option<u64>,
        version: Arc<str>,
        instance: Option<u64>,
        text: &str,
    ) {
        let (text, at_ms) = (one_line(text), now_ms());
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        let entry = Entry { number, at_ms, generation, version, instance, what, text };
        match what {
            What::Stdout | What::Stderr => {
                state.printed.push(entry, MAX_PRINTED, MAX_PRINTED_OCTETS);
            }
            What::Event => state.events.push(entry, MAX_EVENTS, MAX_EVENT_OCTETS),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, entry: Entry, most: usize, most_octets: usize) {
        self.octets += entry.text.len();
        self.entries.push_back(entry);
        while self.entries.len() > most || self.octets > most_octets {
            let Some(gone) = self.entries.pop_front() else { return };
            self.octets -= gone.text.len();
        }
    }
}

/// Writes what one loaded component prints, and what happens to it, with its version and generation.
#[derive(Clone, Debug)]
pub(super) struct Pen {
    journal: Arc<Journal>,
    version: Arc<str>,
    /// 0: it does not serve yet.
    generation: Arc<AtomicU64>,
}

impl Pen {
    pub(super) fn new(journal: Arc<Journal>, version: &str) -> Self {
        Self { journal, version: version.into(), generation: Arc::default() }
    }

    /// Where it writes.
    pub(super) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// From now on the component is this generation.
    pub(super) fn serves_as(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// A line of an instance on `stdout` or `stderr`.
    pub(super) fn printed(&self, stream: &str, instance: u64, text: &str) {
        let what = if stream == "stderr" { What::Stderr } else { What::Stdout };
        self.write(what, Some(instance), text);
    }

    /// Something happened to the component.
    pub(super) fn event(&self, text: &str) {
        self.write(What::Event, None, text);
    }

    fn write(&self, what: What, instance: Option<u64>, text: &str) {
        let generation = self.generation.load(Ordering::Relaxed);
        let generation = (generation > 0).then_some(generation);
        self.journal.add(what, generation, self.version.clone(), instance, text);
    }
}

/// Without control characters, which would let a guest drive a terminal; cut to its longest length.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + c.len_utf8() > MAX_TEXT_OCTETS {
            break;
        }
        line.push(c);
    }
    line
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pen() -> Pen {
        Pen::new(Journals::default().of("mail"), "keyed 1")
    }

    fn texts(written: &Written) -> Vec<&str> {
        written.entries.iter().map(|entry| entry.text.as_str()).collect()
    }

    #[test]
    fn entries_come_in_their_order_with_version_and_generation() {
        let pen = pen();
        pen.printed("stderr", 7, "starting");
        pen.serves_as(3);
        pen.event("serves");
        pen.printed("stdout", 8, "hello\u{1b}[2J\nworld");
        let all = pen.journal().after(0);
        assert_eq!(texts(&all), ["starting", "serves", "hello [2J world"]);
        let of = |at: usize| {
            let entry: &Entry = &all.entries[at];
            (entry.number, entry.generation, entry.instance, entry.what.name())
        };
        assert_eq!(of(0), (1, None, Some(7), "stderr"));
        assert_eq!(of(1), (2, Some(3), None, "event"));
        assert_eq!(of(2), (3, Some(3), Some(8), "stdout"));
        assert!(all.entries.iter().all(|entry| &*entry.version == "keyed 1"));
        assert_eq!((all.forgotten, all.last), (0, 3));
        assert_eq!(texts(&pen.journal().after(2)), ["hello [2J world"]);
        assert_eq!(texts(&pen.journal().after(3)), Vec::<&str>::new());
    }

    #[test]
    fn what_is_printed_without_end_is_bounded_and_pushes_no_event_out() {
        let pen = pen();
        pen.event("fenced");
        let lines = 10 * MAX_PRINTED as u64;
        for number in 0..lines {
            pen.printed("stdout", 1, &number.to_string());
        }
        let all = pen.journal().after(0);
        assert_eq!(all.entries.len(), MAX_PRINTED + 1);
        assert_eq!((all.entries[0].text.as_str(), all.last), ("fenced", lines + 1));
        assert_eq!(all.forgotten, lines - MAX_PRINTED as u64);
        assert_eq!(all.entries[MAX_PRINTED].text, (lines - 1).to_string());
        // Long ones are cut, and fewer of them are remembered.
        (0..MAX_PRINTED).for_each(|_| pen.printed("stderr", 1, &"ü".repeat(5000)));
        let long = pen.journal().after(all.last);
        assert_eq!(long.entries.len(), MAX_PRINTED_OCTETS / MAX_TEXT_OCTETS);
        assert!(long.entries.iter().all(|entry| entry.text.len() == MAX_TEXT_OCTETS));
    }

    #[test]
    fn events_are_bounded_too() {
        let pen = pen();
        (0..2 * MAX_EVENTS).for_each(|number| pen.event(&number.to_string()));
        assert_eq!(pen.journal().after(0).entries.len(), MAX_EVENTS);
        (0..MAX_EVENTS).for_each(|_| pen.event(&"x".repeat(5000)));
        let all = pen.journal().after(0);
        assert_eq!(all.entries.len(), MAX_EVENT_OCTETS / MAX_TEXT_OCTETS);
    }

    #[test]
    fn each_store_has_its_own() {
        let journals = Journals::default();
        journals.of("mail").event("keyed 1", "begun");
        assert_eq!(journals.of("mail").after(0).entries.len(), 1);
        assert_eq!(journals.of("hooks").after(0).entries.len(), 0);
    }
}
