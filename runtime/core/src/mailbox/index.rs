//! What an open mailbox knows of its messages: 64 octets each, in chunks that snapshots share.
//!
//! A clone costs one pointer a chunk, so that a reader keeps a consistent snapshot while the next
//! batch is planned on a clone of its own; a change copies the chunks that it touches.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::types::{MessageId, ModSeq, SystemFlag, ThreadId, Timestamp, Uid, UidSet};

use super::limits::MAX_MESSAGE_OCTETS;

/// Entries in one chunk: 16 KiB, what a change of one message copies.
const CHUNK: usize = 256;

/// What the index knows of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its number.
    pub uid: Uid,
    /// Of its last change.
    pub modseq: ModSeq,
    /// System flags, as bits.
    pub system: u8,
    /// Keywords, as bits of the mailbox's keyword table.
    pub keywords: u64,
    /// INTERNALDATE.
    pub internal_date: Timestamp,
    /// When it came into the mailbox; kept between 1970 and 2106.
    pub save_date: i64,
    /// Octets.
    pub size: u64,
    /// EMAILID.
    pub message_id: MessageId,
    /// THREADID.
    pub thread_id: ThreadId,
}

impl Facts {
    /// Whether it has a system flag.
    pub fn has(&self, flag: SystemFlag) -> bool {
        self.system & flag as u8 != 0
    }
}

/// A message, packed. Seconds of INTERNALDATE take 40 bits (some 17,000 years each way), its zone
/// 12, the system flags the low 5 of what is left; keywords beyond the table's first 32 are kept
/// apart by the chunk.
#[derive(Clone, Copy)]
struct Entry {
    message_id: [u8; 16],
    thread_id: [u8; 16],
    modseq: u64,
    date: u64,
    uid: u32,
    size: u32,
    save_date: u32,
    keywords: u32,
}

const _: () = assert!(size_of::<Entry>() == 64);

const SECONDS_MAX: i64 = (1 << 39) - 1;
const ZONE_MAX: i16 = 1439;

fn pack_date(date: Timestamp, system: u8) -> u64 {
    let seconds = date.seconds.clamp(-SECONDS_MAX, SECONDS_MAX) as u64 & ((1 << 40) - 1);
    let zone = (date.offset_minutes.clamp(-ZONE_MAX, ZONE_MAX) + 2048) as u64;
    seconds << 24 | zone << 12 | u64::from(system & 0x1f)
}

fn unpack_date(date: u64) -> (Timestamp, u8) {
    // The shift of the signed number brings the sign of the 40-bit seconds back.
    let seconds = date as i64 >> 24;
    let zone = (date >> 12 & 0xfff) as i16 - 2048;
    (Timestamp { seconds, offset_minutes: zone }, (date & 0x1f) as u8)
}

/// At most [`CHUNK`] entries, ascending by UID, never empty while in an index.
#[derive(Clone, Default)]
struct Chunk {
    entries: Vec<Entry>,
    /// Keyword bits 32 to 63 of each entry; empty while none has any.
    high: Vec<u32>,
    /// The highest mod-sequence of its entries (or a higher one, after removals).
    max_modseq: u64,
}

impl Chunk {
    fn push(&mut self, facts: &Facts) {
        self.entries.push(Entry {
            message_id: facts.message_id.0,
            thread_id: facts.thread_id.0,
            modseq: facts.modseq.0,
            date: pack_date(facts.internal_date, facts.system),
            uid: facts.uid.get(),
            size: facts.size as u32,
            save_date: facts.save_date.clamp(0, i64::from(u32::MAX)) as u32,
            keywords: 0,
        });
        if !self.high.is_empty() {
            self.high.push(0);
        }
        self.set_keywords(self.entries.len() - 1, facts.keywords);
        self.max_modseq = self.max_modseq.max(facts.modseq.0);
    }

    fn set_keywords(&mut self, at: usize, keywords: u64) {
        self.entries[at].keywords = keywords as u32;
        let high = (keywords >> 32) as u32;
        if high != 0 && self.high.is_empty() {
            self.high = vec![0; self.entries.len()];
        }
        if !self.high.is_empty() {
            self.high[at] = high;
        }
    }

    fn keywords(&self, at: usize) -> u64 {
        let high = self.high.get(at).copied().unwrap_or(0);
        u64::from(high) << 32 | u64::from(self.entries[at].keywords)
    }

    fn facts(&self, at: usize) -> Facts {
        let entry = &self.entries[at];
        let (internal_date, system) = unpack_date(entry.date);
        Facts {
            uid: Uid::new(entry.uid).expect("made from a Uid"),
            modseq: ModSeq(entry.modseq),
            system,
            keywords: self.keywords(at),
            internal_date,
            save_date: i64::from(entry.save_date),
            size: u64::from(entry.size),
            message_id: MessageId(entry.message_id),
            thread_id: ThreadId(entry.thread_id),
        }
    }

    fn first(&self) -> u32 {
        self.entries[0].uid
    }

    fn last(&self) -> u32 {
        self.entries[self.entries.len() - 1].uid
    }

    /// The chunk without the entries of these UIDs (ascending), which are handed to `removed`.
    fn without(&self, uids: &[Uid], removed: &mut Vec<Facts>) -> Self {
        let mut left = Self::default();
        for at in 0..self.entries.len() {
            let facts = self.facts(at);
            match uids.binary_search(&facts.uid) {
                Ok(_) => removed.push(facts),
                Err(_) => left.push(&facts),
            }
        }
        left
    }
}

/// The messages of an open mailbox, ascending by UID.
#[derive(Clone, Default)]
pub struct Index {
    chunks: Vec<Arc<Chunk>>,
    len: usize,
}

impl Index {
    /// Messages in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a message after the last one.
    ///
    /// # Errors
    /// `Damaged` when its UID does not rise or its size is beyond [`MAX_MESSAGE_OCTETS`]: what a
    /// store lists may be anything.
    pub fn push(&mut self, facts: &Facts) -> Result<(), StoreError> {
        let last = self.chunks.last().map_or(0, |chunk| chunk.last());
        if facts.uid.get() <= last {
            return Err(StoreError::Damaged(format!("UID {} follows UID {last}", facts.uid)));
        }
        if facts.size > MAX_MESSAGE_OCTETS {
            return Err(StoreError::Damaged(format!("UID {} is too large", facts.uid)));
        }
        match self.chunks.last_mut() {
            Some(chunk) if chunk.entries.len() < CHUNK => Arc::make_mut(chunk).push(facts),
            _ => {
                let mut chunk = Chunk::default();
                chunk.push(facts);
                self.chunks.push(Arc::new(chunk));
            }
        }
        self.len += 1;
        Ok(())
    }

    /// The message of this UID.
    pub fn get(&self, uid: Uid) -> Option<Facts> {
        let (chunk, at) = self.find(uid)?;
        Some(self.chunks[chunk].facts(at))
    }

    fn find(&self, uid: Uid) -> Option<(usize, usize)> {
        let chunk = self.chunks.partition_point(|chunk| chunk.last() < uid.get());
        let entries = &self.chunks.get(chunk)?.entries;
        let at = entries.binary_search_by_key(&uid.get(), |entry| entry.uid).ok()?;
        Some((chunk, at))
    }

    /// Sets the flags and the mod-sequence of a message that is there.
    pub fn reflag(&mut self, uid: Uid, system: u8, keywords: u64, modseq: ModSeq) {
        let Some((chunk, at)) = self.find(uid) else { return };
        let chunk = Arc::make_mut(&mut self.chunks[chunk]);
        let entry = &mut chunk.entries[at];
        entry.modseq = modseq.0;
        entry.date = entry.date & !0x1f | u64::from(system & 0x1f);
        chunk.set_keywords(at, keywords);
        chunk.max_modseq = chunk.max_modseq.max(modseq.0);
    }

    /// Takes messages out (`uids` ascending); returns what was known of those that were there.
    pub fn remove(&mut self, uids: &[Uid]) -> Vec<Facts> {
        let mut removed = Vec::with_capacity(uids.len());
        for chunk in &mut self.chunks {
            let from = uids.partition_point(|uid| uid.get() < chunk.first());
            let to = uids.partition_point(|uid| uid.get() <= chunk.last());
            if from < to {
                *chunk = Arc::new(chunk.without(&uids[from..to], &mut removed));
            }
        }
        self.len -= removed.len();
        self.tidy();
        removed
    }

    /// Drops empty chunks and joins neighbours that fit into one, so that a mailbox in which most
    /// was removed does not keep a chunk for each message.
    fn tidy(&mut self) {
        let mut chunks: Vec<Arc<Chunk>> = Vec::with_capacity(self.chunks.len());
        for chunk in self.chunks.drain(..).filter(|chunk| !chunk.entries.is_empty()) {
            match chunks.last_mut() {
                Some(last) if last.entries.len() + chunk.entries.len() <= CHUNK / 2 => {
                    let joined = Arc::make_mut(last);
                    (0..chunk.entries.len()).for_each(|at| joined.push(&chunk.facts(at)));
                }
                _ => chunks.push(chunk),
            }
        }
        self.chunks = chunks;
    }

    /// All messages, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Facts> + '_ {
        self.chunks.iter().flat_map(|chunk| (0..chunk.entries.len()).map(|at| chunk.facts(at)))
    }

    /// Messages from one UID to another, both included, ascending.
    pub fn range(&self, first: Uid, last: Uid) -> impl Iterator<Item = Facts> + '_ {
        let start = self.chunks.partition_point(|chunk| chunk.last() < first.get());
        self.chunks[start..].iter().take_while(move |chunk| chunk.first() <= last.get()).flat_map(
            move |chunk| {
                let from = chunk.entries.partition_point(|entry| entry.uid < first.get());
                let to = chunk.entries.partition_point(|entry| entry.uid <= last.get());
                (from..to).map(|at| chunk.facts(at))
            },
        )
    }

    /// Messages of a set, ascending.
    pub fn matching<'a>(&'a self, uids: &'a UidSet) -> impl Iterator<Item = Facts> + 'a {
        uids.ranges().iter().flat_map(|&(first, last)| self.range(first, last))
    }

    /// Messages changed (or added) after a mod-sequence, ascending by UID.
    pub fn since(&self, modseq: ModSeq) -> impl Iterator<Item = Facts> + '_ {
        self.chunks
            .iter()
            .filter(move |chunk| chunk.max_modseq > modseq.0)
            .flat_map(|chunk| (0..chunk.entries.len()).map(|at| chunk.facts(at)))
            .filter(move |facts| facts.modseq > modseq)
    }

    /// Messages from this UID on.
    pub fn count_from(&self, uid: Uid) -> u32 {
        let whole = self.chunks.partition_point(|chunk| chunk.last() < uid.get());
        let count = |chunk: &Arc<Chunk>| {
            chunk.entries.len() - chunk.entries.partition_point(|entry| entry.uid < uid.get())
        };
        self.chunks[whole..].iter().map(count).sum::<usize>() as u32
    }

    /// The keywords that any message has, as bits.
    pub fn keywords_in_use(&self) -> u64 {
        self.chunks.iter().fold(0, |bits, chunk| {
            (0..chunk.entries.len()).fold(bits, |bits, at| bits | chunk.keywords(at))
        })
    }

    /// The first message without `\Seen`.
    pub fn first_unseen(&self) -> Option<Uid> {
        self.iter().find(|facts| !facts.has(SystemFlag::Seen)).map(|facts| facts.uid)
    }
}

impl PartialEq for Index {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn uid(number: u32) -> Uid {
        Uid::new(number).unwrap()
    }

    fn facts(number: u32, modseq: u64) -> Facts {
        Facts {
            uid: uid(number),
            modseq: ModSeq(modseq),
            system: (number % 32) as u8,
            keywords: u64::from(number) << (number % 40),
            internal_date: Timestamp {
                seconds: i64::from(number) * 1_000_003 - 60_000_000_000,
                offset_minutes: (number as i16 % 1439)
                    * if number.is_multiple_of(2) { 1 } else { -1 },
            },
            save_date: i64::from(number),
            size: u64::from(number) * 7,
            message_id: MessageId::from_u128(u128::from(number)),
            thread_id: ThreadId::from_u128(u128::from(number) << 64),
        }
    }

    #[derive(Clone, Debug)]
    enum Change {
        Push(u32),
        Reflag(u32, u8, u64),
        Remove(Vec<u32>),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            3 => (1u32..4).prop_map(Change::Push),
            2 => (1u32..900, 0u8..32, any::<u64>()).prop_map(|(u, s, k)| Change::Reflag(u, s, k)),
            1 => prop::collection::vec(1u32..900, 1..60).prop_map(Change::Remove),
        ]
    }

    fn run(index: &mut Index, model: &mut BTreeMap<u32, Facts>, change: Change, modseq: u64) {
        match change {
            Change::Push(count) => {
                for _ in 0..count * 40 {
                    let next = model.keys().last().map_or(1, |last| last + 1 + modseq as u32 % 2);
                    index.push(&facts(next, modseq)).unwrap();
                    model.insert(next, facts(next, modseq));
                }
            }
            Change::Reflag(number, system, keywords) => {
                index.reflag(uid(number), system, keywords, ModSeq(modseq));
                if let Some(row) = model.get_mut(&number) {
                    (row.system, row.keywords, row.modseq) = (system, keywords, ModSeq(modseq));
                }
            }
            Change::Remove(mut numbers) => {
                numbers.sort_unstable();
                numbers.dedup();
                let uids: Vec<Uid> = numbers.iter().map(|n| uid(*n)).collect();
                let expected: Vec<Facts> = numbers.iter().filter_map(|n| model.remove(n)).collect();
                assert_eq!(index.remove(&uids), expected);
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_map(changes in prop::collection::vec(change(), 1..40)) {
            let (mut index, mut model) = (Index::default(), BTreeMap::new());
            for (at, change) in changes.into_iter().enumerate() {
                let snapshot = index.clone();
                let before: Vec<Facts> = model.values().copied().collect();
                run(&mut index, &mut model, change, at as u64 + 1);
                prop_assert_eq!(snapshot.iter().collect::<Vec<_>>(), before);
            }
            prop_assert_eq!(index.len(), model.len());
            prop_assert_eq!(index.iter().collect::<Vec<_>>(), model.values().copied().collect::<Vec<_>>());
            let since: Vec<Facts> = model.values().filter(|f| f.modseq.0 > 9).copied().collect();
            prop_assert_eq!(index.since(ModSeq(9)).collect::<Vec<_>>(), since);
            let range: Vec<Facts> = model.range(100..=333).map(|(_, f)| *f).collect();
            prop_assert_eq!(index.range(uid(100), uid(333)).collect::<Vec<_>>(), range);
            prop_assert_eq!(index.count_from(uid(200)) as usize, model.range(200..).count());
            for number in 1..900 {
                prop_assert_eq!(index.get(uid(number)), model.get(&number).copied());
            }
        }
    }

    #[test]
    fn a_list_that_goes_back_is_damage() {
        let mut index = Index::default();
        index.push(&facts(5, 1)).unwrap();
        assert!(matches!(index.push(&facts(5, 1)), Err(StoreError::Damaged(_))));
        assert!(matches!(index.push(&facts(4, 1)), Err(StoreError::Damaged(_))));
    }

    #[test]
    fn dates_keep_their_zone_and_what_lies_before_1970() {
        for seconds in [-62_167_219_200, -1, 0, 1, 253_402_300_799] {
            for offset_minutes in [-1439, -1, 0, 1, 1439] {
                let date = Timestamp { seconds, offset_minutes };
                assert_eq!(unpack_date(pack_date(date, 0x15)), (date, 0x15));
            }
        }
    }
}
