//! The pending writes of a transaction as a state over the committed one: which keys they set,
//! which they hide.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::{Area, Body, Key, Write};

/// What pending writes say about a key or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending<T> {
    /// Set to this.
    Set(T),
    /// Removed.
    Removed,
    /// Nothing: the committed state holds.
    Untouched,
}

/// The effect of pending writes, the later over the earlier.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    /// Keys set (`Some`) or removed after whatever hides them.
    keys: BTreeMap<Key, Option<Bytes>>,
    /// Ranges whose committed keys are hidden: by area and start, disjoint and not touching. An end
    /// of `None` is the end of the area.
    hidden: BTreeMap<(Area, Bytes), Option<Bytes>>,
    /// Names linked (`Some`) or unlinked.
    links: BTreeMap<String, Option<Body>>,
}

impl Overlay {
    /// Lays one more write over the others.
    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::Put(key, value) => drop(self.keys.insert(key.clone(), Some(value.clone()))),
            Write::Delete(key) => drop(self.keys.insert(key.clone(), None)),
            Write::DeleteRange { area, start, end } => {
                let end = (!end.is_empty()).then(|| end.clone());
                if end.as_ref().is_none_or(|end| start < end) {
                    self.hide(*area, start.clone(), end);
                }
            }
            Write::LinkBody { name, body } => {
                self.links.insert(name.clone(), Some(body.clone()));
            }
            Write::UnlinkBody { name } => drop(self.links.insert(name.clone(), None)),
        }
    }

    /// What the writes say about a key.
    pub fn key(&self, key: &Key) -> Pending<Bytes> {
        match self.keys.get(key) {
            Some(Some(value)) => Pending::Set(value.clone()),
            Some(None) => Pending::Removed,
            None if self.hidden_until(key.area, &key.octets).is_some() => Pending::Removed,
            None => Pending::Untouched,
        }
    }

    /// What the writes say about a body's name.
    pub fn link(&self, name: &str) -> Pending<Body> {
        match self.links.get(name) {
            Some(Some(body)) => Pending::Set(body.clone()),
            Some(None) => Pending::Removed,
            None => Pending::Untouched,
        }
    }

    /// The first key at or after `from` that the writes set, before `end` (`None`: the end of the
    /// area).
    pub fn next_set(
        &self,
        area: Area,
        from: &Bytes,
        end: Option<&Bytes>,
    ) -> Option<(Bytes, Bytes)> {
        let start = Key { area, octets: from.clone() };
        self.keys
            .range(start..)
            .take_while(|(key, _)| key.area == area && end.is_none_or(|end| key.octets < *end))
            .find_map(|(key, value)| Some((key.octets.clone(), value.clone()?)))
    }

    /// Where the hidden range that holds this key ends: `Some(None)` is the end of the area,
    /// `None`: no such range.
    pub fn hidden_until(&self, area: Area, octets: &Bytes) -> Option<Option<Bytes>> {
        let (_, end) = self.hidden_at_or_before(area, octets)?;
        end.as_ref().is_none_or(|end| octets < end).then_some(end)
    }

    fn hidden_at_or_before(&self, area: Area, octets: &Bytes) -> Option<(Bytes, Option<Bytes>)> {
        let ((found, start), end) = self.hidden.range(..=(area, octets.clone())).next_back()?;
        (*found == area).then(|| (start.clone(), end.clone()))
    }

    /// Hides a range, melting it with the ranges that it overlaps or touches.
    fn hide(&mut self, area: Area, mut start: Bytes, mut end: Option<Bytes>) {
        self.forget_keys(area, &start, end.as_ref());
        if let Some((before, until)) = self.hidden_at_or_before(area, &start)
            && until.as_ref().is_none_or(|until| *until >= start)
        {
            self.hidden.remove(&(area, before.clone()));
            start = before;
            end = later(end, until);
        }
        while let Some(((_, next), until)) = self
            .hidden
            .range((area, start.clone())..)
            .next()
            .filter(|((of, next), _)| *of == area && end.as_ref().is_none_or(|end| next <= end))
            .map(|(key, until)| (key.clone(), until.clone()))
        {
            self.hidden.remove(&(area, next));
            end = later(end, until);
        }
        self.hidden.insert((area, start), end);
    }

    /// Forgets what was set or removed in a range that is hidden from now on.
    fn forget_keys(&mut self, area: Area, start: &Bytes, end: Option<&Bytes>) {
        let from = Key { area, octets: start.clone() };
        let inside = |key: &Key| key.area == area && end.is_none_or(|end| key.octets < *end);
        let keys: Vec<Key> = self
            .keys
            .range((Bound::Included(from), Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| inside(key))
            .cloned()
            .collect();
        for key in keys {
            self.keys.remove(&key);
        }
    }
}

/// The later of two ends, `None` being the end of the area.
fn later(a: Option<Bytes>, b: Option<Bytes>) -> Option<Bytes> {
    Some(a?.max(b?))
}
