//! SEARCH (RFC 9051 §6.4.4, RFC 4731, RFC 5032, RFC 7162, RFC 8474).

use std::num::NonZeroU32;

use crate::imap::command::{
    MAX_SEARCH_DEPTH, MAX_SEARCH_KEYS, MAX_WORDS, Numbering, Search, SearchHeader, SearchKey,
    SearchReturn,
};
use crate::imap::object_id;
use crate::types::flags::MAX_KEYWORD_OCTETS;
use crate::types::{Flag, Keyword, ModSeq, SystemFlag};

use super::date::date;
use super::input::{Failure, Input, Parsed, accept, close, comes, listed_or_empty, place, space};
use super::token::{astring, atom, modseq, number, octet_count, sequence_set, string, word};

const KEY: &str = "a search key";
/// Longest object id (RFC 8474 §7).
const MAX_OBJECT_ID_OCTETS: usize = 255;

/// How much of a program has been read.
#[derive(Default)]
struct Budget {
    keys: usize,
    depth: usize,
}

/// SEARCH.
pub(super) fn search(input: &mut Input<'_>, numbering: Numbering) -> Parsed<Search> {
    space(input)?;
    let mut returns = None;
    if accept(input, "RETURN") {
        space(input)?;
        returns = Some(search_return(input)?);
        space(input)?;
    }
    let mut charset = None;
    if accept(input, "CHARSET") {
        space(input)?;
        let at = place(input);
        let name = astring(input, "a charset")?.into_owned();
        charset = Some(String::from_utf8(name).map_err(|_| Failure::syntax(at, "a charset"))?);
        space(input)?;
    }
    let key = keys(input, &mut Budget::default())?;
    Ok(Search { numbering, returns, charset, key })
}

fn search_return(input: &mut Input<'_>) -> Parsed<SearchReturn> {
    let mut returns = SearchReturn::default();
    let named = listed_or_empty(input, (MAX_WORDS, "return options"), |input| {
        let (at, expected) = (place(input), "MIN, MAX, ALL or COUNT");
        match word(input, expected)?.as_str() {
            "MIN" => returns.min = true,
            "MAX" => returns.max = true,
            "ALL" => returns.all = true,
            "COUNT" => returns.count = true,
            _ => return Err(Failure::syntax(at, expected)),
        }
        Ok(())
    })?;
    // RFC 4731 §3.1: nothing named means ALL.
    returns.all |= named.is_empty();
    Ok(returns)
}

/// Keys in a row, all of which must match.
fn keys(input: &mut Input<'_>, budget: &mut Budget) -> Parsed<SearchKey> {
    let first = key(input, budget)?;
    if !comes(input, " ") {
        return Ok(first);
    }
    let mut all = vec![first];
    while accept(input, " ") {
        all.push(key(input, budget)?);
    }
    Ok(SearchKey::And(all))
}

/// One key, counted.
fn key(input: &mut Input<'_>, budget: &mut Budget) -> Parsed<SearchKey> {
    let at = place(input);
    if budget.depth == MAX_SEARCH_DEPTH {
        return Err(Failure::limit(at, MAX_SEARCH_DEPTH, "levels of search keys"));
    }
    if budget.keys == MAX_SEARCH_KEYS {
        return Err(Failure::limit(at, MAX_SEARCH_KEYS, "search keys"));
    }
    budget.keys += 1;
    budget.depth += 1;
    let key = match input.first() {
        Some(b'(') => in_parentheses(input, budget),
        Some(b'0'..=b'9' | b'*') => sequence_set(input).map(SearchKey::Sequence),
        _ => named_key(input, budget),
    };
    budget.depth -= 1;
    key
}

fn in_parentheses(input: &mut Input<'_>, budget: &mut Budget) -> Parsed<SearchKey> {
    accept(input, "(");
    let key = keys(input, budget)?;
    close(input)?;
    Ok(key)
}

fn named_key(input: &mut Input<'_>, budget: &mut Budget) -> Parsed<SearchKey> {
    let at = place(input);
    let name = word(input, KEY)?;
    if let Some(key) = without_argument(&name) {
        return Ok(key);
    }
    if !takes_argument(&name) {
        return Err(Failure::syntax(at, KEY));
    }
    space(input)?;
    match name.as_str() {
        "NOT" => Ok(SearchKey::Not(Box::new(key(input, budget)?))),
        "OR" => {
            let left = key(input, budget)?;
            space(input)?;
            Ok(SearchKey::Or(Box::new(left), Box::new(key(input, budget)?)))
        }
        name => with_argument(input, name),
    }
}

/// Keys that stand alone.
fn without_argument(name: &str) -> Option<SearchKey> {
    let system =
        |name: &str| SystemFlag::ALL.into_iter().find(|f| f.name()[1..].eq_ignore_ascii_case(name));
    if let Some(flag) = system(name) {
        return Some(SearchKey::Flag(Flag::System(flag)));
    }
    if let Some(flag) = name.strip_prefix("UN").and_then(system) {
        return Some(SearchKey::NotFlag(Flag::System(flag)));
    }
    Some(match name {
        "ALL" => SearchKey::All,
        "NEW" => SearchKey::New,
        "OLD" => SearchKey::Old,
        "RECENT" => SearchKey::Recent,
        _ => return None,
    })
}

const WITH_ARGUMENT: [&str; 26] = [
    "BCC",
    "BEFORE",
    "BODY",
    "CC",
    "EMAILID",
    "FROM",
    "HEADER",
    "KEYWORD",
    "LARGER",
    "MODSEQ",
    "NOT",
    "OLDER",
    "ON",
    "OR",
    "SENTBEFORE",
    "SENTON",
    "SENTSINCE",
    "SINCE",
    "SMALLER",
    "SUBJECT",
    "TEXT",
    "THREADID",
    "TO",
    "UID",
    "UNKEYWORD",
    "YOUNGER",
];

fn takes_argument(name: &str) -> bool {
    WITH_ARGUMENT.contains(&name)
}

fn with_argument(input: &mut Input<'_>, name: &str) -> Parsed<SearchKey> {
    Ok(match name {
        "BCC" => SearchKey::Header(SearchHeader::Bcc, text(input)?),
        "CC" => SearchKey::Header(SearchHeader::Cc, text(input)?),
        "FROM" => SearchKey::Header(SearchHeader::From, text(input)?),
        "SUBJECT" => SearchKey::Header(SearchHeader::Subject, text(input)?),
        "TO" => SearchKey::Header(SearchHeader::To, text(input)?),
        "HEADER" => {
            let name = astring(input, "the name of a header")?.into_owned();
            space(input)?;
            SearchKey::AnyHeader { name, text: text(input)? }
        }
        "BODY" => SearchKey::Body(text(input)?),
        "TEXT" => SearchKey::Text(text(input)?),
        "KEYWORD" => SearchKey::Flag(keyword(input)?),
        "UNKEYWORD" => SearchKey::NotFlag(keyword(input)?),
        "UID" => SearchKey::Uid(sequence_set(input)?),
        "BEFORE" => SearchKey::Before(date(input)?),
        "ON" => SearchKey::On(date(input)?),
        "SINCE" => SearchKey::Since(date(input)?),
        "SENTBEFORE" => SearchKey::SentBefore(date(input)?),
        "SENTON" => SearchKey::SentOn(date(input)?),
        "SENTSINCE" => SearchKey::SentSince(date(input)?),
        "LARGER" => SearchKey::Larger(octet_count(input)?),
        "SMALLER" => SearchKey::Smaller(octet_count(input)?),
        "MODSEQ" => SearchKey::ModSeq(modseq_with_entry(input)?),
        "OLDER" => SearchKey::Older(seconds(input)?),
        "YOUNGER" => SearchKey::Younger(seconds(input)?),
        "EMAILID" => SearchKey::EmailId(object_id::parse_email_id(&object_id(input)?)),
        "THREADID" => SearchKey::ThreadId(object_id::parse_thread_id(&object_id(input)?)),
        _ => return Err(Failure::syntax(place(input), KEY)),
    })
}

fn text(input: &mut Input<'_>) -> Parsed<Vec<u8>> {
    astring(input, "the text to search for").map(|text| text.into_owned())
}

fn seconds(input: &mut Input<'_>) -> Parsed<NonZeroU32> {
    number(input, "a number of seconds above zero")
}

fn keyword(input: &mut Input<'_>) -> Parsed<Flag> {
    let at = place(input);
    let name = atom(input, "a keyword")?;
    let keyword = Keyword::new(&name);
    let keyword =
        keyword.ok_or_else(|| Failure::limit(at, MAX_KEYWORD_OCTETS, "octets in a keyword"))?;
    Ok(Flag::Keyword(keyword))
}

/// An object id of whatever server.
fn object_id(input: &mut Input<'_>) -> Parsed<String> {
    let (at, expected) = (place(input), "an object id");
    let id = atom(input, expected)?;
    let fits = id.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    let fits = fits && id.len() <= MAX_OBJECT_ID_OCTETS;
    if fits { Ok(id) } else { Err(Failure::syntax(at, expected)) }
}

/// `["entry" type ]modseq` (RFC 7162 §3.1.5)
fn modseq_with_entry(input: &mut Input<'_>) -> Parsed<ModSeq> {
    if !comes(input, "\"") {
        return modseq(input);
    }
    let (at, expected) = (place(input), "an entry name such as \"/flags/\\\\Draft\"");
    let entry = string(input, expected)?;
    if !entry.to_ascii_lowercase().starts_with(b"/flags/") {
        return Err(Failure::syntax(at, expected));
    }
    space(input)?;
    let (at, expected) = (place(input), "priv, shared or all");
    if !["PRIV", "SHARED", "ALL"].contains(&word(input, expected)?.as_str()) {
        return Err(Failure::syntax(at, expected));
    }
    space(input)?;
    modseq(input)
}
