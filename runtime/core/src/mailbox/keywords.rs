//! A mailbox's keywords: which bit of the index stands for which word.

use std::sync::Arc;

use crate::error::StoreError;
use crate::types::{Flags, Keyword};

use super::limits::MAX_KEYWORDS;

/// Keywords by bit. A bit whose keyword no message has any more is given away again when all are
/// taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeywordTable {
    words: Arc<Vec<Keyword>>,
}

impl KeywordTable {
    /// The bits of those keywords that are known.
    pub fn known(&self, flags: &Flags) -> u64 {
        let bit = |word: &Keyword| self.position(word).map_or(0, |at| 1 << at);
        flags.keywords().iter().fold(0, |bits, word| bits | bit(word))
    }

    fn position(&self, word: &Keyword) -> Option<usize> {
        self.words.iter().position(|known| known == word)
    }

    /// The bits of all keywords, new ones added. `in_use` says which bits any message has; it is
    /// asked only when the table is full.
    ///
    /// # Errors
    /// `Limit` when more than [`MAX_KEYWORDS`] would be in use; the table is then as it was.
    pub fn assign(
        &mut self,
        flags: &Flags,
        in_use: impl FnOnce() -> u64,
    ) -> Result<u64, StoreError> {
        let known = self.known(flags);
        if known.count_ones() as usize == flags.keywords().len() {
            return Ok(known);
        }
        let mut words = self.words.as_ref().clone();
        let new = flags.keywords().iter().filter(|word| self.position(word).is_none());
        let mut free = FreeBits { in_use: Some(in_use), taken: known };
        let mut bits = known;
        for word in new {
            let at = free.next(words.len())?;
            bits |= 1 << at;
            match at < words.len() {
                true => words[at] = word.clone(),
                false => words.push(word.clone()),
            }
        }
        self.words = Arc::new(words);
        Ok(bits)
    }

    /// The flags that these bits stand for.
    pub fn flags(&self, system: u8, keywords: u64) -> Flags {
        let words = self.words.iter().enumerate();
        let set = words.filter(|(at, _)| keywords & 1 << at != 0).map(|(_, word)| word.clone());
        Flags::from_parts(system, set)
    }
}

/// Bits that can be given to new keywords.
struct FreeBits<F> {
    in_use: Option<F>,
    taken: u64,
}

impl<F: FnOnce() -> u64> FreeBits<F> {
    fn next(&mut self, words: usize) -> Result<usize, StoreError> {
        if words < MAX_KEYWORDS {
            self.taken |= 1 << words;
            return Ok(words);
        }
        if let Some(in_use) = self.in_use.take() {
            self.taken |= in_use();
        }
        let at = self.taken.trailing_ones() as usize;
        if at >= MAX_KEYWORDS {
            return Err(StoreError::Limit(format!("{MAX_KEYWORDS} keywords in one mailbox")));
        }
        self.taken |= 1 << at;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Flag;

    fn flags(words: impl IntoIterator<Item = usize>) -> Flags {
        let word = |n| Flag::Keyword(Keyword::new(&format!("word{n}")).unwrap());
        Flags::of(words.into_iter().map(word))
    }

    #[test]
    fn bits_come_back_as_the_same_words() {
        let mut table = KeywordTable::default();
        let bits = table.assign(&flags([3, 1]), || unreachable!()).unwrap();
        assert_eq!(table.flags(0, bits), flags([1, 3]));
        assert_eq!(table.known(&flags([1, 2])).count_ones(), 1);
    }

    #[test]
    fn a_full_table_gives_away_what_no_message_has() {
        let mut table = KeywordTable::default();
        let all = table.assign(&flags(0..64), || unreachable!()).unwrap();
        assert_eq!(all, u64::MAX);
        let before = table.clone();
        assert!(matches!(table.assign(&flags([64]), || u64::MAX), Err(StoreError::Limit(_))));
        assert_eq!(table, before);
        let bits = table.assign(&flags([64, 65]), || !0b1010).unwrap();
        assert_eq!(bits, 0b1010);
        assert_eq!(table.flags(0, bits), flags([64, 65]));
    }

    #[test]
    fn a_word_that_is_asked_for_is_not_given_away_in_the_same_breath() {
        let mut table = KeywordTable::default();
        table.assign(&flags(0..64), || unreachable!()).unwrap();
        let bits = table.assign(&flags([0, 70]), || 0).unwrap();
        assert_eq!(table.flags(0, bits), flags([0, 70]));
    }
}
