//! From what a client names to UIDs: sequence sets, and SEARCH programs as a [`Query`].

use std::num::NonZeroU32;

use crate::imap::command::{Numbering, SearchHeader, SearchKey, SequenceSet};
use crate::mailbox::view::View;
use crate::search::{AddressField, CharsetError, Needle, Query, decode_charset};
use crate::types::{Flag, SystemFlag, UidSet};

/// The answer to a command that names a sequence number which no message has.
pub(super) const NO_SUCH_NUMBER: &str = "no message has such a number";

/// The messages on which a command works, within what the client knows; UIDs of no message may be
/// among them. `None`: it names a sequence number that no message has. That is BAD, also for `*`
/// when there are no messages (RFC 9051 §9, `seq-number`); UIDs that do not exist mean nothing.
pub(super) fn resolve(view: &View, set: &SequenceSet, numbering: Numbering) -> Option<UidSet> {
    match numbering {
        Numbering::Uid => Some(view.clip(&set.to_uids(view.largest_uid()))),
        Numbering::Sequence => {
            let largest = NonZeroU32::new(view.exists())?;
            let mut uids = UidSet::default();
            for (first, last) in set.resolve(Some(largest)) {
                uids.insert_range(view.uid_at(first.get())?, view.uid_at(last.get())?);
            }
            Some(uids)
        }
    }
}

/// The messages of which a search key speaks. A number that no message has is true of none, and
/// that is an answer, not a mistake: RFC 3501 §6.4.4 knows BAD for no such key, and who searches
/// `1:*` in an empty mailbox wants to be told that there is nothing.
fn searched(view: &View, set: &SequenceSet) -> UidSet {
    let exists = view.exists();
    let mut uids = UidSet::default();
    for (first, last) in set.resolve(NonZeroU32::new(exists)) {
        let ends = (view.uid_at(first.get()), view.uid_at(last.get().min(exists)));
        if let (Some(first), Some(last)) = ends {
            uids.insert_range(first, last);
        }
    }
    uids
}

/// A search program in terms of UIDs and characters.
pub(super) fn query(
    view: &View,
    charset: Option<&str>,
    key: &SearchKey,
) -> Result<Query, CharsetError> {
    let text = |octets: &[u8]| decode_charset(charset, octets).map(|text| Needle::new(&text));
    let not = |query| Query::Not(Box::new(query));
    let recent = || Query::Uids(view.recent_uids().clone());
    Ok(match key {
        SearchKey::And(keys) => {
            let keys = keys.iter().map(|key| query(view, charset, key));
            Query::And(keys.collect::<Result<_, _>>()?)
        }
        SearchKey::Or(one, other) => {
            Query::Or(vec![query(view, charset, one)?, query(view, charset, other)?])
        }
        SearchKey::Not(key) => not(query(view, charset, key)?),
        SearchKey::All => Query::All,
        SearchKey::Sequence(set) => Query::Uids(searched(view, set)),
        SearchKey::Uid(set) => Query::Uids(view.clip(&set.to_uids(view.largest_uid()))),
        SearchKey::Flag(flag) => Query::Flag(flag.clone()),
        SearchKey::NotFlag(flag) => not(Query::Flag(flag.clone())),
        SearchKey::Recent => recent(),
        SearchKey::Old => not(recent()),
        SearchKey::New => {
            Query::And(vec![recent(), not(Query::Flag(Flag::System(SystemFlag::Seen)))])
        }
        SearchKey::Header(header, octets) => match address(*header) {
            Some(field) => Query::Address(field, text(octets)?),
            None => Query::Subject(text(octets)?),
        },
        SearchKey::AnyHeader { name, text: octets } => {
            Query::Header(String::from_utf8_lossy(name).into_owned(), text(octets)?)
        }
        SearchKey::Body(octets) => Query::Body(text(octets)?),
        SearchKey::Text(octets) => Query::Text(text(octets)?),
        SearchKey::Before(date) => Query::Before(*date),
        SearchKey::On(date) => Query::On(*date),
        SearchKey::Since(date) => Query::Since(*date),
        SearchKey::SentBefore(date) => Query::SentBefore(*date),
        SearchKey::SentOn(date) => Query::SentOn(*date),
        SearchKey::SentSince(date) => Query::SentSince(*date),
        SearchKey::Larger(octets) => Query::Larger(*octets),
        SearchKey::Smaller(octets) => Query::Smaller(*octets),
        SearchKey::ModSeq(modseq) => Query::ModSeq(*modseq),
        SearchKey::Older(seconds) => Query::Older(seconds.get()),
        SearchKey::Younger(seconds) => Query::Younger(seconds.get()),
        // An id that this server never gave out is no message's.
        SearchKey::EmailId(id) => id.map_or(Query::Or(Vec::new()), Query::EmailId),
        SearchKey::ThreadId(id) => id.map_or(Query::Or(Vec::new()), Query::ThreadId),
    })
}

/// Whether the program asks for mod-sequences, so that they are answered (RFC 7162 §3.1.5).
pub(super) fn asks_modseq(key: &SearchKey) -> bool {
    match key {
        SearchKey::ModSeq(_) => true,
        SearchKey::And(keys) => keys.iter().any(asks_modseq),
        SearchKey::Or(one, other) => asks_modseq(one) || asks_modseq(other),
        SearchKey::Not(key) => asks_modseq(key),
        SearchKey::All
        | SearchKey::Sequence(_)
        | SearchKey::Uid(_)
        | SearchKey::Flag(_)
        | SearchKey::NotFlag(_)
        | SearchKey::Recent
        | SearchKey::Old
        | SearchKey::New
        | SearchKey::Header(..)
        | SearchKey::AnyHeader { .. }
        | SearchKey::Body(_)
        | SearchKey::Text(_)
        | SearchKey::Before(_)
        | SearchKey::On(_)
        | SearchKey::Since(_)
        | SearchKey::SentBefore(_)
        | SearchKey::SentOn(_)
        | SearchKey::SentSince(_)
        | SearchKey::Larger(_)
        | SearchKey::Smaller(_)
        | SearchKey::Older(_)
        | SearchKey::Younger(_)
        | SearchKey::EmailId(_)
        | SearchKey::ThreadId(_) => false,
    }
}

/// The address field of a header; `None` for the subject, which has none.
fn address(header: SearchHeader) -> Option<AddressField> {
    match header {
        SearchHeader::Bcc => Some(AddressField::Bcc),
        SearchHeader::Cc => Some(AddressField::Cc),
        SearchHeader::From => Some(AddressField::From),
        SearchHeader::To => Some(AddressField::To),
        SearchHeader::Subject => None,
    }
}
