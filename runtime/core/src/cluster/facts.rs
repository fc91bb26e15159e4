//! What a node says of itself by gossip: a handful of small texts, whose number never changes (a key
//! once told is overwritten, never deleted: gossip would keep fresh nodes from joining).
//!
//! Each value starts with the version of its form, `1`. Within a form unknown fields are passed over,
//! so that a later program may say more. Anything else that is not understood is a named error: a
//! node that cannot be understood is as if it said nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::limits::{
    MAX_ADDRESS_OCTETS, MAX_ADDRESSES, MAX_NODE_ID_OCTETS, MAX_NOTE_OCTETS, MAX_NOTES,
    MAX_VALUE_OCTETS, MAX_VERSION_OCTETS,
};
use super::slot_set::{NotSlots, SlotSet};

/// Gossip's key of a node's address, state and versions.
pub const KEY_NODE: &str = "node";
/// Gossip's key of the slots that it has open.
pub const KEY_SLOTS: &str = "slots";
/// Gossip's key of its load.
pub const KEY_LOAD: &str = "load";
/// Gossip's key of the small map beside its facts.
pub const KEY_NOTES: &str = "notes";

const FORM: &str = "1";

/// A node's name in its cluster: 1 to 63 of `a`–`z`, `0`–`9` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = FactsError;

    fn from_str(text: &str) -> Result<Self, FactsError> {
        let fits = (1..=MAX_NODE_ID_OCTETS).contains(&text.len());
        let plain = |octet: u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-');
        match fits && text.bytes().all(plain) {
            true => Ok(Self(text.into())),
            false => Err(FactsError::Name),
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An incarnation of a node: durable, and strictly rising with each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// How far a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// It has been started and takes calls, but no slots are moved to it yet.
    Joining,
    /// It takes part.
    Up,
    /// It lets its slots go and opens none.
    Draining,
    /// It has let everything go and ends.
    Left,
}

impl NodeState {
    /// The word for it, in gossip and for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Left => "left",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Joining, Self::Up, Self::Draining, Self::Left]
            .into_iter()
            .find(|state| state.word() == word)
    }
}

/// How much a node has to do, for people and for balance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Load {
    /// Client connections.
    pub sessions: u32,
    /// Accounts open.
    pub accounts: u32,
    /// Calls in the last second.
    pub calls: u32,
}

/// What one incarnation of a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its name.
    pub id: NodeId,
    /// Its incarnation.
    pub generation: Generation,
    /// How far it is.
    pub state: NodeState,
    /// The program's version, for people.
    pub version: String,
    /// The version of the protocol that its links speak.
    pub link_version: u32,
    /// Where its links listen, the best first.
    pub addresses: Vec<String>,
    /// The slots that it has open.
    pub slots: SlotSet,
    /// What it has to do.
    pub load: Load,
    /// Anything else that is small, such as digests of staged store components. Nothing here looks
    /// into it.
    pub notes: BTreeMap<String, String>,
}

/// Why a node's values say nothing: ignore that node until they change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// The name is not 1 to 63 of a–z, 0–9 and `-`: give the node another one.
    #[error("a node's name is 1 to {MAX_NODE_ID_OCTETS} of a-z, 0-9 and -")]
    Name,
    /// A value is longer than anything that a node says.
    #[error("{0} is longer than {MAX_VALUE_OCTETS} octets")]
    TooLong(&'static str),
    /// A value that every node tells is not there yet.
    #[error("{0} is not there")]
    Missing(&'static str),
    /// A value is in a form of a later program: upgrade this node.
    #[error("{0} is in a form that this version does not know")]
    Form(&'static str),
    /// A field is absent, there twice, or not what it should be.
    #[error("{0} makes no sense")]
    Field(&'static str),
    /// Not a set of slots.
    #[error(transparent)]
    Slots(#[from] NotSlots),
}

impl Facts {
    /// The values to gossip: always the same keys.
    ///
    /// # Errors
    /// `Field` when something is longer, more or of other characters than can be told.
    pub fn to_values(&self) -> Result<[(&'static str, String); 4], FactsError> {
        self.check()?;
        let Load { sessions, accounts, calls } = self.load;
        let node = format!(
            "{FORM} generation={} state={} version={} link={} at={}",
            self.generation.0,
            self.state.word(),
            self.version,
            self.link_version,
            self.addresses.join(",")
        );
        let mut notes = FORM.to_owned();
        self.notes.iter().for_each(|(name, value)| notes.push_str(&format!(" {name}={value}")));
        Ok([
            (KEY_NODE, node),
            (KEY_SLOTS, format!("{FORM} {}", self.slots.to_text())),
            (KEY_LOAD, format!("{FORM} sessions={sessions} accounts={accounts} calls={calls}")),
            (KEY_NOTES, notes),
        ])
    }

    /// Reads what a node has told. `value` gives the text of a key.
    ///
    /// # Errors
    /// A [`FactsError`] that names what is wrong. Never panics, whatever the values are.
    pub fn from_values<'a>(
        id: NodeId,
        value: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, FactsError> {
        let node = Fields::of(KEY_NODE, value(KEY_NODE))?;
        let load = Fields::of(KEY_LOAD, value(KEY_LOAD))?;
        let state = node.text("state")?;
        let facts = Self {
            id,
            generation: Generation(node.number("generation")?),
            state: NodeState::from_word(state).ok_or(FactsError::Field("state"))?,
            version: node.text("version")?.to_owned(),
            link_version: node.number("link")?,
            addresses: node.text("at")?.split(',').map(str::to_owned).collect(),
            slots: SlotSet::from_text(body(KEY_SLOTS, value(KEY_SLOTS))?)?,
            load: Load {
                sessions: load.number("sessions")?,
                accounts: load.number("accounts")?,
                calls: load.number("calls")?,
            },
            notes: Fields::of(KEY_NOTES, value(KEY_NOTES))?.owned(),
        };
        facts.check()?;
        Ok(facts)
    }

    fn check(&self) -> Result<(), FactsError> {
        let address = |text: &String| is_plain(text, MAX_ADDRESS_OCTETS) && !text.contains(',');
        let counted = (1..=MAX_ADDRESSES).contains(&self.addresses.len());
        let note = |(name, value): (&String, &String)| {
            is_plain(name, MAX_NOTE_OCTETS)
                && !name.contains('=')
                && is_plain(value, MAX_NOTE_OCTETS)
        };
        if !is_plain(&self.version, MAX_VERSION_OCTETS) {
            return Err(FactsError::Field("version"));
        }
        if !counted || !self.addresses.iter().all(address) {
            return Err(FactsError::Field("at"));
        }
        match self.notes.len() <= MAX_NOTES && self.notes.iter().all(note) {
            true => Ok(()),
            false => Err(FactsError::Field("notes")),
        }
    }
}

/// Whether a text is something, not too much, and of visible ASCII.
fn is_plain(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic())
}

/// What stands behind the form of a value.
fn body<'a>(key: &'static str, text: Option<&'a str>) -> Result<&'a str, FactsError> {
    let text = text.ok_or(FactsError::Missing(key))?;
    if text.len() > MAX_VALUE_OCTETS {
        return Err(FactsError::TooLong(key));
    }
    let (form, rest) = text.split_once(' ').unwrap_or((text, ""));
    if form == FORM { Ok(rest) } else { Err(FactsError::Form(key)) }
}

/// A value as fields, `name=value`, parted by blanks.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn of(key: &'static str, text: Option<&'a str>) -> Result<Self, FactsError> {
        let mut fields = BTreeMap::new();
        for field in body(key, text)?.split_ascii_whitespace() {
            let (name, value) = field.split_once('=').ok_or(FactsError::Field(key))?;
            if fields.insert(name, value).is_some() {
                return Err(FactsError::Field(key));
            }
        }
        Ok(Self(fields))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, FactsError> {
        self.0.get(name).copied().ok_or(FactsError::Field(name))
    }

    fn number<N: FromStr>(&self, name: &'static str) -> Result<N, FactsError> {
        let text = self.text(name)?;
        let digits = text.bytes().all(|octet| octet.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or(FactsError::Field(name))
    }

    fn owned(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{SLOTS, Slot};

    fn facts() -> Facts {
        Facts {
            id: "mail-1".parse().unwrap(),
            generation: Generation(7),
            state: NodeState::Up,
            version: "0.1.0+abc".into(),
            link_version: 3,
            addresses: vec!["10.0.0.1:4190".into(), "[::1]:4190".into()],
            slots: [Slot(0), Slot(4095)].into_iter().collect(),
            load: Load { sessions: 1, accounts: 2, calls: 3 },
            notes: [("store.v2".to_owned(), "blake3:00ff==".to_owned())].into(),
        }
    }

    fn read(values: &[(&'static str, String)]) -> Result<Facts, FactsError> {
        let find = |key: &str| values.iter().find(|(name, _)| *name == key).map(|v| v.1.as_str());
        Facts::from_values("mail-1".parse().unwrap(), find)
    }

    #[test]
    fn what_is_told_is_what_is_heard() {
        let values = facts().to_values().unwrap();
        assert_eq!(read(&values), Ok(facts()));
        let node = "1 generation=7 state=up version=0.1.0+abc link=3 at=10.0.0.1:4190,[::1]:4190";
        assert_eq!(values[0].1, node, "other versions read this");
    }

    #[test]
    fn the_values_of_the_fullest_node_fit() {
        let long = |letter: &str, most: usize| letter.repeat(most);
        let most = Facts {
            version: long("v", MAX_VERSION_OCTETS),
            addresses: vec![long("a", MAX_ADDRESS_OCTETS); MAX_ADDRESSES],
            slots: (0..SLOTS).step_by(2).map(Slot).collect(),
            load: Load { sessions: u32::MAX, accounts: u32::MAX, calls: u32::MAX },
            notes: (0..MAX_NOTES)
                .map(|n| (format!("{n:0>w$}", w = MAX_NOTE_OCTETS), long("n", MAX_NOTE_OCTETS)))
                .collect(),
            ..facts()
        };
        let values = most.to_values().unwrap();
        values.iter().for_each(|(key, value)| assert!(value.len() <= MAX_VALUE_OCTETS, "{key}"));
        assert_eq!(read(&values), Ok(most));
    }

    #[test]
    fn a_later_program_may_say_more_and_another_form_is_told_apart() {
        let mut values = facts().to_values().unwrap();
        values[0].1.push_str(" later=1");
        assert_eq!(read(&values), Ok(facts()));
        values[0].1.replace_range(..1, "2");
        assert_eq!(read(&values), Err(FactsError::Form(KEY_NODE)));
        assert_eq!(read(&values[1..]), Err(FactsError::Missing(KEY_NODE)));
    }

    #[test]
    fn fields_that_make_no_sense_are_named() {
        let cases = [
            ("generation=7", "generation=-7", FactsError::Field("generation")),
            ("generation=7", "generation=+7", FactsError::Field("generation")),
            ("state=up", "state=off", FactsError::Field("state")),
            ("link=3", "link=4294967296", FactsError::Field("link")),
            ("link=3", "link=3 link=3", FactsError::Field(KEY_NODE)),
            ("at=10.0.0.1:4190,", "at=,", FactsError::Field("at")),
            ("version=0.1.0+abc ", "", FactsError::Field("version")),
        ];
        for (from, to, error) in cases {
            let mut values = facts().to_values().unwrap();
            values[0].1 = values[0].1.replace(from, to);
            assert_eq!(read(&values), Err(error), "{to}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused_before_it_is() {
        let cases = [
            Facts { version: "0 1".into(), ..facts() },
            Facts { addresses: vec![], ..facts() },
            Facts { addresses: vec!["a,b".into()], ..facts() },
            Facts { notes: [("a=b".to_owned(), "c".to_owned())].into(), ..facts() },
            Facts { notes: [("a".to_owned(), String::new())].into(), ..facts() },
        ];
        cases.iter().for_each(|facts| assert!(facts.to_values().is_err(), "{facts:?}"));
    }

    proptest! {
        #[test]
        fn names_are_short_and_plain(name in "\\PC{0,70}") {
            let plain = name.bytes().all(|o| o.is_ascii_lowercase() || o.is_ascii_digit() || o == b'-');
            prop_assert_eq!(name.parse::<NodeId>().is_ok(), plain && (1..=63).contains(&name.len()));
        }

        #[test]
        fn rubbish_is_refused_or_can_be_told_again(
            at in 0..4_usize, from in 0..100_usize, to in 0..100_usize, with in "\\PC{0,9}",
        ) {
            let mut values = facts().to_values().unwrap();
            let chars: Vec<char> = values[at].1.chars().collect();
            let (from, to) = (from.min(chars.len()), to.min(chars.len()));
            let cut = chars[..from.min(to)].iter().copied().chain(with.chars());
            values[at].1 = cut.chain(chars[from.max(to)..].iter().copied()).collect();
            if let Ok(facts) = read(&values) {
                prop_assert_eq!(read(&facts.to_values().unwrap()), Ok(facts));
            }
        }
    }
}
