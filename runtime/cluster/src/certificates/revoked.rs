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

use super::trust::Holder;
use super::{CertificateError, files};
use crate::names::{ClusterId, MAX_NODE_OCTETS, NodeId};

/// Most entries that the authority has signed: each handshake looks at them, they travel in one message, and
/// a cluster has at most some hundred nodes.
pub const MAX_REVOKED: usize = 1_000;

/// Most entries that a node has beside those: its own, and what an authority of before has signed. Counted
/// apart, so that they keep nothing out that the whole cluster refuses.
pub const MAX_OWN_REVOKED: usize = 1_000;

/// Most entries of both kinds: what is written can be read again. Their own maxima do not see to that, since a
/// signed entry becomes one of the others when its authority goes.
const MAX_ENTRIES: usize = MAX_REVOKED + MAX_OWN_REVOKED;

/// Longest list that travels, as text, in octets.
pub(crate) const MAX_LIST_OCTETS: usize = MAX_REVOKED * MAX_LINE_OCTETS;

/// Longest list in a file, in octets.
const MAX_LIST_FILE_OCTETS: u64 = (MAX_ENTRIES * MAX_LINE_OCTETS) as u64;

/// Longest line, in octets: a word, a node's name, a signature (at most 72 octets of DER, RFC 3279 §2.2.3),
/// and what separates them.
const MAX_LINE_OCTETS: usize = 6 + MAX_NODE_OCTETS + 1 + (72 * 4_usize).div_ceil(3) + 1;

/// Longest serial number, in octets (RFC 5280 §4.1.2.2).
const MAX_SERIAL_OCTETS: usize = 20;

const _: () = assert!(2 * MAX_SERIAL_OCTETS <= MAX_NODE_OCTETS);

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
        match files::read(path, MAX_LIST_FILE_OCTETS) {
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
            let known = list.0.entry(what).or_default();
            *known = known.take().or(words.get(2).map(|signature| (*signature).to_owned()));
            if list.0.len() > MAX_ENTRIES {
                return Err(format!("more than {MAX_ENTRIES} entries"));
            }
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

    /// Adds one with the authority's signature, in place of any other: that may be damaged, or of an
    /// authority that goes.
    pub(super) fn add_signed(
        &mut self,
        what: Revoked,
        key: &KeyPair,
        signers: &Signers,
    ) -> Result<(), CertificateError> {
        let what = what.sound().ok_or(CertificateError::NoSerial)?;
        let signature = BASE64.encode(key.sign(what.words(&signers.cluster).as_bytes())?);
        let known = self.0.get(&what);
        if !known.is_some_and(|known| signers.have_signed(&what, known.as_deref())) {
            self.room(signers).take(true, known.is_some())?;
        }
        self.0.insert(what, Some(signature));
        Ok(())
    }

    /// Adds one without. One that is there stays as it is.
    pub(super) fn add_own(&mut self, what: Revoked) -> Result<(), CertificateError> {
        let what = what.sound().ok_or(CertificateError::NoSerial)?;
        if self.0.contains_key(&what) {
            return Ok(());
        }
        let own = self.0.values().filter(|signature| signature.is_none()).count();
        Room { signed: self.0.len() - own, own }.take(false, false)?;
        self.0.insert(what, None);
        Ok(())
    }

    /// Adds all of another list that there is room for. Where both have an entry a signature that holds
    /// counts more than any other.
    pub(super) fn merge(&mut self, other: Self, signers: &Signers) -> Merged {
        let mut merged = Merged { new: false, left_out: None };
        // Found out when it is needed: it verifies all signatures.
        let mut room = None;
        for (what, signature) in other.0 {
            let known = self.0.get(&what);
            if known == Some(&signature) {
                continue;
            }
            let signed = signers.have_signed(&what, signature.as_deref());
            if let Some(known) = known
                && (!signed || signers.have_signed(&what, known.as_deref()))
            {
                continue;
            }
            let room = room.get_or_insert_with(|| self.room(signers));
            match room.take(signed, known.is_some()) {
                Ok(()) => {
                    self.0.insert(what, signature);
                    merged.new = true;
                }
                Err(error) => merged.left_out = Some(error),
            }
        }
        merged
    }

    fn room(&self, signers: &Signers) -> Room {
        let signed = self.signed(signers).len();
        Room { signed, own: self.0.len() - signed }
    }

    /// Those that one of the authorities has signed: what may be spread, and taken from others.
    pub(super) fn signed(&self, signers: &Signers) -> Self {
        let ours = self.0.iter().filter(|(what, by)| signers.have_signed(what, by.as_deref()));
        Self(ours.map(|(what, signature)| (what.clone(), signature.clone())).collect())
    }

    /// Whether all that another list refuses is refused by this one too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.0.keys().all(|what| self.0.contains_key(what))
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
        self.names(&holder.node) || self.0.contains_key(&Revoked::Serial(holder.serial.clone()))
    }

    /// Whether this node is refused, whatever certificate it has.
    pub fn names(&self, node: &NodeId) -> bool {
        self.0.contains_key(&Revoked::Node(node.clone()))
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

/// What came of putting two lists together.
pub(super) struct Merged {
    /// Whether anything is new.
    pub(super) new: bool,
    /// Why not all was taken.
    pub(super) left_out: Option<CertificateError>,
}

/// How many entries of each kind there are.
struct Room {
    signed: usize,
    own: usize,
}

impl Room {
    /// Takes room for one more, if there is any. `in_place`: it replaces one of the node's own.
    fn take(&mut self, signed: bool, in_place: bool) -> Result<(), CertificateError> {
        let full = !in_place && self.signed + self.own >= MAX_ENTRIES;
        match signed {
            true if full || self.signed >= MAX_REVOKED => {
                return Err(CertificateError::TooManyRevoked);
            }
            false if full || self.own >= MAX_OWN_REVOKED => {
                return Err(CertificateError::TooManyOwn);
            }
            true => self.signed += 1,
            false => self.own += 1,
        }
        self.own -= usize::from(in_place);
        Ok(())
    }
}

/// Whose signatures count: the authorities of one cluster.
pub(super) struct Signers {
    cluster: ClusterId,
    keys: Vec<Vec<u8>>,
}

impl Signers {
    /// From the authorities' certificates, as PEM. One that cannot be read has signed nothing.
    pub(super) fn new(cluster: ClusterId, authorities: &str) -> Self {
        let key = |der: CertificateDer<'_>| {
            let (_, x509) = X509Certificate::from_der(&der).ok()?;
            Some(x509.public_key().subject_public_key.data.to_vec())
        };
        let certificates = CertificateDer::pem_slice_iter(authorities.as_bytes()).flatten();
        Self { cluster, keys: certificates.filter_map(key).collect() }
    }

    /// Whether one of them has signed this entry.
    fn have_signed(&self, what: &Revoked, signature: Option<&str>) -> bool {
        let Some(Ok(octets)) = signature.map(|text| BASE64.decode(text)) else { return false };
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        let words = what.words(&self.cluster);
        // A key of one kind verifies nothing under another kind's algorithm.
        self.keys.iter().any(|key| {
            algorithms
                .iter()
                .any(|kind| kind.verify_signature(key, words.as_bytes(), &octets).is_ok())
        })
    }
}

/// Digits of a serial number in the one form that is compared.
fn serial(digits: &str) -> Option<String> {
    let octets = hex::decode(digits.replace(':', "")).ok()?;
    let short = (1..=MAX_SERIAL_OCTETS).contains(&octets.len());
    short.then(|| hex::encode(octets))
}

#[cfg(test)]
mod tests;
