//! The answer for one message, from as little of it as possible.

use bytes::Bytes;

use crate::mime::Derived;
use crate::types::{Flags, MessageId, ModSeq, ThreadId, Timestamp, Uid};

use super::Query;

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

impl Query {
    /// Whether the message matches, by what is at hand of it. With ids, `derived` and `octets` there
    /// it is never [`Verdict::Unknown`].
    ///
    /// `now` is in seconds since the Unix epoch (OLDER, YOUNGER).
    pub fn matches(&self, evidence: &Evidence<'_>, now: i64) -> Verdict {
        let _ = (evidence, now);
        Verdict::Unknown
    }
}
