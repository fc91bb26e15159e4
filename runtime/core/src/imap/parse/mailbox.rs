//! Mailbox names and the commands about mailboxes: SELECT, CREATE, LIST, STATUS and their kin.

use crate::imap::command::{
    CommandBody, List, ListReturn, ListSelect, MAX_LIST_PATTERNS, MAX_WORDS, SpecialUse, StatusItem,
};
use crate::imap::list_match::{ListPattern, MAX_PATTERN_OCTETS};
use crate::imap::utf7;
use crate::types::name::DELIMITER;
use crate::types::{MailboxName, MailboxNameError};

use super::Fault;
use super::input::{
    Failure, Input, Parsed, accept, close, comes, listed, listed_or_empty, open, place, space,
};
use super::token::{atom, is_atom_char, string_or, word};

const NAME: &str = "a mailbox name";

/// Octets of a name that stands without quotes.
fn is_name_char(c: u8) -> bool {
    is_atom_char(c) || c == b']'
}

/// A mailbox name.
pub(super) fn name(input: &mut Input<'_>) -> Parsed<MailboxName> {
    let at = place(input);
    let text = decoded(input)?;
    checked(at, &text)
}

/// ` name`
pub(super) fn spaced_name(input: &mut Input<'_>) -> Parsed<MailboxName> {
    space(input)?;
    name(input)
}

fn checked(at: usize, text: &str) -> Parsed<MailboxName> {
    MailboxName::new(text).map_err(|error| {
        let fault = match error {
            MailboxNameError::TooLong => Fault::Limit,
            MailboxNameError::EmptyLevel | MailboxNameError::Forbidden => Fault::MailboxName,
        };
        Failure { at, fault, expected: error.to_string().into() }
    })
}

/// A name out of modified UTF-7.
fn decoded(input: &mut Input<'_>) -> Parsed<String> {
    let at = place(input);
    let octets = string_or(input, NAME, is_name_char)?;
    utf7::decode(&octets).ok_or_else(|| Failure {
        at,
        fault: Fault::MailboxName,
        expected: "a mailbox name is written in modified UTF-7".into(),
    })
}

/// SELECT and EXAMINE: the name and whether `(CONDSTORE)` stands behind it.
pub(super) fn select(input: &mut Input<'_>) -> Parsed<(MailboxName, bool)> {
    let mailbox = spaced_name(input)?;
    if !accept(input, " ") {
        return Ok((mailbox, false));
    }
    listed(input, (MAX_WORDS, "parameters"), |input| {
        let at = place(input);
        match word(input, "CONDSTORE")?.as_str() {
            "CONDSTORE" => Ok(()),
            _ => Err(Failure::syntax(at, "CONDSTORE")),
        }
    })?;
    Ok((mailbox, true))
}

/// CREATE.
pub(super) fn create(input: &mut Input<'_>) -> Parsed<CommandBody> {
    space(input)?;
    let at = place(input);
    let text = decoded(input)?;
    // RFC 9051 §6.3.4: a delimiter at the end says only that there will be names below.
    let mailbox = checked(at, text.strip_suffix(DELIMITER).unwrap_or(&text))?;
    if !accept(input, " ") {
        return Ok(CommandBody::Create { mailbox, special_use: Vec::new() });
    }
    open(input)?;
    let at = place(input);
    if word(input, "USE")? != "USE" {
        return Err(Failure::syntax(at, "USE"));
    }
    space(input)?;
    let special_use = listed_or_empty(input, (MAX_WORDS, "special uses"), special_use)?;
    close(input)?;
    Ok(CommandBody::Create { mailbox, special_use })
}

fn special_use(input: &mut Input<'_>) -> Parsed<SpecialUse> {
    let (at, expected) = (place(input), "a special use such as \\Sent");
    if !accept(input, "\\") {
        return Err(Failure::syntax(at, expected));
    }
    let name = atom(input, expected)?;
    Ok(SpecialUse::from_name(&format!("\\{name}")))
}

/// RENAME.
pub(super) fn rename(input: &mut Input<'_>) -> Parsed<CommandBody> {
    Ok(CommandBody::Rename { from: spaced_name(input)?, to: spaced_name(input)? })
}

/// STATUS.
pub(super) fn status(input: &mut Input<'_>) -> Parsed<CommandBody> {
    let mailbox = spaced_name(input)?;
    space(input)?;
    Ok(CommandBody::Status { mailbox, items: status_items(input)? })
}

fn status_items(input: &mut Input<'_>) -> Parsed<Vec<StatusItem>> {
    let mut items = Vec::new();
    listed(input, (MAX_WORDS, "status items"), |input| {
        let (at, expected) = (place(input), "a status item such as MESSAGES");
        let word = word(input, expected)?;
        let item = StatusItem::ALL.into_iter().find(|item| item.name() == word);
        let item = item.ok_or_else(|| Failure::syntax(at, expected))?;
        if !items.contains(&item) {
            items.push(item);
        }
        Ok(())
    })?;
    Ok(items)
}

/// LSUB.
pub(super) fn lsub(input: &mut Input<'_>) -> Parsed<CommandBody> {
    space(input)?;
    let reference = reference(input)?;
    space(input)?;
    Ok(CommandBody::Lsub { reference, pattern: pattern(input)? })
}

/// LIST.
pub(super) fn list(input: &mut Input<'_>) -> Parsed<CommandBody> {
    space(input)?;
    let mut list = List::default();
    if comes(input, "(") {
        list.extended = true;
        list.select = list_select(input)?;
        space(input)?;
    }
    list.reference = reference(input)?;
    space(input)?;
    if comes(input, "(") {
        list.extended = true;
        list.patterns = listed(input, (MAX_LIST_PATTERNS, "patterns"), pattern)?;
    } else {
        list.patterns = vec![pattern(input)?];
    }
    if accept(input, " ") {
        list.extended = true;
        list.returns = list_return(input)?;
    }
    Ok(CommandBody::List(list))
}

fn list_select(input: &mut Input<'_>) -> Parsed<ListSelect> {
    let start = place(input);
    let mut select = ListSelect::default();
    listed_or_empty(input, (MAX_WORDS, "selection options"), |input| {
        let (at, expected) = (place(input), "a selection option of LIST");
        match word(input, expected)?.as_str() {
            "SUBSCRIBED" => select.subscribed = true,
            "REMOTE" => select.remote = true,
            "RECURSIVEMATCH" => select.recursive_match = true,
            "SPECIAL-USE" => select.special_use = true,
            _ => return Err(Failure::syntax(at, expected)),
        }
        Ok(())
    })?;
    // RFC 5258 §3.1: RECURSIVEMATCH says how another option is meant, so there must be one.
    if select.recursive_match && !select.subscribed && !select.special_use {
        return Err(Failure::syntax(start, "SUBSCRIBED beside RECURSIVEMATCH"));
    }
    Ok(select)
}

fn list_return(input: &mut Input<'_>) -> Parsed<ListReturn> {
    let at = place(input);
    if word(input, "RETURN")? != "RETURN" {
        return Err(Failure::syntax(at, "RETURN"));
    }
    space(input)?;
    let mut returns = ListReturn::default();
    listed_or_empty(input, (MAX_WORDS, "return options"), |input| {
        let (at, expected) = (place(input), "a return option of LIST");
        match word(input, expected)?.as_str() {
            "SUBSCRIBED" => returns.subscribed = true,
            "CHILDREN" => returns.children = true,
            "SPECIAL-USE" => returns.special_use = true,
            "STATUS" => {
                space(input)?;
                returns.status = Some(status_items(input)?);
            }
            _ => return Err(Failure::syntax(at, expected)),
        }
        Ok(())
    })?;
    Ok(returns)
}

fn reference(input: &mut Input<'_>) -> Parsed<ListPattern> {
    bounded(input, "a reference name", is_name_char)
}

/// A pattern: RFC 9051 §9 `list-mailbox`.
fn pattern(input: &mut Input<'_>) -> Parsed<ListPattern> {
    bounded(input, "a pattern", |c| is_name_char(c) || matches!(c, b'%' | b'*'))
}

fn bounded(
    input: &mut Input<'_>,
    expected: &'static str,
    plain: fn(u8) -> bool,
) -> Parsed<ListPattern> {
    let at = place(input);
    let octets = string_or(input, expected, plain)?;
    // What is no modified UTF-7 is no mistake here, as it is in a name: RFC 3501 §6.3.8 answers a
    // pattern that no name matches with OK.
    let Some(text) = utf7::decode(&octets) else { return Ok(ListPattern::unmatchable()) };
    ListPattern::new(&text)
        .ok_or_else(|| Failure::limit(at, MAX_PATTERN_OCTETS, "octets in a pattern"))
}
