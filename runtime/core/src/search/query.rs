//! The query: a boolean tree in terms of UIDs.

use time::Date;

use crate::types::{Flag, MessageId, ModSeq, ThreadId, UidSet};

use super::Needle;

/// Most nodes of one query: bounds the work for each message. A client's key may become several.
pub const MAX_QUERY_NODES: usize = 4_000;
/// Deepest nesting of one query: bounds the stack.
pub const MAX_QUERY_DEPTH: usize = 250;
/// Most texts that one query looks for in addresses, headers and bodies: each is a pass over them.
pub const MAX_QUERY_TEXTS: usize = 100;

/// A search program (RFC 3501 §6.4.4, RFC 9051 §6.4.4; RFC 5032, 7162, 8474).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// ALL
    All,
    /// Every one of them; everything when empty.
    And(Vec<Query>),
    /// At least one of them; nothing when empty.
    Or(Vec<Query>),
    /// NOT
    Not(Box<Query>),
    /// One of these UIDs: UID, a sequence set, and by the view's marks RECENT, OLD, NEW.
    Uids(UidSet),
    /// Has the flag or keyword: SEEN, KEYWORD …; UNSEEN and the like are `Not` of it.
    Flag(Flag),
    /// INTERNALDATE, disregarding time and zone, is before this day.
    Before(Date),
    /// … is this day.
    On(Date),
    /// … is this day or later.
    Since(Date),
    /// The Date header, disregarding time and zone, is before this day. A message without a valid
    /// one matches none of the three.
    SentBefore(Date),
    /// … is this day.
    SentOn(Date),
    /// … is this day or later.
    SentSince(Date),
    /// More octets than this.
    Larger(u64),
    /// Fewer octets than this.
    Smaller(u64),
    /// Of this mod-sequence or a later one (RFC 7162 §3.1.5).
    ModSeq(ModSeq),
    /// EMAILID (RFC 8474).
    EmailId(MessageId),
    /// THREADID (RFC 8474).
    ThreadId(ThreadId),
    /// INTERNALDATE is at least this many seconds ago (RFC 5032).
    Older(u32),
    /// INTERNALDATE is at most this many seconds ago (RFC 5032).
    Younger(u32),
    /// The text is in one of the addresses of FROM, TO, CC or BCC, as `name <local@domain>`, or in
    /// the name of a group; an empty text asks whether there is one.
    Address(AddressField, Needle),
    /// The text is in the subject; an empty text asks whether there is one.
    Subject(Needle),
    /// The text is in a header field of this name (compared without regard to case); an empty text
    /// asks whether there is one.
    Header(String, Needle),
    /// The text is in the body: text parts, decoded, and headers of messages within the message.
    Body(Needle),
    /// The text is in the header or the body, or in the MIME header of a part.
    Text(Needle),
}

/// A header with addresses that SEARCH has a key for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressField {
    /// FROM
    From,
    /// TO
    To,
    /// CC
    Cc,
    /// BCC
    Bcc,
}

impl AddressField {
    /// The name of the header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::From => "From",
            Self::To => "To",
            Self::Cc => "Cc",
            Self::Bcc => "Bcc",
        }
    }
}

/// How much of a message an answer can need; ascending by cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Facts of the index.
    Index,
    /// The message's ids.
    Ids,
    /// What was derived from it.
    Derived,
    /// Its octets.
    Body,
}

/// A bound of queries is passed: ask for less ([`MAX_QUERY_NODES`], [`MAX_QUERY_DEPTH`],
/// [`MAX_QUERY_TEXTS`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the search has too many keys or is nested too deeply")]
pub struct TooComplex;

impl Query {
    /// The same question with cheap keys first, nested ANDs and ORs merged. Answers are the same
    /// with and without; this makes them cheap, and the query bounded.
    pub fn prepared(self) -> Result<Self, TooComplex> {
        let mut count = Count { nodes: 0, texts: 0 };
        count.query(&self, 0)?;
        Ok(self.simplified())
    }

    /// The most that an answer can need, as a rule: what was derived from a hostile message may be
    /// incomplete, so that [`Query::matches`] wants its octets all the same.
    pub fn level(&self) -> Level {
        match self {
            Self::And(keys) | Self::Or(keys) => {
                keys.iter().map(Self::level).max().unwrap_or(Level::Index)
            }
            Self::Not(key) => key.level(),
            Self::All
            | Self::Uids(_)
            | Self::Flag(_)
            | Self::Before(_)
            | Self::On(_)
            | Self::Since(_)
            | Self::Larger(_)
            | Self::Smaller(_)
            | Self::ModSeq(_)
            | Self::Older(_)
            | Self::Younger(_) => Level::Index,
            Self::EmailId(_) | Self::ThreadId(_) => Level::Ids,
            Self::SentBefore(_)
            | Self::SentOn(_)
            | Self::SentSince(_)
            | Self::Address(..)
            | Self::Subject(_) => Level::Derived,
            Self::Header(..) | Self::Body(_) | Self::Text(_) => Level::Body,
        }
    }

    /// Whether an answer can need what was derived from the message, or more; see [`Query::level`].
    pub fn needs_derived(&self) -> bool {
        self.level() >= Level::Derived
    }

    /// Whether an answer can need the message's octets; see [`Query::level`].
    pub fn needs_body(&self) -> bool {
        self.level() >= Level::Body
    }

    fn simplified(self) -> Self {
        match self {
            Self::And(keys) => {
                let nested = |key| match key {
                    Self::And(keys) => keys,
                    Self::All => Vec::new(),
                    other => vec![other],
                };
                one_or(Self::And, ordered(keys, nested))
            }
            Self::Or(keys) => {
                let nested = |key| match key {
                    Self::Or(keys) => keys,
                    other => vec![other],
                };
                one_or(Self::Or, ordered(keys, nested))
            }
            Self::Not(key) => match key.simplified() {
                Self::Not(key) => *key,
                key => Self::Not(Box::new(key)),
            },
            leaf => leaf,
        }
    }
}

/// The keys, each simplified and what `nested` makes of it, cheap ones first.
fn ordered(keys: Vec<Query>, nested: impl Fn(Query) -> Vec<Query>) -> Vec<Query> {
    let mut keys: Vec<Query> = keys.into_iter().map(Query::simplified).flat_map(nested).collect();
    keys.sort_by_cached_key(Query::level);
    keys
}

/// A single key needs nothing around it.
fn one_or(join: impl Fn(Vec<Query>) -> Query, mut keys: Vec<Query>) -> Query {
    match (keys.pop(), keys.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            keys.extend(last);
            join(keys)
        }
    }
}

struct Count {
    nodes: usize,
    texts: usize,
}

impl Count {
    fn query(&mut self, query: &Query, depth: usize) -> Result<(), TooComplex> {
        self.nodes += 1;
        let is_text = matches!(
            query,
            Query::Address(..)
                | Query::Subject(_)
                | Query::Header(..)
                | Query::Body(_)
                | Query::Text(_)
        );
        self.texts += usize::from(is_text);
        let fits = self.nodes <= MAX_QUERY_NODES
            && self.texts <= MAX_QUERY_TEXTS
            && depth <= MAX_QUERY_DEPTH;
        if !fits {
            return Err(TooComplex);
        }
        match query {
            Query::And(keys) | Query::Or(keys) => {
                keys.iter().try_for_each(|key| self.query(key, depth + 1))
            }
            Query::Not(key) => self.query(key, depth + 1),
            _leaf => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> Query {
        Query::Body(Needle::new("a"))
    }

    #[test]
    fn cheap_keys_come_first() {
        let query = Query::And(vec![
            body(),
            Query::And(vec![Query::Subject(Needle::new("b")), Query::All]),
            Query::Or(vec![Query::Or(vec![body(), Query::Larger(1)]), Query::Smaller(2)]),
            Query::Not(Box::new(Query::Not(Box::new(Query::Larger(3))))),
        ]);
        let expected = Query::And(vec![
            Query::Larger(3),
            Query::Subject(Needle::new("b")),
            body(),
            Query::Or(vec![Query::Larger(1), Query::Smaller(2), body()]),
        ]);
        assert_eq!(query.prepared(), Ok(expected));
    }

    #[test]
    fn a_single_key_stands_alone() {
        assert_eq!(Query::And(vec![Query::All, Query::Larger(1)]).prepared(), Ok(Query::Larger(1)));
        assert_eq!(Query::And(vec![]).prepared(), Ok(Query::And(vec![])));
        assert_eq!(Query::Or(vec![]).prepared(), Ok(Query::Or(vec![])));
    }

    #[test]
    fn levels_say_what_an_answer_can_need() {
        assert_eq!((Query::All.needs_derived(), Query::All.needs_body()), (false, false));
        let subject = Query::Not(Box::new(Query::Subject(Needle::new("a"))));
        assert_eq!((subject.needs_derived(), subject.needs_body()), (true, false));
        assert!(Query::Or(vec![Query::All, body()]).needs_body());
    }

    #[test]
    fn queries_beyond_the_bounds_are_refused() {
        let deep = |depth| (0..depth).fold(Query::All, |query, _| Query::Not(Box::new(query)));
        assert!(deep(MAX_QUERY_DEPTH).prepared().is_ok());
        assert_eq!(deep(MAX_QUERY_DEPTH + 1).prepared(), Err(TooComplex));
        assert_eq!(Query::Or(vec![Query::All; MAX_QUERY_NODES]).prepared(), Err(TooComplex));
        assert_eq!(Query::Or(vec![body(); MAX_QUERY_TEXTS + 1]).prepared(), Err(TooComplex));
    }
}
