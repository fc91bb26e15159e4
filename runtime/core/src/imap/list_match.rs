//! LIST's patterns and how they match mailbox names (RFC 9051 §6.3.9).

use unicode_normalization::UnicodeNormalization;

use crate::types::name::DELIMITER;

/// Longest pattern in octets of UTF-8, without its reference: bounds what matching costs.
pub const MAX_PATTERN_OCTETS: usize = 1024;

/// A pattern in UTF-8 (NFC) with its wildcards: `*` stands for any characters, `%` for any but the
/// hierarchy delimiter. Also used for a reference name, which is a pattern's beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPattern(String);

impl ListPattern {
    /// Normalises a pattern given in UTF-8. `None` when longer than [`MAX_PATTERN_OCTETS`].
    pub fn new(text: &str) -> Option<Self> {
        if text.len() > MAX_PATTERN_OCTETS {
            return None;
        }
        let pattern: String = text.nfc().collect();
        (pattern.len() <= MAX_PATTERN_OCTETS).then_some(Self(pattern))
    }

    /// The pattern that matches no name: it holds a character that no name may hold.
    pub fn unmatchable() -> Self {
        Self("\0".to_owned())
    }

    /// The pattern itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This pattern behind a reference name: simply joined, as other servers with `/` do.
    pub fn under(&self, reference: &Self) -> Self {
        Self([reference.as_str(), self.as_str()].concat().nfc().collect())
    }

    /// Whether the pattern matches the whole of `name` (UTF-8, NFC). A first level INBOX is
    /// compared in any case. Takes time in proportion to the lengths' product at most.
    pub fn matches(&self, name: &str) -> bool {
        let first = name.split(DELIMITER).next().map_or(0, str::len);
        let folded = if name[..first].eq_ignore_ascii_case("INBOX") { first } else { 0 };
        matches(self.0.as_bytes(), name.as_bytes(), folded)
    }
}

/// Matches octets; the first `folded` octets of the name in any ASCII case.
///
/// `reached[i]` says whether the pattern's first `i` octets can stand for the name read so far. One
/// pass over the name, so nothing is tried twice (backtracking over many `*` would be exponential).
/// Octets will do instead of characters: in UTF-8 no character contains another, and the wildcards
/// and the delimiter are ASCII.
fn matches(pattern: &[u8], name: &[u8], folded: usize) -> bool {
    let mut reached = vec![false; pattern.len() + 1];
    let mut next = reached.clone();
    reached[0] = true;
    skip_wildcards(pattern, &mut reached);
    for (at, &octet) in name.iter().enumerate() {
        next[0] = false;
        for (i, &wanted) in pattern.iter().enumerate() {
            let same = wanted == octet || (at < folded && wanted.eq_ignore_ascii_case(&octet));
            next[i + 1] = match wanted {
                b'*' => reached[i + 1],
                b'%' => reached[i + 1] && octet != DELIMITER as u8,
                _ => reached[i] && same,
            };
        }
        skip_wildcards(pattern, &mut next);
        std::mem::swap(&mut reached, &mut next);
        if !reached.contains(&true) {
            return false;
        }
    }
    reached[pattern.len()]
}

/// A wildcard may stand for nothing: where it can begin, it can end.
fn skip_wildcards(pattern: &[u8], reached: &mut [bool]) {
    for (i, c) in pattern.iter().enumerate() {
        if matches!(c, b'*' | b'%') && reached[i] {
            reached[i + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn check(pattern: &str, name: &str, matches: bool) {
        let pattern = ListPattern::new(pattern).unwrap();
        assert_eq!(pattern.matches(name), matches, "{pattern:?} {name:?}");
    }

    #[test]
    fn a_percent_stops_at_the_delimiter_and_a_star_does_not() {
        check("*", "a/b/c", true);
        check("%", "a", true);
        check("%", "a/b", false);
        check("%/%", "a/b", true);
        check("a/%", "a/b/c", false);
        check("a*c", "a/b/c", true);
        check("a%c", "a/b/c", false);
        check("a*", "a", true);
        check("*a", "ba/ca", true);
        check("%*%", "x/y", true);
        check("", "", true);
        check("", "a", false);
        check("a", "A", false);
        check("%ü", "Menü", true);
        check("Menu\u{308}", "Menü", true);
    }

    #[test]
    fn inbox_is_the_same_in_any_case_on_the_first_level_only() {
        check("inbox", "INBOX", true);
        check("iNb*", "INBOX", true);
        check("inbox/%", "INBOX/a", true);
        check("inbox/A", "INBOX/a", false);
        check("%/inbox", "a/INBOX", false);
        check("in%", "INBOXES", false);
    }

    #[test]
    fn the_unmatchable_matches_nothing_wherever_it_stands() {
        let (never, all) = (ListPattern::unmatchable(), ListPattern::new("*").unwrap());
        for pattern in [never.clone(), all.under(&never), never.under(&all)] {
            assert!(!pattern.is_empty());
            assert!(["", "INBOX", "a/b", "0"].iter().all(|name| !pattern.matches(name)));
        }
        assert!(crate::types::MailboxName::new(never.as_str()).is_err());
    }

    #[test]
    fn a_reference_stands_before_the_pattern() {
        let pattern = |text| ListPattern::new(text).unwrap();
        assert!(pattern("%").under(&pattern("a/")).matches("a/b"));
        assert!(pattern("box").under(&pattern("in")).matches("INBOX"));
        assert!(!pattern("%").under(&pattern("a/")).matches("b"));
    }

    #[test]
    fn many_stars_cost_no_more_than_one() {
        let pattern = "*a".repeat(MAX_PATTERN_OCTETS / 2);
        check(&pattern, &"a".repeat(1023), true);
        check(&pattern, &"a".repeat(511), false);
        check(&format!("{}b", "*a".repeat(500)), &"a".repeat(1024), false);
    }

    /// The obvious definition, exponential but plainly right.
    fn obvious(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((p, rest)), None) => matches!(p, b'*' | b'%') && obvious(rest, name),
            (Some((b'*', rest)), Some((_, tail))) => obvious(rest, name) || obvious(pattern, tail),
            (Some((b'%', rest)), Some((c, tail))) => {
                obvious(rest, name) || (*c != b'/' && obvious(pattern, tail))
            }
            (Some((p, rest)), Some((c, tail))) => p == c && obvious(rest, tail),
            (None, Some(_)) => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_definition(pattern in "[ab/*%]{0,8}", name in "[ab/]{0,8}") {
            let expected = obvious(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(ListPattern::new(&pattern).unwrap().matches(&name), expected);
        }
    }
}
