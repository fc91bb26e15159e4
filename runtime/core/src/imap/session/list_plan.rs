//! Which mailboxes LIST and LSUB name, and what they say of each: a pure question over the
//! account's mailboxes (RFC 9051 §6.3.9, RFC 5258, RFC 6154, RFC 3501 §6.3.9).

use std::collections::BTreeMap;

use crate::calls::MailboxList;
use crate::imap::command::{List, ListSelect, SpecialUse};
use crate::imap::list_match::ListPattern;
use crate::imap::response::ListAttribute;
use crate::types::MailboxName;

/// One line of LIST or LSUB.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: MailboxName,
    pub(super) attributes: Vec<ListAttribute>,
    /// RECURSIVEMATCH: a subscribed name below it is selected and has no line of its own.
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
    /// RECURSIVEMATCH: a name below it is selected and matches no pattern.
    selected_below: bool,
}

/// What LIST answers, by name.
pub(super) fn list(all: &MailboxList, list: &List) -> Vec<Line> {
    let patterns: Vec<ListPattern> =
        list.patterns.iter().map(|pattern| pattern.under(&list.reference)).collect();
    let matches = |name: &MailboxName| patterns.iter().any(|p| p.matches(name.as_str()));
    let mut names = entries(all);
    if list.select.recursive_match {
        mark_levels(&mut names, list.select, matches);
    }
    let chosen = names.into_iter().filter(|(name, entry)| {
        (entry.is_selected(list.select) || entry.selected_below) && matches(name)
    });
    chosen.map(|(name, entry)| entry.line(name, list)).collect()
}

/// Marks the levels above what is selected but matches no pattern. Only for that is a level named
/// that is not selected itself (RFC 5258 §3.3, 2B): what has a line of its own needs no second one
/// that points to it (§3.5).
fn mark_levels(
    names: &mut BTreeMap<MailboxName, Entry>,
    select: ListSelect,
    matches: impl Fn(&MailboxName) -> bool,
) {
    let hidden = names.iter().filter(|(name, entry)| entry.is_selected(select) && !matches(name));
    let levels: Vec<MailboxName> = hidden.flat_map(|(name, _)| levels_above(name)).collect();
    for level in levels {
        names.entry(level).or_default().selected_below = true;
    }
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
            names.entry(level).or_default().children = true;
        }
    }
    for name in &all.subscriptions {
        names.entry(name.clone()).or_default().subscribed = true;
        for level in levels_above(name) {
            names.entry(level).or_default();
        }
    }
    names
}

fn levels_above(name: &MailboxName) -> impl Iterator<Item = MailboxName> {
    std::iter::successors(name.parent(), MailboxName::parent)
}

impl Entry {
    /// Whether the selection options choose it for itself.
    fn is_selected(&self, select: ListSelect) -> bool {
        match (select.subscribed, select.special_use) {
            // A level that does not exist is worth a line only for what is below it.
            (false, false) => self.exists || self.children,
            (subscribed, special_use) => {
                (!subscribed || self.subscribed) && (!special_use || self.special_use.is_some())
            }
        }
    }

    fn line(self, name: MailboxName, list: &List) -> Line {
        let mut attributes = Vec::new();
        if !self.exists {
            attributes.push(ListAttribute::NonExistent);
            // It says \Noselect too (RFC 5258 §3), but not to a client that is older than that.
            if !list.extended {
                attributes.push(ListAttribute::NoSelect);
            }
        }
        attributes.push(match self.children {
            true => ListAttribute::HasChildren,
            false => ListAttribute::HasNoChildren,
        });
        if self.subscribed && (list.select.subscribed || list.returns.subscribed) {
            attributes.push(ListAttribute::Subscribed);
        }
        attributes.extend(self.special_use.map(|u| ListAttribute::Use(SpecialUse::from_name(&u))));
        Line {
            name,
            attributes,
            subscribed_below: list.select.subscribed && self.selected_below,
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

    /// An extended LIST with these patterns, parted by spaces.
    fn check(
        all: &MailboxList,
        patterns: &str,
        select: ListSelect,
        expected: &[&str],
    ) -> Vec<Line> {
        let patterns = patterns.split(' ').map(|text| ListPattern::new(text).unwrap()).collect();
        let lines = list(all, &List { select, patterns, extended: true, ..List::default() });
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
        let patterns = vec![ListPattern::new("a").unwrap()];
        let plain = list(&all, &List { patterns, ..List::default() });
        let expected =
            [ListAttribute::NonExistent, ListAttribute::NoSelect, ListAttribute::HasChildren];
        assert_eq!(plain[0].attributes, expected);
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
    fn recursive_match_names_no_parent_of_what_has_its_own_line() {
        let select = ListSelect { recursive_match: true, ..SUBSCRIBED };
        let all = account(&["a", "a/b", "c", "c/d", "c/e"], &["a/b", "c", "c/d", "c/e", "x/y/z"]);
        let lines = check(&all, "*", select, &["a/b", "c", "c/d", "c/e", "x/y/z"]);
        assert!(lines.iter().all(|line| !line.subscribed_below));
        check(&all, "a a/b", select, &["a/b"]);
        let lines = check(&all, "c c/d", select, &["c", "c/d"]);
        assert_eq!(lines.iter().map(|l| l.subscribed_below).collect::<Vec<_>>(), [true, false]);
        let lines = check(&all, "x x/y", select, &["x", "x/y"]);
        assert!(lines.iter().all(|line| line.subscribed_below && !line.exists));
    }

    #[test]
    fn recursive_match_asks_all_options_of_the_one_below() {
        let all = account(&["a/Bin \\Trash", "a/b", "c/Out \\Sent"], &["a/b", "c/Out"]);
        let select = ListSelect { recursive_match: true, special_use: true, ..SUBSCRIBED };
        check(&all, "%", select, &["c"]);
        let select = ListSelect { subscribed: false, ..select };
        let lines = check(&all, "%", select, &["a", "c"]);
        assert!(lines.iter().all(|line| !line.subscribed_below));
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
