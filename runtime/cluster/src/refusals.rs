//! What this node has refused of others, and why: counted, and told in the log, but not once for each of
//! a thousand.
//!
//! Counted in `postroom_link_refused_total`, by `reason` ([`Reason::label`]) and by where it was noticed
//! (`at`, [`At::label`]):
//!
//! | `at` | who notices | reasons |
//! |---|---|---|
//! | `door` | the server, as somebody comes or while they stay | `not_tls`, `no_certificate`, `stranger`, `wrong_name`, `expired`, `revoked`, `silent`, `gave_up`, `too_many`, `nonsense` |
//! | `call` | the server, in what a peer that was let in says | `nonsense`, `version`, `too_large` |
//! | `dial` | the caller, of who answers at a peer's address | `stranger`, `wrong_name`, `expired`, `revoked`, `version` |
//! | `gossip` | gossip, in datagrams | `stranger`, `malformed_gossip`, `replayed_gossip`, `too_large`, `too_many` |
//!
//! Nothing that is counted here has had an effect. A link that stood and is cut, since its certificate has
//! expired or was revoked, counts where it is cut.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

/// How often one reason is told in the log, at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Why something was refused. Labels of metrics: they do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No TLS: plain text, rubbish, or another version of TLS.
    NotTls,
    /// TLS without a certificate.
    NoCertificate,
    /// A certificate that our authority has not signed; a datagram that came by no link.
    Stranger,
    /// A certificate of our authority for another name: not a node's, or not the node's that was called.
    WrongName,
    /// One that has expired, or is not good yet.
    Expired,
    /// One that is revoked.
    Revoked,
    /// Nothing came in time, or the handshake was given up for newer ones.
    Silent,
    /// The other end gave up: it does not trust us, or went away.
    GaveUp,
    /// A peer says what makes no sense, or has ended without having said anything that does.
    Nonsense,
    /// More connections of a peer, or more peers, than are allowed.
    TooMany,
    /// A version that is too far from ours, of a peer or of a call.
    Version,
    /// A call, a message or a datagram beyond its maximum.
    TooLarge,
    /// A datagram of gossip that none of our nodes has made.
    MalformedGossip,
    /// A datagram of gossip that has been here, is older than what has been, or was made by another node
    /// or for another node than who brought it and who got it.
    ReplayedGossip,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::NotTls,
        Self::NoCertificate,
        Self::Stranger,
        Self::WrongName,
        Self::Expired,
        Self::Revoked,
        Self::Silent,
        Self::GaveUp,
        Self::Nonsense,
        Self::TooMany,
        Self::Version,
        Self::TooLarge,
        Self::MalformedGossip,
        Self::ReplayedGossip,
    ];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::NoCertificate => "no_certificate",
            Self::Stranger => "stranger",
            Self::WrongName => "wrong_name",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Silent => "silent",
            Self::GaveUp => "gave_up",
            Self::Nonsense => "nonsense",
            Self::TooMany => "too_many",
            Self::Version => "version",
            Self::TooLarge => "too_large",
            Self::MalformedGossip => "malformed_gossip",
            Self::ReplayedGossip => "replayed_gossip",
        }
    }

    /// What TLS found wrong with a certificate.
    pub(crate) fn of_certificate(bad: &rustls::CertificateError) -> Self {
        use rustls::CertificateError as Bad;
        match bad {
            Bad::Expired
            | Bad::ExpiredContext { .. }
            | Bad::NotValidYet
            | Bad::NotValidYetContext { .. } => Self::Expired,
            Bad::Revoked => Self::Revoked,
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => Self::WrongName,
            _ => Self::Stranger,
        }
    }
}

/// Where it was noticed. Labels of metrics: they do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// The server's handshake, or its look at who is connected.
    Door,
    /// What a peer says that was let in.
    Call,
    /// Making a link to a peer, or looking at one that stands.
    Dial,
    /// Gossip's datagrams.
    Gossip,
}

impl At {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Door => "door",
            Self::Call => "call",
            Self::Dial => "dial",
            Self::Gossip => "gossip",
        }
    }
}

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    /// How many were not told since.
    silent: u64,
    total: u64,
}

/// Counts and tells for one place. As many entries as there are reasons.
#[derive(Debug)]
pub(crate) struct Refusals {
    at: At,
    told: Mutex<HashMap<Reason, Told>>,
}

impl Refusals {
    pub(crate) fn new(at: At) -> Self {
        Self { at, told: Mutex::default() }
    }

    /// Something of `who` was refused.
    pub(crate) fn note(&self, reason: Reason, who: &dyn Display, why: &dyn Display) {
        let labels = [("reason", reason.label()), ("at", self.at.label())];
        metrics::counter!("postroom_link_refused_total", &labels).increment(1);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = told.entry(reason).or_default();
        told.total += 1;
        if told.at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            told.silent += 1;
            return;
        }
        let more = std::mem::take(&mut told.silent);
        told.at = Some(Instant::now());
        warn!(reason = reason.label(), at = self.at.label(), %who, %why, more, "refused");
    }

    /// How many there were, by reason; none that has not occurred.
    pub(crate) fn totals(&self) -> Vec<(Reason, u64)> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut totals: Vec<_> = told.iter().map(|(reason, told)| (*reason, told.total)).collect();
        totals.sort();
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_words_and_no_two_are_the_same() {
        let labels: std::collections::BTreeSet<_> = Reason::ALL.map(Reason::label).into();
        assert_eq!(labels.len(), Reason::ALL.len());
        let word = |label: &&str| label.bytes().all(|o| o.is_ascii_lowercase() || o == b'_');
        assert!(labels.iter().all(word), "{labels:?}");
    }

    #[test]
    fn each_is_counted_under_its_reason() {
        let refusals = Refusals::new(At::Gossip);
        for _ in 0..3 {
            refusals.note(Reason::ReplayedGossip, &"two", &"again");
        }
        refusals.note(Reason::Stranger, &"nobody", &"no link");
        assert_eq!(refusals.totals(), [(Reason::Stranger, 1), (Reason::ReplayedGossip, 3)]);
    }
}
