//! What one client knows of its mailbox, and what it may never be told. Nothing is asked here: what the server
//! said is held against what it had said before.

use std::collections::BTreeMap;

/// Characters of a response that are quoted.
const MAX_QUOTED: usize = 100;

/// What a client remembers of a mailbox from one connection to the next.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// UIDVALIDITY, once it was told.
    validity: Option<u64>,
    /// The highest mod-sequence that was told.
    highest: u64,
    /// The highest UIDNEXT that was told.
    uid_next: u64,
    /// The mod-sequence of each message, as it was told last.
    mod_sequences: BTreeMap<u32, u64>,
    /// The highest of these, of messages that have gone too.
    highest_of_messages: u64,
}

/// The mailbox as it is selected: by sequence number, the UID where it is known.
#[derive(Clone, Debug, Default)]
pub struct View {
    messages: Vec<Option<u32>>,
    /// How many messages a SEARCH did not find whose removal has not been told since.
    owed: usize,
}

impl View {
    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many removals it must be told of, at the latest by an answer to what is asked from now on: a SEARCH has
    /// not found so many messages.
    pub fn owed(&self) -> usize {
        self.owed
    }

    /// The UIDs that are known.
    pub fn uids(&self) -> impl Iterator<Item = u32> {
        self.messages.iter().copied().flatten()
    }

    /// The UID of a sequence number becomes known, or is known.
    fn is(&mut self, sequence: usize, uid: u32) -> Result<(), String> {
        let Some(index) = sequence.checked_sub(1).filter(|index| *index < self.messages.len())
        else {
            return Err(format!("message {sequence} of {}", self.messages.len()));
        };
        if let Some(known) = self.messages[index]
            && known != uid
        {
            return Err(format!("message {sequence} was UID {known} and is UID {uid}"));
        }
        let below = self.messages[..index].iter().rev().copied().flatten().next();
        let above = self.messages[index + 1..].iter().copied().flatten().next();
        if below.is_some_and(|below| below >= uid) || above.is_some_and(|above| above <= uid) {
            return Err(format!("UID {uid} stands between {below:?} and {above:?}"));
        }
        self.messages[index] = Some(uid);
        Ok(())
    }
}

impl Record {
    /// The highest UIDNEXT that was told.
    pub fn uid_next(&self) -> u64 {
        self.uid_next
    }

    /// Takes an untagged response, or the text after the tag. What is wrong with it is the error.
    pub fn hear(&mut self, view: &mut View, line: &str) -> Result<(), String> {
        let said = |error: String| {
            let first = line.lines().next().unwrap_or("");
            let cut: String = first.chars().take(MAX_QUOTED).collect();
            format!("{error}: {cut}")
        };
        self.codes(line).map_err(said)?;
        let Some(rest) = line.strip_prefix("* ") else { return Ok(()) };
        let (first, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if first == "SEARCH" {
            return search(view, rest).map_err(said);
        }
        let Ok(number) = first.parse::<usize>() else { return Ok(()) };
        match rest.split_once(' ').unwrap_or((rest, "")) {
            ("EXISTS", _) if number < view.messages.len() => {
                Err(said(format!("EXISTS went back from {}", view.messages.len())))
            }
            ("EXISTS", _) => {
                view.messages.resize(number, None);
                Ok(())
            }
            ("EXPUNGE", _) if number == 0 || number > view.messages.len() => {
                Err(said(format!("there are {}", view.messages.len())))
            }
            ("EXPUNGE", _) => {
                view.owed = view.owed.saturating_sub(1);
                if let Some(uid) = view.messages.remove(number - 1) {
                    self.mod_sequences.remove(&uid);
                }
                Ok(())
            }
            ("FETCH", items) => self.fetched(view, number, items).map_err(said),
            _ => Ok(()),
        }
    }

    fn fetched(&mut self, view: &mut View, sequence: usize, items: &str) -> Result<(), String> {
        let Some(uid) = number_after(items, "UID ") else {
            return match sequence <= view.messages.len() {
                true => Ok(()),
                false => Err(format!("message {sequence} of {}", view.messages.len())),
            };
        };
        let uid = uid as u32;
        view.is(sequence, uid)?;
        if let Some(now) = number_after(items, "MODSEQ (") {
            let before = self.mod_sequences.insert(uid, now).unwrap_or(0);
            if now < before {
                return Err(format!("MODSEQ of UID {uid} went back from {before}"));
            }
            self.highest_of_messages = self.highest_of_messages.max(now);
        }
        Ok(())
    }

    fn codes(&mut self, line: &str) -> Result<(), String> {
        if let Some(now) = number_after(line, "[UIDVALIDITY ") {
            let before = *self.validity.get_or_insert(now);
            if before != now {
                return Err(format!("UIDVALIDITY was {before}"));
            }
        }
        if let Some(now) = number_after(line, "[UIDNEXT ") {
            rises("UIDNEXT", &mut self.uid_next, now)?;
        }
        let highest = number_after(line, "[HIGHESTMODSEQ ");
        let status = line.starts_with("* STATUS ").then(|| number_after(line, "HIGHESTMODSEQ "));
        if let Some(now) = highest.or(status.flatten()) {
            // No message of it can have a higher one (RFC 7162 §3.1.2.1).
            let known = self.highest_of_messages;
            rises("HIGHESTMODSEQ", &mut self.highest, now)?;
            if now < known {
                return Err(format!("a message had MODSEQ {known}"));
            }
        }
        Ok(())
    }
}

/// A SEARCH for all finds nothing that was not told. What it does not find has been removed by somebody else
/// meanwhile, and is to be told.
fn search(view: &mut View, numbers: &str) -> Result<(), String> {
    let uids: Vec<u32> = numbers.split(' ').filter_map(|number| number.parse().ok()).collect();
    let Some(missing) = view.len().checked_sub(uids.len()) else {
        return Err(format!("{} found, {} told", uids.len(), view.len()));
    };
    view.owed = missing;
    if missing == 0 {
        return uids.iter().enumerate().try_for_each(|(index, uid)| view.is(index + 1, *uid));
    }
    Ok(())
}

fn rises(what: &str, known: &mut u64, now: u64) -> Result<(), String> {
    if now < *known {
        return Err(format!("{what} went back from {known}"));
    }
    *known = now;
    Ok(())
}

/// The number that follows a word.
pub fn number_after(text: &str, word: &str) -> Option<u64> {
    let rest = text.split_once(word)?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hears all lines; only the last one may be wrong, for this reason.
    fn check(lines: &[&str], wrong: Option<&str>) {
        let (mut record, mut view) = (Record::default(), View::default());
        let (last, before) = lines.split_last().unwrap();
        for line in before {
            assert_eq!(record.hear(&mut view, line), Ok(()), "{line}");
        }
        match (record.hear(&mut view, last), wrong) {
            (Ok(()), None) => {}
            (Err(error), Some(why)) => assert!(error.contains(why), "{error} lacks {why}"),
            (heard, _) => panic!("{last}: {heard:?}"),
        }
    }

    #[test]
    fn a_sound_session_has_nothing_wrong() {
        check(
            &[
                "* OK [UIDVALIDITY 7] x",
                "* 2 EXISTS",
                "* OK [UIDNEXT 5] x",
                "* OK [HIGHESTMODSEQ 9] x",
                "* 1 FETCH (UID 3 MODSEQ (9) FLAGS ())",
                "* 3 EXISTS",
                "* 1 EXPUNGE",
                "* 1 FETCH (UID 4 MODSEQ (8))",
                "* 2 FETCH (FLAGS ())",
                "* SEARCH 4 5",
                "* STATUS INBOX (HIGHESTMODSEQ 12)",
            ],
            None,
        );
    }

    #[test]
    fn what_goes_back_is_told_apart() {
        check(&["* OK [UIDVALIDITY 7] x", "* OK [UIDVALIDITY 8] x"], Some("UIDVALIDITY was 7"));
        check(&["* OK [UIDNEXT 7] x", "* OK [UIDNEXT 6] x"], Some("UIDNEXT went back from 7"));
        check(&["t OK [HIGHESTMODSEQ 7] x", "* STATUS I (HIGHESTMODSEQ 6)"], Some("back from 7"));
        check(&["* 2 EXISTS", "* 1 EXISTS"], Some("EXISTS went back from 2"));
        let fetched = ["* 1 EXISTS", "* 1 FETCH (UID 1 MODSEQ (5))"];
        check(
            &[&fetched[..], &["* 1 FETCH (UID 1 MODSEQ (4))"]].concat(),
            Some("went back from 5"),
        );
        check(&[&fetched[..], &["* OK [HIGHESTMODSEQ 4] x"]].concat(), Some("had MODSEQ 5"));
    }

    #[test]
    fn a_number_that_means_another_message_is_told_apart() {
        check(&["* 1 EXISTS", "* 2 EXPUNGE"], Some("there are 1"));
        check(&["* 1 EXISTS", "* 0 EXPUNGE"], Some("there are 1"));
        check(&["* 1 EXISTS", "* 2 FETCH (UID 9)"], Some("message 2 of 1"));
        let two = ["* 3 EXISTS", "* 1 FETCH (UID 5)"];
        check(&[&two[..], &["* 1 FETCH (UID 6)"]].concat(), Some("was UID 5 and is UID 6"));
        check(&[&two[..], &["* 2 FETCH (UID 5)"]].concat(), Some("between"));
        check(&[&two[..], &["* SEARCH 5 6 7 8"]].concat(), Some("4 found, 3 told"));
        check(&[&two[..], &["* SEARCH 4 6 7"]].concat(), Some("was UID 5"));
    }

    #[test]
    fn what_a_search_does_not_find_is_owed_until_its_removal_is_told() {
        let (mut record, mut view) = (Record::default(), View::default());
        for line in ["* 3 EXISTS", "* 1 FETCH (UID 5)", "* SEARCH 7"] {
            assert_eq!(record.hear(&mut view, line), Ok(()), "{line}");
        }
        assert_eq!(view.owed(), 2);
        record.hear(&mut view, "* 1 EXPUNGE").unwrap();
        assert_eq!(view.owed(), 1);
        record.hear(&mut view, "* 1 EXPUNGE").unwrap();
        assert_eq!(view.owed(), 0);
        record.hear(&mut view, "* SEARCH 7").unwrap();
        assert_eq!((view.owed(), view.uids().collect::<Vec<_>>()), (0, vec![7]));
    }
}
