//! Properties of messages (`extra` of a row) that this version knows nothing of. It gives none
//! itself, but a later version may have left some in the rows that a store lists, and a change of a
//! row states all of them: they are carried through flag changes and copies as they came. As long as
//! no message has any, this costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::StoreError;
use crate::records::Property;
use crate::types::Uid;

use super::limits::MAX_EXTRA_OCTETS;

/// The properties of the messages of an open mailbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    /// Only messages that have any.
    of: Arc<BTreeMap<Uid, Arc<[Property]>>>,
    octets: usize,
}

impl Extras {
    /// Whether no message has any.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// All properties of a message.
    pub fn get(&self, uid: Uid) -> Vec<Property> {
        self.of.get(&uid).map_or_else(Vec::new, |extra| extra.to_vec())
    }

    /// Adds a message that is not there yet.
    ///
    /// # Errors
    /// `Limit` when there are more than [`MAX_EXTRA_OCTETS`] of them.
    pub fn add(&mut self, uid: Uid, extra: &[Property]) -> Result<(), StoreError> {
        if extra.is_empty() {
            return Ok(());
        }
        let octets = self.octets + octets(extra);
        if octets > MAX_EXTRA_OCTETS {
            let text = format!("{MAX_EXTRA_OCTETS} octets of properties in one mailbox");
            return Err(StoreError::Limit(text));
        }
        self.octets = octets;
        Arc::make_mut(&mut self.of).insert(uid, extra.into());
        Ok(())
    }

    /// Takes messages out.
    pub fn remove(&mut self, uids: &[Uid]) {
        if self.is_empty() {
            return;
        }
        let of = Arc::make_mut(&mut self.of);
        let removed = uids.iter().filter_map(|uid| of.remove(uid));
        self.octets -= removed.map(|extra| octets(&extra)).sum::<usize>();
    }
}

/// What properties take in memory, nearly.
fn octets(extra: &[Property]) -> usize {
    extra.iter().map(|one| size_of::<Property>() + one.name.len() + one.value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(octets: usize) -> Vec<Property> {
        vec![Property { name: "later".into(), value: vec![7; octets] }]
    }

    fn uid(number: u32) -> Uid {
        Uid::new(number).unwrap()
    }

    #[test]
    fn what_was_added_comes_back_until_it_is_removed() {
        let mut extras = Extras::default();
        extras.add(uid(1), &[]).unwrap();
        assert!(extras.is_empty());
        extras.add(uid(2), &property(3)).unwrap();
        let snapshot = extras.clone();
        extras.remove(&[uid(1), uid(2)]);
        assert_eq!((extras.get(uid(2)), snapshot.get(uid(2))), (Vec::new(), property(3)));
        assert_eq!(extras, Extras::default());
    }

    #[test]
    fn more_than_fits_is_refused() {
        let mut extras = Extras::default();
        let refused = extras.add(uid(1), &property(MAX_EXTRA_OCTETS));
        assert!(matches!(refused, Err(StoreError::Limit(_))), "{refused:?}");
    }
}
