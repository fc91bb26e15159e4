//! Comparison of texts without regard to case.
//!
//! Texts are brought into one form and then compared octet by octet: upper case (full mapping, so
//! `ß` is `SS`), compatibility decomposition (NFKD), upper case again for what that has uncovered.
//! It finds what i;unicode-casemap (RFC 5051) finds, and `Straße` by `STRASSE` beside; as there,
//! accents are characters of their own after the letter, so that `e` finds `é` and not the other
//! way round.

use std::fmt;

use memchr::memmem::Finder;
use unicode_normalization::UnicodeNormalization;

/// A text is folded and searched in pieces of about this many octets, so that searching a large
/// body needs no second copy of it.
const PIECE_OCTETS: usize = 64 << 10;
/// How far behind [`PIECE_OCTETS`] an ASCII character is looked for to part pieces at, so that an
/// accent stays with its letter.
const PARTING_OCTETS: usize = 1 << 10;

/// A text that is searched for, prepared for comparison: it matches as a substring.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Needle {
    folded: String,
}

impl Needle {
    /// Prepares a text.
    pub fn new(text: &str) -> Self {
        let mut folded = String::with_capacity(text.len());
        fold(text, &mut folded);
        Self { folded }
    }

    /// Whether it is empty, and so is in every text.
    pub fn is_empty(&self) -> bool {
        self.folded.is_empty()
    }

    /// Whether it is in the text.
    pub fn is_in(&self, text: &str) -> bool {
        let mut search = Search::new([self]);
        search.feed(text);
        search.is_done()
    }
}

impl fmt::Debug for Needle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Needle({:?})", self.folded)
    }
}

/// Looks for several needles in several texts, folding each text once.
pub(super) struct Search<'q> {
    missing: Vec<(&'q Needle, Finder<'q>)>,
    /// Octets of the longest needle.
    longest: usize,
    found: Vec<&'q Needle>,
}

impl<'q> Search<'q> {
    pub(super) fn new(needles: impl IntoIterator<Item = &'q Needle>) -> Self {
        let (found, missing): (Vec<_>, Vec<_>) = needles.into_iter().partition(|n| n.is_empty());
        let longest = missing.iter().map(|needle| needle.folded.len()).max().unwrap_or(0);
        let finder = |needle: &'q Needle| (needle, Finder::new(&needle.folded));
        Self { missing: missing.into_iter().map(finder).collect(), longest, found }
    }

    /// Whether there is nothing left to look for.
    pub(super) fn is_done(&self) -> bool {
        self.missing.is_empty()
    }

    /// The needles that were found.
    pub(super) fn found(self) -> Vec<&'q Needle> {
        self.found
    }

    /// Looks through a text.
    pub(super) fn feed(&mut self, text: &str) {
        let (mut folded, mut rest) = (String::new(), text);
        while !rest.is_empty() && !self.is_done() {
            let (piece, behind) = rest.split_at(piece_length(rest));
            rest = behind;
            // A needle may lie across two pieces.
            let kept = folded.floor_char_boundary(folded.len().saturating_sub(self.longest - 1));
            folded.drain(..kept);
            fold(piece, &mut folded);
            let found = self.missing.extract_if(.., |(_, f)| f.find(folded.as_bytes()).is_some());
            self.found.extend(found.map(|(needle, _)| needle));
        }
    }
}

/// Octets of the first piece of a text.
fn piece_length(text: &str) -> usize {
    if text.len() <= PIECE_OCTETS {
        return text.len();
    }
    let end = text.len().min(PIECE_OCTETS + PARTING_OCTETS);
    let parting = text.as_bytes()[PIECE_OCTETS..end].iter().position(u8::is_ascii);
    parting.map_or_else(|| text.floor_char_boundary(end), |at| PIECE_OCTETS + at)
}

/// Adds a text to `folded` in the form in which texts are compared.
fn fold(text: &str, folded: &mut String) {
    let mut rest = text;
    while !rest.is_empty() {
        let ascii = rest.bytes().position(|c| !c.is_ascii()).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(ascii);
        let start = folded.len();
        folded.push_str(run);
        folded[start..].make_ascii_uppercase();
        let other = behind.bytes().position(|c| c.is_ascii()).unwrap_or(behind.len());
        let (run, behind) = behind.split_at(other);
        let upper = run.chars().flat_map(char::to_uppercase);
        folded.extend(upper.nfkd().flat_map(char::to_uppercase));
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn check(needle: &str, text: &str, expected: bool) {
        assert_eq!(Needle::new(needle).is_in(text), expected, "{needle:?} in {text:?}");
    }

    #[test]
    fn case_does_not_matter_in_any_script() {
        check("hello", "Say HELLO there", true);
        check("\u{43f}\u{440}\u{438}", "\u{41f}\u{420}\u{418}\u{412}\u{415}\u{422}", true);
        check("\u{3c3}\u{3bf}\u{3c6}\u{3cc}\u{3c2}", "\u{3a3}\u{39f}\u{3a6}\u{38c}\u{3a3}", true);
        check("strasse", "Stra\u{df}e", true);
        check("hello", "help", false);
    }

    #[test]
    fn composed_and_decomposed_characters_are_the_same() {
        check("J\u{f6}rg", "Jo\u{308}rg", true);
        check("file", "\u{fb01}le", true);
        check("e", "\u{e9}", true);
        check("\u{e9}", "e", false);
    }

    #[test]
    fn an_empty_needle_is_in_every_text() {
        check("", "", true);
        check("", "a", true);
        check("a", "", false);
    }

    #[test]
    fn a_needle_is_found_across_pieces() {
        for length in PIECE_OCTETS - 8..PIECE_OCTETS + 8 {
            check("needle", &format!("{}NEEDLE", "x".repeat(length)), true);
        }
        let long = "\u{4f60}".repeat(PIECE_OCTETS);
        check("\u{4f60}\u{597d}", &format!("{long}\u{597d}"), true);
    }

    #[test]
    fn several_needles_are_found_in_one_pass() {
        let needles = ["b", "x", "a", ""].map(Needle::new);
        let mut search = Search::new(&needles);
        search.feed("A");
        search.feed("B");
        assert!(!search.is_done());
        let found = search.found();
        assert_eq!(found, [&needles[3], &needles[2], &needles[0]]);
    }

    proptest! {
        #[test]
        fn a_part_of_a_text_is_in_it(before in ".*", part in ".*", behind in ".*") {
            // An accent at the part's edge may be sorted among its neighbours (canonical order).
            let text = format!("{before}|{part}|{behind}");
            let found = Needle::new(&format!("|{part}|")).is_in(&text);
            prop_assert!(found);
        }

        #[test]
        fn changing_case_changes_nothing(text in ".*") {
            prop_assert!(Needle::new(&text).is_in(&text.to_uppercase()));
            prop_assert!(Needle::new(&text.to_uppercase()).is_in(&text));
        }
    }
}
