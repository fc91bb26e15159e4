//! The answer for one message, from as little of it as possible.

use std::collections::HashSet;
use std::ops::Not;

use bytes::Bytes;
use time::Date;

use crate::mime::{Derived, text};
use crate::types::{Flags, MessageId, ModSeq, ThreadId, Timestamp, Uid};

use super::fold::Search;
use super::{AddressField, Needle, Query};

/// What the index knows of a message.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Its UID.
    pub uid: Uid,
    /// Its flags.
    pub flags: &'a Flags,
    /// Of its last change.
    pub modseq: ModSeq,
    /// INTERNALDATE.
    pub internal_date: Timestamp,
    /// Octets.
    pub size: u64,
    /// EMAILID and THREADID; `None` when they are not at hand.
    pub ids: Option<(MessageId, ThreadId)>,
}

/// All that is at hand of a message.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// From the index.
    pub facts: Facts<'a>,
    /// What was derived from its octets; `None` when it is not at hand (yet).
    pub derived: Option<&'a Derived>,
    /// Its octets; looked at only together with `derived`.
    pub octets: Option<&'a Bytes>,
}

/// Whether a message matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// More of the message is needed to say.
    Unknown,
}

impl From<bool> for Verdict {
    fn from(matches: bool) -> Self {
        if matches { Self::Yes } else { Self::No }
    }
}

impl Not for Verdict {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }
}

impl Query {
    /// Whether the message matches, by what is at hand of it. With ids, `derived` and `octets` there
    /// it is never [`Verdict::Unknown`].
    ///
    /// Headers are looked at only when that is needed for the answer, and the body only when the
    /// headers did not give it; it is decoded once, whatever the number of texts.
    ///
    /// `now` is in seconds since the Unix epoch (OLDER, YOUNGER).
    pub fn matches(&self, evidence: &Evidence<'_>, now: i64) -> Verdict {
        let mut known = Known { evidence, now, header: None, body: None };
        let verdict = known.query(self);
        let (Verdict::Unknown, Some(derived), Some(octets)) =
            (verdict, evidence.derived, evidence.octets)
        else {
            return verdict;
        };
        known.header = Some(Header {
            octets,
            derived,
            found: found(self.needles(Place::Header), |each| {
                text::any_header_text(octets, derived, each);
            }),
        });
        let verdict = known.query(self);
        if verdict != Verdict::Unknown {
            return verdict;
        }
        known.body = Some(found(self.needles(Place::Body), |each| {
            text::any_body_text(octets, derived, each);
        }));
        known.query(self)
    }

    /// The texts that are looked for there by going through all of it.
    fn needles(&self, place: Place) -> Vec<&Needle> {
        match self {
            Self::And(keys) | Self::Or(keys) => {
                keys.iter().flat_map(|key| key.needles(place)).collect()
            }
            Self::Not(key) => key.needles(place),
            Self::Text(needle) => vec![needle],
            Self::Body(needle) if place == Place::Body => vec![needle],
            _other_leaf => Vec::new(),
        }
    }
}

/// Where a message has text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    Body,
}

/// Which of the needles are in some texts; `texts` hands them out until it is told to stop.
fn found(
    needles: Vec<&Needle>,
    texts: impl FnOnce(&mut dyn FnMut(&str) -> bool),
) -> HashSet<&Needle> {
    let mut search = Search::new(needles);
    if !search.is_done() {
        texts(&mut |text| {
            search.feed(text);
            search.is_done()
        });
    }
    search.found().into_iter().collect()
}

/// What is known of a message so far.
struct Known<'a, 'q> {
    evidence: &'a Evidence<'a>,
    now: i64,
    /// Its headers, once they are looked at.
    header: Option<Header<'a, 'q>>,
    /// The needles that are in its body, once that is looked at.
    body: Option<HashSet<&'q Needle>>,
}

struct Header<'a, 'q> {
    octets: &'a Bytes,
    derived: &'a Derived,
    /// The needles that are in one of its headers.
    found: HashSet<&'q Needle>,
}

impl Known<'_, '_> {
    fn query(&self, query: &Query) -> Verdict {
        let facts = &self.evidence.facts;
        let ids = |check: &dyn Fn(MessageId, ThreadId) -> bool| match facts.ids {
            Some((message, thread)) => check(message, thread).into(),
            None => Verdict::Unknown,
        };
        let arrived = |check: &dyn Fn(Date) -> bool| day(Some(facts.internal_date), check).into();
        match query {
            Query::All => Verdict::Yes,
            Query::And(keys) => self.all(keys),
            Query::Or(keys) => self.any(keys),
            Query::Not(key) => !self.query(key),
            Query::Uids(uids) => uids.contains(facts.uid).into(),
            Query::Flag(flag) => facts.flags.contains(flag).into(),
            Query::Before(date) => arrived(&|day| day < *date),
            Query::On(date) => arrived(&|day| day == *date),
            Query::Since(date) => arrived(&|day| day >= *date),
            Query::SentBefore(date) => self.sent(&|day| day < *date),
            Query::SentOn(date) => self.sent(&|day| day == *date),
            Query::SentSince(date) => self.sent(&|day| day >= *date),
            Query::Larger(size) => (facts.size > *size).into(),
            Query::Smaller(size) => (facts.size < *size).into(),
            Query::ModSeq(modseq) => (facts.modseq >= *modseq).into(),
            Query::EmailId(id) => ids(&|message, _| message == *id),
            Query::ThreadId(id) => ids(&|_, thread| thread == *id),
            Query::Older(seconds) => (self.age() >= i64::from(*seconds)).into(),
            Query::Younger(seconds) => (self.age() <= i64::from(*seconds)).into(),
            Query::Address(field, needle) => self.address(*field, needle),
            Query::Subject(needle) => self.subject(needle),
            Query::Header(name, needle) => self.header(name, needle),
            Query::Body(needle) => self.body(needle),
            Query::Text(needle) => self.text(needle),
        }
    }

    fn all(&self, keys: &[Query]) -> Verdict {
        let mut verdict = Verdict::Yes;
        for key in keys {
            match self.query(key) {
                Verdict::No => return Verdict::No,
                Verdict::Unknown => verdict = Verdict::Unknown,
                Verdict::Yes => {}
            }
        }
        verdict
    }

    fn any(&self, keys: &[Query]) -> Verdict {
        let mut verdict = Verdict::No;
        for key in keys {
            match self.query(key) {
                Verdict::Yes => return Verdict::Yes,
                Verdict::Unknown => verdict = Verdict::Unknown,
                Verdict::No => {}
            }
        }
        verdict
    }

    /// Seconds since the message's INTERNALDATE.
    fn age(&self) -> i64 {
        self.now.saturating_sub(self.evidence.facts.internal_date.seconds)
    }

    fn sent(&self, check: &dyn Fn(Date) -> bool) -> Verdict {
        match self.evidence.derived {
            Some(derived) => day(derived.sent, check).into(),
            None => Verdict::Unknown,
        }
    }

    fn address(&self, field: AddressField, needle: &Needle) -> Verdict {
        let Some(derived) = self.evidence.derived else { return Verdict::Unknown };
        let envelope = &derived.envelope;
        let (shown, raw) = match field {
            AddressField::From => (&derived.from, &envelope.from),
            AddressField::To => (&derived.to, &envelope.to),
            AddressField::Cc => (&derived.cc, &envelope.cc),
            AddressField::Bcc => (&derived.bcc, &envelope.bcc),
        };
        let groups = raw.iter().filter(|address| address.is_group_marker());
        let mut groups = groups.filter_map(|group| group.mailbox.as_deref());
        let is_there = shown.iter().any(|address| needle.is_in(address))
            || groups.any(|name| needle.is_in(&text::decode_header(name)));
        match is_there {
            true => Verdict::Yes,
            false if derived.truncated => self.header(field.name(), needle),
            false => Verdict::No,
        }
    }

    fn subject(&self, needle: &Needle) -> Verdict {
        let Some(derived) = self.evidence.derived else { return Verdict::Unknown };
        let subject = derived.envelope.subject.as_deref().map(text::decode_header);
        match subject.is_some_and(|subject| needle.is_in(&subject)) {
            true => Verdict::Yes,
            false if derived.truncated => self.header("Subject", needle),
            false => Verdict::No,
        }
    }

    fn header(&self, name: &str, needle: &Needle) -> Verdict {
        let Some(header) = &self.header else { return Verdict::Unknown };
        let values = text::header_values(header.octets, header.derived, name);
        values.iter().any(|value| needle.is_in(value)).into()
    }

    fn body(&self, needle: &Needle) -> Verdict {
        match &self.body {
            _ if needle.is_empty() => Verdict::Yes,
            Some(found) => found.contains(needle).into(),
            None => Verdict::Unknown,
        }
    }

    fn text(&self, needle: &Needle) -> Verdict {
        let in_header = self.header.as_ref().is_some_and(|header| header.found.contains(needle));
        if in_header { Verdict::Yes } else { self.body(needle) }
    }
}

/// Whether there is a moment and its calendar day, in its own zone, passes the check.
fn day(moment: Option<Timestamp>, check: &dyn Fn(Date) -> bool) -> bool {
    moment.and_then(Timestamp::local).is_some_and(|local| check(local.date()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::mime::derive;
    use crate::types::{Flag, SystemFlag, UidSet};

    const MESSAGE: &str = "From: =?utf-8?Q?J=C3=B6rg?= <joerg@example.org>\r\n\
        To: Group: a@x, b@y;\r\nSubject: =?utf-8?Q?Stra=C3=9Fe?=\r\n nach Hause\r\n\
        Date: Mon, 7 Feb 1994 23:52:25 -0800\r\nX-Empty:\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Transfer-Encoding: base64\r\n\r\nSGVsbG8gV29ybGQ=\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ndeep\r\n--b--\r\n";
    const NOW: i64 = 1_000_000;

    fn needle(text: &str) -> Needle {
        Needle::new(text)
    }

    fn not(query: Query) -> Query {
        Query::Not(Box::new(query))
    }

    /// The verdicts with the index alone, with what was derived, and with the octets.
    fn verdicts(query: &Query) -> [Verdict; 3] {
        let octets = Bytes::from_static(MESSAGE.as_bytes());
        let derived = derive(&octets);
        let flags = Flags::of([Flag::System(SystemFlag::Seen)]);
        let facts = Facts {
            uid: Uid::new(7).unwrap(),
            flags: &flags,
            modseq: ModSeq(5),
            // 1970-01-12 in its own zone, 1970-01-11 in UTC.
            internal_date: Timestamp { seconds: NOW - 60_000, offset_minutes: 300 },
            size: octets.len() as u64,
            ids: Some((MessageId([1; 16]), ThreadId([2; 16]))),
        };
        let index = Evidence { facts, derived: None, octets: None };
        let with_derived = Evidence { derived: Some(&derived), ..index };
        let all = Evidence { octets: Some(&octets), ..with_derived };
        [index, with_derived, all].map(|evidence| query.matches(&evidence, NOW))
    }

    /// `level`: how much is needed for the answer (0 index, 1 derived, 2 octets).
    fn check(query: Query, level: usize, expected: bool) {
        let found = verdicts(&query);
        for (at, verdict) in found.into_iter().enumerate() {
            let expected = if at < level { Verdict::Unknown } else { expected.into() };
            assert_eq!(verdict, expected, "{query:?} at level {at}");
        }
        assert_eq!(verdicts(&query.clone().prepared().unwrap()), found, "prepared {query:?}");
        let opposite = verdicts(&not(query.clone()));
        assert_eq!(opposite, found.map(|verdict| !verdict), "not {query:?}");
    }

    fn date(year: i32, month: u8, day: u8) -> Date {
        Date::from_calendar_date(year, month.try_into().unwrap(), day).unwrap()
    }

    #[test]
    fn index_facts_need_nothing_else() {
        check(Query::All, 0, true);
        check(Query::Uids(UidSet::range(Uid::MIN, Uid::new(7).unwrap())), 0, true);
        check(Query::Uids(UidSet::default()), 0, false);
        check(Query::Flag(Flag::System(SystemFlag::Seen)), 0, true);
        check(Query::Flag(Flag::parse("$Junk").unwrap()), 0, false);
        check(Query::Larger(MESSAGE.len() as u64), 0, false);
        check(Query::Larger(MESSAGE.len() as u64 - 1), 0, true);
        check(Query::Smaller(MESSAGE.len() as u64), 0, false);
        check(Query::ModSeq(ModSeq(5)), 0, true);
        check(Query::ModSeq(ModSeq(6)), 0, false);
        check(Query::EmailId(MessageId([1; 16])), 0, true);
        check(Query::ThreadId(ThreadId([1; 16])), 0, false);
        check(Query::Older(60_000), 0, true);
        check(Query::Older(60_001), 0, false);
        check(Query::Younger(60_000), 0, true);
        check(Query::Younger(59_999), 0, false);
    }

    #[test]
    fn internal_dates_are_compared_in_their_own_zone() {
        let day = date(1970, 1, 12);
        check(Query::On(day), 0, true);
        check(Query::Since(day), 0, true);
        check(Query::Before(day), 0, false);
        check(Query::Before(date(1970, 1, 13)), 0, true);
        check(Query::Since(date(1970, 1, 13)), 0, false);
    }

    #[test]
    fn sent_dates_are_compared_in_their_own_zone() {
        let day = date(1994, 2, 7);
        check(Query::SentOn(day), 1, true);
        check(Query::SentSince(day), 1, true);
        check(Query::SentBefore(day), 1, false);
        check(Query::SentBefore(date(1994, 2, 8)), 1, true);
    }

    #[test]
    fn addresses_and_subject_need_what_was_derived() {
        check(Query::Address(AddressField::From, needle("j\u{f6}RG <joerg")), 1, true);
        check(Query::Address(AddressField::From, needle("nobody")), 1, false);
        check(Query::Address(AddressField::To, needle("B@y")), 1, true);
        check(Query::Address(AddressField::To, needle("group")), 1, true);
        check(Query::Address(AddressField::Cc, needle("")), 1, false);
        check(Query::Address(AddressField::To, needle("")), 1, true);
        check(Query::Subject(needle("STRASSE NACH")), 1, true);
        check(Query::Subject(needle("hello")), 1, false);
    }

    #[test]
    fn headers_and_bodies_need_the_octets() {
        check(Query::Header("x-empty".to_owned(), needle("")), 2, true);
        check(Query::Header("x-none".to_owned(), needle("")), 2, false);
        check(Query::Header("Subject".to_owned(), needle("stra\u{df}e")), 2, true);
        check(Query::Body(needle("hello world")), 2, true);
        check(Query::Body(needle("inner")), 2, true);
        check(Query::Body(needle("deep")), 2, true);
        check(Query::Body(needle("hause")), 2, false);
        check(Query::Text(needle("hause")), 2, true);
        check(Query::Text(needle("world")), 2, true);
        check(Query::Text(needle("nowhere")), 2, false);
        // A part's MIME header is a header, though it stands in the body.
        check(Query::Text(needle("Transfer-Encoding")), 2, true);
        check(Query::Body(needle("Transfer-Encoding")), 2, false);
    }

    #[test]
    fn empty_texts_are_in_every_body() {
        check(Query::Body(needle("")), 0, true);
        check(Query::Text(needle("")), 0, true);
    }

    #[test]
    fn a_cheap_key_that_decides_spares_the_body() {
        let body = || Query::Body(needle("hello"));
        check(Query::And(vec![body(), Query::Larger(1 << 40)]), 0, false);
        check(Query::Or(vec![body(), Query::All]), 0, true);
        check(Query::And(vec![body(), Query::Subject(needle("nothing"))]), 1, false);
        check(Query::And(vec![body(), Query::All]), 2, true);
        check(Query::And(vec![]), 0, true);
        check(Query::Or(vec![]), 0, false);
    }

    #[test]
    fn a_message_without_a_date_was_sent_at_no_time() {
        let octets = Bytes::from_static(b"Subject: a\r\n\r\n");
        let (derived, flags) = (derive(&octets), Flags::default());
        let internal_date = Timestamp::utc(NOW);
        let (uid, modseq) = (Uid::MIN, ModSeq(1));
        let facts = Facts { uid, flags: &flags, modseq, internal_date, size: 1, ids: None };
        let evidence = Evidence { facts, derived: Some(&derived), octets: Some(&octets) };
        for query in [Query::SentBefore(Date::MAX), Query::SentSince(Date::MIN)] {
            assert_eq!(query.matches(&evidence, NOW), Verdict::No, "{query:?}");
        }
        let id = Query::EmailId(MessageId([0; 16]));
        assert_eq!(id.matches(&evidence, NOW), Verdict::Unknown);
    }

    #[test]
    fn what_was_cut_off_from_the_derived_is_looked_up_in_the_header() {
        let long = "x".repeat(crate::mime::MAX_VALUE_OCTETS);
        let octets = Bytes::from(format!("Subject: {long} needle\r\n\r\n"));
        let (derived, flags) = (derive(&octets), Flags::default());
        let internal_date = Timestamp::utc(NOW);
        let (uid, modseq) = (Uid::MIN, ModSeq(1));
        let facts = Facts { uid, flags: &flags, modseq, internal_date, size: 1, ids: None };
        let evidence = Evidence { facts, derived: Some(&derived), octets: None };
        let query = Query::Subject(needle("needle"));
        assert_eq!(query.matches(&evidence, NOW), Verdict::Unknown);
        let evidence = Evidence { octets: Some(&octets), ..evidence };
        assert_eq!(query.matches(&evidence, NOW), Verdict::Yes);
    }
}
