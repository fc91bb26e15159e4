//! Who was not let in: counted, and told in the log, but not once for each of a thousand.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

/// How often one reason is told in the log, at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Why a connection was not let in, or ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// No TLS: plain text, rubbish, or another version of TLS.
    NotTls,
    /// TLS without a certificate.
    NoCertificate,
    /// A certificate of another cluster, or that is no node's.
    Stranger,
    /// One that has expired.
    Expired,
    /// One that is revoked.
    Revoked,
    /// Nothing came in time, or the handshake was given up for newer ones.
    Silent,
    /// The other end gave up: it does not trust us, or went away.
    GaveUp,
    /// A peer that ended without having said anything that makes sense.
    Nonsense,
    /// More connections of a peer, or more peers, than are allowed.
    TooMany,
}

impl Reason {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::NoCertificate => "no_certificate",
            Self::Stranger => "stranger",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Silent => "silent",
            Self::GaveUp => "gave_up",
            Self::Nonsense => "nonsense",
            Self::TooMany => "too_many",
        }
    }

    /// What a failed handshake means.
    pub(super) fn of(error: &std::io::Error) -> Self {
        use rustls::CertificateError as Bad;
        match super::io::tls_error_of(error) {
            Some(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(rustls::Error::InvalidCertificate(bad)) => match bad {
                Bad::Expired | Bad::ExpiredContext { .. } => Self::Expired,
                Bad::Revoked => Self::Revoked,
                _ => Self::Stranger,
            },
            Some(rustls::Error::AlertReceived(_)) => Self::GaveUp,
            Some(_) => Self::NotTls,
            None => Self::GaveUp,
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

/// Counts and tells. As many entries as there are reasons.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<Reason, Told>>);

impl Refusals {
    pub(super) fn note(&self, reason: Reason, who: &dyn Display, why: &dyn Display) {
        metrics::counter!("postroom_refused_links_total", "reason" => reason.label()).increment(1);
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = told.entry(reason).or_default();
        told.total += 1;
        if told.at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            told.silent += 1;
            return;
        }
        let more = std::mem::take(&mut told.silent);
        told.at = Some(Instant::now());
        warn!(reason = reason.label(), %who, %why, more, "a link was not let in");
    }

    pub(super) fn note_handshake(&self, from: SocketAddr, error: &std::io::Error) {
        self.note(Reason::of(error), &from, error);
    }

    /// How many there were, by reason.
    pub(super) fn totals(&self) -> Vec<(&'static str, u64)> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().map(|(reason, told)| (reason.label(), told.total)).collect()
    }
}
