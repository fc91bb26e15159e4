//! The commands about messages, but for SEARCH: FETCH, STORE, COPY, MOVE and what APPEND begins
//! with.

use crate::imap::command::{
    CommandBody, Fetch, FetchItem, MAX_FETCH_ITEMS, MAX_FLAGS, MAX_HEADER_FIELDS,
    MAX_SECTION_DEPTH, MAX_WORDS, Numbering, Partial, Section, SectionText, SequenceSet, Store,
    Transfer,
};
use crate::types::flags::MAX_KEYWORD_OCTETS;
use crate::types::{Flag, FlagChange, FlagChangeKind, Flags, MailboxName, ModSeq, Timestamp};

use super::date::date_time;
use super::input::{
    Failure, Input, Parsed, accept, comes, expect, listed, listed_or_empty, place, separated, space,
};
use super::mailbox::spaced_name;
use super::token::{
    astring, atom, modseq, number, octet_count, positive_octet_count, sequence_set, word,
};

const ITEM: &str = "a FETCH item such as FLAGS or BODY[]";

fn spaced_set(input: &mut Input<'_>) -> Parsed<SequenceSet> {
    space(input)?;
    sequence_set(input)
}

/// COPY and MOVE.
pub(super) fn transfer(input: &mut Input<'_>, numbering: Numbering) -> Parsed<Transfer> {
    Ok(Transfer { numbering, set: spaced_set(input)?, to: spaced_name(input)? })
}

/// UID EXPUNGE.
pub(super) fn uid_expunge(input: &mut Input<'_>) -> Parsed<CommandBody> {
    spaced_set(input).map(CommandBody::UidExpunge)
}

/// STORE.
pub(super) fn store(input: &mut Input<'_>, numbering: Numbering) -> Parsed<Store> {
    let set = spaced_set(input)?;
    space(input)?;
    let mut unchanged_since = None;
    if comes(input, "(") {
        unchanged_since = Some(modifier(input, "UNCHANGEDSINCE")?);
        space(input)?;
    }
    let kind = match () {
        () if accept(input, "+") => FlagChangeKind::Add,
        () if accept(input, "-") => FlagChangeKind::Remove,
        () => FlagChangeKind::Replace,
    };
    let (at, expected) = (place(input), "FLAGS or FLAGS.SILENT");
    let silent = match word(input, expected)?.as_str() {
        "FLAGS" => false,
        "FLAGS.SILENT" => true,
        _ => return Err(Failure::syntax(at, expected)),
    };
    space(input)?;
    let flags = if comes(input, "(") { flag_list(input)? } else { bare_flags(input)? };
    Ok(Store { numbering, set, unchanged_since, change: FlagChange { kind, flags }, silent })
}

/// `(name modseq)`; given twice, the last one counts.
fn modifier(input: &mut Input<'_>, name: &'static str) -> Parsed<ModSeq> {
    let given = listed(input, (MAX_WORDS, "modifiers"), |input| {
        let at = place(input);
        if word(input, name)? != name {
            return Err(Failure::syntax(at, name));
        }
        space(input)?;
        modseq(input)
    })?;
    Ok(given.last().copied().unwrap_or_default())
}

/// `(flag flag …)`, possibly empty.
fn flag_list(input: &mut Input<'_>) -> Parsed<Flags> {
    listed_or_empty(input, (MAX_FLAGS, "flags"), flag).map(Flags::of)
}

/// Flags without parentheses, as STORE allows them.
fn bare_flags(input: &mut Input<'_>) -> Parsed<Flags> {
    separated(input, " ", (MAX_FLAGS, "flags"), flag).map(Flags::of)
}

fn flag(input: &mut Input<'_>) -> Parsed<Flag> {
    let at = place(input);
    let backslash = if accept(input, "\\") { "\\" } else { "" };
    let name = atom(input, "a flag")?;
    if let Some(flag) = Flag::parse(&format!("{backslash}{name}")) {
        return Ok(flag);
    }
    match backslash.is_empty() {
        true => Err(Failure::limit(at, MAX_KEYWORD_OCTETS, "octets in a keyword")),
        // `\Recent` is the server's to set, and no others are defined.
        false => Err(Failure::syntax(at, "a keyword or a flag that a client can set")),
    }
}

/// What stands before APPEND's message, with the space before it:
/// ` mailbox [flags] [date] `.
pub(super) fn append(input: &mut Input<'_>) -> Parsed<(MailboxName, Flags, Option<Timestamp>)> {
    let mailbox = spaced_name(input)?;
    space(input)?;
    let mut flags = Flags::default();
    if comes(input, "(") {
        flags = flag_list(input)?;
        space(input)?;
    }
    let mut date = None;
    if comes(input, "\"") {
        date = Some(date_time(input)?);
        space(input)?;
    }
    Ok((mailbox, flags, date))
}

/// FETCH.
pub(super) fn fetch(input: &mut Input<'_>, numbering: Numbering) -> Parsed<Fetch> {
    let set = spaced_set(input)?;
    space(input)?;
    let items = if comes(input, "(") {
        listed(input, (MAX_FETCH_ITEMS, "FETCH items"), item)?
    } else {
        macro_or_item(input)?
    };
    let mut changed_since = None;
    if accept(input, " ") {
        changed_since = Some(modifier(input, "CHANGEDSINCE")?);
    }
    Ok(Fetch { numbering, set, items, changed_since })
}

/// A macro stands alone: RFC 9051 §6.4.5.
fn macro_or_item(input: &mut Input<'_>) -> Parsed<Vec<FetchItem>> {
    let mut ahead = *input;
    let name = word(&mut ahead, ITEM)?;
    let mut items = vec![FetchItem::Flags, FetchItem::InternalDate, FetchItem::Rfc822Size];
    match name.as_str() {
        "FAST" => {}
        "ALL" => items.push(FetchItem::Envelope),
        "FULL" => items.extend([FetchItem::Envelope, FetchItem::Body]),
        _ => return item(input).map(|item| vec![item]),
    }
    *input = ahead;
    Ok(items)
}

fn item(input: &mut Input<'_>) -> Parsed<FetchItem> {
    let at = place(input);
    let name = word(input, ITEM)?;
    Ok(match name.as_str() {
        "BODY" if !comes(input, "[") => FetchItem::Body,
        "BODY" => section_item(input, false)?,
        "BODY.PEEK" => section_item(input, true)?,
        "BODYSTRUCTURE" => FetchItem::BodyStructure,
        "ENVELOPE" => FetchItem::Envelope,
        "FLAGS" => FetchItem::Flags,
        "INTERNALDATE" => FetchItem::InternalDate,
        "RFC822" => FetchItem::Rfc822,
        "RFC822.HEADER" => FetchItem::Rfc822Header,
        "RFC822.SIZE" => FetchItem::Rfc822Size,
        "RFC822.TEXT" => FetchItem::Rfc822Text,
        "UID" => FetchItem::Uid,
        "MODSEQ" => FetchItem::ModSeq,
        "EMAILID" => FetchItem::EmailId,
        "THREADID" => FetchItem::ThreadId,
        _ => return Err(Failure::syntax(at, ITEM)),
    })
}

/// `[section]<partial>`
fn section_item(input: &mut Input<'_>, peek: bool) -> Parsed<FetchItem> {
    expect(input, "\"[\"", "[")?;
    let section = section(input)?;
    expect(input, "\"]\"", "]")?;
    let partial = if accept(input, "<") { Some(partial(input)?) } else { None };
    Ok(FetchItem::Section { section, partial, peek })
}

/// `first.count>`
fn partial(input: &mut Input<'_>) -> Parsed<Partial> {
    let first = octet_count(input)?;
    expect(input, "\".\"", ".")?;
    let count = positive_octet_count(input)?;
    expect(input, "\">\"", ">")?;
    Ok(Partial { first, count })
}

fn section(input: &mut Input<'_>) -> Parsed<Section> {
    let mut part = Vec::new();
    while input.first().is_some_and(u8::is_ascii_digit) {
        if part.len() == MAX_SECTION_DEPTH {
            return Err(Failure::limit(place(input), MAX_SECTION_DEPTH, "levels in a section"));
        }
        part.push(number(input, "a part number")?);
        if !accept(input, ".") {
            return Ok(Section { part, text: SectionText::All });
        }
    }
    if part.is_empty() && comes(input, "]") {
        return Ok(Section::default());
    }
    let text = section_text(input, &part)?;
    Ok(Section { part, text })
}

fn section_text<T>(input: &mut Input<'_>, part: &[T]) -> Parsed<SectionText> {
    let (at, expected) = (place(input), "a section such as 1.2, HEADER or TEXT");
    match word(input, expected)?.as_str() {
        "HEADER" => Ok(SectionText::Header),
        "TEXT" => Ok(SectionText::Text),
        "MIME" if !part.is_empty() => Ok(SectionText::Mime),
        "HEADER.FIELDS" => field_names(input).map(SectionText::HeaderFields),
        "HEADER.FIELDS.NOT" => field_names(input).map(SectionText::HeaderFieldsNot),
        _ => Err(Failure::syntax(at, expected)),
    }
}

/// ` (name name …)`
fn field_names(input: &mut Input<'_>) -> Parsed<Vec<String>> {
    space(input)?;
    listed(input, (MAX_HEADER_FIELDS, "header names"), |input| {
        let (at, expected) = (place(input), "the name of a header");
        let name = astring(input, expected)?;
        // RFC 5322 §2.2: printable, no colon. Others name no header, and could not be answered.
        let fits = |c: &u8| c.is_ascii_graphic() && *c != b':';
        let name = String::from_utf8(name.into_owned()).ok();
        name.filter(|name| !name.is_empty() && name.as_bytes().iter().all(fits))
            .ok_or_else(|| Failure::syntax(at, expected))
    })
}
