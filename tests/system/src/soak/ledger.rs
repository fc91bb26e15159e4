//! What clients were told, and whether it is so: the checker. It asks nothing; who uses it says what was begun,
//! what was answered, what was seen, and in the end what is there.
//!
//! An *attempt* is one message that a client wanted kept, with a name of its own in its header. A *place* is a UID
//! of a mailbox. An attempt may be in as many places as were asked for, and never in one more: each request gives
//! one *credit* for its mailbox, and whatever turns up there takes one. A request whose answer never came, or was
//! "not now", may have had its effect: its credit stays.

use std::collections::BTreeMap;

/// A mailbox of an account.
pub type Mailbox = &'static str;
/// Where a message is.
pub type Place = (Mailbox, u32);

/// Most sentences about what is wrong that are kept: the first ones say most.
pub const MAX_WRONG: usize = 200;

/// One account's.
#[derive(Default)]
pub struct Ledger {
    attempts: BTreeMap<String, Attempt>,
    meaning: BTreeMap<Place, String>,
    largest: BTreeMap<Mailbox, u32>,
    wrong: Vec<String>,
    more_wrong: u64,
}

#[derive(Default)]
struct Attempt {
    places: BTreeMap<Place, State>,
    /// How often it may still turn up in a mailbox.
    credits: BTreeMap<Mailbox, u32>,
    /// A delivery was acknowledged. Where it is, nobody has said.
    delivered: bool,
    /// Its client heard nothing, or "not now".
    unknown: bool,
    /// That client was an MTA, which comes again.
    by_mta: bool,
}

/// What is known of a message at its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// Acknowledged, or seen.
    acknowledged: bool,
    presence: Presence,
    /// Whether \Flagged is set, where that is known.
    flagged: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Presence {
    #[default]
    There,
    /// Its removal was asked for, and never acknowledged.
    PerhapsGone,
    Gone,
}

/// A message that is there in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub place: Place,
    /// Which attempt's.
    pub attempt: String,
    /// Whether it has \Flagged.
    pub flagged: bool,
}

/// The numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Attempts.
    pub attempts: u64,
    /// Places that were acknowledged: appended, delivered, copied, moved.
    pub acknowledged: u64,
    /// Of these: there.
    pub present: u64,
    /// Of these: removed or moved by a client, and not there.
    pub removed: u64,
    /// Of these: a removal was asked for and not answered, and it is not there.
    pub perhaps_removed: u64,
    /// Appended without an answer, and there: allowed, once.
    pub unacknowledged_present: u64,
    /// Delivered without a 250, and there: allowed, once.
    pub unacknowledged_deliveries: u64,
}

impl Count {
    /// Those of another account too.
    pub fn add(&mut self, other: Self) {
        self.attempts += other.attempts;
        self.acknowledged += other.acknowledged;
        self.present += other.present;
        self.removed += other.removed;
        self.perhaps_removed += other.perhaps_removed;
        self.unacknowledged_present += other.unacknowledged_present;
        self.unacknowledged_deliveries += other.unacknowledged_deliveries;
    }
}

impl Ledger {
    /// A request begins that puts an attempt into a mailbox. Comes back with the largest UID so far: what it is
    /// given must be larger.
    pub fn begin(&mut self, attempt: &str, mailbox: Mailbox) -> u32 {
        let entry = self.attempts.entry(attempt.to_owned()).or_default();
        *entry.credits.entry(mailbox).or_default() += 1;
        self.largest.get(mailbox).copied().unwrap_or(0)
    }

    /// Its answer was a UID.
    pub fn put(&mut self, attempt: &str, place: Place, largest_before: u32) {
        if place.1 <= largest_before {
            self.wrong(format!("{attempt} got UID {place:?} after {largest_before}"));
        }
        self.locate(attempt, place);
        let largest = self.largest.entry(place.0).or_default();
        *largest = place.1.max(*largest);
        if let Some(entry) = self.attempts.get_mut(attempt) {
            entry.places.entry(place).or_default().acknowledged = true;
        }
    }

    /// Its answer was 250, which says no UID.
    pub fn delivered(&mut self, attempt: &str) {
        self.attempts.entry(attempt.to_owned()).or_default().delivered = true;
    }

    /// Its answer was "not now", or none.
    pub fn unknown(&mut self, attempt: &str) {
        self.attempts.entry(attempt.to_owned()).or_default().unknown = true;
    }

    /// An MTA's answer was "not now", or none. It may deliver again, as another attempt: what is there of this one
    /// is counted apart.
    pub fn unknown_delivery(&mut self, attempt: &str) {
        let entry = self.attempts.entry(attempt.to_owned()).or_default();
        (entry.unknown, entry.by_mta) = (true, true);
    }

    /// A client has seen a message of this attempt there.
    pub fn seen(&mut self, attempt: &str, place: Place) {
        self.locate(attempt, place);
    }

    /// A removal is asked for. From now on it may be gone.
    pub fn removing(&mut self, attempt: &str, place: Place) {
        self.presence(attempt, place, Presence::PerhapsGone);
    }

    /// It was acknowledged.
    pub fn removed(&mut self, attempt: &str, place: Place) {
        self.presence(attempt, place, Presence::Gone);
    }

    /// \Flagged was set or cleared and acknowledged; `None`: asked for, and nothing more is known.
    pub fn flagged(&mut self, attempt: &str, place: Place, flagged: Option<bool>) {
        if let Some(entry) = self.attempts.get_mut(attempt) {
            entry.places.entry(place).or_default().flagged = flagged;
        }
    }

    fn presence(&mut self, attempt: &str, place: Place, presence: Presence) {
        if let Some(entry) = self.attempts.get_mut(attempt) {
            entry.places.entry(place).or_default().presence = presence;
        }
    }

    fn locate(&mut self, attempt: &str, place: Place) {
        if let Some(meant) = self.meaning.insert(place, attempt.to_owned())
            && meant != attempt
        {
            self.wrong(format!("{place:?} means {meant} and {attempt}"));
        }
        let Some(entry) = self.attempts.get_mut(attempt) else {
            return self.wrong(format!("{attempt} at {place:?} was never sent"));
        };
        if entry.places.contains_key(&place) {
            return;
        }
        entry.places.insert(place, State::default());
        match entry.credits.get_mut(place.0).filter(|credit| **credit > 0) {
            Some(credit) => *credit -= 1,
            None => {
                let places = entry.places.keys().collect::<Vec<_>>();
                let sentence =
                    format!("{attempt} is there more often than it was sent: {places:?}");
                self.wrong(sentence);
            }
        }
    }

    /// Something is wrong.
    pub fn wrong(&mut self, sentence: String) {
        match self.wrong.len() < MAX_WRONG {
            true => self.wrong.push(sentence),
            false => self.more_wrong += 1,
        }
    }

    /// Holds all of it against what is there in the end: the numbers, and what is wrong.
    pub fn check(&mut self, found: &[Found]) -> (Count, Vec<String>) {
        let mut there = BTreeMap::new();
        for message in found {
            self.locate(&message.attempt, message.place);
            if there.insert(message.place, message).is_some() {
                self.wrong(format!("{:?} is there twice", message.place));
            }
        }
        let mut count = Count::default();
        let mut wrong = Vec::new();
        for (name, attempt) in &self.attempts {
            attempt.check(name, &there, &mut count, &mut wrong);
        }
        wrong.into_iter().for_each(|sentence| self.wrong(sentence));
        let mut all = std::mem::take(&mut self.wrong);
        if self.more_wrong > 0 {
            all.push(format!("and {} more", self.more_wrong));
        }
        (count, all)
    }
}

impl Attempt {
    fn check(
        &self,
        name: &str,
        there: &BTreeMap<Place, &Found>,
        count: &mut Count,
        wrong: &mut Vec<String>,
    ) {
        count.attempts += 1;
        // Where a delivery is, somebody may have seen.
        let mut origin = self.delivered;
        for (place, state) in &self.places {
            let acknowledged = state.acknowledged || std::mem::take(&mut origin);
            count.acknowledged += u64::from(acknowledged);
            let (known, found) = (u64::from(acknowledged), there.get(place));
            match (state.presence, found) {
                (Presence::There | Presence::PerhapsGone, Some(_)) if acknowledged => {
                    count.present += 1;
                }
                (Presence::There | Presence::PerhapsGone, Some(_)) => {
                    let unknown = u64::from(self.unknown);
                    match self.by_mta {
                        true => count.unacknowledged_deliveries += unknown,
                        false => count.unacknowledged_present += unknown,
                    }
                }
                (Presence::There, None) => wrong.push(format!("{name} at {place:?} is lost")),
                (Presence::PerhapsGone, None) => count.perhaps_removed += known,
                (Presence::Gone, None) => count.removed += known,
                (Presence::Gone, Some(_)) => {
                    wrong.push(format!("{name} at {place:?} was removed and is there"));
                }
            }
            if let (Some(expected), Some(found)) = (state.flagged, found)
                && found.flagged != expected
            {
                wrong.push(format!("{name} at {place:?}: \\Flagged should be {expected}"));
            }
        }
        if origin {
            count.acknowledged += 1;
            wrong.push(format!("{name} was delivered and is lost"));
        }
    }
}

#[cfg(test)]
mod tests;
