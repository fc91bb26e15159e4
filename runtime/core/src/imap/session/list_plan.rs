//! Which mailboxes LIST and LSUB name, and what they say of each: a pure question over the
//! account's mailboxes (RFC 9051 §6.3.9, RFC 5258, RFC 6154, RFC 3501 §6.3.9).

use std::collections::BTreeMap;

use crate::calls::MailboxList;
use crate::imap::command::{ListReturn, ListSelect, SpecialUse};
use crate::imap::list_match::ListPattern;
use crate::imap::response::ListAttribute;
use crate::types::MailboxName;

/// One line of LIST or LSUB.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: MailboxName,
    pub(super) attributes: Vec<ListAttribute>,
    /// There are subscribed names below it (asked for by RECURSIVEMATCH).
    pub(super) subscribed_below: bool,
    /// There is such a mailbox, so that it has a STATUS.
    pub(super) exists: bool,
}

/// What is known of a name.
#[derive(Clone, Debug, Default)]
struct Entry {
    exists: bool,
    subscribed: bool,
    special_use: Option<String>,
    /// A mailbox lies below it.
    children: bool,
    subscribed_below: bool,
    special_use_below: bool,
}

/// What LIST answers, by name.
pub(super) fn list(
    all: &MailboxList,
    patterns: &[ListPattern],
    select: ListSelect,
    returns: &ListReturn,
) -> Vec<Line> {
    let names = entries(all);
    let matches = |name: &MailboxName| patterns.iter().any(|p| p.matches(name.as_str()));
    let chosen =
        names.into_iter().filter(|(name, entry)| entry.is_selected(select) && matches(name));
    chosen.map(|(name, entry)| entry.line(name, select, returns)).collect()
}

/// What LSUB answers, by name: the subscriptions that match, and levels that match of which only
/// something below is subscribed and does not match itself (RFC 3501 §6.3.9).
pub(super) fn lsub(all: &MailboxList, pattern: &ListPattern) -> Vec<Line> {
    let mut lines: BTreeMap<MailboxName, Vec<ListAttribute>> = BTreeMap::new();
    for name in &all.subscriptions {
        if pattern.matches(name.as_str()) {
            lines.insert(name.clone(), Vec::new());
            continue;
        }
        for level in levels_above(name).filter(|level| pattern.matches(level.as_str())) {
            lines.entry(level).or_insert_with(|| vec![ListAttribute::NoSelect]);
        }
    }
    // A level that is itself subscribed is no mere level, whichever came first.
    for name in &all.subscriptions {
        lines.entry(name.clone()).and_modify(|attributes| attributes.clear());
    }
    let line =
        |(name, attributes)| Line { name, attributes, subscribed_below: false, exists: true };
    lines.into_iter().map(line).collect()
}

/// All names that could be listed: mailboxes, subscriptions, and the levels above both.
fn entries(all: &MailboxList) -> BTreeMap<MailboxName, Entry> {
    let mut names: BTreeMap<MailboxName, Entry> = BTreeMap::new();
    for mailbox in &all.mailboxes {
        let entry = names.entry(mailbox.name.clone()).or_default();
        entry.exists = true;
        entry.special_use = mailbox.special_use.clone();
        for level in levels_above(&mailbox.name) {
            let above = names.entry(level).or_default();
            above.children = true;
            above.special_use_below |= mailbox.special_use.is_some();
        }
    }
    for name in &all.subscriptions {
        names.entry(name.clone()).or_default().subscribed = true;
        for level in levels_above(name) {
            names.entry(level).or_default().subscribed_below = true;
        }
    }
    names
}

fn levels_above(name: &MailboxName) -> impl Iterator<Item = MailboxName> {
    std::iter::successors(name.parent(), MailboxName::parent)
}

impl Entry {
    /// Whether the selection options choose it.
    fn is_selected(&self, select: ListSelect) -> bool {
        let itself = match (select.subscribed, select.special_use) {
            // A level that does not exist is worth a line only for what is below it.
            (false, false) => self.exists || self.children,
            (subscribed, special_use) => {
                (!subscribed || self.subscribed) && (!special_use || self.special_use.is_some())
            }
        };
        let below = (select.subscribed && self.subscribed_below)
            || (select.special_use && self.special_use_below);
        itself || (select.recursive_match && below)
    }

    fn line(self, name: MailboxName, select: ListSelect, returns: &ListReturn) -> Line {
        let mut attributes = Vec::new();
        if !self.exists {
            attributes.push(ListAttribute::NonExistent);
        }
        attributes.push(match self.children {
            true => ListAttribute::HasChildren,
            false => ListAttribute::HasNoChildren,
        });
        if self.subscribed && (select.subscribed || returns.subscribed) {
            attributes.push(ListAttribute::Subscribed);
        }
        attributes.extend(self.special_use.map(|u| ListAttribute::Use(SpecialUse::from_name(&u))));
        Line {
            name,
            attributes,
            subscribed_below: select.recursive_match && select.subscribed && self.subscribed_below,
            exists: self.exists,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::MailboxInfo;
    use crate::types::MailboxId;

    /// Mailboxes as `name` or `name \Use`; subscriptions; the answer as `name attributes…`.
    fn account(mailboxes: &[&str], subscriptions: &[&str]) -> MailboxList {
        let name = |text: &str| MailboxName::new(text).unwrap();
        let info = |text: &&str| {
            let (text, special_use) =
                text.split_once(' ').map_or((*text, None), |(n, u)| (n, Some(u)));
            let special_use = special_use.map(str::to_owned);
            MailboxInfo { id: MailboxId::from_u128(1), name: name(text), special_use }
        };
        MailboxList {
            mailboxes: mailboxes.iter().map(info).collect(),
            subscriptions: subscriptions.iter().map(|text| name(text)).collect(),
        }
    }

    fn names(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.name.as_str()).collect()
    }

    fn check(all: &MailboxList, pattern: &str, select: ListSelect, expected: &[&str]) -> Vec<Line> {
        let patterns = [ListPattern::new(pattern).unwrap()];
        let lines = list(all, &patterns, select, &ListReturn::default());
        assert_eq!(names(&lines), expected);
        lines
    }

    const SUBSCRIBED: ListSelect =
        ListSelect { subscribed: true, remote: false, recursive_match: false, special_use: false };

    #[test]
    fn a_missing_level_is_listed_for_what_is_below_it() {
        let all = account(&["INBOX", "a/b"], &[]);
        let lines = check(&all, "%", ListSelect::default(), &["INBOX", "a"]);
        let expected = [ListAttribute::NonExistent, ListAttribute::HasChildren];
        assert_eq!((lines[1].attributes.as_slice(), lines[1].exists), (&expected[..], false));
        assert_eq!(lines[0].attributes, [ListAttribute::HasNoChildren]);
    }

    #[test]
    fn subscribed_names_need_not_exist() {
        let all = account(&["INBOX"], &["INBOX", "gone"]);
        let lines = check(&all, "*", SUBSCRIBED, &["INBOX", "gone"]);
        assert!(lines[1].attributes.contains(&ListAttribute::NonExistent));
        assert!(lines.iter().all(|l| l.attributes.contains(&ListAttribute::Subscribed)));
    }

    #[test]
    fn recursive_match_finds_parents_of_what_is_subscribed() {
        let all = account(&["a", "a/b", "c"], &["a/b"]);
        let select = ListSelect { recursive_match: true, ..SUBSCRIBED };
        let lines = check(&all, "%", select, &["a"]);
        assert!(lines[0].subscribed_below);
        assert!(!lines[0].attributes.contains(&ListAttribute::Subscribed));
        check(&all, "%", SUBSCRIBED, &[]);
    }

    #[test]
    fn special_use_selects_and_is_always_said() {
        let all = account(&["INBOX", "Sent \\Sent"], &[]);
        let select = ListSelect { special_use: true, ..ListSelect::default() };
        check(&all, "*", select, &["Sent"]);
        let lines = check(&all, "*", ListSelect::default(), &["INBOX", "Sent"]);
        assert!(lines[1].attributes.contains(&ListAttribute::Use(SpecialUse::Sent)));
    }

    #[test]
    fn lsub_shows_levels_only_for_what_does_not_match_itself() {
        let all = account(&["a", "a/b"], &["a/b", "x"]);
        let lsub = |pattern: &str| lsub(&all, &ListPattern::new(pattern).unwrap());
        let lines = lsub("%");
        assert_eq!(names(&lines), ["a", "x"]);
        assert_eq!(lines[0].attributes, [ListAttribute::NoSelect]);
        assert_eq!(names(&lsub("*")), ["a/b", "x"]);
    }
}
