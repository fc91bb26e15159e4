//! What is refused though its certificate has not expired. A list that only grows, of entries that the
//! cluster's authority has signed one by one: so any two lists are made one by putting them together, by
//! whomever they were brought, and nobody can take an entry out or make one up.
//!
//! Links spread it (`links/revoked.rs`): nodes tell each other a digest of theirs, and exchange lists when
//! those differ. An entry without a signature is one node's own, and stays with it.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use rcgen::{KeyPair, SigningKey};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::MAX_FILE_OCTETS;
use super::trust::Holder;
use super::{CertificateError, files};
use crate::names::{ClusterId, MAX_NODE_OCTETS, NodeId};

/// Most entries of the list of what is revoked: each handshake looks at it, it travels in one message, and
/// a cluster has at most some hundred nodes.
pub const MAX_REVOKED: usize = 1_000;

/// Longest list as text, in octets.
pub(crate) const MAX_LIST_OCTETS: usize = MAX_REVOKED * MAX_LINE_OCTETS;

/// Longest line, in octets: a word, a node's name, a signature (at most 72 octets of DER, RFC 3279 §2.2.3),
/// and what separates them.
const MAX_LINE_OCTETS: usize = 6 + MAX_NODE_OCTETS + 1 + (72 * 4_usize).div_ceil(3) + 1;

/// Longest serial number, in octets (RFC 5280 §4.1.2.2).
const MAX_SERIAL_OCTETS: usize = 20;

const _: () = assert!(2 * MAX_SERIAL_OCTETS <= MAX_NODE_OCTETS);
const _: () = assert!(MAX_LIST_OCTETS as u64 <= MAX_FILE_OCTETS);

/// One thing that is refused though its certificate has not expired.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revoked {
    /// One certificate, by its serial number as hexadecimal digits.
    Serial(String),
    /// A node, whatever certificate it has.
    Node(NodeId),
}

/// How far a revocation reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is signed: every node of the cluster will refuse it.
    Cluster,
    /// The authority's key is not here: only this node refuses it.
    ThisNode,
}

/// What is revoked. As text: one a line, `serial` or `node`, which, and a signature if there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations(BTreeMap<Revoked, Option<String>>);

impl std::fmt::Display for Revoked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serial(digits) => write!(f, "serial {digits}"),
            Self::Node(name) => write!(f, "node {name}"),
        }
    }
}

impl Revoked {
    /// What is signed: of one cluster, and nothing else that is ever signed with that key.
    fn words(&self, cluster: &ClusterId) -> String {
        format!("Postroom cluster {cluster} revokes\n{self}\n")
    }

    /// In the one form that is compared; `None` when it names nothing.
    fn sound(self) -> Option<Self> {
        match self {
            Self::Serial(digits) => serial(&digits).map(Self::Serial),
            Self::Node(_) => Some(self),
        }
    }
}

impl Revocations {
    /// Reads a list; a file that is not there is an empty one.
    pub(super) fn read(path: &Path) -> Result<Self, CertificateError> {
        match files::read(path, MAX_FILE_OCTETS) {
            Ok(text) => {
                Self::parse(&text).map_err(|why| CertificateError::Unusable(path.to_owned(), why))
            }
            Err(CertificateError::File(_, error))
                if error.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(Self::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Reads what [`Revocations::to_text`] wrote. A line that makes no sense makes the whole list
    /// unusable, and is quoted: who wrote it wanted something refused. Signatures are not verified.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut list = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            let what = match words.get(..2) {
                Some(["serial", digits]) => Revoked::Serial((*digits).to_owned()).sound(),
                Some(["node", name]) => name.parse().ok().map(Revoked::Node),
                _ => None,
            };
            let good = words.len() <= 3 && line.len() < MAX_LINE_OCTETS;
            let what =
                what.filter(|_| good).ok_or_else(|| format!("not understood: {line:.80}"))?;
            let signature = words.get(2).map(|signature| (*signature).to_owned());
            list.add(what, signature).map_err(|error| error.to_string())?;
        }
        Ok(list)
    }

    /// The list as text.
    pub fn to_text(&self) -> String {
        let line = |(what, signature): (&Revoked, &Option<String>)| match signature {
            Some(signature) => format!("{what} {signature}\n"),
            None => format!("{what}\n"),
        };
        self.0.iter().map(line).collect()
    }

    /// Adds one, or a signature to one that had none. Whether that is anything new.
    fn add(&mut self, what: Revoked, signature: Option<String>) -> Result<bool, CertificateError> {
        let known = self.0.entry(what);
        let new = match known {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(signature);
                true
            }
            std::collections::btree_map::Entry::Occupied(mut there) => {
                let better = there.get().is_none() && signature.is_some();
                if better {
                    there.insert(signature);
                }
                better
            }
        };
        if self.0.len() > MAX_REVOKED { Err(CertificateError::TooManyRevoked) } else { Ok(new) }
    }

    /// Adds one with the authority's signature.
    pub(super) fn add_signed(
        &mut self,
        what: Revoked,
        cluster: &ClusterId,
        key: &KeyPair,
    ) -> Result<(), CertificateError> {
        let what = what.sound().ok_or(CertificateError::NoSerial)?;
        let signature = BASE64.encode(key.sign(what.words(cluster).as_bytes())?);
        // One with another good signature stays as it is.
        self.add(what, Some(signature)).map(drop)
    }

    /// Adds one without.
    pub(super) fn add_own(&mut self, what: Revoked) -> Result<(), CertificateError> {
        let what = what.sound().ok_or(CertificateError::NoSerial)?;
        self.add(what, None).map(drop)
    }

    /// Adds all of another list. Whether anything of it is new.
    pub(super) fn merge(&mut self, other: Self) -> Result<bool, CertificateError> {
        let mut new = false;
        for (what, signature) in other.0 {
            new |= self.add(what, signature)?;
        }
        Ok(new)
    }

    /// Those that one of the authorities (as PEM) has signed for this cluster: what may be spread, and
    /// taken from others.
    pub(super) fn signed(&self, cluster: &ClusterId, authorities: &str) -> Self {
        let ours = |(what, signature): &(&Revoked, &Option<String>)| {
            let signature = signature.as_ref().and_then(|text| BASE64.decode(text).ok());
            signature.is_some_and(|octets| verifies(authorities, &what.words(cluster), &octets))
        };
        let ours = self.0.iter().filter(ours);
        Self(ours.map(|(what, signature)| (what.clone(), signature.clone())).collect())
    }

    /// Tells lists with other entries from each other. How they are signed does not count.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        for what in self.0.keys() {
            hash.update(format!("{what}\n").as_bytes());
        }
        hash.finalize().into()
    }

    /// Whether this holder is refused.
    pub fn has(&self, holder: &Holder) -> bool {
        self.0.contains_key(&Revoked::Node(holder.node.clone()))
            || self.0.contains_key(&Revoked::Serial(holder.serial.clone()))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether one of these certificates' keys has signed the words.
fn verifies(authorities: &str, words: &str, signature: &[u8]) -> bool {
    let algorithms = ring::default_provider().signature_verification_algorithms;
    CertificateDer::pem_slice_iter(authorities.as_bytes()).flatten().any(|der| {
        let Ok((_, x509)) = X509Certificate::from_der(&der) else { return false };
        let key = &x509.public_key().subject_public_key.data;
        // A key of one kind verifies nothing under another kind's algorithm.
        algorithms
            .all
            .iter()
            .any(|kind| kind.verify_signature(key, words.as_bytes(), signature).is_ok())
    })
}

/// Digits of a serial number in the one form that is compared.
fn serial(digits: &str) -> Option<String> {
    let octets = hex::decode(digits.replace(':', "")).ok()?;
    let short = (1..=MAX_SERIAL_OCTETS).contains(&octets.len());
    short.then(|| hex::encode(octets))
}
